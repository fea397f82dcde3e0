//! By the thousand: streams, and connections that do nothing.

use std::time::Duration;

use fedmux::reason::Reason;
use quinn::ConnectionError;

use crate::scene::{Port, Scene, TO};
use crate::support::log::Log;
use crate::support::wire::{Heard, Wire, auth, header};
use crate::support::{soon, until};

#[tokio::test]
async fn streams_by_the_thousand_are_bounded() {
    const STREAMS: usize = 3_000;
    const LANES: u32 = 1_000;
    let mut scene = Scene::with_limits(|limits| {
        limits.lanes = LANES;
        limits.handshake = Duration::from_secs(1);
    })
    .await;
    // As many as there is credit for at any time.
    let (opened, mut streams) = tokio::sync::mpsc::unbounded_channel();
    let connection = scene.connection.0.clone();
    let opening = tokio::spawn(async move {
        for _ in 0..STREAMS {
            let mut wire = Wire::quic(connection.open_bi().await.unwrap());
            wire.say("<stream:stream").await;
            opened.send(wire).unwrap();
        }
    });
    let mut most = 0;
    while let Some(mut wire) = streams.recv().await {
        most = scene.provider.relay.metrics().lanes.get().max(most);
        wire.expect_error("connection-timeout").await;
    }
    opening.await.unwrap();
    let lanes = i64::from(LANES);
    assert!(most <= lanes && most > lanes / 2, "{most} lanes at once");
    scene.note_refusals(STREAMS - 1, Port::Quic, Reason::NegotiationTimeout);
    scene.has_refused(Port::Quic, Reason::NegotiationTimeout).await;
}

#[tokio::test]
async fn streams_that_come_and_go_by_the_thousand_leave_nothing_behind() {
    // Each of them is broken off, which is bounded by a limit of its own.
    let mut scene = Scene::with_limits(|limits| limits.session_resets = 10_000).await;
    for n in 0..3_000_u32 {
        let mut wire = scene.stream(Port::Quic).await;
        match n % 3 {
            0 => wire.say("x").await,
            1 => wire.say("</stream:stream>").await,
            _ => wire.say(header("b1.test", TO)).await,
        }
        wire.mouth.reset(n);
    }
    let lanes = || scene.provider.relay.metrics().lanes.get();
    until("the end of all lanes", || lanes() == 1).await;
    scene.is_undisturbed().await;
}

#[tokio::test]
async fn a_connection_may_open_few_streams_before_it_is_authenticated() {
    let mut scene = Scene::set().await;
    let other = scene.peer.dial(scene.provider.quic, TO).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut wire = other.open().await;
        wire.say("<stream:stream").await;
        streams.push(wire);
    }
    tokio::select! {
        biased;
        _ = other.0.open_bi() => panic!("a ninth stream"),
        () = scene.is_undisturbed() => {}
    }
    // One that authenticates makes room.
    let mut first = streams.remove(0);
    first.say(header("b1.test", TO).strip_prefix("<?xml version='1.0'?><stream:stream").unwrap()).await;
    first.features().await;
    first.say(auth("b1.test")).await;
    first.expect_success().await;
    first.greet("b1.test", TO).await;
    other.open().await;
    scene.is_undisturbed().await;
}

#[tokio::test]
async fn a_connection_that_does_nothing_is_refused() {
    let log = Log::capture();
    let mut scene = Scene::with_limits(|limits| limits.handshake = Duration::from_secs(1)).await;
    let silent = scene.peer.dial(scene.provider.quic, TO).await.unwrap();
    match silent.closed().await {
        ConnectionError::ApplicationClosed(close) => assert_eq!(u64::from(close.error_code), 1),
        other => panic!("{other:?}"),
    }
    let line = log.line("connection refused").await;
    assert_eq!(
        (line.field("reason"), line.field("peer")),
        ("negotiation-timeout", &*scene.peer.address.to_string())
    );
    scene.has_refused(Port::Quic, Reason::NegotiationTimeout).await;
}

#[tokio::test]
async fn a_connection_that_is_never_authenticated_ends_however_many_streams_it_opens() {
    let mut scene = Scene::with_limits(|limits| limits.handshake = Duration::from_secs(1)).await;
    let mut refused = 0;
    let busy = scene.peer.dial(scene.provider.quic, TO).await.unwrap();
    let closed = soon("the end of the connection", async {
        while let Ok(stream) = busy.0.open_bi().await {
            let mut wire = Wire::quic(stream);
            if wire.mouth.try_say(header("c.test", TO)).await.is_err() {
                continue;
            }
            loop {
                match wire.hear().await {
                    Heard::Finished => break refused += 1,
                    // Too late: the connection's time is over.
                    Heard::Reset(1) | Heard::Lost(_) => break,
                    Heard::Header(_) | Heard::Element(_) | Heard::End => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        busy.closed().await
    })
    .await;
    assert!(matches!(closed, ConnectionError::ApplicationClosed(_)), "{closed:?}");
    scene.note_refusals(refused, Port::Quic, Reason::InvalidFrom);
    scene.has_refused(Port::Quic, Reason::NegotiationTimeout).await;
}

#[tokio::test]
async fn there_are_no_unidirectional_streams_and_no_datagrams() {
    let mut scene = Scene::set().await;
    assert_eq!(scene.connection.0.max_datagram_size(), None);
    let connection = scene.connection.0.clone();
    tokio::select! {
        biased;
        _ = connection.open_uni() => panic!("a unidirectional stream"),
        () = scene.is_undisturbed() => {}
    }
}

#[tokio::test]
async fn datagrams_that_are_no_quic_disturb_nobody() {
    let mut scene = Scene::set().await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut noise: Vec<u8> = (0..1_400_u16).map(|n| n.wrapping_mul(40_503).to_be_bytes()[0]).collect();
    for n in 0..2_000 {
        noise.rotate_left(1);
        socket.send_to(&noise[..n % noise.len() + 1], scene.provider.quic).await.unwrap();
    }
    scene.is_undisturbed().await;
    assert_eq!(scene.provider.metric("fedmux_connections", &[]), 1);
}
