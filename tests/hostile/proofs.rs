//! Mux secrets (XEP-0451): used twice, by somebody else, or made up.

use fedmux::reason::Reason;
use fedmux::xmpp::namespace as ns;

use crate::scene::{EVIL, OURS, Scene};
use crate::support::peer::Peer;
use crate::support::wire::{Heard, Wire};

/// A host of the attacker with a certificate of its own.
const FURTHER: &str = "further.test";

/// Return a secret on `lane`. Whether it was taken.
async fn offer(lane: &mut Wire, secret: &str) -> bool {
    let mux = ns::MUX;
    lane.say(format!(
        "<iq type='set' from='{EVIL}' to='{OURS}' id='o'><mux xmlns='{mux}'>{secret}</mux></iq>"
    ))
    .await;
    let answer = lane.ear.stanza().await;
    if answer.attribute("type") == Some("result") {
        return true;
    }
    let error = answer.child("error", ns::SERVER).unwrap();
    assert!(error.child("not-acceptable", ns::STANZA_ERRORS).is_some(), "{answer:?}");
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_that_is_replayed_proves_nothing() {
    let mut scene = Scene::set().await;
    // A secret that is good once, for a host that joins the session with it.
    let attacker = &mut scene.attacker;
    let own = attacker.peer.dial(attacker.relay.quic, OURS).await.unwrap();
    let mut lane = own.lane(EVIL, OURS).await;
    let second = Peer::start(&attacker.authority.certify(&[FURTHER]));
    let connection = second.dial(attacker.relay.quic, OURS).await.unwrap();
    let mut stream = connection.open().await;
    stream.authenticate_as(FURTHER, OURS, false).await;
    let (namespace, id) = (ns::MUX_AUTHORIZE, &lane.stream_id);
    stream.say(format!("<authorize xmlns='{namespace}' host='{EVIL}' stream='{id}'/>")).await;
    let Heard::Element(said) = stream.hear().await else { panic!("no secret") };
    let secret = said.text();
    assert!(offer(&mut lane, &secret).await, "it is good once");
    stream.close().await;
    connection.0.close(0_u32.into(), b"");

    // Replayed where it was good, in another session of the same holder, and made up.
    let mut elsewhere = attacker.session.lane(EVIL, OURS).await;
    let counted = scene
        .withstands("a proof that is replayed", async |_| {
            assert!(!offer(&mut lane, &secret).await);
            assert!(!offer(&mut elsewhere, &secret).await);
            assert!(!offer(&mut elsewhere, "made-up").await);
        })
        .await;
    let refused = |reason: Reason| {
        counted.grown("fedmux_proofs_refused_total", &[("proof", "mux-secret"), ("reason", reason.as_str())])
    };
    let moves = scene.attacker.moves;
    assert_eq!(refused(Reason::MuxNoRequest), (2 * moves) as f64);
    assert_eq!(refused(Reason::MuxForged), moves as f64);
    let granted = [("proof", "mux-secret"), ("result", "granted")];
    assert_eq!(counted.grown("fedmux_proofs_total", &granted), 0.0);
    assert!(scene.attacker.relay.logged(&["mux-no-request"]) > 0);
    own.0.close(0_u32.into(), b"");
    scene.ends().await;
}
