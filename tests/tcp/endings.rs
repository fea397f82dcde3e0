//! A connection's end: nothing that was sent just before is lost, and both ends say goodbye.

use std::time::Duration;

use fedmux::proto::admission::Side;
use fedmux::relay::settings::Transport;

use crate::support::certificates::Authority;
use crate::support::provider::Plan;
use crate::support::tcp_peer::{Dialler, Listening, TRANSPORTS};
use crate::support::wire::{Heard, message};

const MANY: usize = 2000;

#[tokio::test]
async fn what_a_peer_sends_just_before_it_closes_arrives() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let mut provider = Plan::new(&authority, &["a1.test"]).await.start().await;
        let mut a1 = provider.host("a1.test");
        let dialler = Dialler::with(Some(&authority.certify(&["b1.test"])));
        let mut wire = dialler.dial(transport, provider.at(transport), "b1.test", "a1.test").await.unwrap();
        wire.authenticate("b1.test", "a1.test").await;
        let all: String = (0..MANY).map(|n| message("b1.test", "a1.test", &n.to_string())).collect();
        wire.say(all + "</stream:stream>").await;
        wire.mouth.finish().await;
        for n in 0..MANY {
            assert_eq!(a1.receive().await.attribute("id"), Some(&*n.to_string()));
        }
        // The relay closes in return, and says so.
        assert_eq!(wire.hear().await, Heard::End);
        assert_eq!(wire.hear().await, Heard::Finished);
        assert_eq!(provider.metric("fedmux_refusals_total", &[]), 0);
        provider.is_balanced().await;
    }
}

#[tokio::test]
async fn what_the_relay_sends_just_before_it_stops_arrives() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let peer = Listening::with(&authority.certify(&["b1.test"])).await;
        let plan = Plan::new(&authority, &["a1.test"]).await;
        let mut provider = plan.peer_by(transport, &["b1.test"], peer.address).start().await;
        let mut a1 = provider.host("a1.test");
        a1.send("b1.test", "first").await;
        let mut wire = peer.accept(transport).await.unwrap();
        wire.accept().await;
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"));
        let all: String = (0..MANY).map(|n| message("a1.test", "b1.test", &n.to_string())).collect();
        a1.say("b1.test", all).await;
        let accepted = || provider.metric("fedmux_stanzas_accepted_total", &[("side", "local")]);
        crate::support::until("all to be taken", || accepted() == MANY as u64 + 1).await;
        // Its own server has said everything, and is gone.
        drop(a1);
        let stopping = tokio::spawn(provider.stop());
        for n in 0..MANY {
            assert_eq!(wire.ear.stanza().await.attribute("id"), Some(&*n.to_string()));
        }
        assert_eq!(wire.hear().await, Heard::End);
        wire.say("</stream:stream>").await;
        assert_eq!(wire.hear().await, Heard::Finished);
        drop(wire);
        let (report, _plan) = stopping.await.unwrap();
        assert_eq!((report.unfinished, report.discarded), (0, 0), "{report}");
    }
}

#[tokio::test]
async fn a_connection_with_nothing_to_carry_is_closed_in_good_order() {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["b1.test"])).await;
    let plan = Plan::new(&authority, &["a1.test"]).await;
    let plan = plan.limits(|limits| limits.lane_idle = Duration::from_millis(300));
    let mut provider = plan.peer_by(Transport::DirectTls, &["b1.test"], peer.address).start().await;
    let mut a1 = provider.host("a1.test");
    for id in ["1", "2"] {
        a1.send("b1.test", id).await;
        let mut wire = peer.direct().await.unwrap();
        wire.accept().await;
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some(id));
        assert_eq!(wire.hear().await, Heard::End);
        assert_eq!(wire.hear().await, Heard::Finished);
        wire.say("</stream:stream>").await;
        crate::support::until("the session to be gone", || provider.metric("fedmux_sessions", &[]) == 0)
            .await;
    }
    provider.assert_unharmed();
}

#[tokio::test]
async fn a_session_over_tcp_ends_with_its_certificates_and_another_takes_over_before() {
    let authority = Authority::new();
    let plan = Plan::new(&authority, &["a1.test"]).await;
    // Good order has more time than the certificate.
    let mut provider = plan.limits(|limits| limits.drain = Duration::from_secs(60)).start().await;
    let mut a1 = provider.host("a1.test");
    let short = authority.issue(&fedmux::identity::development::Request {
        dns: &["b1.test"],
        not_after: std::time::SystemTime::now() + Duration::from_secs(3),
        ..Default::default()
    });
    let dialler = Dialler::with(Some(&short));
    let mut wire = dialler.direct(provider.at(Transport::DirectTls), "a1.test").await.unwrap();
    wire.authenticate("b1.test", "a1.test").await;
    wire.say(message("b1.test", "a1.test", "1")).await;
    assert_eq!(a1.receive().await.attribute("id"), Some("1"));
    // Some time before, the relay closes the stream in good order.
    assert_eq!(wire.hear().await, Heard::End);
    assert_eq!(wire.hear().await, Heard::Finished);
    crate::support::until("the session to end", || provider.metric("fedmux_sessions", &[]) == 0).await;
    // It doesn't outlast the certificate, whatever is said.
    let _refused = wire.mouth.try_say(message("b1.test", "a1.test", "2")).await;
    assert!(a1.received().is_none());
    provider.assert_unharmed();
}

#[tokio::test]
async fn what_the_relay_has_sent_arrives_at_a_peer_that_closes_before_it_has_read_it() {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["b1.test"])).await;
    let plan = Plan::new(&authority, &["a1.test"]).await;
    let mut provider = plan.peer_by(Transport::DirectTls, &["b1.test"], peer.address).start().await;
    let mut a1 = provider.host("a1.test");
    a1.send("b1.test", "first").await;
    let mut wire = peer.direct().await.unwrap();
    wire.accept().await;
    wire.ear.stanza().await;
    // More than the peer's system takes while nobody reads, and less than the relay's.
    let large = "x".repeat(3000);
    let all: String = (0..200).map(|n| message("a1.test", "b1.test", &format!("{n}-{large}"))).collect();
    a1.say("b1.test", all).await;
    let delivered = provider.relay.metrics().data.side(Side::Remote).delivered.clone();
    crate::support::until("all to be handed over", || delivered.get() == 201).await;
    wire.say("</stream:stream>").await;
    // A relay that closes its socket at once is told off for what still comes, and loses what it holds.
    for _ in 0..30 {
        let _gone = wire.mouth.try_say(" ").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for n in 0..200 {
        let stanza = wire.ear.stanza().await;
        assert!(stanza.attribute("id").unwrap().starts_with(&format!("{n}-")));
    }
    assert_eq!(wire.hear().await, Heard::End);
    assert_eq!(wire.hear().await, Heard::Finished);
    provider.assert_unharmed();
}
