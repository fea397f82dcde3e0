//! Questions to the responder: what is said of the relay is said of every name that asks for XMPP between servers, nothing
//! of it is forwarded, and every answer is a message that can be read.

use std::net::SocketAddr;

use fedmux::dns::relay_names::{Judged, RelayNames, Reply, UDP_BYTES_MAX, edns};
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::Request;
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::targets::choices::Choices;

const RELAYS: [&str; 2] = ["127.0.0.9:15269", "[fd00::9]:5266"];

/// A question as it comes from the network.
pub(super) fn of_octets(octets: &[u8]) {
    let client: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    for relay in RELAYS {
        let relay: SocketAddr = relay.parse().expect("an address");
        let Ok(request) = Request::from_bytes(octets.to_vec(), client, Protocol::Udp) else { return };
        match RelayNames::new(relay).judge(&request) {
            Judged::Forward(query) => hold_forwarded(&request, &query, relay),
            Judged::Answered(reply) => hold_answered(&request, &reply, relay),
        }
    }
}

/// A question that is one.
pub(super) fn of_choices(choices: &mut Choices<'_>) {
    let labels = [
        "_xmpp-server",
        "_XMPPS-server",
        "_xmppq-server",
        "_tcp",
        "_quic",
        "_udp",
        "b1",
        "test",
        "relay",
        "127",
    ];
    let mut question = Message::query();
    question.metadata.id = u16::from_be_bytes(choices.array());
    if choices.byte() == 0xFF {
        question.metadata.op_code = OpCode::Status;
    }
    for _ in 0..=choices.below(16) / 15 {
        let all: Vec<Vec<u8>> = (0..choices.below(8))
            .map(|_| match choices.byte() {
                0xFF => choices.chunk().to_vec(),
                at => labels[usize::from(at) % labels.len()].as_bytes().to_vec(),
            })
            .collect();
        let name = Name::from_labels(all).unwrap_or_default();
        let kinds = [
            RecordType::SRV,
            RecordType::A,
            RecordType::AAAA,
            RecordType::TLSA,
            RecordType::ANY,
            RecordType::AXFR,
        ];
        let mut query = Query::query(name, choices.of(&kinds));
        if choices.byte() == 0xFF {
            query.set_query_class(DNSClass::CH);
        }
        question.add_query(query);
    }
    if let Ok(octets) = question.to_vec() {
        of_octets(&octets);
    }
}

fn lower(name: &Name) -> Vec<Vec<u8>> {
    name.iter().map(<[u8]>::to_ascii_lowercase).collect()
}

/// Whether the name asks for XMPP between servers.
fn asks_for_xmpp(name: &Name) -> bool {
    let labels = lower(name);
    let is = |at: usize, known: &[&str]| {
        labels.get(at).is_some_and(|label| known.iter().any(|k| k.as_bytes() == &label[..]))
    };
    labels.len() > 2
        && is(0, &["_xmpp-server", "_xmpps-server", "_xmppq-server"])
        && is(1, &["_tcp", "_udp", "_quic"])
}

fn hold_forwarded(request: &Request, query: &Query, relay: SocketAddr) {
    let info = request.request_info().expect("one question");
    assert_eq!(query, info.query.original());
    assert_eq!((info.metadata.op_code, query.query_class()), (OpCode::Query, DNSClass::IN));
    assert!(!asks_for_xmpp(query.name()), "{} would be asked for elsewhere", query.name());
    let is_relay = match relay.ip() {
        std::net::IpAddr::V4(_) => {
            lower(query.name()).ends_with(&["127", "0", "0", "9"].map(|l| l.as_bytes().to_vec()))
        }
        std::net::IpAddr::V6(_) => {
            lower(query.name()).ends_with(&["relay", "fedmux", "internal"].map(|l| l.as_bytes().to_vec()))
        }
    };
    assert!(!is_relay, "{} would be asked for elsewhere", query.name());
}

fn hold_answered(request: &Request, reply: &Reply, relay: SocketAddr) {
    assert!(reply.answers.len() <= 1 && reply.authorities.len() <= 1 && reply.additionals.is_empty());
    assert!(reply.answers.is_empty() || reply.code == ResponseCode::NoError);
    for record in &reply.answers {
        match &record.data {
            RData::SRV(srv) => assert!(srv.port == relay.port() || srv.target.is_root()),
            RData::A(a) => assert_eq!(std::net::IpAddr::V4(a.0), relay.ip()),
            RData::AAAA(aaaa) => assert_eq!(std::net::IpAddr::V6(aaaa.0), relay.ip()),
            other => panic!("{other}"),
        }
    }
    let Some(answer) = written(request, reply) else { return };
    assert_eq!(
        (answer.metadata.id, answer.metadata.message_type),
        (request.metadata.id, MessageType::Response)
    );
    assert_eq!(answer.metadata.response_code.low(), reply.code.low());
    assert_eq!(
        (answer.answers.len(), answer.authorities.len()),
        (reply.answers.len(), reply.authorities.len())
    );
}

/// The answer as whoever asked reads it. `None` where the question itself was written with a pointer into the message.
fn written(request: &Request, reply: &Reply) -> Option<Message> {
    let edns = edns(request);
    let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
    let none: [&Record; 0] = [];
    let message =
        builder.build(reply.metadata(request), &reply.answers, &reply.authorities, none, &reply.additionals);
    let mut octets = Vec::with_capacity(512);
    message.destructive_emit(&mut BinEncoder::new(&mut octets)).expect("an answer of ours can be written");
    let plain = request.queries.as_bytes().iter().all(|octet| *octet < 0xC0);
    // Several questions are said again with the refusal.
    let one = request.request_info().is_ok();
    assert!(!(plain && one) || octets.len() <= UDP_BYTES_MAX.into(), "{} octets", octets.len());
    plain.then(|| Message::from_vec(&octets).expect("an answer of ours can be read"))
}
