//! Bad input before a stream is authenticated. Nothing of it is carried, and the answer is an error inside a stream, or a
//! code of QUIC where the other end doesn't speak XML.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fedmux::reason::Reason;
use fedmux::xmpp::namespace as ns;

use crate::scene::{PORTS, Port, Scene, TO};
use crate::support::wire::{Heard, auth, header};

/// `octets` at the beginning of either stream end it with `condition`.
async fn ends_with(condition: &str, reason: Reason, octets: impl Fn(Port) -> String) {
    let mut scene = Scene::set().await;
    for port in PORTS {
        let mut wire = scene.stream(port).await;
        // The other end may not want to hear all of it.
        let _unwanted = wire.mouth.try_say(octets(port)).await;
        scene.is_refused(port, &mut wire, condition, reason).await;
    }
}

/// What may stand for a header of this port, with one part of it replaced.
fn with(part: &'static str, other: &str) -> impl Fn(Port) -> String + use<> {
    let other = other.to_owned();
    move |port| {
        let header = header(port.from(), TO);
        assert!(header.contains(part), "{part} in {header}");
        header.replace(part, &other)
    }
}

#[tokio::test]
async fn what_is_no_xml_is_not_answered_in_xml_on_quic() {
    let mut scene = Scene::set().await;
    for octets in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00", b"\0", b" ", b"\xff\xfe<"] {
        let mut wire = scene.stream(Port::Quic).await;
        wire.say(octets).await;
        assert_eq!(wire.hear().await, Heard::Reset(2), "{octets:?}");
        assert_eq!(wire.mouth.stopped().await, Some(2));
        scene.has_refused(Port::Quic, Reason::FramingNotSpoken).await;
    }
}

#[tokio::test]
async fn what_is_no_xml_on_tcp_gets_a_stream_error() {
    let mut scene = Scene::set().await;
    for (octets, condition, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "bad-format", Reason::BadFormat),
        (b"\x16\x03\x01\x02\x00", "not-well-formed", Reason::NotWellFormed),
        (b"\xff\xfe<", "not-well-formed", Reason::NotWellFormed),
    ] {
        let mut wire = scene.stream(Port::Tcp).await;
        wire.say(octets).await;
        scene.is_refused(Port::Tcp, &mut wire, condition, reason).await;
    }
}

#[tokio::test]
async fn a_header_of_another_kind_of_stream_is_refused() {
    let invalid = Reason::InvalidNamespace;
    ends_with("invalid-namespace", invalid, with("xmlns='jabber:server'", "xmlns='jabber:client'")).await;
    ends_with("invalid-namespace", invalid, with("xmlns='jabber:server'", "")).await;
    ends_with("invalid-namespace", invalid, with(ns::STREAM, "urn:other")).await;
    ends_with("bad-namespace-prefix", Reason::BadNamespacePrefix, |port| {
        header(port.from(), TO).replace("stream:stream", "s:stream").replace("xmlns:stream", "xmlns:s")
    })
    .await;
    ends_with("unsupported-version", Reason::UnsupportedVersion, with(" version='1.0'>", ">")).await;
    let utf16 = "<?xml version='1.0' encoding='UTF-16'?>";
    ends_with("unsupported-encoding", Reason::UnsupportedEncoding, with("<?xml version='1.0'?>", utf16))
        .await;
}

#[tokio::test]
async fn a_header_without_addresses_is_improper() {
    let improper = Reason::ImproperAddressing;
    ends_with("improper-addressing", improper, with(" to='a2.test'", "")).await;
    ends_with("improper-addressing", improper, with(" to='a2.test'", " to='me@a2.test'")).await;
    ends_with("improper-addressing", improper, |port| {
        header(port.from(), TO).replace(&format!(" from='{}'", port.from()), "")
    })
    .await;
}

#[tokio::test]
async fn bombs_before_the_header_are_refused() {
    ends_with("restricted-xml", Reason::RestrictedXml, |port| {
        format!("<!DOCTYPE a [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>{}", header(port.from(), TO))
    })
    .await;
    let attributes: String = (0..10_000).map(|n| format!(" a{n}=''")).collect();
    let many = with(" version='1.0'>", &format!("{attributes} version='1.0'>"));
    ends_with("policy-violation", Reason::TooManyAttributes, many).await;
    ends_with("bad-format", Reason::BadFormat, |_| "<x>".repeat(10_000)).await;
}

#[tokio::test]
async fn a_stanza_before_authentication_is_not_authorized() {
    ends_with("not-authorized", Reason::NotAuthorized, |port| {
        header(port.from(), TO) + &port.message("early")
    })
    .await;
    ends_with("bad-format", Reason::BadFormat, |port| port.message("early")).await;
}

#[tokio::test]
async fn a_large_element_before_authentication_violates_policy() {
    let large = format!("<x xmlns='x'>{}</x>", "x".repeat(70_000));
    ends_with("policy-violation", Reason::StanzaTooBig, |port| header(port.from(), TO) + &large).await;
}

#[tokio::test]
async fn what_is_not_on_offer_is_not_authorized() {
    for element in ["<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<enable xmlns='urn:xmpp:sm:3'/>"]
    {
        ends_with("not-authorized", Reason::NotAuthorized, |port| header(port.from(), TO) + element).await;
    }
}

/// This `<auth/>` fails with `condition`, and what is pipelined behind it is not read.
async fn fails_with(condition: &str, reason: Reason, request: impl Fn(Port) -> String) {
    let mut scene = Scene::set().await;
    for port in PORTS {
        let mut wire = scene.stream(port).await;
        wire.greet(port.from(), TO).await;
        wire.say(request(port) + &header(port.from(), TO) + &port.message("behind")).await;
        let Heard::Element(failure) = wire.hear().await else { panic!("no <failure/>") };
        assert!(failure.is("failure", ns::SASL), "{failure:?}");
        assert!(failure.child(condition, ns::SASL).is_some(), "{failure:?}");
        assert_eq!((wire.hear().await, wire.hear().await), (Heard::End, Heard::Finished));
        scene.has_refused(port, reason).await;
    }
}

#[tokio::test]
async fn authentication_as_somebody_else_fails() {
    fails_with("invalid-authzid", Reason::InvalidAuthzid, |_| auth("calm.b.test")).await;
    fails_with("invalid-authzid", Reason::InvalidAuthzid, |port| auth(&format!("me@{}", port.from()))).await;
    fails_with("invalid-mechanism", Reason::InvalidMechanism, |port| {
        auth(port.from()).replace("EXTERNAL", "PLAIN")
    })
    .await;
    fails_with("malformed-request", Reason::BadFormat, |port| {
        auth(port.from()).replace(&STANDARD.encode(port.from()), "%%%")
    })
    .await;
}

#[tokio::test]
async fn a_restart_with_another_from_or_to_is_improper() {
    let mut scene = Scene::set().await;
    for port in PORTS {
        for (from, to) in [("calm.b.test", TO), ("a1.test", "a1.test"), (TO, port.from())] {
            let mut wire = scene.stream(port).await;
            wire.greet(port.from(), TO).await;
            wire.say(auth(port.from())).await;
            wire.expect_success().await;
            wire.say(header(from, to) + &port.message("behind")).await;
            scene.is_refused(port, &mut wire, "improper-addressing", Reason::ImproperAddressing).await;
        }
    }
}

#[tokio::test]
async fn a_stanza_in_the_place_of_a_restart_is_bad_format() {
    let mut scene = Scene::set().await;
    for port in PORTS {
        let mut wire = scene.stream(port).await;
        wire.greet(port.from(), TO).await;
        wire.say(auth(port.from())).await;
        wire.expect_success().await;
        wire.say(port.message("early")).await;
        scene.is_refused(port, &mut wire, "bad-format", Reason::BadFormat).await;
    }
}
