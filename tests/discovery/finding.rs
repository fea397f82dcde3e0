//! Two relays that know each other by DNS alone.

use std::time::{Duration, Instant};

use fedmux::proto::race::ATTEMPT_DELAY;
use fedmux::relay::settings::Transport;

use crate::scene::{black_hole, connections, opened, plan, start, way, way_by, zone};
use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::provider::Provider;
use crate::support::server::Host;
use crate::support::tcp_peer::{Listening, TRANSPORTS};
use crate::support::until;
use crate::support::wire::Wire;

async fn chat(one: &mut Host, other: &mut Host) {
    one.send(&other.name, "there").await;
    let heard = other.receive().await;
    assert_eq!((heard.attribute("id"), heard.attribute("from")), (Some("there"), Some(&*one.name)));
    other.send(&one.name, "back").await;
    assert_eq!(one.receive().await.attribute("id"), Some("back"));
}

async fn is_well(provider: &Provider) {
    assert_eq!(provider.metric("fedmux_dial_failures_total", &[]), 0);
    provider.is_balanced().await;
    provider.assert_unharmed();
}

#[tokio::test]
async fn two_relays_that_find_each_other_over_quic_chat_both_ways_on_one_session() {
    for labels in ["_xmpp-server._quic", "_xmppq-server._udp"] {
        let authority = Authority::new();
        let a = plan(&authority, &["a1.test"]).await.bind();
        let b = plan(&authority, &["b1.test", "b2.test"]).await.bind();
        let zone = zone(&[
            way_by(labels, "a1.test", Transport::Quic, a.quic),
            way_by(labels, "b1.test", Transport::Quic, b.quic),
            way_by(labels, "b2.test", Transport::Quic, b.quic),
        ]);
        let (dns, mut a, mut b) = start(zone, [a, b]).await;
        let (mut a1, mut b1, mut b2) = (a.host("a1.test"), b.host("b1.test"), b.host("b2.test"));
        chat(&mut a1, &mut b1).await;
        // Another domain of that peer, whose own records lead to the same place.
        chat(&mut a1, &mut b2).await;
        for _ in 0..3 {
            chat(&mut b1, &mut a1).await;
        }
        let all = |relay, direction| opened(relay, Transport::Quic, direction);
        assert_eq!((all(&a, "outbound"), all(&a, "inbound")), (1, 0));
        assert_eq!((all(&b, "outbound"), all(&b, "inbound")), (0, 1));
        for name in ["a1.test", "b1.test", "b2.test"] {
            let question = format!("SRV {labels}.{name}.");
            assert_eq!(dns.asked_at(&question).len(), 1, "{:?}", dns.asked());
        }
        let took = |relay: &Provider, result| {
            relay.metric("fedmux_look_up_duration_seconds_count", &[("result", result)])
        };
        assert_eq!((took(&a, "found"), took(&b, "found"), took(&a, "failed")), (2, 1, 0));
        is_well(&a).await;
        is_well(&b).await;
    }
}

#[tokio::test]
async fn two_relays_find_each_other_over_tcp_with_one_stream_each_way() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let a = plan(&authority, &["a1.test"]).await.bind();
        let b = plan(&authority, &["b1.test", "b2.test"]).await.bind();
        let zone = zone(&[
            way("a1.test", transport, a.at(transport)),
            way("b1.test", transport, b.at(transport)),
            way("b2.test", transport, b.at(transport)),
        ]);
        let (_dns, mut a, mut b) = start(zone, [a, b]).await;
        let (mut a1, mut b1, mut b2) = (a.host("a1.test"), b.host("b1.test"), b.host("b2.test"));
        chat(&mut a1, &mut b1).await;
        chat(&mut a1, &mut b2).await;
        for relay in [&a, &b] {
            let all = |direction| opened(relay, transport, direction);
            assert_eq!((all("outbound"), all("inbound")), (1, 1), "{transport}");
            is_well(relay).await;
        }
    }
}

/// The records name all of them with one priority.
#[tokio::test]
async fn the_best_way_that_is_alive_is_tried_first_and_takes_the_first_stanza() {
    let authority = Authority::new();
    let certificate = authority.certify(&["x.test"]);
    let quic = Peer::start(&certificate);
    let (direct, starttls) = (Listening::with(&certificate).await, Listening::with(&certificate).await);
    let records = zone(&[
        way("x.test", Transport::StartTls, starttls.address),
        way("x.test", Transport::DirectTls, direct.address),
        way("x.test", Transport::Quic, quic.address),
    ]);
    let dns = records.serve().await;
    let send = async || {
        let mut relay = plan(&authority, &["a1.test"]).await.finding_by(dns.address).start().await;
        relay.host("a1.test").send("x.test", "first").await;
        (relay, Instant::now())
    };
    let takes = async |mut wire: Wire, relay: Provider| {
        wire.accept().await;
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"));
        is_well(&relay).await;
    };
    // Nobody accepts for the others, so that none of them can win; and if this machine isn't too busy none is tried.
    let untried =
        |peer: &Listening, since: Instant| peer.another().is_none() || since.elapsed() > ATTEMPT_DELAY;
    let (relay, sent) = send().await;
    let wire = quic.accept().await.accept().await;
    assert!(untried(&direct, sent) && untried(&starttls, sent));
    takes(wire, relay).await;
    drop(quic);
    let (relay, sent) = send().await;
    let tcp = direct.tcp().await;
    // QUIC was tried a moment before.
    assert!(untried(&starttls, sent + ATTEMPT_DELAY));
    takes(direct.secure(tcp).await.unwrap(), relay).await;
    drop(direct);
    let (relay, _) = send().await;
    takes(starttls.starttls().await.unwrap(), relay).await;
}

#[tokio::test]
async fn where_quic_is_swallowed_tls_takes_the_first_stanza_and_is_then_tried_first() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let hole = black_hole().await;
        let a = plan(&authority, &["a1.test"]).await.limits(|limits| {
            limits.lane_idle = Duration::from_millis(300);
            limits.session_idle = Duration::from_millis(100);
        });
        let a = a.bind();
        let b = plan(&authority, &["b1.test"]).await.bind();
        let zone = zone(&[
            way("b1.test", Transport::Quic, hole.local_addr().unwrap()),
            way("b1.test", transport, b.at(transport)),
        ]);
        let (_dns, mut a, mut b) = start(zone, [a, b]).await;
        let (mut a1, mut b1) = (a.host("a1.test"), b.host("b1.test"));
        let heard_nothing = || hole.try_recv_from(&mut [0; 2048]).is_err();
        a1.send("b1.test", "first").await;
        assert_eq!(b1.receive().await.attribute("id"), Some("first"));
        hole.readable().await.unwrap();
        until("the session to fall idle", || connections(&a) == 0).await;
        while !heard_nothing() {}
        a1.send("b1.test", "again").await;
        assert_eq!(b1.receive().await.attribute("id"), Some("again"));
        assert_eq!(opened(&a, transport, "outbound"), 2);
        assert!(heard_nothing(), "QUIC was tried again at once");
        is_well(&a).await;
    }
}

#[tokio::test]
async fn the_first_stanzas_for_all_domains_of_a_provider_make_one_connection() {
    const DOMAINS: usize = 12;
    let authority = Authority::new();
    let names: Vec<String> = (1..=DOMAINS).map(|n| format!("b{n}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let a = plan(&authority, &["a1.test"]).await.bind();
    let b = plan(&authority, &names).await.bind();
    let records: Vec<_> = names.iter().map(|name| way(name, Transport::Quic, b.quic)).collect();
    let (_dns, mut a, mut b) = start(zone(&records), [a, b]).await;
    let mut a1 = a.host("a1.test");
    for name in &names {
        a1.send(name, "first").await;
    }
    for name in names {
        assert_eq!(b.host(name).receive().await.attribute("id"), Some("first"));
    }
    assert_eq!(opened(&a, Transport::Quic, "outbound"), 1);
    is_well(&a).await;
}
