//! The elements of connection authorization on the second connection, S2 (XEP-0451 section 3.2), and our extension by
//! which the prover asks for a secret.
//!
//! The XEP lets the verifier dial: it sends `<mux host='p'>secret</mux>` to the new host's server. That serves a stanza
//! that waits to go to the new host. The usual case of a provider with a certificate for each customer is the other way
//! round: a stanza waits to come FROM the new host. Then the prover dials S2 with that host's client certificate, and asks
//! for a secret in a namespace of our own, offered in the features after authentication:
//!
//! ```xml
//! V: <stream:features><authorize xmlns='urn:fedmux:mux-authorize:0'/></stream:features>
//! P: <authorize xmlns='urn:fedmux:mux-authorize:0' host='capulet.example' stream='s1'/>
//! V: <mux xmlns='urn:xmpp:mux:0' host='capulet.example'>
//!      AQJKmIC6zGyZfwAAAABlU_E8oKGio6SlpqeoqaqrrK2ur0g55baPB2DJzQL4levO5yOcZHts3mr7X5-nucL9o2Cn</mux>
//! ```
//!
//! `host` is p, and `stream` the id of the stream of v and p on S1, in the last header of the entity that received it. The
//! secret is that of the test vector in [`super::secret`], but for role 2. Or a refusal, which says why: [`Refused`].
//! Nobody dials back: no request of a peer makes the other look up or dial a name.
//!
//! ```xml
//! V: <refused xmlns='urn:fedmux:mux-authorize:0' reason='busy'/>
//! V: <refused xmlns='urn:fedmux:mux-authorize:0' reason='no-session'/>
//! V: <refused xmlns='urn:fedmux:mux-authorize:0' reason='not-proven'/>
//! ```
//!
//! A refusal for a limit passes: the prover asks again on the same S2, a little later each time. One for a rule stays as
//! it is, and is remembered for an hour; so is one without a reason, or with one that is not known.

use super::secret::SECRET_BYTES_MAX;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::escape::escape_into;
use crate::xmpp::header::STREAM_ID_BYTES_MAX;
use crate::xmpp::namespace as ns;

/// The feature, after authentication.
pub const FEATURE: &str = "<authorize xmlns='urn:fedmux:mux-authorize:0'/>";

/// Why the verifier makes no secret: the `reason` of `<refused/>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// `busy`: too many proofs under way, or too fast. Asking again soon helps.
    Busy,
    /// `no-session`: no session with this stream is known here in which the prover is proven by certificate.
    NoSession,
    /// `not-proven`: the host isn't proven by certificate on this connection, or the asker didn't open it.
    NotProven,
    /// None, or one that we don't know.
    Other,
}

impl Refused {
    const WORDS: [(&'static str, Self); 3] =
        [("busy", Self::Busy), ("no-session", Self::NoSession), ("not-proven", Self::NotProven)];

    fn read(word: Option<&str>) -> Self {
        let known = Self::WORDS.into_iter().find(|(known, _)| Some(*known) == word);
        known.map_or(Self::Other, |(_, refused)| refused)
    }

    /// As the prover counts and remembers it.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Busy => Reason::MuxBusy,
            Self::NoSession | Self::NotProven | Self::Other => Reason::MuxRefused,
        }
    }
}

/// What an element of S2 says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// The prover asks for a secret.
    Request {
        /// Where the prover is proven by certificate, on S1.
        prover: Domain,
        /// The id of that stream.
        stream_id: String,
    },
    /// The verifier hands it out.
    Secret {
        /// Where it is to come from.
        prover: Domain,
        /// The secret.
        secret: String,
    },
    /// The verifier refuses.
    Refused(Refused),
}

impl Authorization {
    /// Read an element; `None` if it is none of these.
    ///
    /// # Errors
    /// [`Reason::ImproperAddressing`] without a proper host, [`Reason::BadFormat`] for a stream id or a secret that is
    /// missing or over its bound.
    pub fn parse(element: &Element) -> Result<Option<Self>, Reason> {
        let host = || {
            element
                .attribute("host")
                .and_then(|text| Domain::parse(text).ok())
                .ok_or(Reason::ImproperAddressing)
        };
        if element.is("mux", ns::MUX) && element.attribute("host").is_some() {
            let secret = element.text().trim().to_owned();
            if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
                return Err(Reason::BadFormat);
            }
            return Ok(Some(Self::Secret { prover: host()?, secret }));
        }
        if element.is("authorize", ns::MUX_AUTHORIZE) {
            let stream_id =
                element.attribute("stream").filter(|id| !id.is_empty() && id.len() <= STREAM_ID_BYTES_MAX);
            let stream_id = stream_id.ok_or(Reason::BadFormat)?.to_owned();
            return Ok(Some(Self::Request { prover: host()?, stream_id }));
        }
        let refused = element.is("refused", ns::MUX_AUTHORIZE);
        Ok(refused.then(|| Self::Refused(Refused::read(element.attribute("reason")))))
    }
}

/// Ask for a secret with which the session where we are `prover`, on the stream `stream_id`, is to speak for the host of
/// this stream.
pub fn write_request(out: &mut String, prover: &Domain, stream_id: &str) {
    out.push_str(&format!("<authorize xmlns='{}' host='{prover}' stream='", ns::MUX_AUTHORIZE));
    escape_into(out, stream_id);
    out.push_str("'/>");
}

/// Hand out a secret that is to come back from `prover`.
pub fn write_secret(out: &mut String, prover: &Domain, secret: &str) {
    out.push_str(&format!("<mux xmlns='{}' host='{prover}'>", ns::MUX));
    escape_into(out, secret);
    out.push_str("</mux>");
}

/// Refuse to make a secret.
pub fn write_refused(out: &mut String, refused: Refused) {
    out.push_str(&format!("<refused xmlns='{}'", ns::MUX_AUTHORIZE));
    if let Some((word, _)) = Refused::WORDS.into_iter().find(|(_, known)| *known == refused) {
        out.push_str(&format!(" reason='{word}'"));
    }
    out.push_str("/>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Authorization>, Reason> {
        Authorization::parse(&Element::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        let prover = Domain::parse("p.test").unwrap();
        let (mut request, mut secret) = (String::new(), String::new());
        write_request(&mut request, &prover, "a'b");
        write_secret(&mut secret, &prover, "s&t");
        let stream_id = "a'b".to_owned();
        assert_eq!(read(&request), Ok(Some(Authorization::Request { prover: prover.clone(), stream_id })));
        assert_eq!(read(&secret), Ok(Some(Authorization::Secret { prover, secret: "s&t".to_owned() })));
    }

    #[test]
    fn a_refusal_says_why_and_what_is_not_known_counts_as_a_rule() {
        for refused in [Refused::Busy, Refused::NoSession, Refused::NotProven, Refused::Other] {
            let mut text = String::new();
            write_refused(&mut text, refused);
            assert_eq!(read(&text), Ok(Some(Authorization::Refused(refused))), "{text}");
            assert_eq!(refused.reason() == Reason::MuxBusy, refused == Refused::Busy);
        }
        let other = Ok(Some(Authorization::Refused(Refused::Other)));
        assert_eq!(read("<refused xmlns='urn:fedmux:mux-authorize:0'/>"), other);
        assert_eq!(read("<refused xmlns='urn:fedmux:mux-authorize:0' reason='tired'/>"), other);
    }

    #[test]
    fn what_lacks_a_host_a_stream_or_a_secret_is_refused() {
        let long = "A".repeat(SECRET_BYTES_MAX + 1);
        assert_eq!(
            read("<mux xmlns='urn:xmpp:mux:0'>s</mux>"),
            Ok(None),
            "the request of before authentication, or nothing"
        );
        assert_eq!(read("<mux xmlns='urn:xmpp:mux:0' host='a@b'>s</mux>"), Err(Reason::ImproperAddressing));
        assert_eq!(read("<mux xmlns='urn:xmpp:mux:0' host='p.test'/>"), Err(Reason::BadFormat));
        assert_eq!(
            read(&format!("<mux xmlns='urn:xmpp:mux:0' host='p.test'>{long}</mux>")),
            Err(Reason::BadFormat)
        );
        assert_eq!(
            read("<authorize xmlns='urn:fedmux:mux-authorize:0' host='p.test'/>"),
            Err(Reason::BadFormat)
        );
        assert_eq!(
            read("<authorize xmlns='urn:fedmux:mux-authorize:0' host='a@b' stream='1'/>"),
            Err(Reason::ImproperAddressing)
        );
        assert_eq!(read("<other xmlns='urn:x'/>"), Ok(None));
    }
}
