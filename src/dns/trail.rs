//! What may be concluded from the answers to one question: records, that there are none, or nothing at all.
//!
//! Names that lead to other names (CNAME) are followed, for SRV as for addresses, and only records of the name that was
//! reached count: an answer may hold anything. Pure: whoever asks hands in what was answered, until something is said.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_resolver::net::{DnsError as NoAnswer, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsResponse, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, RecordType};

use crate::proto::discovery::{AddressAnswer, SrvAnswer, SrvRecord};
use crate::reason::Reason;

/// Names that one question is led through (CNAME). A loop ends here.
pub const ALIASES_MAX: usize = 8;
/// Questions asked for one: a resolver follows aliases itself, so that the first answer holds the whole chain.
pub const QUESTIONS_MAX: usize = 4;
/// Records taken from one answer.
pub const RECORDS_MAX: usize = 64;
/// How long a negative answer holds that doesn't say it.
const NEGATIVE_TTL: u32 = 60;

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The records of the name that the question led to, and for how long they hold.
    Records(Vec<RData>, Duration),
    /// That there are none, and for how long that holds.
    Nothing(Duration),
    /// Nothing that can be used.
    Failed(Reason),
}

impl Said {
    /// As the answer of an SRV name. `ttl` becomes no longer than this holds.
    #[must_use]
    pub fn into_srv(self, ttl: &mut Duration) -> SrvAnswer {
        let data = match self {
            Self::Records(data, valid) => {
                *ttl = (*ttl).min(valid);
                data
            }
            Self::Nothing(valid) => {
                *ttl = (*ttl).min(valid);
                return SrvAnswer::Nothing;
            }
            Self::Failed(reason) => return SrvAnswer::Failed(reason),
        };
        let records: Vec<SrvRecord> = data.iter().filter_map(srv_record).collect();
        match records.as_slice() {
            // RFC 2782: one record with the root as its target. Among others it is a mistake, and passed over.
            [only] if only.target.is_empty() => SrvAnswer::NotOffered,
            _ => SrvAnswer::Records(records),
        }
    }

    /// Add it to what is known of a host's addresses. `ttl` becomes no longer than this holds.
    pub fn add_to(self, answer: &mut AddressAnswer, ttl: &mut Duration) {
        match self {
            Self::Records(records, valid) => {
                *ttl = (*ttl).min(valid);
                answer.addresses.extend(records.iter().filter_map(RData::ip_addr));
            }
            Self::Nothing(valid) => *ttl = (*ttl).min(valid),
            Self::Failed(reason) => answer.failed = Some(reason),
        }
    }
}

fn srv_record(data: &RData) -> Option<SrvRecord> {
    let RData::SRV(srv) = data else { return None };
    let target = srv.target.to_ascii();
    let target = target.strip_suffix('.').unwrap_or(&target).to_owned();
    Some(SrvRecord { priority: srv.priority, weight: srv.weight, port: srv.port, target })
}

/// A question under way.
#[derive(Debug, Clone)]
pub struct Trail {
    kind: RecordType,
    at: Name,
    aliases: usize,
    answers: usize,
    ttl: u32,
}

/// What a name or an answer came to.
#[derive(Debug, Clone)]
pub enum Heard {
    /// A name was reached of which nothing is known yet: it is to be asked for.
    Further(Trail),
    /// This was said.
    Said(Said),
}

impl Trail {
    /// Ask for the records of `kind` that `name` has or leads to.
    #[must_use]
    pub fn begin(name: Name, kind: RecordType) -> Heard {
        Self { kind, at: name, aliases: 0, answers: 0, ttl: u32::MAX }.go_on()
    }

    fn go_on(self) -> Heard {
        if is_localhost(&self.at) {
            return Heard::Said(of_this_machine(self.kind, self.ttl));
        }
        Heard::Further(self)
    }

    /// What is to be asked now.
    #[must_use]
    pub fn question(&self) -> Query {
        Query::query(self.at.clone(), self.kind)
    }

    /// Take the answer to [`Trail::question`]: one with records, or what [`checked`] makes of any other.
    #[must_use]
    pub fn hear(mut self, answer: Result<Message, NetError>) -> Heard {
        let message = match answer {
            Ok(message) => message,
            Err(error) => return Heard::Said(negative(&error, self.ttl)),
        };
        self.answers += 1;
        let asked = self.at.clone();
        while let Some((target, alias_ttl)) = alias(&message, &self.at) {
            self.aliases += 1;
            if self.aliases > ALIASES_MAX {
                return Heard::Said(Said::Failed(Reason::DnsFailed));
            }
            self.at = target;
            self.ttl = self.ttl.min(alias_ttl);
        }
        let found: Vec<_> = records(&message, &self.at, self.kind).take(RECORDS_MAX).collect();
        if !found.is_empty() {
            let shortest = found.iter().map(|(_, ttl)| *ttl).min().unwrap_or_default().min(self.ttl);
            let data = found.into_iter().map(|(data, _)| data.clone()).collect();
            return Heard::Said(Said::Records(data, seconds(shortest)));
        }
        let ended = message.metadata.response_code == ResponseCode::NXDomain;
        if ended || self.at == asked {
            return Heard::Said(Said::Nothing(seconds(self.ttl.min(NEGATIVE_TTL))));
        }
        if self.answers == QUESTIONS_MAX {
            return Heard::Said(Said::Failed(Reason::DnsFailed));
        }
        self.go_on()
    }
}

/// The response to `asked`, or the error that it stands for: one with an error code is an error, and so is one without
/// records. An answer to another question, or to none, is no answer (RFC 5452 section 9.1); over TCP nobody else looks.
///
/// # Errors
/// What the response stands for.
pub fn checked(asked: &Query, response: DnsResponse) -> Result<Message, NetError> {
    if response.queries != [asked.clone()] {
        return Err(NetError::Message("an answer to another question"));
    }
    Ok(NoAnswer::from_response(response)?.into_message())
}

fn is_localhost(name: &Name) -> bool {
    name.iter().next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"localhost"))
}

/// What is known of `localhost` and all below it without asking (RFC 6761 section 6.3). Servers differ in what they say of
/// it, and one that says nothing must not take the whole domain away whose record leads there. It holds for ever, so that
/// `ttl`, that of what led there, decides.
fn of_this_machine(kind: RecordType, ttl: u32) -> Said {
    let valid = seconds(ttl);
    match kind {
        RecordType::A => Said::Records(vec![RData::A(A(Ipv4Addr::LOCALHOST))], valid),
        RecordType::AAAA => Said::Records(vec![RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))], valid),
        _ => Said::Nothing(valid),
    }
}

/// Where `name` leads, if it is an alias.
fn alias(message: &Message, name: &Name) -> Option<(Name, u32)> {
    message.answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name && record.dns_class == DNSClass::IN => {
            Some((target.0.clone(), record.ttl))
        }
        _ => None,
    })
}

fn records<'m>(
    message: &'m Message,
    name: &'m Name,
    kind: RecordType,
) -> impl Iterator<Item = (&'m RData, u32)> {
    message
        .answers
        .iter()
        .filter(move |record| {
            record.record_type() == kind && record.dns_class == DNSClass::IN && record.name == *name
        })
        .map(|record| (&record.data, record.ttl))
}

fn negative(error: &NetError, ttl: u32) -> Said {
    match error {
        // A referral instead of an answer comes from a server that doesn't know the domain: it says nothing about it.
        NetError::Dns(NoAnswer::NoRecordsFound(NoRecords { soa: None, ns: Some(_), .. })) => {
            Said::Failed(Reason::DnsFailed)
        }
        NetError::Dns(NoAnswer::NoRecordsFound(none)) => {
            Said::Nothing(seconds(none.negative_ttl.unwrap_or(NEGATIVE_TTL).min(ttl)))
        }
        NetError::Timeout => Said::Failed(Reason::DnsTimeout),
        _ => Said::Failed(Reason::DnsFailed),
    }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl))
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::OpCode;

    use super::*;
    use crate::dns::test_server::{name, record};

    /// What a response says to the question for the addresses of `b1.test`.
    fn said(queries: &[(&str, RecordType)], answers: &[&str]) -> Said {
        let mut message = Message::response(1, OpCode::Query);
        message.add_queries(queries.iter().map(|(text, kind)| Query::query(name(text), *kind)));
        message.add_answers(answers.iter().map(|text| record(text)));
        let Heard::Further(trail) = Trail::begin(name("b1.test"), RecordType::A) else {
            panic!("nothing is known of it");
        };
        let response = DnsResponse::from_message(message).unwrap();
        match trail.clone().hear(checked(&trail.question(), response)) {
            Heard::Said(said) => said,
            Heard::Further(_) => panic!("there is no alias"),
        }
    }

    #[test]
    fn an_answer_to_another_question_says_nothing_at_all() {
        let address = ["b1.test A 127.0.0.1"];
        let asked = ("b1.test", RecordType::A);
        assert!(matches!(said(&[asked], &address), Said::Records(..)));
        assert!(matches!(said(&[("B1.TEST", RecordType::A)], &address), Said::Records(..)));
        assert!(matches!(said(&[asked], &[]), Said::Nothing(_)));
        for queries in
            [&[][..], &[("b2.test", RecordType::A)], &[("b1.test", RecordType::AAAA)], &[asked, asked]]
        {
            for answers in [&address[..], &[]] {
                assert_eq!(
                    said(queries, answers),
                    Said::Failed(Reason::DnsFailed),
                    "{queries:?} {answers:?}"
                );
            }
        }
    }
}
