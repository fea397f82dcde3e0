//! Bidirectional server-to-server streams (XEP-0288): stanzas flow both ways on one stream.
//!
//! The feature and the request have different namespaces (`urn:xmpp:features:bidi`, `urn:xmpp:bidi`); implementations
//! that mixed them up have failed to interoperate for years. The request comes before SASL or dialback; the receiving
//! entity sends nothing before the other end is authenticated.

use crate::xmpp::element::Element;
use crate::xmpp::namespace as ns;

/// The element that turns it on.
pub const REQUEST: &str = "<bidi xmlns='urn:xmpp:bidi'/>";

/// Whether `element` turns it on.
#[must_use]
pub fn is_request(element: &Element) -> bool {
    element.is("bidi", ns::BIDI)
}
