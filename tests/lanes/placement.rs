//! One connection for all pairs, one lane for each.

use fedmux::relay::settings::Placement;

use crate::scene::{A, B, Scene, ids, numbers, send};
use crate::support::provider::Provider;
use crate::support::until;

/// Connections and QUIC streams since the start, and lanes now.
fn counts(provider: &Provider) -> [u64; 3] {
    ["fedmux_connections_opened_total", "fedmux_quic_streams_opened_total", "fedmux_lanes"]
        .map(|name| provider.metric(name, &[]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_has_one_connection_and_one_lane_for_both_directions() {
    let mut scene = Scene::set().await;
    let (mut a1, mut b1) = (scene.a.host("a1.test"), scene.b.host("b1.test"));
    for n in 0..10 {
        send(&mut a1, "b1.test", n..n + 1).await;
        assert_eq!(ids(&mut b1, "a1.test", 1).await, numbers(n..n + 1));
        send(&mut b1, "a1.test", n..n + 1).await;
        assert_eq!(ids(&mut a1, "b1.test", 1).await, numbers(n..n + 1));
    }
    for provider in [&scene.a, &scene.b] {
        assert_eq!(counts(provider), [1, 1, 1]);
        assert_eq!(provider.metric("fedmux_domain_pairs", &[]), 1);
    }
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pair_has_a_lane_of_its_own_on_the_one_connection() {
    let mut scene = Scene::set().await;
    let mut hosts = A.map(|name| scene.a.host(name));
    let mut remote = B.map(|name| scene.b.host(name));
    // The first pair makes the connection; the peer speaks first on half of the others.
    hosts[0].send(B[0], "first").await;
    remote[0].receive().await;
    for (a, from) in hosts.iter_mut().zip(A) {
        for (b, to) in remote.iter_mut().zip(B) {
            if from.as_bytes()[1].is_multiple_of(2) {
                send(a, to, 0..3).await;
                assert_eq!(ids(b, from, 3).await, numbers(0..3));
            }
            send(b, from, 0..3).await;
            assert_eq!(ids(a, to, 3).await, numbers(0..3));
            send(a, to, 3..6).await;
            assert_eq!(ids(b, from, 3).await, numbers(3..6));
        }
    }
    for provider in [&scene.a, &scene.b] {
        assert_eq!(counts(provider), [1, 9, 9]);
        assert_eq!(provider.metric("fedmux_domain_pairs", &[]), 9);
        assert_eq!(provider.metric("fedmux_sessions", &[]), 1);
    }
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_carries_every_pair_where_both_ends_are_told_so() {
    let mut scene = Scene::with(Placement::OneStream, None, |_| {}).await;
    let mut hosts = A.map(|name| scene.a.host(name));
    let mut remote = B.map(|name| scene.b.host(name));
    hosts[0].send(B[0], "first").await;
    remote[0].receive().await;
    for (a, from) in hosts.iter_mut().zip(A) {
        for (b, to) in remote.iter_mut().zip(B) {
            send(b, from, 0..3).await;
            assert_eq!(ids(a, to, 3).await, numbers(0..3));
            send(a, to, 0..3).await;
            assert_eq!(ids(b, from, 3).await, numbers(0..3));
        }
    }
    for provider in [&scene.a, &scene.b] {
        assert_eq!(counts(provider), [1, 1, 1]);
        assert_eq!(provider.metric("fedmux_domain_pairs", &[]), 9);
    }
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_that_comes_back_pipelined_carries_every_pair_to_its_own_host() {
    let idle = std::time::Duration::from_millis(300);
    let mut scene = Scene::with(Placement::OneStream, None, |limits| limits.lane_idle = idle).await;
    let mut hosts = A.map(|name| scene.a.host(name));
    let mut remote = B.map(|name| scene.b.host(name));
    hosts[0].send(B[0], "first").await;
    remote[0].receive().await;
    until("the idle lane to close", || scene.a.metric("fedmux_lanes", &[]) == 0).await;
    for (a, from) in hosts.iter_mut().zip(A) {
        for to in B {
            a.send(to, from).await;
        }
    }
    for b in &mut remote {
        let mut heard = Vec::new();
        for _ in A {
            let stanza = b.receive().await;
            assert_eq!(stanza.attribute("to"), Some(&*b.name));
            heard.push(stanza.attribute("id").unwrap().to_owned());
        }
        heard.sort();
        assert_eq!(heard, A);
    }
    assert_eq!(scene.a.metric("fedmux_connections_opened_total", &[]), 1);
    scene.is_good().await;
}
