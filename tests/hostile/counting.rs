//! Acknowledgements that aren't true (XEP-0198), and streams that aren't one's own.

use fedmux::reason::Reason;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;

use crate::scene::{EVIL, EVIL_TOO, GOOD, OURS, Scene};
use crate::support::peer::Peer;
use crate::support::wire::{Heard, Wire, message};

/// The next element of stream management of this name; requests are passed over.
async fn element(wire: &mut Wire, name: &str) -> Element {
    loop {
        match wire.hear().await {
            Heard::Element(element) if element.is(name, ns::STREAM_MANAGEMENT) => return element,
            Heard::Element(element) if element.is("r", ns::STREAM_MANAGEMENT) => {}
            other => panic!("{other:?} instead of <{name}/>"),
        }
    }
}

/// Turn stream management on. The id under which the stream may be resumed.
async fn enable(wire: &mut Wire) -> String {
    wire.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    element(wire, "enabled").await.attribute("id").unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_was_sent_is_not_acknowledged() {
    let mut scene = Scene::set().await;
    let counted = scene
        .withstands("over-acknowledging", async |attacker| {
            for h in [1, 2, u32::MAX] {
                let mut wire = attacker.established().await;
                enable(&mut wire).await;
                wire.say(format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>")).await;
                attacker.is_refused(wire, "undefined-condition", Reason::HandledTooHigh).await;
            }
            let mut wire = attacker.established().await;
            enable(&mut wire).await;
            wire.say("<a xmlns='urn:xmpp:sm:3' h='-1'/>").await;
            attacker.is_refused(wire, "bad-format", Reason::BadFormat).await;
        })
        .await;
    scene.has_refused(&counted, &[(Reason::HandledTooHigh, 3), (Reason::BadFormat, 1)]);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_of_another_is_not_resumed() {
    let mut scene = Scene::set().await;
    // One of another peer, which is up; and one of another pair of its own, which broke.
    let attacker = &mut scene.attacker;
    let victim = Peer::at([127, 0, 0, 3].into(), &attacker.authority.certify(&[GOOD]));
    let connection = victim.dial(attacker.relay.quic, OURS).await.unwrap();
    let mut lane = connection.lane(GOOD, OURS).await;
    let theirs = enable(&mut lane).await;
    let own = attacker.peer.dial(attacker.relay.quic, OURS).await.unwrap();
    let mut broken = own.lane(EVIL_TOO, OURS).await;
    let another = enable(&mut broken).await;
    own.0.close(0_u32.into(), b"");
    let counted = scene
        .withstands("resuming another's stream", async |attacker| {
            let mut wire = attacker.session.lane(EVIL, OURS).await;
            let mut refusals = Vec::new();
            for id in [&*theirs, &*another, "made-up"] {
                wire.say(format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>")).await;
                let failed = element(&mut wire, "failed").await;
                assert!(failed.child("item-not-found", ns::STANZA_ERRORS).is_some(), "{failed:?}");
                refusals.push(failed);
            }
            assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "nothing shows which there are");
            // The stream stands, and is its own.
            wire.say(message(EVIL, OURS, "stands")).await;
            assert_eq!(attacker.ours.receive().await.attribute("id"), Some("stands"));
            wire.close().await;
        })
        .await;
    let refused = (3 * scene.attacker.moves) as f64;
    assert_eq!(counted.grown("fedmux_streams_resumed_total", &[("result", "refused")]), refused);
    assert_eq!(counted.grown("fedmux_streams_resumed_total", &[("result", "resumed")]), 0.0);
    scene.has_refused(&counted, &[]);
    // The victim never noticed.
    lane.say(message(GOOD, OURS, "unharmed")).await;
    assert_eq!(scene.attacker.ours.receive().await.attribute("id"), Some("unharmed"));
    connection.0.close(0_u32.into(), b"");
    scene.ends().await;
}
