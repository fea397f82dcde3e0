//! Taking nothing: no credit for more, no reading, no acknowledging. What waits for such a peer is bounded, and its senders
//! are told.

use fedmux::reason::Reason;
use fedmux::xmpp::namespace as ns;

use crate::negotiation::on_and_on;
use crate::scene::{Attacker, EVIL, OURS, Scene, TCP};
use crate::support::server::Host;
use crate::support::soon;
use crate::support::wire::{Heard, Wire};

/// A queue as small as it may be, and soon full.
const SMALL: &str = "stanza_bytes = 65536\npair_queue_bytes = 131072\nread_pause = \"200ms\"\n";

/// Octets of a stanza, and stanzas of a flood: far more than any queue, window or socket buffer on their way holds.
const STANZA_BYTES: usize = 16_384;
const STANZAS: usize = 400;

/// Let our own user send a flood to `to`, until the relay says for want of room that one can't go on.
async fn flood_until_full(host: &mut Host, to: &str) {
    let body = "x".repeat(STANZA_BYTES);
    for n in 0..STANZAS {
        host.say(
            to,
            format!("<message from='{OURS}' to='{to}' id='flood-{n}'><body>{body}</body></message>"),
        )
        .await;
        while let Some(stanza) = host.received() {
            if stanza.attribute("type") == Some("error") {
                let error = stanza.child("error", ns::SERVER).unwrap();
                assert!(error.child("resource-constraint", ns::STANZA_ERRORS).is_some(), "{stanza:?}");
                assert_eq!(error.child("text", ns::STANZA_ERRORS).unwrap().text(), "queue-full");
                return;
            }
        }
    }
    let error = soon("an error for want of room", host.receive()).await;
    assert_eq!(error.attribute("type"), Some("error"), "{error:?}");
}

/// The peer takes nothing that is meant for `to`, and each time its sender learns it.
async fn is_full(name: &str, to: &str, scene: &mut Scene) {
    let counted = scene
        .withstands(name, async |attacker| {
            let Attacker { ours, .. } = attacker;
            flood_until_full(ours, to).await;
        })
        .await;
    assert!(counted.grown("fedmux_stanzas_bounced_total", &[("reason", "queue-full")]) > 0.0);
    assert!(counted.grown("fedmux_limit_hits_total", &[("limit", "pair_queue_bytes")]) > 0.0);
    assert!(scene.attacker.relay.logged(&["stanzas could not go on", "reason=queue-full"]) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_nobody_reads_holds_up_nobody_else() {
    let mut scene = Scene::with_limits(SMALL).await;
    let lane = scene.attacker.session.lane(EVIL, OURS).await;
    is_full("a lane that nobody reads", EVIL, &mut scene).await;
    drop(lane);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_nobody_reads_holds_up_nobody_else() {
    let mut scene = Scene::with_limits(SMALL).await;
    // Over TCP the relay comes to it.
    scene.attacker.ours.send(TCP, "first").await;
    let mut wire = scene.attacker.listening.direct().await.unwrap();
    wire.accept().await;
    is_full("a connection that nobody reads", TCP, &mut scene).await;
    drop(wire);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_acknowledges_holds_up_nobody_else() {
    let mut scene = Scene::with_limits(SMALL).await;
    let mut lane = scene.attacker.session.lane(EVIL, OURS).await;
    lane.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    let Wire { mut ear, mouth, .. } = lane;
    // It reads all of it, and every question too.
    let reads = tokio::spawn(async move {
        let mut asked = 0;
        loop {
            match ear.hear_at_last().await {
                Heard::Element(element) if element.is("r", ns::STREAM_MANAGEMENT) => asked += 1,
                Heard::Element(_) | Heard::Stanza(_) => {}
                _ => return asked,
            }
        }
    });
    is_full("never acknowledging", EVIL, &mut scene).await;
    drop(mouth);
    scene.ends().await;
    assert!(reads.await.unwrap() > 0, "it was asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_whose_answers_nobody_reads_end_their_stream() {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands("questions whose answers nobody reads", async |attacker| {
            let lane = attacker.session.lane(EVIL, OURS).await;
            // What is turned on can't be turned on again, which is said each time.
            drop(on_and_on(lane, "<enable xmlns='urn:xmpp:sm:3'/>".repeat(1_000)).await);
        })
        .await;
    scene.has_refused(&counted, &[(Reason::TooMany, 1)]);
    scene.ends().await;
}
