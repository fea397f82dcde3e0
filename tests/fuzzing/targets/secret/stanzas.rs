//! The IQs and elements that carry secrets: what the framer let pass is read without a panic, none that is the relay's own
//! goes unsuspected, and what we write in answer is read as it was meant.

use fedmux::proto::mux::authorize::{self, Authorization};
use fedmux::proto::mux::iq::{self, MuxIq};
use fedmux::proto::mux::secret::SECRET_BYTES_MAX;
use fedmux::xmpp::domain::Domain;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::framer::{FrameKind, XmlLimits};
use fedmux::xmpp::header::STREAM_ID_BYTES_MAX;
use fedmux::xmpp::stanza::{Head, StanzaKind};

use crate::targets::framer::HEADER;
use crate::targets::oracle;

pub(super) fn read(input: &[u8]) {
    for (kind, head, octets) in frames(input) {
        let element = Element::parse(&octets).expect("the framer let it pass");
        match kind {
            FrameKind::Stanza(kind) => on_stanza(kind, head, &octets, &element),
            _ => on_element(&element),
        }
    }
}

/// What is answered may be longer than what was said: it is escaped.
const LIMITS: XmlLimits =
    XmlLimits { stanza_bytes: 1 << 20, negotiation_bytes: 1 << 20, depth: 32, attributes: 32 };

/// The first-level children of a stream.
fn frames(children: &[u8]) -> Vec<(FrameKind, Head, Vec<u8>)> {
    let stream = [HEADER, children].concat();
    let frames = oracle::read_within(LIMITS, &stream, |_| stream.len()).frames.into_iter();
    let children = frames.filter(|frame| !matches!(frame.kind, FrameKind::Header | FrameKind::End));
    children.map(|frame| (frame.kind, frame.head, frame.bytes)).collect()
}

fn only_stanza(written: &str) -> Element {
    let children = frames(written.as_bytes());
    assert!(matches!(children[..], [(FrameKind::Stanza(StanzaKind::Iq), ..)]), "{written}");
    Element::parse(&children[0].2).expect("the framer let it pass")
}

fn on_stanza(kind: StanzaKind, head: Head, octets: &[u8], element: &Element) {
    let said = if kind == StanzaKind::Iq { MuxIq::read(element) } else { None };
    let is_ours = said.is_some() || iq::holds_mux(element);
    let suspected = iq::suspects(octets, head);
    assert!(suspected || !is_ours, "the relay's own stanza would have been forwarded");
    let Some(said) = said else { return };
    let (id, from, to) = match &said {
        MuxIq::Offer { id, from, to, .. } | MuxIq::Answer { id, from, to, .. } => (id, from, to),
    };
    // XML carries no line breaks in attributes that were written as such.
    let kept = |text: &str| text.replace(['\t', '\n', '\r'], " ");
    for granted in [true, false] {
        let mut answer = String::new();
        iq::write_answer(&mut answer, id, from, to, granted);
        let answer = only_stanza(&answer);
        assert_eq!(answer.attribute("id"), Some(kept(id).as_str()));
        assert_eq!(
            (answer.attribute("from"), answer.attribute("to")),
            (Some(&*kept(to)), Some(&*kept(from)))
        );
        assert_eq!(answer.attribute("type"), Some(if granted { "result" } else { "error" }));
        assert!(!iq::holds_mux(&answer), "an answer answers nothing");
    }
    if let MuxIq::Offer { id, from, to, host: Some(host), secret } = &said
        && let (Ok(from), Ok(to), Ok(host)) = (Domain::parse(from), Domain::parse(to), Domain::parse(host))
        && !secret.contains('\r')
    {
        // Ours holds hexadecimal digits only.
        let ours = id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let id = if ours { id.as_str() } else { "1" };
        let mut again = String::new();
        iq::write_offer(&mut again, id, &from, &to, &host, secret);
        let host = Some(host.to_string());
        let (id, from, to) = (id.to_owned(), from.to_string(), to.to_string());
        let expected = MuxIq::Offer { id, from, to, host, secret: secret.clone() };
        assert_eq!(MuxIq::read(&only_stanza(&again)), Some(expected));
    }
}

fn on_element(element: &Element) {
    let Ok(Some(authorization)) = Authorization::parse(element) else { return };
    let mut written = String::new();
    match &authorization {
        Authorization::Request { prover, stream_id } => {
            assert!(!stream_id.is_empty() && stream_id.len() <= STREAM_ID_BYTES_MAX);
            if stream_id.contains(['\t', '\n', '\r']) {
                return;
            }
            authorize::write_request(&mut written, prover, stream_id);
        }
        Authorization::Secret { prover, secret } => {
            assert!(!secret.is_empty() && secret.len() <= SECRET_BYTES_MAX && secret.trim() == secret);
            if secret.contains('\r') {
                return;
            }
            authorize::write_secret(&mut written, prover, secret);
        }
        Authorization::Refused(refused) => authorize::write_refused(&mut written, *refused),
    }
    let children = frames(written.as_bytes());
    assert!(matches!(children[..], [(FrameKind::Element, ..)]), "{written}");
    let again = Element::parse(&children[0].2).expect("the framer let it pass");
    assert_eq!(Authorization::parse(&again), Ok(Some(authorization)), "{written}");
}
