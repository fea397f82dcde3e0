//! Never getting done, asking for what isn't on offer, and answering what wasn't asked.

use std::time::Duration;

use fedmux::reason::Reason;
use fedmux::xmpp::namespace as ns;

use crate::scene::{EVIL, OURS, Scene};
use crate::support::soon;
use crate::support::wire::{Heard, Wire, auth, header};

/// A negotiation has this long.
const SHORT: &str = "handshake = \"2s\"\nconnect = \"2s\"\n";

/// Say `piece` again and again until the other end doesn't want any more of it. What it says then is read by the ear.
pub(crate) async fn on_and_on(wire: Wire, piece: String) -> Wire {
    let Wire { ear, mut mouth, stream_id } = wire;
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    soon("the end of its time", async {
        while mouth.try_say(&piece).await.is_ok() {
            pace.tick().await;
        }
    })
    .await;
    Wire { ear, mouth, stream_id }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authentication_that_never_ends_is_cut_off() {
    let mut scene = Scene::with_limits(SHORT).await;
    let counted = scene
        .withstands("endless SASL", async |attacker| {
            // What the negotiation takes more than once, an <auth/> that never ends, and one that comes octet by octet.
            let half = auth(EVIL).replace("</auth>", "");
            let endless = [
                (String::new(), format!("<bidi xmlns='{}'/><mux xmlns='{}'/>", ns::BIDI, ns::MUX)),
                (half, "A".to_owned()),
                (String::new(), " ".to_owned()),
            ];
            let mut going = Vec::new();
            for (begun, piece) in endless {
                let mut wire = attacker.stream().await;
                wire.greet(EVIL, OURS).await;
                wire.say(begun).await;
                going.push(tokio::spawn(on_and_on(wire, piece)));
            }
            for wire in going {
                let mut wire = wire.await.unwrap();
                assert_eq!(wire.expect_error("connection-timeout").await, "negotiation-timeout");
            }
        })
        .await;
    scene.has_refused(&counted, &[(Reason::NegotiationTimeout, 3)]);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mechanism_that_is_not_offered_is_tried_once() {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands("one mechanism after the other", async |attacker| {
            for mechanism in ["PLAIN", "ANONYMOUS", "SCRAM-SHA-1"] {
                let mut wire = attacker.stream().await;
                wire.greet(EVIL, OURS).await;
                // A dozen of them at once: the first is answered, and nothing more is heard.
                wire.say(auth(EVIL).replace("EXTERNAL", mechanism).repeat(12) + &auth(EVIL)).await;
                let Heard::Element(failure) = wire.hear().await else { panic!("no <failure/>") };
                assert!(failure.child("invalid-mechanism", ns::SASL).is_some(), "{failure:?}");
                assert_eq!((wire.hear().await, wire.hear().await), (Heard::End, Heard::Finished));
            }
            for element in ["response", "abort", "challenge", "success"] {
                let mut wire = attacker.stream().await;
                wire.say(format!("{}<{element} xmlns='{}'/>", header(EVIL, OURS), ns::SASL)).await;
                attacker.is_refused(wire, "not-authorized", Reason::NotAuthorized).await;
            }
        })
        .await;
    scene.has_refused(&counted, &[(Reason::InvalidMechanism, 3), (Reason::NotAuthorized, 4)]);
    scene.ends().await;
}

/// An answer of dialback that nobody asked for.
fn unsolicited(element: &str, kind: &str) -> String {
    format!("<db:{element} xmlns:db='{}' from='{EVIL}' to='{OURS}' id='1' type='{kind}'/>", ns::DIALBACK)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_dialback_that_nobody_asked_for_end_the_stream_where_it_is_not_spoken() {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands("unsolicited dialback", async |attacker| {
            for said in [unsolicited("result", "valid"), unsolicited("verify", "valid")] {
                let mut wire = attacker.stream().await;
                wire.say(header(EVIL, OURS) + &said).await;
                attacker.is_refused(wire, "not-authorized", Reason::NotAuthorized).await;
                let mut wire = attacker.established().await;
                wire.say(said).await;
                attacker.is_refused(wire, "unsupported-stanza-type", Reason::UnsupportedStanzaType).await;
            }
        })
        .await;
    scene.has_refused(&counted, &[(Reason::NotAuthorized, 2), (Reason::UnsupportedStanzaType, 2)]);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_dialback_that_nobody_asked_for_have_no_effect_on_a_stream_of_ours() {
    let mut scene = Scene::set().await;
    scene.attacker.ours_too.send(EVIL, "first").await;
    let mut lane = scene.attacker.session.accept().await;
    lane.accept().await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("first"));
    let counted = scene
        .withstands("unsolicited dialback on a stream of ours", async |attacker| {
            lane.say(unsolicited("result", "valid") + &unsolicited("verify", "valid")).await;
            lane.say(unsolicited("result", "invalid")).await;
            attacker.ours_too.send(EVIL, "goes on").await;
            assert_eq!(lane.ear.stanza().await.attribute("id"), Some("goes on"));
        })
        .await;
    let labels = [("proof", "dialback"), ("reason", "dialback-unsolicited")];
    let moves = scene.attacker.moves;
    assert_eq!(counted.grown("fedmux_proofs_refused_total", &labels), (3 * moves) as f64);
    assert_eq!(scene.attacker.relay.logged(&["dialback-unsolicited"]), 1, "once for each stream");
    drop(lane);
    scene.ends().await;
}
