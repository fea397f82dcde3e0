//! Lanes that end in good order: nothing of what was said before is lost.

use std::time::Duration;

use fedmux::proto::limits::Limits;
use fedmux::relay::settings::Placement;
use fedmux::xmpp::header::STREAM_END;

use crate::scene::{Scene, ids, numbers, send};
use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::provider::Plan;
use crate::support::until;
use crate::support::wire::message;

/// Enough that they can't all be under way at once.
const STANZAS: usize = 5_000;

fn goodbye(from: &str, to: &str) -> String {
    let mut octets: String = (0..STANZAS).map(|n| message(from, to, &n.to_string())).collect();
    octets.push_str(STREAM_END);
    octets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_our_server_says_just_before_it_closes_arrives() {
    let mut scene = Scene::set().await;
    let mut b1 = scene.b.host("b1.test");
    let mut wire = scene.a.local().await;
    wire.authenticate("a1.test", "b1.test").await;
    wire.say(goodbye("a1.test", "b1.test")).await;
    wire.mouth.finish().await;
    assert_eq!(ids(&mut b1, "a1.test", STANZAS).await, numbers(0..STANZAS));
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_says_just_before_it_closes_arrives() {
    let authority = Authority::new();
    let mut provider = Plan::new(&authority, &["a1.test"]).await.start().await;
    let mut a1 = provider.host("a1.test");
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    let connection = peer.dial(provider.quic, "a1.test").await.unwrap();
    let mut lane = connection.lane("b1.test", "a1.test").await;
    lane.say(goodbye("b1.test", "a1.test")).await;
    lane.mouth.finish().await;
    // Everything has arrived; whether anybody has read it, the peer doesn't ask.
    assert_eq!(lane.mouth.stopped().await, None);
    drop(lane);
    connection.0.close(0_u32.into(), b"");
    assert_eq!(ids(&mut a1, "b1.test", STANZAS).await, numbers(0..STANZAS));
    provider.is_balanced().await;
    provider.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_lanes_close_and_come_back_on_the_same_connection() {
    let idle = Duration::from_millis(300);
    let mut scene = Scene::with_limits(|limits| limits.lane_idle = idle).await;
    let (mut a1, mut b1) = (scene.a.host("a1.test"), scene.b.host("b1.test"));
    for n in 0..3 {
        send(&mut a1, "b1.test", n..n + 1).await;
        assert_eq!(ids(&mut b1, "a1.test", 1).await, numbers(n..n + 1));
        let lanes = [&scene.a, &scene.b].map(|provider| &provider.relay.metrics().lanes);
        until("the idle lane to close", || lanes.iter().all(|lanes| lanes.get() == 0)).await;
    }
    assert_eq!(scene.a.metric("fedmux_connections_opened_total", &[]), 1);
    assert_eq!(scene.a.metric("fedmux_quic_streams_opened_total", &[]), 3);
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_is_written_or_read_is_not_idle() {
    let idle = Duration::from_millis(400);
    let mut scene = Scene::with_limits(|limits| limits.lane_idle = idle).await;
    let (mut a1, mut b1) = (scene.a.host("a1.test"), scene.b.host("b1.test"));
    let mut pace = tokio::time::interval(idle / 4);
    for n in 0..8 {
        pace.tick().await;
        send(&mut a1, "b1.test", n..n + 1).await;
        assert_eq!(ids(&mut b1, "a1.test", 1).await, numbers(n..n + 1));
    }
    // The other direction alone keeps it up as well.
    for n in 0..8 {
        pace.tick().await;
        send(&mut b1, "a1.test", n..n + 1).await;
        assert_eq!(ids(&mut a1, "b1.test", 1).await, numbers(n..n + 1));
    }
    assert_eq!(scene.a.metric("fedmux_quic_streams_opened_total", &[]), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_carries_nothing_is_closed_by_its_dialler() {
    let mut scene = Scene::with_limits(|limits| {
        limits.lane_idle = Duration::from_millis(200);
        limits.session_idle = Duration::from_millis(200);
    })
    .await;
    let (mut a1, mut b1) = (scene.a.host("a1.test"), scene.b.host("b1.test"));
    for n in 0..2 {
        send(&mut a1, "b1.test", n..n + 1).await;
        assert_eq!(ids(&mut b1, "a1.test", 1).await, numbers(n..n + 1));
        let sessions = || [&scene.a, &scene.b].map(|provider| provider.metric("fedmux_sessions", &[]));
        until("the idle session to close", || sessions() == [0, 0]).await;
    }
    assert_eq!(scene.a.metric("fedmux_connections_opened_total", &[]), 2);
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_its_dialler_keeps_for_nothing_is_closed_by_the_other_end_and_dialled_again() {
    let authority = Authority::new();
    let (lane_idle, long) = (Duration::from_millis(200), Duration::from_secs(3600));
    let idle = |session_idle| {
        move |limits: &mut Limits| (limits.lane_idle, limits.session_idle) = (lane_idle, session_idle)
    };
    let a = Plan::new(&authority, &["a1.test"]).await.limits(idle(long)).bind();
    let b = Plan::new(&authority, &["b1.test"]).await.limits(idle(lane_idle / 10)).bind();
    let (a_at, b_at) = (a.quic, b.quic);
    let mut a = a.peer(&["b1.test"], b_at, Placement::StreamPerPair).start().await;
    let mut b = b.peer(&["a1.test"], a_at, Placement::StreamPerPair).start().await;
    let (mut a1, mut b1) = (a.host("a1.test"), b.host("b1.test"));
    for n in 0..3 {
        send(&mut a1, "b1.test", n..n + 1).await;
        assert_eq!(ids(&mut b1, "a1.test", 1).await, numbers(n..n + 1));
        let sessions = || [&a, &b].map(|provider| provider.metric("fedmux_sessions", &[]));
        until("the session to close", || sessions() == [0, 0]).await;
    }
    assert_eq!(a.metric("fedmux_connections_opened_total", &[]), 3);
    for provider in [&a, &b] {
        provider.is_balanced().await;
        provider.assert_unharmed();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_stops_delivers_what_it_has() {
    let delay = Duration::from_millis(20);
    let mut scene = Scene::with(Placement::StreamPerPair, Some(delay), |_| {}).await;
    let (mut a1, mut b1) = (scene.a.host("a1.test"), scene.b.host("b1.test"));
    let mut b2 = scene.b.host("b2.test");
    send(&mut a1, "b1.test", 0..1).await;
    b1.receive().await;
    // One pair has its lane, the other needs one; everything is accepted, little has left.
    let many: String = (1..STANZAS).map(|n| message("a1.test", "b1.test", &n.to_string())).collect();
    let others: String = (0..STANZAS).map(|n| message("a1.test", "b2.test", &n.to_string())).collect();
    a1.say("b1.test", many).await;
    a1.say("b2.test", others).await;
    let accepted = |scene: &Scene| scene.a.relay.metrics().stanzas(fedmux::proto::admission::Side::Local).0;
    until("all of it to be accepted", || accepted(&scene) == 2 * STANZAS as u64).await;
    // Its streams end; one that stays open has until the end of the drain.
    drop(a1);
    let (report, _plan) = scene.a.stop().await;
    assert_eq!((report.unfinished, report.discarded), (0, 0), "{report}");
    assert_eq!(ids(&mut b1, "a1.test", STANZAS - 1).await, numbers(1..STANZAS));
    assert_eq!(ids(&mut b2, "a1.test", STANZAS).await, numbers(0..STANZAS));
    scene.b.is_balanced().await;
}
