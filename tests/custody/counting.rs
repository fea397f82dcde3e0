//! What is acknowledged when.

use std::time::Duration;

use fedmux::proto::admission::Side;
use fedmux::reason::Reason;
use fedmux::relay::settings::Uncertain;

use crate::scene::*;
use crate::support::until;

#[tokio::test]
async fn a_peer_hears_of_what_our_server_has_acknowledged_and_of_no_more() {
    let scene = Scene::set().await;
    let connection = scene.dial().await;
    let mut lane = connection.lane(THEIRS, OURS).await;
    assert!(enable(&mut lane).await.is_some());
    send(&mut lane, THEIRS, OURS, 1..=3).await;
    let mut server = scene.stream_to_server().await;
    assert_eq!(ids(&mut server, 3).await, ["1", "2", "3"]);
    handled(&mut lane, 0).await;
    assert_eq!(scene.provider.metric("fedmux_queued_stanzas", &[]), 3, "they are in our custody");
    acknowledge(&mut server, 2).await;
    handled(&mut lane, 2).await;
    acknowledge(&mut server, 3).await;
    handled(&mut lane, 3).await;
    scene.is_good().await;
}

#[tokio::test]
async fn our_server_hears_of_what_the_peer_has_acknowledged() {
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, 1..=2).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, None).await;
    assert_eq!(ids(&mut lane, 2).await, ["1", "2"]);
    element(&mut lane, "r").await;
    handled(&mut server, 0).await;
    acknowledge(&mut lane, 2).await;
    // Unasked, within a second.
    assert_eq!(element(&mut server, "a").await.attribute("h"), Some("2"));
    scene.is_good().await;
}

#[tokio::test]
async fn what_the_next_hop_never_acknowledges_is_acknowledged_after_a_while_and_counted() {
    let scene = Scene::with(Uncertain::Resend, |limits| {
        limits.ack_hold = Duration::from_millis(300);
        limits.ack_within = Duration::from_millis(50);
    })
    .await;
    let connection = scene.dial().await;
    let mut lane = connection.lane(THEIRS, OURS).await;
    enable(&mut lane).await;
    send(&mut lane, THEIRS, OURS, 1..=3).await;
    let mut server = scene.stream_to_server().await;
    ids(&mut server, 3).await;
    handled(&mut lane, 3).await;
    assert_eq!(scene.provider.metric("fedmux_custody_acknowledged_early_total", &[]), 3);
    assert_eq!(
        scene.provider.metric("fedmux_queued_stanzas", &[]),
        3,
        "they are in our custody all the same"
    );
    acknowledge(&mut server, 3).await;
    scene.is_good().await;
}

#[tokio::test]
async fn no_more_than_so_many_stanzas_of_a_servers_stream_wait_for_their_acknowledgement() {
    let scene = Scene::with(Uncertain::Resend, |limits| limits.unacked_max = 2).await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, [1]).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, None).await;
    ids(&mut lane, 1).await;
    for n in 2..=5 {
        send(&mut server, OURS, THEIRS, [n]).await;
        ids(&mut lane, 1).await;
    }
    handled(&mut server, 3).await;
    assert_eq!(scene.provider.metric("fedmux_custody_acknowledged_early_total", &[]), 3);
}

#[tokio::test]
async fn however_many_stanzas_of_another_relay_wait_none_is_acknowledged_before_it_is_handled() {
    let scene = Scene::with(Uncertain::Resend, |limits| limits.unacked_max = 2).await;
    let connection = scene.dial().await;
    let mut lane = connection.lane(THEIRS, OURS).await;
    enable(&mut lane).await;
    send(&mut lane, THEIRS, OURS, [1]).await;
    let mut server = scene.stream_to_server().await;
    ids(&mut server, 1).await;
    for n in 2..=5 {
        send(&mut lane, THEIRS, OURS, [n]).await;
        ids(&mut server, 1).await;
    }
    handled(&mut lane, 0).await;
    assert_eq!(scene.provider.metric("fedmux_custody_acknowledged_early_total", &[]), 0);
    acknowledge(&mut server, 5).await;
    handled(&mut lane, 5).await;
    scene.is_good().await;
}

#[tokio::test]
async fn what_comes_back_as_an_error_is_handled_when_the_error_is() {
    let scene = Scene::with(Uncertain::Resend, |limits| limits.hold = Duration::from_millis(200)).await;
    let Scene { provider, peer, server, _authority } = scene;
    drop(server);
    let connection = peer.dial(provider.quic, OURS).await.unwrap();
    let mut lane = connection.lane(THEIRS, OURS).await;
    enable(&mut lane).await;
    // Nobody is there, so the stanza comes back.
    send(&mut lane, THEIRS, OURS, [1]).await;
    let error = stanza(&mut lane).await;
    assert_eq!(error.attribute("type"), Some("error"));
    handled(&mut lane, 0).await;
    acknowledge(&mut lane, 1).await;
    handled(&mut lane, 1).await;
}

#[tokio::test]
async fn a_peer_that_acknowledges_too_much_is_refused_and_its_stanza_goes_again() {
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, [1]).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, None).await;
    ids(&mut lane, 1).await;
    acknowledge(&mut lane, 2).await;
    assert_eq!(lane.expect_error("undefined-condition").await, "handled-count-too-high");
    let refused = || scene.provider.refusals(Side::Remote, Reason::HandledTooHigh);
    until("the refusal to be counted", || refused() == 1).await;
    let mut lane = managed(connection.accept().await, None).await;
    let again = stanza(&mut lane).await;
    assert!(is_delayed(&again) && again.attribute("id") == Some("1"));
    acknowledge(&mut lane, 1).await;
    scene.is_good().await;
}
