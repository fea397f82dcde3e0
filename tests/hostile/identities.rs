//! Speaking for others, and to others than those to whom the stream leads.

use fedmux::reason::Reason;
use fedmux::xmpp::namespace as ns;

use crate::scene::{EVIL, EVIL_TOO, GOOD, OURS, OURS_TOO, Scene};
use crate::support::wire::{Heard, auth, header, message};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_from_that_is_not_ones_own_ends_the_stream() {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands("a spoofed from", async |attacker| {
            // A stranger, somebody whom the relay knows, and a host of the relay itself.
            for from in ["bank.test", GOOD, OURS_TOO] {
                let mut wire = attacker.established().await;
                wire.say(message(from, OURS, "spoofed")).await;
                attacker.is_refused(wire, "invalid-from", Reason::InvalidFrom).await;
                let mut wire = attacker.stream().await;
                wire.say(header(from, OURS)).await;
                attacker.is_refused(wire, "invalid-from", Reason::InvalidFrom).await;
            }
        })
        .await;
    scene.has_refused(&counted, &[(Reason::InvalidFrom, 6)]);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_to_that_is_not_ours_ends_the_stream() {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands("a spoofed to", async |attacker| {
            // To a third provider: nothing is relayed from one to another.
            for to in ["bank.test", GOOD, "a1.test.bank.test"] {
                let mut wire = attacker.established().await;
                wire.say(message(EVIL, to, "spoofed")).await;
                attacker.is_refused(wire, "host-unknown", Reason::NotOurHost).await;
                let mut wire = attacker.stream().await;
                wire.say(header(EVIL, to)).await;
                attacker.is_refused(wire, "host-unknown", Reason::NotOurHost).await;
            }
        })
        .await;
    scene.has_refused(&counted, &[(Reason::NotOurHost, 6)]);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_carries_its_own_pair_alone() {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands("a lane for another pair", async |attacker| {
            for (from, to) in [(EVIL_TOO, OURS), (EVIL, OURS_TOO), (EVIL_TOO, OURS_TOO)] {
                let mut wire = attacker.session.lane(EVIL, OURS).await;
                wire.say(message(from, to, "another")).await;
                attacker.is_refused(wire, "invalid-from", Reason::WrongPair).await;
            }
        })
        .await;
    scene.has_refused(&counted, &[(Reason::WrongPair, 3)]);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authentication_for_another_domain_fails() {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands("another's authorization identity", async |attacker| {
            for identity in [GOOD, EVIL_TOO, OURS] {
                let mut wire = attacker.stream().await;
                wire.greet(EVIL, OURS).await;
                wire.say(auth(identity) + &header(EVIL, OURS) + &message(EVIL, OURS, "behind")).await;
                let Heard::Element(failure) = wire.hear().await else { panic!("no <failure/>") };
                assert!(failure.child("invalid-authzid", ns::SASL).is_some(), "{failure:?}");
                assert_eq!((wire.hear().await, wire.hear().await), (Heard::End, Heard::Finished));
            }
        })
        .await;
    scene.has_refused(&counted, &[(Reason::InvalidAuthzid, 3)]);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stanza_before_authentication_ends_the_stream() {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands("a stanza before authentication", async |attacker| {
            let mut wire = attacker.stream().await;
            wire.say(header(EVIL, OURS) + &message(EVIL, OURS, "early")).await;
            attacker.is_refused(wire, "not-authorized", Reason::NotAuthorized).await;
            let mut wire = attacker.stream().await;
            wire.greet(EVIL, OURS).await;
            wire.say(message(EVIL, OURS_TOO, "early")).await;
            attacker.is_refused(wire, "not-authorized", Reason::NotAuthorized).await;
        })
        .await;
    scene.has_refused(&counted, &[(Reason::NotAuthorized, 2)]);
    scene.ends().await;
}
