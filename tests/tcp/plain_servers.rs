//! Servers that know neither mux nor us: one stream for each pair and direction, as everywhere.

use std::collections::BTreeSet;

use fedmux::relay::settings::Transport;
use fedmux::xmpp::namespace as ns;

use crate::support::certificates::Authority;
use crate::support::provider::Plan;
use crate::support::tcp_peer::{Listening, TRANSPORTS, greet};
use crate::support::until;
use crate::support::wire::{Heard, Wire, answer, message};

/// As a plain server: EXTERNAL and bidi, no mux. What was asked for before `<auth/>`, and from whom to whom.
async fn accept_plainly(wire: &mut Wire) -> (Vec<String>, String) {
    let external = format!(
        "<mechanisms xmlns='{}'><mechanism>EXTERNAL</mechanism></mechanisms><bidi xmlns='{}'/>",
        ns::SASL,
        ns::BIDI_FEATURE
    );
    greet(wire, &external).await;
    let mut asked = Vec::new();
    loop {
        match wire.hear().await {
            Heard::Element(element) if element.is("auth", ns::SASL) => break,
            Heard::Element(element) => asked.push(element.name().to_owned()),
            other => panic!("{other:?} instead of <auth/>"),
        }
    }
    wire.say(format!("<success xmlns='{}'/>", ns::SASL)).await;
    wire.ear.restart();
    let Heard::Header(opening) = wire.hear().await else { panic!("no stream header") };
    let (from, to) = (opening.from.unwrap(), opening.to.unwrap());
    wire.say(answer(to.as_str(), from.as_str(), "s1") + "<stream:features/>").await;
    (asked, from.as_str().to_owned())
}

#[tokio::test]
async fn a_server_without_mux_gets_a_connection_for_each_pair_and_no_bidi() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let peer = Listening::with(&authority.certify(&["b1.test"])).await;
        let plan = Plan::new(&authority, &["a1.test", "a2.test"]).await;
        let mut provider = plan.peer_by(transport, &["b1.test"], peer.address).start().await;
        let (mut a1, mut a2) = (provider.host("a1.test"), provider.host("a2.test"));
        let mut wires = Vec::new();
        for host in [&mut a1, &mut a2] {
            host.send("b1.test", "1").await;
            let mut wire = peer.accept(transport).await.unwrap();
            assert_eq!(accept_plainly(&mut wire).await, (vec![], host.name.clone()));
            assert_eq!(wire.ear.stanza().await.attribute("from"), Some(host.name.as_str()));
            wires.push(wire);
        }
        // Each pair stays where it is.
        a1.send("b1.test", "2").await;
        assert_eq!(wires[0].ear.stanza().await.attribute("id"), Some("2"));
        assert!(peer.another().is_none());
        // Without bidi nothing may come back on a stream that we opened.
        wires[1].say(message("b1.test", "a2.test", "x")).await;
        wires[1].expect_error("invalid-from").await;
        let connections = || provider.metric("fedmux_connections", &[("transport", transport.as_str())]);
        crate::support::until("one connection to remain", || connections() == 1).await;
        assert!(a2.received().is_none());
        provider.assert_unharmed();
    }
}

/// Nobody waits for a hundred handshakes in a row; and nobody is knocked at by a hundred at once.
#[tokio::test]
async fn the_pairs_of_a_server_without_mux_are_dialled_several_at_once_when_the_first_is_up() {
    const MOST: usize = 3;
    let hosts: Vec<String> = (0..9).map(|n| format!("a{n}.test")).collect();
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let peer = Listening::with(&authority.certify(&["b1.test"])).await;
        let plan = Plan::new(&authority, &names).await.limits(|limits| limits.peer_dials = MOST);
        let mut provider = plan.peer_by(transport, &["b1.test"], peer.address).start().await;
        let mut all: Vec<_> = names.iter().map(|name| provider.host(name)).collect();
        for host in &mut all {
            host.send("b1.test", "1").await;
        }
        let waiting = || provider.metric("fedmux_queued_stanzas", &[]);
        until("all of them to wait", || waiting() == 9).await;
        let mut open = vec![peer.tcp().await];
        let (mut wires, mut heard) = (Vec::new(), BTreeSet::new());
        while let Some(tcp) = open.pop() {
            assert!(peer.another().is_none(), "{} are under way", open.len() + 1);
            let mut wire = peer.shake(tcp, transport).await.unwrap();
            let (_, from) = accept_plainly(&mut wire).await;
            assert_eq!(wire.ear.stanza().await.attribute("from"), Some(&*from));
            heard.insert(from);
            wires.push(wire);
            while open.len() < MOST.min(9 - wires.len()) {
                open.push(peer.tcp().await);
            }
        }
        assert_eq!(heard.len(), 9);
        let limit = provider.metric("fedmux_limit_hits_total", &[("limit", "peer_dials")]);
        assert_eq!(
            limit, 5,
            "when the first one was up five of eight had to wait, and then one less each time"
        );
        provider.is_balanced().await;
        provider.assert_unharmed();
    }
}

#[tokio::test]
async fn a_peer_with_mux_is_asked_for_bidi_and_all_pairs_share_its_stream() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let peer = Listening::with(&authority.certify(&["b1.test", "b2.test"])).await;
        let plan = Plan::new(&authority, &["a1.test", "a2.test"]).await;
        let mut provider = plan.peer_by(transport, &["*"], peer.address).start().await;
        let (mut a1, mut a2) = (provider.host("a1.test"), provider.host("a2.test"));
        a1.send("b1.test", "1").await;
        let mut wire = peer.accept(transport).await.unwrap();
        let accepted = wire.accept().await;
        assert!(accepted.bidi && accepted.mux, "{accepted:?}");
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("1"));
        a2.send("b2.test", "2").await;
        a2.send("b1.test", "3").await;
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("2"));
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("3"));
        for (from, to, host) in [("b2.test", "a1.test", &mut a1), ("b1.test", "a2.test", &mut a2)] {
            wire.say(message(from, to, "back")).await;
            assert_eq!(host.receive().await.attribute("from"), Some(from));
        }
        assert!(peer.another().is_none());
        provider.assert_unharmed();
    }
}

#[tokio::test]
async fn a_server_that_closes_its_stream_is_dialled_again_with_the_next_stanza() {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["b1.test"])).await;
    let plan = Plan::new(&authority, &["a1.test"]).await;
    let mut provider = plan.peer_by(Transport::StartTls, &["b1.test"], peer.address).start().await;
    let mut a1 = provider.host("a1.test");
    for id in ["1", "2", "3"] {
        a1.send("b1.test", id).await;
        let mut wire = peer.starttls().await.unwrap();
        accept_plainly(&mut wire).await;
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some(id));
        wire.close().await;
        crate::support::until("the lane to be gone", || provider.metric("fedmux_lanes", &[]) == 0).await;
    }
    provider.is_balanced().await;
    provider.assert_unharmed();
}
