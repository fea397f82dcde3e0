//! Stanzas that can't go on come back as errors (RFC 6120 section 8.3).
//!
//! An error never answers an error, nor a result, nor presence that expects no answer: two servers would bounce it
//! between them for ever. An IQ request is always answered; its sender waits.

use crate::reason::Reason;
use crate::xmpp::condition::stanza_error;
use crate::xmpp::domain::Domain;
use crate::xmpp::escape::escape_into;
use crate::xmpp::framer::{Frame, FrameKind, Framer, Progress, XmlLimits};
use crate::xmpp::stanza::{Head, StanzaKind};

/// Write the error that answers a stanza to its sender; `false`: it may not be answered.
///
/// `by` is the host of ours that says so. The payload is left out: it may be large, and the sender has it.
pub fn write(
    out: &mut String,
    kind: StanzaKind,
    head: Head,
    stanza: &[u8],
    reason: Reason,
    by: &Domain,
) -> bool {
    let (Some(from), Some(to)) = (head.from(stanza), head.to(stanza)) else { return false };
    if !may_answer(kind, head.type_(stanza).as_deref()) {
        return false;
    }
    let error = stanza_error(reason);
    let mut text = format!("<{kind} type='error' from='");
    escape_into(&mut text, &to);
    text.push_str("' to='");
    escape_into(&mut text, &from);
    if let Some(id) = head.id(stanza) {
        text.push_str("' id='");
        escape_into(&mut text, &id);
    }
    let (error_type, condition) = (error.error_type, error.condition);
    text.push_str(&format!(
        "'><error type='{error_type}' by='{by}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>{reason}</text></error></{kind}>"
    ));
    out.push_str(&text);
    true
}

/// Reads stanzas that already passed a stream's checks and were kept without their heads.
#[derive(Debug)]
pub struct Reader(Framer);

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// A reader for any number of stanzas.
    #[must_use]
    pub fn new() -> Self {
        const HEADER: &[u8] =
            b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
        let any = usize::MAX;
        let mut framer =
            Framer::new(XmlLimits { stanza_bytes: any, negotiation_bytes: any, depth: any, attributes: any });
        let begun = framer.next(HEADER);
        debug_assert!(matches!(begun, Ok(Progress::Frame(_))), "the header is well-formed");
        framer.authenticated();
        Self(framer)
    }

    /// Read a whole stanza.
    #[must_use]
    pub fn read(&mut self, stanza: &[u8]) -> Option<(StanzaKind, Head)> {
        match self.0.next(stanza) {
            Ok(Progress::Frame(Frame { kind: FrameKind::Stanza(kind), head, .. })) => Some((kind, head)),
            _ => None,
        }
    }
}

/// Read one such stanza.
#[must_use]
pub fn read(stanza: &[u8]) -> Option<(StanzaKind, Head)> {
    Reader::new().read(stanza)
}

/// Whether a stanza of this kind and type may be answered with an error.
#[must_use]
pub fn may_answer(kind: StanzaKind, stanza_type: Option<&str>) -> bool {
    match (kind, stanza_type) {
        (_, Some("error" | "result")) => false,
        (StanzaKind::Presence, Some("unavailable" | "probe")) => false,
        (StanzaKind::Iq, Some("get" | "set")) => true,
        (StanzaKind::Iq, _) => false,
        (StanzaKind::Message | StanzaKind::Presence, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::element::Element;

    fn bounced(stanza: &[u8]) -> Option<Element> {
        let (kind, head) = read(stanza).unwrap();
        let mut out = String::new();
        write(&mut out, kind, head, stanza, Reason::QueueTimeout, &Domain::parse("a.test").unwrap())
            .then(|| Element::parse(out.as_bytes()).unwrap())
    }

    #[test]
    fn an_error_swaps_the_addresses_keeps_the_id_and_names_the_reason() {
        let error =
            bounced(b"<iq type='get' id='&lt;1' from='u&apos;@a.test/r' to='b.test'><q xmlns='x'/></iq>")
                .unwrap();
        assert_eq!(error.attribute("from"), Some("b.test"));
        assert_eq!(error.attribute("to"), Some("u'@a.test/r"));
        assert_eq!(error.attribute("id"), Some("<1"));
        assert_eq!(error.attribute("type"), Some("error"));
        let inner = error.children().next().unwrap();
        assert_eq!((inner.attribute("type"), inner.attribute("by")), (Some("wait"), Some("a.test")));
        let names: Vec<_> = inner.children().map(Element::name).collect();
        assert_eq!(names, ["remote-server-timeout", "text"]);
        assert_eq!(inner.children().nth(1).unwrap().text(), "queue-timeout");
    }

    #[test]
    fn what_expects_no_answer_gets_none() {
        for stanza in [
            "<message type='error' from='a@a.test' to='b.test'/>",
            "<iq type='result' id='1' from='a@a.test' to='b.test'/>",
            "<presence type='unavailable' from='a@a.test' to='b.test'/>",
            "<presence type='probe' from='a@a.test' to='b.test'/>",
            "<presence type='error' from='a@a.test' to='b.test'/>",
        ] {
            assert!(bounced(stanza.as_bytes()).is_none(), "{stanza}");
        }
        assert!(bounced(b"<message from='a@a.test' to='b.test'/>").is_some());
        assert!(bounced(b"<presence type='subscribe' from='a@a.test' to='b.test'/>").is_some());
    }
}
