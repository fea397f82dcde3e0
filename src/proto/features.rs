//! Stream features (RFC 6120 section 4.3.2): what a receiving entity offers, read and written.
//!
//! Features that a server doesn't understand are ignored (section 4.3.3), so this knows only what servers negotiate here.

use super::mux::{self, authorize};
use super::stream_management::element::FEATURE as STREAM_MANAGEMENT;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::namespace as ns;

/// What stands in `<stream:features/>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// SASL EXTERNAL (XEP-0178).
    pub external: bool,
    /// Server dialback (XEP-0220 section 2.4).
    pub dialback: bool,
    /// Bidirectional streams (XEP-0288).
    pub bidi: bool,
    /// Pipelining (XEP-0305).
    pub pipelining: bool,
    /// Stanza multiplexing (XEP-0451): empty before authentication, the host list after it.
    pub mux: Option<Vec<Domain>>,
    /// A secret may be asked for (`proto::mux::authorize`); after authentication.
    pub authorize: bool,
    /// Stream management (XEP-0198). Before authentication it says what will be offered behind it, and can't be negotiated
    /// yet (section 2).
    pub sm: bool,
    /// STARTTLS stands there as required: nothing else can be negotiated before it.
    pub starttls_required: bool,
}

impl Features {
    /// Read them.
    ///
    /// # Errors
    /// [`Reason::BadFormat`] if `element` is not `<stream:features/>`.
    pub fn parse(element: &Element) -> Result<Self, Reason> {
        if !element.is("features", ns::STREAM) {
            return Err(Reason::BadFormat);
        }
        let mechanisms = element.child("mechanisms", ns::SASL);
        Ok(Self {
            external: mechanisms.is_some_and(|list| {
                list.children()
                    .any(|child| child.is("mechanism", ns::SASL) && child.text().trim() == "EXTERNAL")
            }),
            dialback: element.child("dialback", ns::DIALBACK_FEATURE).is_some(),
            bidi: element.child("bidi", ns::BIDI_FEATURE).is_some(),
            pipelining: element.child("pipelining", ns::PIPELINING).is_some(),
            mux: element.child("mux", ns::MUX).map(mux::read_host_list),
            authorize: element.child("authorize", ns::MUX_AUTHORIZE).is_some(),
            sm: element.child("sm", ns::STREAM_MANAGEMENT).is_some(),
            starttls_required: element
                .child("starttls", ns::TLS)
                .is_some_and(|tls| tls.child("required", ns::TLS).is_some()),
        })
    }

    /// Write them. The host list goes after authentication only; before it `mux` is empty (XEP-0451 section 3).
    pub fn write(&self, out: &mut String) {
        out.push_str("<stream:features>");
        if let Some(hosts) = &self.mux {
            mux::write_feature(out, hosts);
        }
        if self.external {
            out.push_str("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>");
        }
        if self.dialback {
            out.push_str("<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>");
        }
        if self.bidi {
            out.push_str("<bidi xmlns='urn:xmpp:features:bidi'/>");
        }
        if self.pipelining {
            out.push_str("<pipelining xmlns='urn:xmpp:features:pipelining'/>");
        }
        if self.authorize {
            out.push_str(authorize::FEATURE);
        }
        if self.sm {
            out.push_str(STREAM_MANAGEMENT);
        }
        out.push_str("</stream:features>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let hosts = vec![Domain::parse("b1.test").unwrap(), Domain::parse("rooms.b1.test").unwrap()];
        let features = Features {
            external: true,
            dialback: true,
            bidi: true,
            pipelining: true,
            mux: Some(hosts),
            authorize: true,
            sm: true,
            starttls_required: false,
        };
        let mut out = String::new();
        features.write(&mut out);
        assert_eq!(Features::parse(&Element::parse(out.as_bytes()).unwrap()).unwrap(), features);
    }

    #[test]
    fn unknown_features_and_the_wrong_bidi_namespace_are_ignored() {
        let text = b"<stream:features><x xmlns='urn:x'/><bidi xmlns='urn:xmpp:bidi'/>\
            <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></stream:features>";
        assert_eq!(Features::parse(&Element::parse(text).unwrap()).unwrap(), Features::default());
    }
}
