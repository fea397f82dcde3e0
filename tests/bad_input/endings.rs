//! Streams that end where they shouldn't, or don't where they should.

use std::time::Duration;

use fedmux::reason::Reason;
use tokio::task::JoinSet;

use crate::scene::{PORTS, Port, Scene, TO};
use crate::support::until;
use crate::support::wire::{Heard, Wire, header};

const CONFLICT: &str = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";

/// Half of a message on a stream of `port`.
fn half(port: Port) -> String {
    let whole = port.message("half");
    whole[..whole.len() / 2].to_owned()
}

/// The relay says goodbye on `wire`, without an error.
async fn expect_goodbye(wire: &mut Wire) {
    assert_eq!(wire.hear().await, Heard::End);
    assert_eq!(wire.hear().await, Heard::Finished);
}

#[tokio::test]
async fn half_a_stanza_for_ever_times_out_however_it_trickles_in() {
    // Enough for the keep-alives of QUIC too, however busy the machine is.
    let mut scene = Scene::with_limits(|limits| limits.path_idle = Duration::from_secs(2)).await;
    let (mut silent, mut slow, mut trickles) = (Vec::new(), Vec::new(), JoinSet::new());
    for port in PORTS {
        let mut wire = scene.established(port).await;
        wire.say(half(port)).await;
        silent.push((port, wire));
        let Wire { ear, mut mouth, .. } = scene.established(port).await;
        mouth.say(half(port)).await;
        trickles.spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            while mouth.try_say(" ").await.is_ok() {
                pace.tick().await;
            }
        });
        slow.push((port, ear));
    }
    for (port, mut wire) in silent {
        assert_eq!(wire.expect_error("connection-timeout").await, "negotiation-timeout");
        scene.note_refusals(1, port, Reason::NegotiationTimeout);
    }
    for (port, mut ear) in slow {
        let Heard::Element(error) = ear.hear().await else { panic!("no stream error") };
        assert_eq!(error.children().next().unwrap().name(), "connection-timeout");
        scene.note_refusals(1, port, Reason::NegotiationTimeout);
    }
    scene.is_undisturbed().await;
}

#[tokio::test]
async fn half_a_negotiation_for_ever_times_out() {
    let mut scene = Scene::with_limits(|limits| limits.handshake = Duration::from_secs(1)).await;
    let mut waiting = vec![(Port::Tcp, scene.stream(Port::Tcp).await)];
    for port in PORTS {
        let whole = header(port.from(), TO);
        for part in ["<", &whole[..whole.len() / 2], &whole] {
            let mut wire = scene.stream(port).await;
            wire.say(part).await;
            waiting.push((port, wire));
        }
    }
    for (port, mut wire) in waiting {
        assert_eq!(wire.expect_error("connection-timeout").await, "negotiation-timeout");
        scene.note_refusals(1, port, Reason::NegotiationTimeout);
    }
    scene.is_undisturbed().await;
}

#[tokio::test]
async fn a_refused_lane_is_stopped_only_when_its_error_is_there() {
    let mut scene = Scene::set().await;
    let mut wire = scene.established(Port::Quic).await;
    wire.say("<!--").await;
    assert_eq!(wire.mouth.stopped().await, Some(4));
    tokio::select! {
        biased;
        heard = wire.hear() => assert!(matches!(heard, Heard::Element(_)), "{heard:?}"),
        () = std::future::ready(()) => panic!("stopped before it was told why"),
    }
    scene.has_refused(Port::Quic, Reason::RestrictedXml).await;
}

#[tokio::test]
async fn a_server_that_is_refused_may_finish_what_it_is_saying() {
    let mut scene = Scene::set().await;
    let mut wire = scene.established(Port::Tcp).await;
    wire.say("<!--").await;
    scene.is_refused(Port::Tcp, &mut wire, "restricted-xml", Reason::RestrictedXml).await;
    // A connection that is closed with octets unread is reset, and the error may be lost with it.
    for _ in 0..64 {
        wire.say([b'x'; 16_384]).await;
    }
}

#[tokio::test]
async fn a_peer_that_stops_a_lane_of_ours_still_has_its_say() {
    let mut scene = Scene::set().await;
    let mut a1 = scene.provider.host("a1.test");
    a1.send("b1.test", "1").await;
    let mut lane = scene.connection.accept().await;
    lane.accept().await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("1"));
    lane.ear.stop(4);
    // Until one finds the lane stopped, and those behind it wait.
    let mut sent = 1;
    while scene.provider.metric("fedmux_queued_stanzas", &[]) == 0 {
        sent += 1;
        a1.send("b1.test", &sent.to_string()).await;
    }
    lane.say(format!("{CONFLICT}</stream:stream>")).await;
    // The stanza that was on its way when the lane was stopped goes first on the next one, and says so.
    let mut next = scene.connection.accept().await;
    next.accept().await;
    let mut again = 0;
    for n in 1..=sent {
        let stanza = next.ear.stanza().await;
        if n == 1 {
            // What was read of it on the first lane.
            let begun: usize = stanza.attribute("id").unwrap().parse().unwrap();
            assert!(begun > 1, "the first one had arrived");
            again = begun;
        }
        assert_eq!(stanza.attribute("id"), Some(&*again.to_string()));
        let resent = stanza.child("delay", "urn:xmpp:delay").is_some();
        assert!(n > 1 || resent, "{stanza:?}");
        if again == sent {
            break;
        }
        again += 1;
    }
    assert!(scene.provider.metric("fedmux_stanzas_uncertain_total", &[("outcome", "resent")]) > 0);
    scene.is_undisturbed().await;
}

#[tokio::test]
async fn a_stream_that_ends_in_the_middle_of_a_stanza_ends_alone() {
    let mut scene = Scene::set().await;
    let mut wire = scene.established(Port::Quic).await;
    wire.say(half(Port::Quic)).await;
    wire.mouth.finish().await;
    scene.is_refused(Port::Quic, &mut wire, "not-well-formed", Reason::NotWellFormed).await;

    // Our own server ends like this when it is killed: that is no violation.
    let mut wire = scene.established(Port::Tcp).await;
    wire.say(half(Port::Tcp)).await;
    wire.mouth.finish().await;
    expect_goodbye(&mut wire).await;
    scene.is_undisturbed().await;
}

#[tokio::test]
async fn a_stream_that_ends_without_its_closing_tag_is_closed() {
    let mut scene = Scene::set().await;
    for port in PORTS {
        let mut wire = scene.established(port).await;
        wire.mouth.finish().await;
        expect_goodbye(&mut wire).await;
        scene.is_undisturbed().await;
    }
}

#[tokio::test]
async fn a_lane_that_is_reset_ends_alone() {
    let mut scene = Scene::set().await;
    for code in [0, 1, 4, u32::MAX] {
        let mut wire = scene.established(Port::Quic).await;
        wire.say(half(Port::Quic)).await;
        wire.mouth.reset(code);
        until("the end of the lane", || scene.provider.relay.metrics().lanes.get() == 1).await;
        scene.is_undisturbed().await;
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_ends_alone() {
    let mut scene = Scene::set().await;
    let wire = scene.established(Port::Tcp).await;
    drop(wire);
    let other = scene.peer.dial(scene.provider.quic, TO).await.unwrap();
    let lane = other.lane("b1.test", TO).await;
    other.0.close(77_u32.into(), b"bye");
    drop(lane);
    until("the end of the lane", || scene.provider.relay.metrics().lanes.get() == 1).await;
    scene.is_undisturbed().await;
}

#[tokio::test]
async fn what_stands_behind_the_closing_tag_is_not_looked_at() {
    let mut scene = Scene::set().await;
    for port in PORTS {
        for behind in [header(port.from(), TO), port.message("behind"), "\0".to_owned()] {
            let mut wire = scene.established(port).await;
            wire.say(format!("</stream:stream>{behind}")).await;
            expect_goodbye(&mut wire).await;
            scene.is_undisturbed().await;
        }
    }
}

#[tokio::test]
async fn an_error_of_the_other_end_ends_its_stream_alone() {
    let mut scene = Scene::set().await;
    for port in PORTS {
        let mut wire = scene.established(port).await;
        wire.say(format!("{CONFLICT}</stream:stream>")).await;
        expect_goodbye(&mut wire).await;
        scene.is_undisturbed().await;
    }
}
