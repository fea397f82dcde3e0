//! Stanza multiplexing (XEP-0451): one session for every domain that its two ends proved.
//!
//! Before authentication an empty `<mux/>` is offered, and answered with an empty `<mux/>` by an initiating entity that
//! wants it; then SASL EXTERNAL proves every domain of the certificate at once (section 3.1). After authentication the
//! feature carries the list of further hosts (section 3.2). By the wire profile of this relay the list stands on a
//! connection's first stream only: ten thousand lanes with five thousand names each would be gigabytes.

pub mod authorize;
pub mod iq;
pub mod secret;
pub mod verifier;

use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::namespace as ns;

/// The element that turns mux on, before authentication.
pub const REQUEST: &str = "<mux xmlns='urn:xmpp:mux:0'/>";
/// Entries of a received host list that are kept.
pub const HOST_LIST_ENTRIES_MAX: usize = 4096;
/// Octets of names of a received host list that are kept.
pub const HOST_LIST_BYTES_MAX: usize = 262_144;

/// Whether `element` is the initiating entity's request.
#[must_use]
pub fn is_request(element: &Element) -> bool {
    element.is("mux", ns::MUX) && element.attribute("host").is_none() && element.children().next().is_none()
}

/// The hosts of a `<mux/>` feature. What is no domain is passed over; what is over the bounds is left out.
///
/// The list is a hint: it never proves anything and never makes us connect anywhere.
#[must_use]
pub fn read_host_list(feature: &Element) -> Vec<Domain> {
    let mut bytes = 0;
    feature
        .children()
        .filter(|child| child.is("host", ns::MUX))
        .filter_map(|child| Domain::parse(child.text().trim()).ok())
        .take(HOST_LIST_ENTRIES_MAX)
        .take_while(|domain| {
            bytes += domain.as_str().len();
            bytes <= HOST_LIST_BYTES_MAX
        })
        .collect()
}

/// Write the feature: empty before authentication, with the host list after it.
pub fn write_feature(out: &mut String, hosts: &[Domain]) {
    if hosts.is_empty() {
        out.push_str(REQUEST);
        return;
    }
    out.push_str("<mux xmlns='urn:xmpp:mux:0'>");
    for host in hosts {
        out.push_str("<host>");
        // A normalised domain holds no character that XML would have escaped.
        out.push_str(host.as_str());
        out.push_str("</host>");
    }
    out.push_str("</mux>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_list_is_bounded_and_forgives_what_is_no_domain() {
        let mut text =
            String::from("<mux xmlns='urn:xmpp:mux:0'><host> B1.test </host><host/><host>a@b</host>");
        for n in 0..HOST_LIST_ENTRIES_MAX + 10 {
            text.push_str(&format!("<host>h{n}.test</host>"));
        }
        text.push_str("</mux>");
        let list = read_host_list(&Element::parse(text.as_bytes()).unwrap());
        assert_eq!(list.len(), HOST_LIST_ENTRIES_MAX);
        assert_eq!(list[0].as_str(), "b1.test");
    }

    #[test]
    fn a_secret_is_not_a_request() {
        assert!(is_request(&Element::parse(REQUEST.as_bytes()).unwrap()));
        assert!(!is_request(&Element::parse(b"<mux xmlns='urn:xmpp:mux:0' host='b'>s</mux>").unwrap()));
    }
}
