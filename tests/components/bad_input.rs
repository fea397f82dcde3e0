//! Bad input on the port of components: refused, and nobody else notices.

use std::time::Duration;

use fedmux::reason::Reason;
use fedmux::xmpp::namespace as ns;

use crate::scene::{BOT, BOT_SECRET, IRC, Scene};
use crate::support::component;
use crate::support::wire::{Heard, message};

/// Another component goes on beside it.
async fn goes_on(scene: &mut Scene) {
    let mut bot = component::connect(scene.port(), BOT, BOT_SECRET).await;
    bot.say(message(BOT, "b1.test", "good")).await;
    assert_eq!(scene.b.host("b1.test").receive().await.attribute("id"), Some("good"));
    scene.a.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_stream_is_refused() {
    let mut scene = Scene::set().await;
    let large = format!("<stream:stream a='{}'>", "x".repeat(100_000));
    let cases: [(&[u8], &str); 6] = [
        (b"GET / HTTP/1.1\r\n\r\n", "bad-format"),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1", "not-well-formed"),
        (b"\xff\xfe<\x00s\x00", "not-well-formed"),
        (b"<!DOCTYPE x []>", "restricted-xml"),
        (b"<handshake/>", "bad-format"),
        (large.as_bytes(), "policy-violation"),
    ];
    for (octets, condition) in cases {
        let mut wire = component::open(scene.port()).await;
        wire.say(octets).await;
        wire.expect_error(condition).await;
    }
    goes_on(&mut scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_handshake_is_refused() {
    let mut scene = Scene::set().await;
    let cases = [
        ("<handshake/>", "not-authorized"),
        ("<handshake xmlns='jabber:server'>x</handshake>", "not-authorized"),
        ("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AA==</auth>", "not-authorized"),
        ("<stream:stream>", "bad-format"),
        ("garbage", "bad-format"),
        ("<handshake>&x;</handshake>", "restricted-xml"),
    ];
    for (said, condition) in cases {
        let mut wire = component::greet(scene.port(), IRC).await;
        wire.say(said).await;
        wire.expect_error(condition).await;
    }
    goes_on(&mut scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_may_write_its_namespace_out_and_stand_among_white_space() {
    let scene = Scene::set().await;
    let mut wire = component::greet(scene.port(), IRC).await;
    let handshake = component::handshake(&wire.stream_id, crate::scene::SECRET)
        .replace("<handshake>", &format!("\n<handshake xmlns='{}'>\n", ns::COMPONENT_ACCEPT));
    wire.say(handshake).await;
    assert!(matches!(wire.hear().await, Heard::Element(element) if element.name() == "handshake"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_stanza_ends_the_component_that_sent_it_alone() {
    let mut scene = Scene::set().await;
    let of = |namespace: &str| {
        message(IRC, "b1.test", "1").replace("<message", &format!("<message xmlns='{namespace}'"))
    };
    let cases = [
        (of("jabber:server"), "unsupported-stanza-type"),
        (of("jabber:client"), "unsupported-stanza-type"),
        ("<handshake/>".to_owned(), "unsupported-stanza-type"),
        ("<c:message xmlns:c='jabber:component:accept'/>".to_owned(), "unsupported-stanza-type"),
        ("<message><body></message>".to_owned(), "not-well-formed"),
        (message(IRC, "b1.test", "1").replace("<body>", "<x:body>"), "bad-namespace-prefix"),
    ];
    for (said, condition) in cases {
        let mut irc = scene.irc().await;
        irc.say(&said).await;
        irc.expect_error(condition).await;
    }
    goes_on(&mut scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_says_nothing_or_half_of_something_has_its_time() {
    let mut scene = Scene::with_limits(|limits| {
        limits.handshake = Duration::from_millis(500);
        limits.connect = Duration::from_millis(500);
        limits.path_idle = Duration::from_secs(1);
    })
    .await;
    let header = component::header(IRC);
    let mut wires = Vec::new();
    for said in ["", &header[..20], &header] {
        let mut wire = component::open(scene.port()).await;
        wire.say(said).await;
        wires.push(wire);
    }
    let mut irc = scene.irc().await;
    irc.say("<message from='irc.a1.test' to='b1").await;
    wires.push(irc);
    for mut wire in wires {
        assert_eq!(wire.expect_error("connection-timeout").await, Reason::NegotiationTimeout.as_str());
    }
    goes_on(&mut scene).await;
}
