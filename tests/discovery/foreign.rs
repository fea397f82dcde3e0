//! QUIC peers without mux (XEP-0467) that are found by DNS: one connection with a stream for each pair where they take
//! them, else a connection for each pair.

use std::time::Duration;

use fedmux::relay::settings::Transport;
use fedmux::xmpp::namespace as ns;

use crate::scene::{opened, plan, way, zone};
use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::tcp_peer::greet;
use crate::support::wire::{Heard, Wire, answer};

const HOSTS: [&str; 3] = ["a1.test", "a2.test", "a3.test"];

/// As a server that knows EXTERNAL and bidi, and nothing else: take the stream for `from`, and its first stanza.
async fn take(mut wire: Wire, from: &str) -> Wire {
    let features = format!(
        "<bidi xmlns='{}'/><mechanisms xmlns='{}'><mechanism>EXTERNAL</mechanism></mechanisms>",
        ns::BIDI_FEATURE,
        ns::SASL
    );
    greet(&mut wire, &features).await;
    loop {
        match wire.hear().await {
            Heard::Element(element) if element.is("bidi", ns::BIDI) => {}
            Heard::Element(element) if element.is("auth", ns::SASL) => break,
            other => panic!("{other:?} instead of <auth/>"),
        }
    }
    wire.say(format!("<success xmlns='{}'/>", ns::SASL)).await;
    wire.ear.restart();
    let Heard::Header(header) = wire.hear().await else { panic!("no stream header") };
    assert_eq!(header.from.unwrap().as_str(), from);
    wire.say(format!("{}<stream:features/>", answer("b1.test", from, "s1"))).await;
    assert_eq!(wire.ear.stanza().await.attribute("id"), Some(from));
    wire
}

#[tokio::test]
async fn a_peer_without_mux_that_takes_several_streams_gets_one_connection() {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    let dns = zone(&[way("b1.test", Transport::Quic, peer.address)]).serve().await;
    let mut relay = plan(&authority, &HOSTS).await.finding_by(dns.address).start().await;
    let mut hosts = HOSTS.map(|name| relay.host(name));
    hosts[0].send("b1.test", "a1.test").await;
    let connection = peer.accept().await;
    let mut lanes = vec![take(connection.accept().await, "a1.test").await];
    for host in &mut hosts[1..] {
        let id = host.name.clone();
        host.send("b1.test", &id).await;
        lanes.push(take(connection.accept().await, &id).await);
    }
    assert_eq!(opened(&relay, Transport::Quic, "outbound"), 1);
    // And each pair stays on its stream.
    for (host, lane) in hosts.iter_mut().zip(&mut lanes) {
        host.send("b1.test", "next").await;
        let heard = lane.ear.stanza().await;
        assert_eq!((heard.attribute("id"), heard.attribute("from")), (Some("next"), Some(&*host.name)));
    }
    relay.is_balanced().await;
    relay.assert_unharmed();
}

#[tokio::test]
async fn a_peer_without_mux_that_takes_one_stream_gets_a_connection_for_each_pair() {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    peer.takes_streams(1);
    let dns = zone(&[way("b1.test", Transport::Quic, peer.address)]).serve().await;
    let plan = plan(&authority, &HOSTS).await.finding_by(dns.address);
    let mut relay = plan.limits(|limits| limits.credit_wait = Duration::from_millis(100)).start().await;
    let mut kept = Vec::new();
    for name in HOSTS {
        let mut host = relay.host(name);
        host.send("b1.test", name).await;
        let connection = peer.accept().await;
        let lane = take(connection.accept().await, name).await;
        kept.push((host, connection, lane));
    }
    assert_eq!(opened(&relay, Transport::Quic, "outbound"), 3);
    assert_eq!(dns.asked_at("SRV _xmpp-server._quic.b1.test.").len(), 1);
    relay.is_balanced().await;
    relay.assert_unharmed();
}
