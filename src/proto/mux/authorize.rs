//! The elements of connection authorization on the second connection, S2 (XEP-0451 section 3.2), and our extension by
//! which the prover asks for a secret.
//!
//! The XEP lets the verifier dial: it sends `<mux host='p'>secret</mux>` to the new host's server. That serves a stanza
//! that waits to go to the new host. The usual case of a provider with a certificate for each customer is the other way
//! round: a stanza waits to come FROM the new host. Then the prover dials S2 with that host's client certificate, and asks
//! for a secret in a namespace of our own, offered in the features after authentication:
//!
//! ```xml
//! <stream:features> <authorize xmlns='urn:fedmux:mux-authorize:0'/> </stream:features>
//! <authorize xmlns='urn:fedmux:mux-authorize:0' host='p.example' stream='id of the stream of v and p on S1'/>
//! <mux xmlns='urn:xmpp:mux:0' host='p.example'>secret</mux>
//! ```
//!
//! or, where the verifier knows no such session, `<refused xmlns='urn:fedmux:mux-authorize:0'/>`. Nobody dials back: no
//! request of a peer makes the other look up or dial a name.

use super::secret::SECRET_BYTES_MAX;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::escape::escape_into;
use crate::xmpp::header::STREAM_ID_BYTES_MAX;
use crate::xmpp::namespace as ns;

/// The refusal.
pub const REFUSED: &str = "<refused xmlns='urn:fedmux:mux-authorize:0'/>";
/// The feature, after authentication.
pub const FEATURE: &str = "<authorize xmlns='urn:fedmux:mux-authorize:0'/>";

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
    Refused,
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
        Ok(element.is("refused", ns::MUX_AUTHORIZE).then_some(Self::Refused))
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
        assert_eq!(read(REFUSED), Ok(Some(Authorization::Refused)));
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
