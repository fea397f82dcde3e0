//! Sessions that come to their age: what they carried goes on in others.

use std::time::Duration;

use fedmux::proto::limits::Limits;
use fedmux::relay::settings::Placement;

use crate::scene::{A, B, ids, numbers, send};
use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::provider::Plan;
use crate::support::wire::{header, message};

fn soon(limits: &mut Limits) {
    limits.session_age = Duration::from_millis(500);
    limits.ack_wait = Duration::from_millis(200);
    limits.drain = Duration::from_millis(300);
}

/// Whoever dialled would go on for a day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_we_accepted_ends_at_its_age_and_its_pairs_move_to_another_one() {
    let authority = Authority::new();
    let a = Plan::new(&authority, &A).await.bind();
    let b = Plan::new(&authority, &B).await.limits(soon).bind();
    let (a_at, b_at) = (a.quic, b.quic);
    let mut a = a.peer(&B, b_at, Placement::default()).start().await;
    let mut b = b.peer(&A, a_at, Placement::default()).start().await;
    let (mut a1, mut b1, mut b2) = (a.host("a1.test"), b.host("b1.test"), b.host("b2.test"));
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for n in 0..400 {
        pace.tick().await;
        send(&mut a1, "b1.test", n..n + 1).await;
        send(&mut a1, "b2.test", n..n + 1).await;
    }
    // Once and in order, over several sessions.
    for host in [&mut b1, &mut b2] {
        assert_eq!(ids(host, "a1.test", 400).await, numbers(0..400));
    }
    let connections = a.metric("fedmux_connections_opened_total", &[]);
    assert!(connections >= 3, "{connections} connections in 4 s");
    let sessions = b.relay.view().status().await.sessions;
    let young = sessions.iter().all(|session| session.told.as_ref().is_none_or(|told| told.up_seconds < 5));
    assert!(young, "{sessions:?}");
    let peers = a.relay.view().status().await.peers;
    assert!(peers.iter().all(|peer| !peer.single_stream && peer.reason.is_none()), "{peers:?}");
    for provider in [&a, &b] {
        provider.is_balanced().await;
        provider.assert_unharmed();
        assert_eq!(provider.metric("fedmux_stanzas_bounced_total", &[]), 0);
        assert_eq!(provider.metric("fedmux_stanzas_uncertain_total", &[]), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_goes_on_is_told_to_open_its_streams_elsewhere_and_then_closed() {
    let authority = Authority::new();
    let mut provider = Plan::new(&authority, &["a1.test"])
        .await
        .limits(soon)
        .limits(|limits| limits.drain = Duration::from_secs(1))
        .start()
        .await;
    let mut a1 = provider.host("a1.test");
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    let connection = peer.dial(provider.quic, "a1.test").await.unwrap();
    let mut lane = connection.lane("b1.test", "a1.test").await;
    lane.say(message("b1.test", "a1.test", "0")).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    // What stands goes on for a while; what is new doesn't begin, whatever leaves with it.
    let mut late = connection.open().await;
    late.say(header("b1.test", "a1.test") + &message("b1.test", "a1.test", "never")).await;
    assert_eq!(late.expect_error("reset").await, "reset");
    lane.say(message("b1.test", "a1.test", "1")).await;
    assert_eq!(ids(&mut a1, "b1.test", 2).await, numbers(0..2));
    lane.close().await;
    assert!(matches!(connection.closed().await, quinn::ConnectionError::ApplicationClosed(_)));
    assert_eq!(provider.metric("fedmux_sessions_ended_total", &[("reason", "reset")]), 1);
    provider.is_balanced().await;
    provider.assert_unharmed();
}
