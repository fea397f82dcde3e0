//! SASL EXTERNAL between servers (RFC 6120 section 6, XEP-0178 section 3).
//!
//! The initiating entity sends its domain as the authorization identity, or none. The receiving entity grants it only if
//! it equals the `from` of the stream header: a mismatch that is answered with success has let peers act as others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::namespace as ns;

/// `<success/>`.
pub const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

/// Write `<auth/>` for `from`.
pub fn write_auth(out: &mut String, from: &Domain) {
    out.push_str("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>");
    out.push_str(&STANDARD.encode(from.as_str()));
    out.push_str("</auth>");
}

/// Write `<failure/>` with the condition that `reason` stands for (RFC 6120 section 6.5).
pub fn write_failure(out: &mut String, reason: Reason) {
    let condition = match reason {
        Reason::InvalidAuthzid => "invalid-authzid",
        Reason::InvalidMechanism => "invalid-mechanism",
        Reason::BadFormat => "malformed-request",
        _ => "not-authorized",
    };
    out.push_str("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><");
    out.push_str(condition);
    out.push_str("/></failure>");
}

/// Judge an `<auth/>` element on a stream whose header said `from`, where EXTERNAL was offered.
///
/// # Errors
/// [`Reason::InvalidMechanism`] for any other mechanism, [`Reason::BadFormat`] for what is not base64 of UTF-8,
/// [`Reason::InvalidAuthzid`] if the identity is neither empty nor `from`.
pub fn judge_auth(auth: &Element, from: &Domain) -> Result<(), Reason> {
    if auth.attribute("mechanism") != Some("EXTERNAL") {
        return Err(Reason::InvalidMechanism);
    }
    let text = auth.text();
    let encoded = text.trim();
    // An empty response is "=" (RFC 6120 section 6.4.2); no response at all is tolerated as the same.
    if encoded.is_empty() || encoded == "=" {
        return Ok(());
    }
    let decoded = STANDARD.decode(encoded).map_err(|_| Reason::BadFormat)?;
    let identity = String::from_utf8(decoded).map_err(|_| Reason::BadFormat)?;
    match Domain::parse(&identity) {
        Ok(domain) if domain == *from => Ok(()),
        _ => Err(Reason::InvalidAuthzid),
    }
}

/// The defined condition inside a received `<failure/>`.
#[must_use]
pub fn failure_condition(failure: &Element) -> Option<&str> {
    failure.children().find(|child| child.ns() == ns::SASL && child.name() != "text").map(Element::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Result<(), Reason> {
        let auth =
            format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{text}</auth>");
        judge_auth(&Element::parse(auth.as_bytes()).unwrap(), &Domain::parse("a1.test").unwrap())
    }

    #[test]
    fn the_authorization_identity_is_empty_or_the_streams_from() {
        let mut auth = String::new();
        write_auth(&mut auth, &Domain::parse("a1.test").unwrap());
        let auth = Element::parse(auth.as_bytes()).unwrap();
        assert_eq!(judge_auth(&auth, &Domain::parse("a1.test").unwrap()), Ok(()));
        assert_eq!(judge_auth(&auth, &Domain::parse("a2.test").unwrap()), Err(Reason::InvalidAuthzid));
        assert_eq!(judge(""), Ok(()));
        assert_eq!(judge("="), Ok(()));
        assert_eq!(judge(&STANDARD.encode("A1.TEST")), Ok(()));
        assert_eq!(judge(&STANDARD.encode("me@a1.test")), Err(Reason::InvalidAuthzid));
        assert_eq!(judge("!!"), Err(Reason::BadFormat));
    }

    #[test]
    fn no_other_mechanism_is_spoken() {
        let auth = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AAAA</auth>";
        let judged = judge_auth(&Element::parse(auth).unwrap(), &Domain::parse("a1.test").unwrap());
        assert_eq!(judged, Err(Reason::InvalidMechanism));
    }
}
