//! The protocol's stanzas on other ways than a session with a peer: from our own server, towards it, and among others.

use fedmux::reason::Reason;
use fedmux::xmpp::namespace as ns;

use crate::scene::{Scene, condition, offering, proofs};
use crate::support::wire::{Heard, Wire, header, message};

/// A local stream of v.test's server towards p.test.
async fn local(scene: &Scene) -> Wire {
    let mut stream = scene.relay.local().await;
    stream.authenticate("v.test", "p.test").await;
    stream
}

#[tokio::test]
async fn our_own_server_is_refused_them_and_they_go_nowhere() {
    let mut scene = Scene::set().await;
    let secret = scene.secret("n.test").await;
    let mut stream = local(&scene).await;
    let child = format!("<mux xmlns='{}'>{secret}</mux>", ns::MUX);
    let stanzas = [
        offering("offer", "v.test", "p.test", &secret),
        format!("<iq type='get' from='u@v.test' to='p.test' id='offer'>{child}</iq>"),
        format!("<message from='v.test' to='p.test' id='offer'>{child}</message>"),
        // The same namespace for whoever reads XML.
        offering("offer", "v.test", "p.test", &secret).replace("mux:0", "mux&#58;0"),
        offering("offer", "v.test", "p.test", &secret).replace("mux:0", "mux&#x3A;0"),
    ];
    for (n, stanza) in stanzas.iter().enumerate() {
        stream.say(stanza).await;
        let answer = stream.ear.stanza().await;
        assert_eq!(
            (answer.attribute("id"), &*condition(&answer)),
            (Some("offer"), "not-allowed"),
            "{stanza}"
        );
        let bounced = scene.relay.metric("fedmux_stanzas_bounced_total", &[("reason", "mux-own")]);
        assert_eq!(bounced, n as u64 + 1);
    }
    // Whoever has begun without stream management is sent to without it.
    scene.lane.say(message("p.test", "v.test", "begun")).await;
    assert_eq!(stream.ear.stanza().await.attribute("id"), Some("begun"));
    stream.say(message("v.test", "p.test", "next")).await;
    assert_eq!(
        scene.lane.ear.stanza().await.attribute("id"),
        Some("next"),
        "nothing before it was forwarded"
    );
    assert_eq!(proofs(&scene.relay, "granted"), 0);
    let mut joining = scene.first.open().await;
    joining.say(header("n.test", "v.test")).await;
    assert_eq!(joining.expect_error("invalid-from").await, "invalid-from");
}

#[tokio::test]
async fn from_a_peer_they_end_here() {
    let mut scene = Scene::set().await;
    let child = format!("<mux xmlns='{}'/>", ns::MUX);
    for stanza in [
        format!("<message from='p.test' to='v.test'>{child}</message>"),
        format!("<presence from='p.test' to='v.test'>{child}</presence>"),
        format!("<iq type='get' from='p.test' to='v.test' id='1'>{child}</iq>"),
        "<message from='p.test' to='v.test'><mux xmlns='urn:xmpp:mux&#58;0'/></message>".to_owned(),
    ] {
        scene.lane.say(stanza).await;
    }
    scene.lane.say(message("p.test", "v.test", "next")).await;
    assert_eq!(scene.v.receive().await.attribute("id"), Some("next"));
    assert_eq!(scene.relay.metric("fedmux_stanzas_discarded_total", &[("reason", "mux-own")]), 4);
    assert_eq!(scene.counts(Reason::MuxForged), [0, 0, 0]);
}

#[tokio::test]
async fn what_only_speaks_of_them_passes() {
    let mut scene = Scene::set().await;
    let about = "<message from='p.test' to='v.test' id='about'><body>urn:xmpp:mux:0</body></message>";
    scene.lane.say(about).await;
    assert_eq!(scene.v.receive().await.attribute("id"), Some("about"));
}

/// Both ways: what the relay says it has handled, and what it takes for handled.
#[tokio::test]
async fn they_count_in_stream_management() {
    let namespace = ns::STREAM_MANAGEMENT;
    let mut scene = Scene::set().await;
    scene.lane.say(format!("<enable xmlns='{namespace}'/>")).await;
    let secret = scene.secret("n.test").await;
    scene.lane.say(offering("offer", "p.test", "v.test", &secret)).await;
    loop {
        match scene.lane.hear().await {
            Heard::Stanza(answer) => break assert_eq!(answer.attribute("type"), Some("result")),
            Heard::Element(said) => assert_eq!(said.ns(), namespace),
            other => panic!("{other:?} instead of the answer"),
        }
    }
    scene.lane.say(format!("<a xmlns='{namespace}' h='1'/><r xmlns='{namespace}'/>")).await;
    loop {
        match scene.lane.hear().await {
            Heard::Element(said) if said.is("a", namespace) && said.attribute("h") == Some("1") => break,
            Heard::Element(said) => assert!(said.ns() == namespace && said.attribute("h") != Some("2")),
            other => panic!("{other:?} instead of an acknowledgement"),
        }
    }
    // More than were sent is a violation.
    scene.lane.say(format!("<a xmlns='{namespace}' h='2'/>")).await;
    assert_eq!(scene.lane.expect_error("undefined-condition").await, "handled-count-too-high");
}
