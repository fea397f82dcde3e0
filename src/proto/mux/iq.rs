//! The IQs of connection authorization (XEP-0451 section 3.2), and how they are told from everybody else's stanzas.
//!
//! They are the relay's own: taken out of what comes from the remote side, never forwarded, and refused from the local
//! side, where a tenant's server could otherwise return a secret that it was handed. They are written to the session
//! that they speak for and to nothing else.

use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::escape::escape_into;
use crate::xmpp::namespace as ns;
use crate::xmpp::stanza::Head;

/// Begins the ids of our own requests; 128 random bits follow.
pub const ID_PREFIX: &str = "fedmux-mux-";

/// What an IQ of ours, or one for us, says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MuxIq {
    /// A secret comes back.
    Offer {
        /// For the answer.
        id: String,
        /// Its `from`.
        from: String,
        /// Its `to`.
        to: String,
        /// For which host it comes back, where the prover says so.
        host: Option<String>,
        /// The secret.
        secret: String,
    },
    /// The answer to our offer.
    Answer {
        /// Of our offer.
        id: String,
        /// Its `from`.
        from: String,
        /// Its `to`.
        to: String,
        /// Whether the host was granted.
        granted: bool,
    },
}

/// Whether a stanza may hold a child of this protocol, or be an answer to our own request: told by what was seen of it when it was
/// framed, and wrong only in suspecting. Everybody else's are not: what is suspected is read as a tree, which costs a hundred times as much.
#[must_use]
pub fn suspects(stanza: &[u8], head: Head) -> bool {
    let raw = head.id.and_then(|id| stanza.get(id.range())).unwrap_or_default();
    // A reference may stand for any character of it (XML 1.0 section 4.1); few ids have one.
    let has_reference = || raw.contains(&b'&') && head.id(stanza).is_some_and(|id| id.starts_with(ID_PREFIX));
    head.declares_mux || raw.starts_with(ID_PREFIX.as_bytes()) || has_reference()
}

impl MuxIq {
    /// Read an IQ; `None` if it is none of these.
    #[must_use]
    pub fn read(iq: &Element) -> Option<Self> {
        let text = |name: &str| iq.attribute(name).map(str::to_owned);
        let (id, from, to) = (text("id")?, text("from")?, text("to")?);
        match iq.attribute("type")? {
            "set" => {
                let mux = iq.child("mux", ns::MUX)?;
                let host = mux.attribute("host").map(str::to_owned);
                Some(Self::Offer { id, from, to, host, secret: mux.text() })
            }
            kind @ ("result" | "error") if id.starts_with(ID_PREFIX) => {
                Some(Self::Answer { id, from, to, granted: kind == "result" })
            }
            _ => None,
        }
    }
}

/// Whether a stanza holds a child of this protocol, wherever it goes: such a stanza isn't for forwarding.
#[must_use]
pub fn holds_mux(stanza: &Element) -> bool {
    stanza.children().any(|child| child.ns() == ns::MUX)
}

/// Write the offer of `secret`, which was handed to `host`, from `prover` to `verifier`.
pub fn write_offer(
    out: &mut String,
    id: &str,
    prover: &Domain,
    verifier: &Domain,
    host: &Domain,
    secret: &str,
) {
    out.push_str(&format!(
        "<iq type='set' from='{prover}' to='{verifier}' id='{id}'><mux xmlns='{}' host='{host}'>",
        ns::MUX
    ));
    escape_into(out, secret);
    out.push_str("</mux></iq>");
}

/// Answer an offer: granted, or `not-acceptable`.
pub fn write_answer(out: &mut String, offer_id: &str, from: &str, to: &str, granted: bool) {
    let kind = if granted { "result" } else { "error" };
    out.push_str(&format!("<iq type='{kind}' from='"));
    escape_into(out, to);
    out.push_str("' to='");
    escape_into(out, from);
    out.push_str("' id='");
    escape_into(out, offer_id);
    if granted {
        out.push_str("'/>");
    } else {
        out.push_str(
            "'><error type='modify'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::bounce;

    fn read(text: &str) -> Option<MuxIq> {
        MuxIq::read(&Element::parse(text.as_bytes()).unwrap())
    }

    fn suspected(text: &str) -> bool {
        suspects(text.as_bytes(), bounce::read(text.as_bytes()).unwrap().1)
    }

    #[test]
    fn offers_and_answers_are_read_as_they_are_written() {
        let (p, v) = (Domain::parse("p.test").unwrap(), Domain::parse("v.test").unwrap());
        let mut offer = String::new();
        write_offer(&mut offer, "fedmux-mux-1", &p, &v, &Domain::parse("n.test").unwrap(), "a<b");
        let expected = MuxIq::Offer {
            id: "fedmux-mux-1".to_owned(),
            from: "p.test".to_owned(),
            to: "v.test".to_owned(),
            host: Some("n.test".to_owned()),
            secret: "a<b".to_owned(),
        };
        assert_eq!(read(&offer), Some(expected));
        assert!(suspected(&offer));
        for granted in [true, false] {
            let mut answer = String::new();
            write_answer(&mut answer, "fedmux-mux-1", "p.test", "v.test", granted);
            let (from, to) = ("v.test".to_owned(), "p.test".to_owned());
            assert_eq!(
                read(&answer),
                Some(MuxIq::Answer { id: "fedmux-mux-1".to_owned(), from, to, granted })
            );
            assert!(suspected(&answer));
        }
    }

    #[test]
    fn everybody_elses_iqs_pass() {
        let ping = "<iq type='get' id='1' from='a.test' to='b.test'><ping xmlns='urn:xmpp:ping'/></iq>";
        assert!(!suspected(ping) && read(ping).is_none());
        let talk = "<iq type='set' id='1' from='a.test' to='b.test'><x xmlns='y'>urn:xmpp:mux:0</x></iq>";
        assert!(!suspected(talk) && read(talk).is_none());
        let mention =
            "<iq type='set' id='1' from='a.test' to='b.test'><x xmlns='y' xmlns:m='urn:xmpp:mux:0'/></iq>";
        assert!(suspected(mention) && read(mention).is_none(), "suspected and cleared");
        let quoting = "<message id='it&apos;s' from='a.test' to='b.test'><x xmlns='urn:a&amp;b'/></message>";
        assert!(!suspected(quoting), "a reference alone means nothing");
    }

    #[test]
    fn references_hide_nothing() {
        let child = "<mux xmlns='urn:xmpp:mux&#58;0' host='n.test'>secret</mux>";
        let offer = format!("<iq type='set' id='1' from='p.test' to='v.test'>{child}</iq>");
        assert!(suspected(&offer) && read(&offer).is_some());
        let answer = "<iq type='result' id='fedmux&#45;mux-1' from='v.test' to='p.test'/>";
        assert!(suspected(answer) && read(answer).is_some());
    }
}
