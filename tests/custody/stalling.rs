//! Next hops that are there and acknowledge nothing, or take nothing.

use std::time::Duration;

use fedmux::proto::admission::Side;
use fedmux::proto::limits::Limits;
use fedmux::reason::Reason;
use fedmux::relay::settings::Uncertain;

use crate::scene::*;
use crate::support::wire::Heard;
use crate::support::{soon, until};

fn hasty(limits: &mut Limits) {
    limits.lane_stall = Duration::from_secs(1);
    limits.ack_wait = Duration::from_millis(50);
}

#[tokio::test]
async fn a_lane_that_acknowledges_nothing_ends_and_after_the_second_its_stanzas_come_back() {
    let scene = Scene::with(Uncertain::Resend, hasty).await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, 1..=2).await;
    let connection = scene.peer.accept().await;
    for again in [false, true] {
        let mut lane = managed(connection.accept().await, None).await;
        for id in ["1", "2"] {
            let stanza = stanza(&mut lane).await;
            assert_eq!((stanza.attribute("id"), is_delayed(&stanza)), (Some(id), again));
        }
        // Answers that say nothing new don't help it.
        acknowledge(&mut lane, 0).await;
        assert_eq!(lane.expect_error("connection-timeout").await, "stalled");
        lane.mouth.finish().await;
        let outcome = if again { "bounced" } else { "resent" };
        until("both to be dealt with", || scene.uncertain(outcome) == 2).await;
    }
    for id in ["1", "2"] {
        let error = stanza(&mut server).await;
        assert_eq!((error.attribute("id"), reason(&error)), (Some(id), "unacknowledged".to_owned()));
    }
    acknowledge(&mut server, 2).await;
    handled(&mut server, 2).await;
    assert_eq!(scene.uncertain("resent"), 2, "once");
    assert_eq!(scene.provider.refusals(Side::Remote, Reason::Stalled), 2);
    assert_eq!(scene.provider.metric("fedmux_limit_hits_total", &[("limit", "lane_stall")]), 2);
    scene.is_good().await;
}

#[tokio::test]
async fn a_lane_that_acknowledges_slowly_stands() {
    const STANZAS: u32 = 8;
    let scene = Scene::with(Uncertain::Resend, hasty).await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, 1..=STANZAS).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, None).await;
    ids(&mut lane, usize::try_from(STANZAS).unwrap()).await;
    for h in 1..=STANZAS {
        // Eight of these are more than it may stand still.
        for _ in 0..4 {
            element(&mut lane, "r").await;
        }
        acknowledge(&mut lane, h).await;
    }
    handled(&mut server, STANZAS).await;
    assert_eq!(scene.provider.refusals(Side::Remote, Reason::Stalled), 0);
    assert_eq!(scene.uncertain("resent"), 0);
    scene.is_good().await;
}

#[tokio::test]
async fn a_server_that_reads_nothing_is_given_up() {
    let scene = Scene::with(Uncertain::Resend, |limits| {
        hasty(limits);
        limits.read_pause = Duration::from_millis(50);
    })
    .await;
    let connection = scene.dial().await;
    let mut lane = connection.lane(THEIRS, OURS).await;
    let flood = tokio::spawn(async move {
        // Far more than the buffers of any socket.
        let body = "x".repeat(16_384);
        for id in 0..1_000 {
            let message =
                format!("<message from='{THEIRS}' to='{OURS}' id='{id}'><body>{body}</body></message>");
            if lane.mouth.try_say(message).await.is_err() {
                break;
            }
        }
        // What comes back has to go somewhere.
        while !matches!(lane.ear.hear_at_last().await, Heard::Finished | Heard::Lost(_)) {}
    });
    let deaf = scene.stream_to_server().await;
    until("it to be given up", || scene.provider.refusals(Side::Local, Reason::Stalled) == 1).await;
    soon("another stream to the server", scene.server.accept()).await.unwrap();
    flood.abort();
    drop(deaf);
}

#[tokio::test]
async fn a_message_at_which_each_connection_breaks_comes_back_in_the_end() {
    let scene = Scene::with(Uncertain::Resend, |limits| {
        limits.hold = Duration::from_secs(1);
        limits.retry_min = Duration::from_millis(50);
        limits.retry_max = Duration::from_millis(100);
    })
    .await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, [1]).await;
    let breaks = async {
        loop {
            let connection = scene.peer.accept().await;
            let mut lane = managed(connection.accept().await, None).await;
            stanza(&mut lane).await;
            connection.0.close(0_u32.into(), b"");
        }
    };
    let error = tokio::select! {
        error = stanza(&mut server) => error,
        () = breaks => unreachable!(),
    };
    assert_eq!((error.attribute("id"), error.attribute("type")), (Some("1"), Some("error")));
    acknowledge(&mut server, 1).await;
    handled(&mut server, 1).await;
    scene.is_good().await;
}
