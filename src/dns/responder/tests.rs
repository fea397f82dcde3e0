use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as NoAnswer, NetError};
use hickory_server::proto::op::{Message, Query, ResponseCode};
use hickory_server::proto::rr::RecordType;

use super::{Responder, ResponderSettings, Sockets};
use crate::dns::DnsError;
use crate::dns::test_server::{Misbehaviour, TestServer, Zone, name};

fn responder(upstream: &TestServer, relay: &str) -> Responder {
    Responder::start(&settings(upstream, relay), vec![bound("127.0.0.1:0")]).unwrap()
}

fn bound(address: &str) -> Sockets {
    let tcp = std::net::TcpListener::bind(address).unwrap();
    let udp = std::net::UdpSocket::bind(tcp.local_addr().unwrap()).unwrap();
    Sockets { udp, tcp }
}

fn settings(upstream: &TestServer, relay: &str) -> ResponderSettings {
    ResponderSettings { relay: relay.parse().unwrap(), servers: vec![upstream.address], clients: Vec::new() }
}

fn client_over(address: SocketAddr, connections: Vec<ConnectionConfig>) -> TokioResolver {
    let connections = connections
        .into_iter()
        .map(|mut connection| {
            connection.port = address.port();
            connection
        })
        .collect();
    let server = NameServerConfig::new(address.ip(), true, connections);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.build().unwrap()
}

fn client(responder: &Responder) -> TokioResolver {
    client_over(responder.addresses()[0], vec![ConnectionConfig::udp()])
}

/// The answer's records as text, or its code.
async fn ask(client: &TokioResolver, kind: RecordType, name: &str) -> Result<Vec<String>, ResponseCode> {
    match client.lookup(name, kind).await {
        Ok(lookup) => Ok(lookup.answers().iter().map(|record| record.data.to_string()).collect()),
        Err(NetError::Dns(NoAnswer::NoRecordsFound(none))) => Err(none.response_code),
        Err(NetError::Dns(NoAnswer::ResponseCode(code))) => Err(code),
        Err(error) => panic!("{error}"),
    }
}

/// There is no such record, says a server that knows.
const NO_DATA: Result<Vec<String>, ResponseCode> = Err(ResponseCode::NoError);

#[tokio::test]
async fn every_domain_leads_to_the_relay() {
    let upstream = Zone::new(&["_xmpp-server._tcp.b1.test SRV 0 0 5269 real.test"]).serve().await;
    let responder = responder(&upstream, "127.0.0.9:15269");
    let client = client(&responder);
    for domain in ["b1.test", "rooms.b1.test", "a1.test", "xn--bcher-kva.example", "TEST"] {
        let name = format!("_xmpp-server._tcp.{domain}.");
        assert_eq!(ask(&client, RecordType::SRV, &name).await.unwrap(), ["0 0 15269 127.0.0.9."], "{domain}");
    }
    assert_eq!(ask(&client, RecordType::SRV, "_XMPP-Server._TCP.b1.test.").await.unwrap().len(), 1);
    assert_eq!(ask(&client, RecordType::A, "127.0.0.9.").await.unwrap(), ["127.0.0.9"]);
    assert_eq!(ask(&client, RecordType::AAAA, "127.0.0.9.").await, NO_DATA);
    assert!(upstream.asked().is_empty(), "{:?}", upstream.asked());
}

#[tokio::test]
async fn an_ipv6_relay_has_a_name() {
    let upstream = Zone::new(&[]).serve().await;
    let responder = responder(&upstream, "[fd00::9]:5266");
    let client = client(&responder);
    let srv = ask(&client, RecordType::SRV, "_xmpp-server._tcp.b1.test.").await.unwrap();
    assert_eq!(srv, ["0 0 5266 relay.fedmux.internal."]);
    assert_eq!(ask(&client, RecordType::AAAA, "relay.fedmux.internal.").await.unwrap(), ["fd00::9"]);
    assert_eq!(ask(&client, RecordType::A, "relay.fedmux.internal.").await, NO_DATA);
}

#[tokio::test]
async fn other_ways_to_other_servers_are_not_offered() {
    let upstream = Zone::new(&["_xmpps-server._tcp.b1.test SRV 0 0 5270 real.test"]).serve().await;
    let responder = responder(&upstream, "127.0.0.9:15269");
    let client = client(&responder);
    for labels in ["_xmpps-server._tcp", "_xmpp-server._quic", "_xmppq-server._udp"] {
        let name = format!("{labels}.b1.test.");
        assert_eq!(ask(&client, RecordType::SRV, &name).await.unwrap(), ["0 0 0 ."], "{labels}");
    }
    assert_eq!(ask(&client, RecordType::TLSA, "_15269._tcp.127.0.0.9.").await, NO_DATA);
    assert_eq!(ask(&client, RecordType::TLSA, "_xmpp-server._tcp.b1.test.").await, NO_DATA);
    assert_eq!(ask(&client, RecordType::A, "_xmpp-server._tcp.b1.test.").await, NO_DATA);
    assert!(upstream.asked().is_empty(), "{:?}", upstream.asked());
}

#[tokio::test]
async fn everything_else_is_forwarded_as_it_is() {
    let upstream = Zone::new(&[
        "www.b1.test A 127.0.0.7",
        "_xmpp-client._tcp.b1.test SRV 1 2 5222 www.b1.test",
        "alias.test CNAME www.b1.test",
    ])
    .misbehave("broken.test", RecordType::A, Misbehaviour::Code(ResponseCode::ServFail))
    .serve()
    .await;
    let responder = responder(&upstream, "127.0.0.9:15269");
    let client = client(&responder);
    assert_eq!(ask(&client, RecordType::A, "www.b1.test.").await.unwrap(), ["127.0.0.7"]);
    let srv = ask(&client, RecordType::SRV, "_xmpp-client._tcp.b1.test.").await.unwrap();
    assert_eq!(srv, ["1 2 5222 www.b1.test."]);
    assert_eq!(ask(&client, RecordType::A, "alias.test.").await.unwrap(), ["www.b1.test.", "127.0.0.7"]);
    assert_eq!(ask(&client, RecordType::A, "nobody.test.").await, Err(ResponseCode::NXDomain));
    assert_eq!(ask(&client, RecordType::AAAA, "www.b1.test.").await, NO_DATA);
    assert_eq!(ask(&client, RecordType::A, "broken.test.").await, Err(ResponseCode::ServFail));
}

#[tokio::test]
async fn tcp_is_spoken_and_carries_what_one_datagram_cannot() {
    let records: Vec<String> = (0..200).map(|n| format!("many.test A 127.0.2.{n}")).collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let upstream = Zone::new(&records).serve().await;
    let responder = responder(&upstream, "127.0.0.9:15269");
    let tcp = client_over(responder.addresses()[0], vec![ConnectionConfig::tcp()]);
    assert_eq!(ask(&tcp, RecordType::SRV, "_xmpp-server._tcp.b1.test.").await.unwrap().len(), 1);
    let both = client_over(responder.addresses()[0], vec![ConnectionConfig::udp(), ConnectionConfig::tcp()]);
    assert_eq!(ask(&both, RecordType::A, "many.test.").await.unwrap().len(), 200);
}

#[tokio::test]
async fn whoever_is_not_named_is_refused() {
    let upstream = Zone::new(&["www.b1.test A 127.0.0.7"]).serve().await;
    let named = ["10.0.0.5/8".parse().unwrap()];
    let settings = settings(&upstream, "127.0.0.9:15269");
    let responder = Responder::start_for(&settings, vec![bound("127.0.0.1:0")], named.into_iter()).unwrap();
    let client = client(&responder);
    for (kind, name) in [(RecordType::SRV, "_xmpp-server._tcp.b1.test."), (RecordType::A, "www.b1.test.")] {
        assert_eq!(ask(&client, kind, name).await, Err(ResponseCode::Refused), "{name}");
    }
    assert!(upstream.asked().is_empty());
}

#[tokio::test]
async fn it_does_not_forward_to_itself() {
    let upstream = Zone::new(&[]).serve().await;
    for (listen, named) in [("127.53.0.1", "127.53.0.1"), ("0.0.0.0", "127.53.0.1")] {
        let sockets = bound(&format!("{listen}:0"));
        let own = SocketAddr::new(named.parse().unwrap(), sockets.tcp.local_addr().unwrap().port());
        let settings = ResponderSettings { servers: vec![own], ..settings(&upstream, "127.0.0.9:1") };
        let error = Responder::start(&settings, vec![sockets]).unwrap_err();
        assert!(matches!(error, DnsError::Loop(address) if address == own), "{error}");
    }
}

#[tokio::test]
async fn more_questions_than_are_forwarded_at_once_are_answered_with_servfail() {
    let mut zone = Zone::new(&[]);
    for n in 0..super::FORWARDED_MAX + 10 {
        zone = zone.misbehave(&format!("n{n}.test"), RecordType::A, Misbehaviour::Silent);
    }
    let upstream = zone.serve().await;
    let responder = responder(&upstream, "127.0.0.9:15269");
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(responder.addresses()[0]).await.unwrap();
    for n in 0..super::FORWARDED_MAX + 10 {
        let mut question = Message::query();
        question.metadata.id = u16::try_from(n).unwrap();
        question.add_query(Query::query(name(&format!("n{n}.test")), RecordType::A));
        socket.send(&question.to_vec().unwrap()).await.unwrap();
        tokio::task::yield_now().await;
    }
    // The silent ones are still waited for when the first answer comes: it is to one that was too much.
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).await.unwrap();
    let answer = Message::from_vec(&answer[..length]).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(usize::from(answer.metadata.id) >= super::FORWARDED_MAX, "{}", answer.metadata.id);
    assert!(responder.overflowed() > 0);
    let client = client(&responder);
    let srv = ask(&client, RecordType::SRV, "_xmpp-server._tcp.b1.test.").await;
    assert_eq!(srv.unwrap().len(), 1, "what is answered here needs no place");
}
