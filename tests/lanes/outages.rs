//! Peers and servers that are away for a while, or for good: what waits arrives, or comes back with the reason.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use fedmux::relay::settings::{Endpoint, Placement};
use tokio::net::TcpListener;

use crate::scene::{B, Scene, ids, impatient, numbers, reason, send};
use crate::support::certificates::Authority;
use crate::support::provider::Plan;
use crate::support::server::Server;
use crate::support::until;
use crate::support::wire::message;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_while_a_peer_restarts_waits_for_the_new_one() {
    let mut scene = Scene::with_limits(impatient).await;
    let (mut a1, mut b1) = (scene.a.host("a1.test"), scene.b.host("b1.test"));
    send(&mut a1, "b1.test", 0..10).await;
    assert_eq!(ids(&mut b1, "a1.test", 10).await, numbers(0..10));
    let (_, plan) = scene.b.stop().await;
    send(&mut a1, "b1.test", 10..60).await;
    until("an attempt to fail", || scene.a.metric("fedmux_dial_failures_total", &[]) > 0).await;
    scene.b = plan.start().await;
    assert_eq!(ids(&mut b1, "a1.test", 50).await, numbers(10..60));
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_to_a_peer_that_was_cut_off_arrives_or_comes_back_and_custody_ends_at_the_socket() {
    let delay = Some(Duration::from_millis(1));
    let mut scene = Scene::with(Placement::StreamPerPair, delay, impatient).await;
    let (mut a1, mut b1) = (scene.a.host("a1.test"), scene.b.host("b1.test"));
    send(&mut a1, "b1.test", 0..10).await;
    assert_eq!(ids(&mut b1, "a1.test", 10).await, numbers(0..10));
    // What a peer has and hasn't acknowledged when the path breaks may come twice, and says so: not the matter here.
    until("them to be acknowledged", || scene.a.metric("fedmux_stanzas_delivered_total", &[]) == 10).await;
    scene.path.as_ref().unwrap().cut(true);
    // More than the connection takes unacknowledged: part of it waits in the relay.
    let body = "x".repeat(10_000);
    for n in 10..400 {
        let stanza =
            message("a1.test", "b1.test", &n.to_string()).replace("<body>", &format!("<body>{body}"));
        a1.say("b1.test", stanza).await;
    }
    until("the connection to be given up", || scene.a.metric("fedmux_sessions", &[]) == 0).await;
    scene.path.as_ref().unwrap().cut(false);
    send(&mut a1, "b1.test", 400..401).await;
    let mut arrived = vec![9];
    while arrived.last() != Some(&400) {
        arrived.push(b1.receive().await.attribute("id").unwrap().parse::<usize>().unwrap());
    }
    let resorted = arrived.windows(2).filter(|pair| pair[0] >= pair[1]).collect::<Vec<_>>();
    assert!(resorted.is_empty(), "in order, and once: {resorted:?} of {arrived:?}");
    assert!(arrived.len() > 100, "most of them: {arrived:?}");
    let mut bounced = Vec::new();
    while let Some(error) = a1.received() {
        bounced.push(error.attribute("id").unwrap().parse::<usize>().unwrap());
    }
    assert!(bounced.iter().all(|n| !arrived.contains(n)));
    // What was handed to the connection and not acknowledged is what this version can't answer for.
    scene.a.is_balanced().await;
    scene.a.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_meant_for_a_peer_that_never_comes_back_bounces_with_the_reason() {
    let authority = Authority::new();
    // Nothing answers there: it is bound, and nobody reads.
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut a = Plan::new(&authority, &["a1.test"])
        .await
        .peer(&B, silent.local_addr().unwrap())
        .limits(|limits| {
            impatient(limits);
            limits.hold = Duration::from_secs(1);
            limits.hold_iq = Duration::from_millis(500);
        })
        .start()
        .await;
    let mut a1 = a.host("a1.test");
    send(&mut a1, "b1.test", 0..5).await;
    a1.say("b1.test", "<iq type='get' id='iq' from='u@a1.test/r' to='b1.test'><q xmlns='x'/></iq>").await;
    let first = a1.receive().await;
    assert_eq!(first.attribute("id"), Some("iq"), "somebody waits for its answer");
    assert_eq!((reason(&first), first.attribute("to")), ("connection-timeout".into(), Some("u@a1.test/r")));
    for n in 0..5 {
        let error = a1.receive().await;
        assert_eq!(error.attribute("id"), Some(&*n.to_string()));
        assert_eq!(error.attribute("from"), Some("b1.test"));
        assert_eq!(reason(&error), "connection-timeout");
    }
    a.is_balanced().await;
    a.assert_unharmed();
}

/// An address at which nothing listens yet. Nobody else in these tests uses this part of loopback.
async fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 3, 0, 1), 0)).await.unwrap();
    listener.local_addr().unwrap()
}

/// Two relays; the server of b1.test is not there.
async fn serverless(hold: Duration) -> (Scene, SocketAddr) {
    let authority = Authority::new();
    let address = closed_port().await;
    let limits = |limits: &mut fedmux::proto::limits::Limits| {
        impatient(limits);
        limits.hold = hold;
    };
    let a = Plan::new(&authority, &["a1.test"]).await.limits(limits).bind();
    let mut b = Plan::new(&authority, &["b1.test"]).await.limits(limits);
    b.settings.hosts[0].deliver = vec![Endpoint::Address(address)];
    let b = b.bind();
    let (a_at, b_at) = (a.quic, b.quic);
    let a = a.peer(&["b1.test"], b_at, Placement::StreamPerPair).start().await;
    let b = b.peer(&["a1.test"], a_at, Placement::StreamPerPair).start().await;
    (Scene { _authority: authority, a, b, path: None }, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_the_server_is_down_waits_until_it_is_back() {
    let (mut scene, address) = serverless(Duration::from_secs(60)).await;
    let mut a1 = scene.a.host("a1.test");
    send(&mut a1, "b1.test", 0..50).await;
    let failures = || scene.b.metric("fedmux_dial_failures_total", &[("side", "local")]);
    until("some attempts to fail", || failures() >= 3).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let mut server = Server::listening(listener, &["b1.test"]);
    let mut b1 = server.host("b1.test", scene.b.s2s);
    assert_eq!(ids(&mut b1, "a1.test", 50).await, numbers(0..50));
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_the_server_is_down_for_too_long_bounces_to_its_sender() {
    let (mut scene, _) = serverless(Duration::from_millis(700)).await;
    let mut a1 = scene.a.host("a1.test");
    send(&mut a1, "b1.test", 0..20).await;
    for n in 0..20 {
        let error = a1.receive().await;
        assert_eq!(error.attribute("id"), Some(&*n.to_string()));
        assert_eq!(reason(&error), "connection-refused");
    }
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_breaks_its_stream_gets_the_rest_on_the_next() {
    let mut scene = Scene::with_limits(impatient).await;
    let mut a1 = scene.a.host("a1.test");
    send(&mut a1, "b1.test", 0..10).await;
    let mut b1 = scene.b.host("b1.test");
    assert_eq!(ids(&mut b1, "a1.test", 10).await, numbers(0..10));
    let address = scene.b.server.address;
    // All its streams break, and nothing listens for a while.
    scene.b.server = Server::start(&B).await;
    until("the streams to end", || scene.b.metric("fedmux_local_streams", &[]) == 0).await;
    send(&mut a1, "b1.test", 10..60).await;
    let failures = || scene.b.metric("fedmux_dial_failures_total", &[("side", "local")]);
    until("an attempt to fail", || failures() > 0).await;
    let mut server = Server::listening(TcpListener::bind(address).await.unwrap(), &B);
    let mut b1 = server.host("b1.test", scene.b.s2s);
    assert_eq!(ids(&mut b1, "a1.test", 50).await, numbers(10..60));
    scene.is_good().await;
}
