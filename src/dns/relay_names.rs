//! What the responder says of the relay itself, and of a question that isn't one: pure, before anything is forwarded. The
//! table of [`super::responder`] is implemented here.

use std::net::{IpAddr, SocketAddr};

use hickory_server::proto::op::{Edns, Metadata, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_server::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::server::Request;

/// For how long an answer of ours may be kept, in seconds.
const TTL: u32 = 60;
/// Largest answer over UDP: one that isn't cut into fragments on the way (RFC 9715).
pub const UDP_BYTES_MAX: u16 = 1232;
/// The first labels of the names that are answered here.
const SERVICES: [&str; 3] = ["_xmpp-server", "_xmpps-server", "_xmppq-server"];
/// Their second labels.
const TRANSPORTS: [&str; 3] = ["_tcp", "_udp", "_quic"];

/// The relay, as its servers are to see it.
#[derive(Debug)]
pub struct RelayNames {
    address: SocketAddr,
    target: Name,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Judged {
    /// It is answered here.
    Answered(Reply),
    /// Somebody else is to be asked.
    Forward(Query),
}

/// An answer, before it is written.
#[derive(Debug, Default)]
pub struct Reply {
    /// Its code.
    pub code: ResponseCode,
    /// Whether it is ours to say.
    pub authoritative: bool,
    /// The records that were asked for.
    pub answers: Vec<Record>,
    /// Where there are none: for how long that holds.
    pub authorities: Vec<Record>,
    /// What helps with the answers.
    pub additionals: Vec<Record>,
}

impl Reply {
    /// A code and nothing else.
    #[must_use]
    pub fn of(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    /// The header of the answer to `request`.
    #[must_use]
    pub fn metadata(&self, request: &Request) -> Metadata {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = self.code;
        metadata.authoritative = self.authoritative;
        metadata.recursion_available = true;
        metadata
    }
}

/// RFC 6891 section 6.1.1: who sends EDNS gets EDNS.
#[must_use]
pub fn edns(request: &Request) -> Option<Edns> {
    request.edns.as_ref().map(|theirs| {
        let mut ours = Edns::new();
        ours.set_max_payload(request.max_payload().min(UDP_BYTES_MAX));
        ours.set_dnssec_ok(theirs.flags().dnssec_ok);
        ours
    })
}

impl RelayNames {
    /// For a relay that listens at `address`.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let labels: Vec<String> = match address.ip().to_canonical() {
            IpAddr::V4(v4) => v4.octets().iter().map(u8::to_string).collect(),
            IpAddr::V6(_) => ["relay", "fedmux", "internal"].map(str::to_owned).into(),
        };
        // Labels of this length always make a name.
        let target = Name::from_labels(labels.iter().map(String::as_bytes)).unwrap_or_default();
        Self { address, target }
    }

    /// Answer `request`, or say what to forward.
    #[must_use]
    pub fn judge(&self, request: &Request) -> Judged {
        let refuse = |code| Judged::Answered(Reply::of(code));
        let Ok(info) = request.request_info() else { return refuse(ResponseCode::FormErr) };
        if info.metadata.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        let query = info.query.original();
        let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || transfer {
            return refuse(ResponseCode::Refused);
        }
        let Some(answers) = self.answer(query) else { return Judged::Forward(query.clone()) };
        let authorities = if answers.is_empty() { vec![no_data(query.name())] } else { Vec::new() };
        Judged::Answered(Reply {
            authoritative: true,
            answers,
            authorities,
            ..Reply::of(ResponseCode::NoError)
        })
    }

    /// The answer to a question that isn't forwarded: its records, maybe none.
    fn answer(&self, query: &Query) -> Option<Vec<Record>> {
        let name = query.name();
        let record = |data| Record::from_rdata(name.clone(), TTL, data);
        if let Some(service) = service(name) {
            let srv = match service {
                ["_xmpp-server", "_tcp"] => SRV::new(0, 0, self.address.port(), self.target.clone()),
                _ => SRV::new(0, 0, 0, Name::root()),
            };
            let asked = query.query_type() == RecordType::SRV;
            return Some(asked.then(|| record(RData::SRV(srv))).into_iter().collect());
        }
        if !self.target.zone_of(name) {
            return None;
        }
        let data = match (query.query_type(), self.address.ip().to_canonical()) {
            (RecordType::A, IpAddr::V4(v4)) => Some(RData::A(A(v4))),
            (RecordType::AAAA, IpAddr::V6(v6)) => Some(RData::AAAA(AAAA(v6))),
            _ => None,
        };
        Some(data.filter(|_| *name == self.target).map(record).into_iter().collect())
    }
}

/// The service and transport of which `name` speaks, if it is one of XMPP between servers: `["_xmpp-server", "_tcp"]`.
fn service(name: &Name) -> Option<[&'static str; 2]> {
    let mut labels = name.iter();
    let mut one_of = |known: [&'static str; 3]| {
        let label = labels.next()?;
        known.into_iter().find(|known| known.as_bytes().eq_ignore_ascii_case(label))
    };
    let found = [one_of(SERVICES)?, one_of(TRANSPORTS)?];
    (name.num_labels() > 2).then_some(found)
}

/// Says that there is no such record, and for how long (RFC 2308).
fn no_data(name: &Name) -> Record {
    let server = Name::from_ascii("relay.fedmux.internal.").unwrap_or_default();
    let soa = SOA::new(server.clone(), server, 1, 3600, 600, 86_400, TTL);
    Record::from_rdata(name.clone(), TTL, RData::SOA(soa))
}
