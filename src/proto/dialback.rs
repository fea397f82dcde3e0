//! Server dialback (XEP-0220) with keys made as XEP-0185 recommends.
//!
//! A `<db:result/>` asks to be believed for a pair; whoever receives it asks the sending domain's own server with
//! `<db:verify/>` whether it made the key. An answer (`type` set) counts only if it answers an open request of ours
//! on that stream with these domains: anything else is XEP-0220's "unsolicited dialback" attack.

use ring::hmac;

use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::escape::escape_into;
use crate::xmpp::header::STREAM_ID_BYTES_MAX;
use crate::xmpp::namespace as ns;
use crate::xmpp::route::Route;

/// Longest key that is looked at, in octets. XEP-0185 keys have 64.
pub const KEY_BYTES_MAX: usize = 1024;

/// Makes and verifies our own keys. Nobody else can make them, and we need not remember them.
pub struct KeyMaker(hmac::Key);

impl KeyMaker {
    /// From a secret. The HMAC key is the hex text of its SHA-256 (XEP-0185 section 2: its vector reproduces only so).
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, secret);
        Self(hmac::Key::new(hmac::HMAC_SHA256, hex(digest.as_ref()).as_bytes()))
    }

    /// The key for our request on the stream `stream_id` of the receiving server `to`, for the domain `from`.
    #[must_use]
    pub fn key(&self, route: &Route, stream_id: &str) -> String {
        hex(hmac::sign(&self.0, Self::text(route, stream_id).as_bytes()).as_ref())
    }

    /// Whether we made `key`; in constant time.
    #[must_use]
    pub fn verify(&self, route: &Route, stream_id: &str, key: &str) -> bool {
        let Some(tag) = unhex(key.trim()) else { return false };
        hmac::verify(&self.0, Self::text(route, stream_id).as_bytes(), &tag).is_ok()
    }

    fn text(route: &Route, stream_id: &str) -> String {
        format!("{} {} {stream_id}", route.to, route.from)
    }
}

impl std::fmt::Debug for KeyMaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyMaker(secret)")
    }
}

/// What a dialback element says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialback {
    /// `<db:result from to>key</db:result>`: believe me for this pair.
    Request {
        /// The pair, in the sender's direction.
        route: Route,
        /// The key.
        key: String,
    },
    /// `<db:result type=.../>`: the answer to our request. `route` is the pair in OUR direction.
    Result {
        /// The pair for which we asked.
        route: Route,
        /// Whether we are believed.
        valid: bool,
    },
    /// `<db:verify from to id>key</db:verify>`: did you make this key? `route` is the pair in OUR direction.
    Verify {
        /// The pair for which the key is said to have been made, by us.
        route: Route,
        /// The stream for which it was made.
        stream_id: String,
        /// The key.
        key: String,
    },
    /// `<db:verify type=.../>`: the answer to our question. `route` is the pair in THEIR direction, as they requested it.
    Verified {
        /// The pair that we asked about.
        route: Route,
        /// The stream that we asked about.
        stream_id: String,
        /// Whether the key is theirs.
        valid: bool,
    },
}

impl Dialback {
    /// Read a dialback element; `None` if `element` is none.
    ///
    /// # Errors
    /// [`Reason::ImproperAddressing`] without proper domains, [`Reason::BadFormat`] for anything else that is missing or
    /// over its bound.
    pub fn parse(element: &Element) -> Result<Option<Self>, Reason> {
        if element.ns() != ns::DIALBACK {
            return Ok(None);
        }
        let domain = |name| {
            element
                .attribute(name)
                .and_then(|text| Domain::parse(text).ok())
                .ok_or(Reason::ImproperAddressing)
        };
        let theirs = Route::new(domain("from")?, domain("to")?);
        let valid = element.attribute("type").map(|kind| kind == "valid");
        // It stands in our answer, so what has no bound there has none in what we write.
        let stream_id = || {
            let id = element.attribute("id").filter(|id| id.len() <= STREAM_ID_BYTES_MAX);
            id.map(str::to_owned).ok_or(Reason::BadFormat)
        };
        let key = || {
            let text = element.text();
            let key = text.trim();
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                Err(Reason::BadFormat)
            } else {
                Ok(key.to_owned())
            }
        };
        Ok(Some(match (element.name(), valid) {
            ("result", None) => Self::Request { route: theirs, key: key()? },
            ("result", Some(valid)) => Self::Result { route: theirs.reversed(), valid },
            ("verify", None) => {
                Self::Verify { route: theirs.reversed(), stream_id: stream_id()?, key: key()? }
            }
            ("verify", Some(valid)) => Self::Verified { route: theirs, stream_id: stream_id()?, valid },
            _ => return Err(Reason::UnsupportedStanzaType),
        }))
    }
}

/// Write our request to be believed for `route`.
pub fn write_request(out: &mut String, route: &Route, key: &str) {
    let text = format!("<db:result from='{}' to='{}'>{key}</db:result>", route.from, route.to);
    out.push_str(&text);
}

/// Answer a request for `route` (in the requester's direction): believed, or with an error (XEP-0220 section 2.5).
pub fn write_result(out: &mut String, route: &Route, outcome: Result<(), Reason>) {
    let (from, to) = (&route.to, &route.from);
    let text = match outcome {
        Ok(()) => format!("<db:result from='{from}' to='{to}' type='valid'/>"),
        Err(Reason::DialbackInvalid) => format!("<db:result from='{from}' to='{to}' type='invalid'/>"),
        Err(reason) => {
            let condition = match reason {
                Reason::HostUnknown | Reason::NotOurHost | Reason::NoRoute => "item-not-found",
                Reason::PolicyDenied
                | Reason::CertificateMissing
                | Reason::CertificateExpired
                | Reason::CertificateNotYetValid
                | Reason::CertificateUnknownIssuer
                | Reason::CertificateWrongName
                | Reason::CertificateWrongPurpose
                | Reason::CertificateInvalid
                | Reason::StarttlsNotOffered
                | Reason::TlsVersion => "policy-violation",
                Reason::TooMany => "resource-constraint",
                Reason::InvalidFrom | Reason::SourceNotTrusted => "not-authorized",
                _ => "remote-server-timeout",
            };
            format!(
                "<db:result from='{from}' to='{to}' type='error'><error type='cancel'>\
                 <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>"
            )
        }
    };
    out.push_str(&text);
}

/// Ask the server of `route.from` whether it made `key` for `route` on the stream `stream_id`.
pub fn write_verify(out: &mut String, route: &Route, stream_id: &str, key: &str) {
    let mut text = format!("<db:verify from='{}' to='{}' id='", route.to, route.from);
    escape_into(&mut text, stream_id);
    text.push_str("'>");
    escape_into(&mut text, key);
    text.push_str("</db:verify>");
    out.push_str(&text);
}

/// Answer a question about `route` (in our direction): whether the key is ours.
pub fn write_verified(out: &mut String, route: &Route, stream_id: &str, valid: bool) {
    let kind = if valid { "valid" } else { "invalid" };
    let mut text = format!("<db:verify from='{}' to='{}' type='{kind}' id='", route.from, route.to);
    escape_into(&mut text, stream_id);
    text.push_str("'/>");
    out.push_str(&text);
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String can't fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        Route::new(Domain::parse("example.org").unwrap(), Domain::parse("xmpp.example.com").unwrap())
    }

    #[test]
    fn the_vector_of_xep_0185_reproduces() {
        let maker = KeyMaker::new(b"s3cr3tf0rd14lb4ck");
        let key = maker.key(&route(), "D60000229F");
        assert_eq!(key, "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643");
        assert!(maker.verify(&route(), "D60000229F", &key));
        assert!(!maker.verify(&route(), "D60000229G", &key));
        assert!(!maker.verify(&route().reversed(), "D60000229F", &key));
        assert!(!maker.verify(&route(), "D60000229F", "37c6") && !maker.verify(&route(), "D60000229F", "é"));
    }

    #[test]
    fn requests_and_answers_are_told_apart_by_their_type() {
        let read = |write: &dyn Fn(&mut String)| {
            let mut out = String::new();
            write(&mut out);
            Dialback::parse(&Element::parse(out.as_bytes()).unwrap()).unwrap().unwrap()
        };
        let key = || "k".to_owned();
        assert_eq!(
            read(&|out| write_request(out, &route(), "k")),
            Dialback::Request { route: route(), key: key() }
        );
        assert_eq!(
            read(&|out| write_result(out, &route(), Ok(()))),
            Dialback::Result { route: route(), valid: true }
        );
        for reason in [Reason::DialbackInvalid, Reason::DialbackTimeout] {
            let answer = read(&|out| write_result(out, &route(), Err(reason)));
            assert_eq!(answer, Dialback::Result { route: route(), valid: false });
        }
        assert_eq!(
            read(&|out| write_verify(out, &route(), "a'b", "k")),
            Dialback::Verify { route: route(), stream_id: "a'b".to_owned(), key: key() }
        );
        assert_eq!(
            read(&|out| write_verified(out, &route(), "a'b", true)),
            Dialback::Verified { route: route(), stream_id: "a'b".to_owned(), valid: true }
        );
    }

    #[test]
    fn an_id_that_no_stream_can_have_is_not_answered() {
        let verify = |id: &str, kind: &str| {
            let text = format!("<db:verify from='b.test' to='a.test' id='{id}'{kind}>k</db:verify>");
            Dialback::parse(&Element::parse(text.as_bytes()).unwrap()).map(drop)
        };
        let longest = "i".repeat(STREAM_ID_BYTES_MAX);
        for kind in ["", " type='valid'"] {
            assert_eq!(verify(&longest, kind), Ok(()));
            assert_eq!(verify(&format!("{longest}i"), kind), Err(Reason::BadFormat));
        }
    }
}
