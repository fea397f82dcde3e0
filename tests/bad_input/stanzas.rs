//! Bad input on an established stream. What came before it is delivered, the stream ends with the right error, and what
//! comes behind it is not looked at.

use fedmux::reason::Reason;

use crate::scene::{PORTS, Port, Scene, TO};

const BOMB: &str = "<!DOCTYPE lolz [<!ENTITY a 'aaaaaaaaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>\
    <!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY d '&c;&c;&c;&c;&c;&c;&c;&c;'>]>";

/// A message from `port` whose start tag holds `attributes` and whose content is `content`.
fn stanza(port: Port, attributes: &str, content: &str) -> String {
    format!("<message from='{}' to='{TO}'{attributes}>{content}</message>", port.from())
}

/// `octets` in the place of a stanza end either stream with `condition`.
async fn ends_with(condition: &str, reason: Reason, octets: impl Fn(Port) -> Vec<u8>) {
    for port in PORTS {
        let mut scene = Scene::set().await;
        let mut wire = scene.established(port).await;
        let bad = octets(port);
        // The other end may not want to hear all of it.
        let _unwanted = wire.mouth.try_say([&bad, port.message("behind").as_bytes()].concat()).await;
        scene.is_refused(port, &mut wire, condition, reason).await;
    }
}

#[tokio::test]
async fn garbage_is_not_well_formed() {
    let noise: Vec<u8> = (0..=255).rev().cycle().take(4096).collect();
    ends_with("not-well-formed", Reason::NotWellFormed, |_| noise.clone()).await;
}

#[tokio::test]
async fn text_between_stanzas_is_bad_format() {
    ends_with("bad-format", Reason::BadFormat, |_| b"hello".to_vec()).await;
}

#[tokio::test]
async fn broken_xml_is_not_well_formed() {
    for content in ["<a></b>", "&", "\u{1}", "<a b='1' b='2'/>", "]]>", "&#0;", "<a b=1/>", "<1/>"] {
        ends_with("not-well-formed", Reason::NotWellFormed, |port| stanza(port, "", content).into()).await;
    }
}

#[tokio::test]
async fn an_entity_bomb_is_restricted_xml() {
    ends_with("restricted-xml", Reason::RestrictedXml, |port| {
        (BOMB.to_owned() + &stanza(port, "", "&d;")).into()
    })
    .await;
    ends_with("restricted-xml", Reason::RestrictedXml, |port| stanza(port, "", "&d;").into()).await;
}

#[tokio::test]
async fn comments_and_processing_instructions_are_restricted_xml() {
    for forbidden in ["<!-- x -->", "<?x y?>"] {
        ends_with("restricted-xml", Reason::RestrictedXml, |_| forbidden.into()).await;
        ends_with("restricted-xml", Reason::RestrictedXml, |port| stanza(port, "", forbidden).into()).await;
    }
}

#[tokio::test]
async fn ten_thousand_attributes_violate_policy() {
    let attributes: String = (0..10_000).map(|n| format!(" a{n}=''")).collect();
    let many = |port| stanza(port, &attributes, "").into();
    ends_with("policy-violation", Reason::TooManyAttributes, many).await;
    let declarations: String = (0..10_000).map(|n| format!(" xmlns:n{n}='n'")).collect();
    let many = |port| stanza(port, "", &format!("<x{declarations}/>")).into();
    ends_with("policy-violation", Reason::TooManyAttributes, many).await;
}

#[tokio::test]
async fn ten_thousand_levels_violate_policy() {
    let deep = "<x>".repeat(10_000) + &"</x>".repeat(10_000);
    ends_with("policy-violation", Reason::StanzaTooDeep, |port| stanza(port, "", &deep).into()).await;
}

#[tokio::test]
async fn a_stanza_of_another_namespace_is_unsupported() {
    for namespace in ["jabber:client", "jabber:component:accept", ""] {
        ends_with("unsupported-stanza-type", Reason::UnsupportedStanzaType, |port| {
            stanza(port, &format!(" xmlns='{namespace}'"), "").into()
        })
        .await;
    }
}

#[tokio::test]
async fn a_prefix_that_the_stanza_does_not_declare_is_bad() {
    // The second one the stream's own header declares, which does not travel along with the stanza.
    for content in ["<x:y/>", "<stream:features/>"] {
        ends_with("bad-namespace-prefix", Reason::BadNamespacePrefix, |port| {
            stanza(port, "", content).into()
        })
        .await;
    }
}

#[tokio::test]
async fn a_stanza_without_proper_addresses_is_improper() {
    for stanza in ["<message/>", "<message to='a2.test'/>", "<message from='..' to='a2.test'/>"] {
        ends_with("improper-addressing", Reason::ImproperAddressing, |_| stanza.into()).await;
    }
    ends_with("improper-addressing", Reason::ImproperAddressing, |port| {
        format!("<iq from='{}' type='get' id='1'/>", port.from()).into()
    })
    .await;
}

#[tokio::test]
async fn a_stream_within_the_stream_is_bad_format() {
    ends_with("bad-format", Reason::BadFormat, |port| {
        let header = crate::support::wire::header(port.from(), TO);
        header.split_once("?>").unwrap().1.into()
    })
    .await;
}

#[tokio::test]
async fn negotiation_behind_the_negotiation_is_unsupported() {
    for element in [
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<bidi xmlns='urn:xmpp:bidi'/>",
        "<x xmlns='x'/>",
    ] {
        ends_with("unsupported-stanza-type", Reason::UnsupportedStanzaType, |_| element.into()).await;
    }
    ends_with("unsupported-stanza-type", Reason::UnsupportedStanzaType, |port| {
        crate::support::wire::auth(port.from()).into()
    })
    .await;
}
