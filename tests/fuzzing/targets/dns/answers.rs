//! The look-ups of a finder: each question is answered with whatever the input says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use fedmux::dns::trail::{Heard, QUESTIONS_MAX, RECORDS_MAX, Said, Trail, checked};
use fedmux::proto::discovery::found::{VALID_MAX, conclude};
use fedmux::proto::discovery::plan::{Plan, plan};
use fedmux::proto::discovery::{AddressAnswer, SrvAnswer, SrvAnswers, SrvName};
use fedmux::reason::Reason;
use fedmux::xmpp::domain::Domain;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::op::{DnsResponse, Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, SRV, TXT};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::judgement::{self, Asked};
use crate::targets::choices::Choices;

/// The domain that is looked for.
const DOMAIN: &str = "b1.example.com";
/// Records that the input may put into one answer: more than are taken.
const ANSWER_RECORDS_MAX: usize = 100;

/// What a server says to a question. `None`: nothing in time.
type Server = fn(&Query, &mut Choices<'_>) -> Option<Vec<u8>>;

/// Each answer is a chunk of the input as it stands.
pub(super) fn of_octets(choices: &mut Choices<'_>) {
    find(choices, |_, choices| {
        let octets = choices.chunk();
        (!octets.is_empty()).then(|| octets.to_vec())
    });
}

/// Each answer is a message of records that fit more or less.
pub(super) fn of_records(choices: &mut Choices<'_>) {
    find(choices, |query, choices| {
        let mut message = Message::response(1, OpCode::Query);
        match choices.byte() {
            0xFF => {}
            0xFE => drop(message.add_query(Query::query(any_name(query, choices), RecordType::SRV))),
            _ => drop(message.add_query(query.clone())),
        }
        message.metadata.response_code = choices.of(&[
            ResponseCode::NoError,
            ResponseCode::NoError,
            ResponseCode::NXDomain,
            ResponseCode::ServFail,
        ]);
        for _ in 0..choices.below(ANSWER_RECORDS_MAX) {
            let name = any_name(query, choices);
            let mut record =
                Record::from_rdata(name, u32::from_be_bytes(choices.array()), any_data(query, choices));
            if choices.byte() == 0xFF {
                record.dns_class = DNSClass::CH;
            }
            match choices.byte() {
                0xFF => message.add_authority(record),
                _ => message.add_answer(record),
            };
            if choices.is_over() {
                break;
            }
        }
        message.to_vec().ok()
    });
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

fn any_name(query: &Query, choices: &mut Choices<'_>) -> Name {
    match choices.below(8) {
        0..=4 => query.name().clone(),
        5 => name(choices.of(&[
            "t.example.com.",
            "T.example.com.",
            "10.0.0.9.",
            "b1.example.com.",
            ".",
            "localhost.",
            "a.LocalHost.",
        ])),
        6 => Name::from_labels([choices.chunk()]).unwrap_or_default(),
        _ => name(&format!("alias{}.example.com.", choices.below(12))),
    }
}

fn any_data(query: &Query, choices: &mut Choices<'_>) -> RData {
    let number = |choices: &mut Choices<'_>| u16::from_be_bytes(choices.array());
    match (choices.below(12), query.query_type()) {
        (0..=6, RecordType::SRV) | (7, _) => {
            let (priority, weight, port) = (choices.byte().into(), number(choices), number(choices));
            RData::SRV(SRV::new(priority, weight, port, any_name(query, choices)))
        }
        (0..=6, RecordType::AAAA) | (8, _) => RData::AAAA(AAAA(choices.array::<16>().into())),
        (0..=6, _) | (9, _) => RData::A(A(choices.array::<4>().into())),
        (10, _) => RData::CNAME(CNAME(any_name(query, choices))),
        _ => match choices.below(3) {
            0 => RData::NS(NS(any_name(query, choices))),
            1 => RData::TXT(TXT::new(vec!["text".to_owned()])),
            _ => {
                let minimum = u32::from_be_bytes(choices.array());
                RData::SOA(SOA::new(name("ns."), name("ns."), 1, 3600, 600, 86_400, minimum))
            }
        },
    }
}

/// As `dns::finder` does it.
fn find(choices: &mut Choices<'_>, server: Server) {
    let domain = Domain::parse(DOMAIN).expect("a domain");
    let asked = Asked::new(choices);
    let mut ttl = VALID_MAX;
    let mut srv = SrvAnswers::all(&SrvAnswer::Failed(Reason::DnsTimeout));
    for kind in SrvName::ALL {
        let full = name(&format!("{}.{DOMAIN}.", kind.labels()));
        srv.set(kind, ask(full, RecordType::SRV, choices, server).into_srv(&mut ttl));
    }
    let plan = plan(&domain, &srv, asked.quic_443, asked.seed);
    let mut addresses: HashMap<String, AddressAnswer> = HashMap::new();
    if let Plan::Candidates(candidates) = &plan {
        judgement::hold_plan(candidates);
        for candidate in candidates {
            if candidate.host.parse::<IpAddr>().is_ok() || addresses.contains_key(&candidate.host) {
                continue;
            }
            let answer = addresses.entry(candidate.host.clone()).or_default();
            let Ok(host) = Name::from_ascii(format!("{}.", candidate.host)) else {
                answer.failed = Some(Reason::DnsFailed);
                continue;
            };
            for kind in [RecordType::AAAA, RecordType::A] {
                ask(host.clone(), kind, choices, server).add_to(answer, &mut ttl);
            }
        }
    }
    let found = conclude(&srv, plan, &addresses, asked.rules(), ttl);
    judgement::hold(&found, &srv, &addresses, &asked);
}

fn ask(name: Name, kind: RecordType, choices: &mut Choices<'_>, server: Server) -> Said {
    let mut heard = Trail::begin(name, kind);
    for _ in 0..=QUESTIONS_MAX {
        let trail = match heard {
            Heard::Further(trail) => trail,
            Heard::Said(said) => {
                hold_said(&said, kind);
                return said;
            }
        };
        let question = trail.question();
        assert!(!is_localhost(question.name()), "a server is asked where this machine is");
        let response = match server(&question, choices) {
            Some(octets) => DnsResponse::from_buffer(octets).map_err(NetError::from),
            None => Err(NetError::Timeout),
        };
        let to_another = response.as_ref().is_ok_and(|response| response.queries != [question.clone()]);
        heard = trail.hear(response.and_then(|response| checked(&question, response)));
        assert!(
            !to_another || matches!(heard, Heard::Said(Said::Failed(_))),
            "the answer to another question comes to {heard:?}"
        );
    }
    panic!("more is asked than may be");
}

fn is_localhost(name: &Name) -> bool {
    name.to_ascii().to_ascii_lowercase().trim_end_matches('.').rsplit('.').next() == Some("localhost")
}

fn hold_said(said: &Said, kind: RecordType) {
    match said {
        Said::Records(records, valid) => {
            assert!((1..=RECORDS_MAX).contains(&records.len()));
            assert!(records.iter().all(|data| data.record_type() == kind));
            assert!(*valid <= Duration::from_secs(u32::MAX.into()));
        }
        Said::Failed(reason) => assert!(matches!(reason, Reason::DnsFailed | Reason::DnsTimeout)),
        Said::Nothing(_) => {}
    }
}
