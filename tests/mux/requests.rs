//! Who may ask for a secret: the holder of a host, for a session that is there and whose prover is proven by certificate.
//! And no request makes the relay look up or dial anything.

use fedmux::reason::Reason;
use fedmux::xmpp::namespace as ns;

use crate::scene::{Scene, offer};
use crate::support::log::Log;
use crate::support::peer::Peer;
use crate::support::wire::{Heard, auth, message};

#[tokio::test]
async fn a_secret_is_handed_out_for_the_session_that_is_named_and_no_other() {
    let mut scene = Scene::set().await;
    let mut lane = scene.first.lane("q.test", "v.test").await;
    let mut second = scene.second("n.test").await;
    let (first, later, own) =
        (scene.lane.stream_id.clone(), lane.stream_id.clone(), second.lane.stream_id.clone());
    let mut refused = 0;
    for (prover, stream_id) in [
        ("p.test", &*later),
        ("q.test", &*later),
        ("q.test", &*first),
        ("p.test", "none"),
        ("n.test", &*first),
        ("n.test", &*own),
        ("v.test", &*first),
        ("elsewhere.test", &*first),
    ] {
        assert_eq!(second.ask(prover, stream_id).await, None, "{prover} {stream_id}");
        refused += 1;
        assert_eq!(scene.counts(Reason::MuxNoRequest), [0, refused, refused]);
    }
    scene.speaks_not_for("n.test").await;
    lane.say(message("q.test", "v.test", "on")).await;
    assert_eq!(scene.v.receive().await.attribute("id"), Some("on"));

    let secret = second.ask("p.test", &first).await.unwrap();
    assert_eq!(second.ask("p.test", &first).await, None, "one at a time");
    assert!(scene.offer(&secret).await);
}

#[tokio::test]
async fn a_name_that_was_proven_by_secret_proves_no_other() {
    let mut scene = Scene::set().await;
    let secret = scene.secret("n.test").await;
    assert!(scene.offer(&secret).await);
    let mut lane = scene.first.lane("n.test", "v.test").await;

    let mut second = scene.second("m.test").await;
    for stream_id in [scene.lane.stream_id.clone(), lane.stream_id.clone()] {
        assert_eq!(second.ask("n.test", &stream_id).await, None);
    }
    // And a secret for p.test that comes back as n.test's is not good either.
    let secret = second.ask("p.test", &scene.lane.stream_id).await.unwrap();
    assert!(!offer(&mut lane, "n.test", "v.test", &secret).await);
    assert_eq!(scene.counts(Reason::MuxAddress), [1, 3, 1]);
    scene.speaks_not_for("m.test").await;
    scene.speaks_for("n.test").await;
}

#[tokio::test]
async fn a_host_is_granted_to_the_session_that_its_holder_named_not_to_who_sees_the_secret() {
    let mut scene = Scene::set().await;
    // A third party with a certificate and a session of its own, which is shown the secret of n.test.
    let third = Peer::start(&scene.authority.certify(&["third.test", "p.test"]));
    let connection = third.dial(scene.relay.quic, "v.test").await.unwrap();
    let mut lane = connection.lane("third.test", "v.test").await;
    let mut shared = connection.lane("p.test", "v.test").await;
    let secret = scene.secret("n.test").await;
    assert!(!offer(&mut lane, "third.test", "v.test", &secret).await);
    assert!(!offer(&mut shared, "p.test", "v.test", &secret).await);
    assert_eq!(scene.counts(Reason::MuxNoRequest), [0, 2, 2]);
    scene.speaks_not_for("n.test").await;
    assert!(scene.offer(&secret).await);
}

#[tokio::test]
async fn no_secret_is_made_for_a_session_whose_first_stream_goes_one_way() {
    let mut scene = Scene::set().await;
    let one_way = scene.prover.dial(scene.relay.quic, "v.test").await.unwrap();
    let mut lane = one_way.open().await;
    lane.greet("p.test", "v.test").await;
    lane.say(format!("<mux xmlns='{}'/>{}", ns::MUX, auth("p.test"))).await;
    lane.expect_success().await;
    lane.greet("p.test", "v.test").await;
    let mut second = scene.second("n.test").await;
    assert_eq!(second.asked("p.test", &lane.stream_id).await, Err("no-session".to_owned()));
    lane.say(message("p.test", "v.test", "carries")).await;
    assert_eq!(scene.v.receive().await.attribute("id"), Some("carries"));
    assert!(second.ask("p.test", &scene.lane.stream_id).await.is_some());
}

#[tokio::test]
async fn a_secret_that_was_never_asked_for_goes_nowhere() {
    let mut scene = Scene::set().await;
    let mut second = scene.second("n.test").await;
    for (host, reason) in
        [("v.test", Reason::MuxAddress), ("w.test", Reason::MuxAddress), ("p.test", Reason::MuxAddress)]
    {
        second.lane.say(format!("<mux xmlns='{}' host='{host}'>unsolicited</mux>", ns::MUX)).await;
        second.lane.say(message("n.test", "v.test", host)).await;
        assert_eq!(scene.v.receive().await.attribute("id"), Some(host));
        assert!(scene.counts(reason)[2] > 0, "{host}");
    }
    scene.lane.say(message("p.test", "v.test", "next")).await;
    assert_eq!(scene.v.receive().await.attribute("id"), Some("next"));
    assert_eq!(scene.counts(Reason::MuxAddress), [0, 3, 3]);
}

#[tokio::test]
async fn no_request_makes_the_relay_dial_or_look_up_a_name() {
    let mut scene = Scene::set().await;
    let mut second = scene.second("n.test").await;
    let list = "<host>elsewhere.test</host><host>localhost</host>";
    for said in [
        format!("<authorize xmlns='{}' host='elsewhere.test' stream='x'/>", ns::MUX_AUTHORIZE),
        format!("<mux xmlns='{}' host='elsewhere.test'>secret</mux>", ns::MUX),
        format!("<mux xmlns='{}'>{list}</mux>", ns::MUX),
    ] {
        let mut stream = scene.first.lane("q.test", "v.test").await;
        stream.say(&said).await;
        stream.say("</stream:stream>").await;
        while !matches!(stream.hear().await, Heard::End | Heard::Finished | Heard::Reset(_)) {}
        // It may end that stream; a fresh one does as well.
        if second.lane.mouth.try_say(&said).await.is_err() {
            second = scene.second("n.test").await;
        }
    }
    let iq = crate::scene::offering("1", "p.test", "v.test", "elsewhere.test");
    scene.lane.say(iq).await;
    assert_eq!(scene.lane.ear.stanza().await.attribute("type"), Some("error"));

    for metric in ["fedmux_connections_opened_total", "fedmux_quic_streams_opened_total"] {
        assert_eq!(scene.relay.metric(metric, &[("direction", "outbound")]), 0, "{metric}");
    }
    assert_eq!(scene.relay.metric("fedmux_dial_failures_total", &[]), 0);
    scene.speaks_not_for("elsewhere.test").await;
}

#[tokio::test]
async fn a_refusal_says_whether_asking_again_helps_and_the_limit_is_counted() {
    // What the lines say of the session is known from its beginning.
    let log = Log::capture();
    let mut scene = Scene::with(|settings| settings.peers[0].proofs.open = 1).await;
    let stream_id = scene.lane.stream_id.clone();
    let (mut n, mut m) = (scene.second("n.test").await, scene.second("m.test").await);
    assert_eq!(m.asked("p.test", "another").await, Err("no-session".to_owned()));
    let secret = n.asked("p.test", &stream_id).await.unwrap();
    assert_eq!(m.asked("p.test", &stream_id).await, Err("busy".to_owned()));
    let counts = |scene: &Scene| {
        let metric = |name: &str, labels: &[(&str, &str)]| scene.relay.metric(name, labels);
        [
            metric("fedmux_proofs_started_total", &[("role", "verifier")]),
            metric("fedmux_proof_requests_open", &[]),
            metric("fedmux_proofs_under_way", &[]),
            metric("fedmux_limit_hits_total", &[("limit", "proofs_open")]),
            metric("fedmux_proofs_refused_total", &[("proof", "mux-secret"), ("reason", "mux-busy")]),
            metric("fedmux_proof_duration_seconds_count", &[("role", "verifier")]),
        ]
    };
    assert_eq!(counts(&scene), [2, 1, 1, 1, 1, 0]);
    assert!(scene.offer(&secret).await);
    // It has a place again, and who was refused asks again.
    let secret = m.asked("p.test", &stream_id).await.unwrap();
    assert!(scene.offer(&secret).await);
    assert_eq!(counts(&scene), [3, 0, 0, 1, 1, 2]);

    let lines = log.lines();
    let line = |message: &str, host: &str| {
        lines.iter().rfind(|line| line.message == message && line.field("host") == host).unwrap().clone()
    };
    let refused = line("host not proven for the session", "m.test");
    let granted = line("host joined the session", "n.test");
    assert_eq!(refused.field("reason"), "mux-busy");
    for line in [&refused, &granted] {
        assert_eq!(line.field("pair"), "v.test->p.test");
        assert!(line.field("session").parse::<u64>().is_ok(), "{line:?}");
    }
}
