//! Secrets that come back: the right one grants its host, once; whatever else comes is `not-acceptable`, counted by its
//! reason, and changes nothing.

use fedmux::proto::admission::Side;
use fedmux::reason::Reason;

use crate::scene::{Scene, offer, offering, proofs, second};
use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::provider::Plan;
use crate::support::until;
use crate::support::wire::{Heard, message};

#[tokio::test]
async fn a_secret_that_comes_back_lets_its_host_join_once() {
    let mut scene = Scene::set().await;
    let secret = scene.secret("n.test").await;
    scene.speaks_not_for("n.test").await;
    assert!(scene.offer(&format!("\n  {secret}\n")).await, "white space around it is forgiven");
    scene.speaks_for("n.test").await;

    assert!(!scene.offer(&secret).await, "a replay");
    assert_eq!(scene.counts(Reason::MuxNoRequest), [1, 1, 1]);
    scene.speaks_for("n.test").await;
}

#[tokio::test]
async fn a_secret_grants_the_host_that_it_was_made_for_and_no_other() {
    let mut scene = Scene::set().await;
    let (one, other) = (scene.secret("n.test").await, scene.secret("m.test").await);
    assert!(scene.offer(&one).await);
    scene.speaks_for("n.test").await;
    scene.speaks_not_for("m.test").await;
    assert!(scene.offer(&other).await);
    scene.speaks_for("m.test").await;
}

#[tokio::test]
async fn what_is_forged_truncated_or_too_long_is_refused_and_takes_nothing_from_the_true_one() {
    let mut scene = Scene::set().await;
    let secret = scene.secret("n.test").await;
    let other = if secret[60..].starts_with('A') { 'E' } else { 'A' };
    let forged = format!("{}{other}{}", &secret[..60], &secret[61..]);
    assert_ne!(forged, secret);
    let mut refused = 0;
    for text in [&*forged, &secret[..40], &format!("{secret}{secret}"), &"A".repeat(5_000), "", "none"] {
        assert!(!scene.offer(text).await, "{text:?}");
        refused += 1;
        assert_eq!(scene.counts(Reason::MuxForged), [0, refused, refused], "{text:?}");
        scene.speaks_not_for("n.test").await;
    }
    assert!(scene.offer(&secret).await);
    scene.speaks_for("n.test").await;
}

#[tokio::test]
async fn a_secret_comes_back_from_bare_p_to_bare_v_or_is_used_up() {
    let mut scene = Scene::set().await;
    let mut to_w = scene.first.lane("p.test", "w.test").await;
    let mut from_q = scene.first.lane("q.test", "v.test").await;
    let mut refused = 0;
    for (from, to) in [
        ("p.test/r", "v.test"),
        ("u@p.test", "v.test"),
        ("p.test", "v.test/r"),
        ("p.test", "u@v.test"),
        ("p.test", "w.test"),
        ("q.test", "v.test"),
    ] {
        let secret = scene.secret("n.test").await;
        let lane = match (from, to) {
            (_, "w.test") => &mut to_w,
            ("q.test", _) => &mut from_q,
            _ => &mut scene.lane,
        };
        assert!(!offer(lane, from, to, &secret).await, "{from} {to}");
        refused += 1;
        assert_eq!(scene.counts(Reason::MuxAddress), [0, 2 * refused - 1, refused], "{from} {to}");
        scene.speaks_not_for("n.test").await;
        assert!(!scene.offer(&secret).await, "it was used up");
        assert_eq!(scene.counts(Reason::MuxNoRequest), [0, 2 * refused, refused], "{from} {to}");
    }
}

#[tokio::test]
async fn a_secret_that_comes_back_on_another_stream_is_refused_there() {
    let mut scene = Scene::set().await;
    let secret = scene.secret("n.test").await;

    // Another session of the same two domains: somebody with a certificate for p.test, or the prover itself.
    let other = scene.prover.dial(scene.relay.quic, "v.test").await.unwrap();
    let mut lane = other.lane("p.test", "v.test").await;
    assert!(!offer(&mut lane, "p.test", "v.test", &secret).await);
    assert_eq!(scene.counts(Reason::MuxNoRequest), [0, 1, 1]);

    // The second connection, which the secret was handed out on.
    let mut second = scene.second("m.test").await;
    assert!(!offer(&mut second.lane, "m.test", "v.test", &secret).await);
    assert_eq!(scene.counts(Reason::MuxNoRequest), [0, 2, 2]);

    // A stream of S1 that carries another pair.
    let mut lane = scene.first.lane("q.test", "v.test").await;
    lane.say(offering("offer", "p.test", "v.test", &secret)).await;
    assert_eq!(lane.expect_error("invalid-from").await, "wrong-pair");

    scene.speaks_not_for("n.test").await;
    assert!(scene.offer(&secret).await, "nothing of that took it from who it is for");
    scene.speaks_for("n.test").await;
}

#[tokio::test]
async fn a_secret_that_comes_back_too_late_is_refused() {
    let mut scene = Scene::set().await;
    let secret = scene.secret("n.test").await;
    until("the request to time out", || scene.relay.refusals(Side::Remote, Reason::MuxTimeout) == 1).await;
    assert!(!scene.offer(&secret).await);
    assert_eq!(scene.counts(Reason::MuxNoRequest), [0, 2, 1]);
    scene.speaks_not_for("n.test").await;
}

#[tokio::test]
async fn a_relay_that_was_restarted_refuses_the_secret_and_a_fresh_proof_succeeds() {
    let authority = Authority::new();
    let keys = tempfile::tempdir().unwrap();
    let prover = Peer::start(&authority.certify(&["p.test"]));
    let mut secrets: Vec<String> = Vec::new();
    for another_key in [false, false, true] {
        let mut plan = Plan::new(&authority, &["v.test"]).await.peer(&["*"], prover.address);
        let file = if another_key { "other.key" } else { "mux.key" };
        plan.settings.identity.mux_key_file = Some(keys.path().join(file));
        let relay = plan.start().await;
        let first = prover.dial(relay.quic, "v.test").await.unwrap();
        let mut lane = first.lane("p.test", "v.test").await;
        for old in &secrets {
            assert!(!offer(&mut lane, "p.test", "v.test", old).await);
        }
        assert_eq!(relay.refusals(Side::Remote, Reason::MuxNoRequest), secrets.len() as u64);
        let fresh = second(&authority, &relay, "n.test").await.ask("p.test", &lane.stream_id).await.unwrap();
        let later = second(&authority, &relay, "m.test").await.ask("p.test", &lane.stream_id).await.unwrap();
        assert!(offer(&mut lane, "p.test", "v.test", &fresh).await);
        assert_eq!(proofs(&relay, "granted"), 1);
        // This one is lost with the relay.
        secrets.push(later);
    }
}

#[tokio::test]
async fn a_grant_ends_with_its_session() {
    let mut scene = Scene::set().await;
    let secret = scene.secret("n.test").await;
    assert!(scene.offer(&secret).await);
    scene.speaks_for("n.test").await;
    scene.first.0.close(0_u32.into(), b"");
    scene.first = scene.prover.dial(scene.relay.quic, "v.test").await.unwrap();
    scene.lane = scene.first.lane("p.test", "v.test").await;
    scene.speaks_not_for("n.test").await;
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_without_effect() {
    let mut scene = Scene::set().await;
    for kind in ["result", "error"] {
        scene.lane.say(format!("<iq type='{kind}' from='p.test' to='v.test' id='fedmux-mux-1'/>")).await;
    }
    scene.lane.say(message("p.test", "v.test", "next")).await;
    assert_eq!(scene.v.receive().await.attribute("id"), Some("next"), "consumed, not forwarded");
    assert_eq!(scene.counts(Reason::MuxNoRequest), [0, 0, 0]);
    scene.lane.say("</stream:stream>").await;
    assert_eq!(scene.lane.hear().await, Heard::End);
}
