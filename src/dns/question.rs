//! One question to DNS and what may be concluded from its answer: records, that there are none, or nothing at all.
//!
//! Names that lead to other names (CNAME) are followed here, for SRV as for addresses, and only records of the name that
//! was reached count: an answer may hold anything.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use hickory_resolver::net::{DnsError as NoAnswer, NetError, NoRecords};
use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, RecordType};
use hickory_resolver::{ResponseCache, TtlConfig};

use super::upstream::Upstream;
use crate::reason::Reason;

/// Names that one question is led through (CNAME). A loop ends here.
const ALIASES_MAX: usize = 8;
/// Questions asked for one: a resolver follows aliases itself, so that the first answer holds the whole chain.
const QUESTIONS_MAX: usize = 4;
/// Records taken from one answer.
const RECORDS_MAX: usize = 64;
/// Answers kept: those of the hosts that many domains share are asked for once.
const CACHED_MAX: u64 = 4096;
/// How long a negative answer holds that doesn't say it.
const NEGATIVE_TTL: u32 = 60;

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// The records of the name that the question led to.
    Records(Vec<RData>, Duration),
    /// That there are none.
    Nothing(Duration),
    /// Nothing that can be used.
    Failed(Reason),
}

/// Asks, and remembers answers for their TTL.
#[derive(Clone)]
pub(super) struct Questions {
    upstream: Upstream,
    cache: ResponseCache,
}

impl Questions {
    pub(super) fn new(upstream: Upstream) -> Self {
        Self { upstream, cache: ResponseCache::new(CACHED_MAX, TtlConfig::default()) }
    }

    /// Records of `kind` that `name` has or leads to.
    pub(super) async fn ask(&self, name: Name, kind: RecordType) -> Said {
        let mut at = name;
        let mut aliases = 0;
        let mut ttl = u32::MAX;
        for _ in 0..QUESTIONS_MAX {
            if is_localhost(&at) {
                return of_this_machine(kind, ttl);
            }
            let message = match self.answer(Query::query(at.clone(), kind)).await {
                Ok(message) => message,
                Err(error) => return negative(&error, ttl),
            };
            let asked = at.clone();
            while let Some((target, alias_ttl)) = alias(&message, &at) {
                aliases += 1;
                if aliases > ALIASES_MAX {
                    return Said::Failed(Reason::DnsFailed);
                }
                at = target;
                ttl = ttl.min(alias_ttl);
            }
            let found: Vec<_> = records(&message, &at, kind).take(RECORDS_MAX).collect();
            if !found.is_empty() {
                let shortest = found.iter().map(|(_, ttl)| *ttl).min().unwrap_or_default().min(ttl);
                let data = found.into_iter().map(|(data, _)| data.clone()).collect();
                return Said::Records(data, seconds(shortest));
            }
            let ended = message.metadata.response_code == ResponseCode::NXDomain;
            if ended || at == asked {
                return Said::Nothing(seconds(ttl.min(NEGATIVE_TTL)));
            }
        }
        Said::Failed(Reason::DnsFailed)
    }

    async fn answer(&self, query: Query) -> Result<Message, NetError> {
        if let Some(known) = self.cache.get(&query, Instant::now()) {
            return known;
        }
        let response = self.upstream.ask(query.clone(), false).await;
        // A response with an error code is an error, and so is one without records.
        let checked = response.and_then(|response| Ok(NoAnswer::from_response(response)?.into_message()));
        self.cache.insert(query, checked.clone(), Instant::now());
        checked
    }
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
