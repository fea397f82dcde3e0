//! Which XMPP domains a certificate carries: RFC 6120 section 13.7.1.2 and RFC 9525 section 6, as XEP-0178 uses them.
//!
//! dNSName, SRVName of the service `xmpp-server` (RFC 4985) and XmppAddr without localpart and resource. The common
//! name of the subject never counts. A name that is no domain is skipped: it proves nothing, and does no harm.

use std::collections::BTreeSet;

use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::xmpp::domain::Domain;

/// id-on-xmppAddr (RFC 6120 section 13.7.1.4).
const XMPP_ADDR: &str = "1.3.6.1.5.5.7.8.5";
/// id-on-dnsSRV (RFC 4985 section 2).
const SRV_NAME: &str = "1.3.6.1.5.5.7.8.7";
/// The only service that speaks between servers.
const SRV_SERVICE: &str = "_xmpp-server.";

/// The names of one certificate, before anybody has verified it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PresentedNames {
    /// From dNSName, which an issuer's name constraints bind (RFC 5280 section 4.2.1.10).
    pub dns: NameSet,
    /// From SRVName and XmppAddr, which no verifier checks against name constraints.
    pub other: NameSet,
}

/// Domains as they are, and wildcards apart from them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameSet {
    /// Names as they are.
    pub exact: BTreeSet<Domain>,
    /// Of each `*.x` the `x`.
    pub wildcard: BTreeSet<Domain>,
}

impl NameSet {
    /// Take over the names of `other`.
    pub fn extend(&mut self, other: NameSet) {
        self.exact.extend(other.exact);
        self.wildcard.extend(other.wildcard);
    }

    /// Whether there is no name at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// A DNS name of a certificate: US-ASCII (an IA5String), `*` as the whole left-most label only.
    fn add_dns(&mut self, text: &str) {
        // A trailing dot or a character outside ASCII has no place in an IA5String host name; whoever checked the
        // issuer's constraints may have read such a name differently from us.
        if !text.is_ascii() || text.ends_with('.') {
            return;
        }
        let (set, name) = match text.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent),
            None => (&mut self.exact, text),
        };
        set.extend(Domain::parse(name));
    }
}

/// Read the XMPP names of `certificate`.
#[must_use]
pub fn presented(certificate: &X509Certificate<'_>) -> PresentedNames {
    let mut names = PresentedNames::default();
    // An extension that can't be read, or stands there twice, yields no name.
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return names };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(text) => names.dns.add_dns(text),
            GeneralName::OtherName(kind, value) => add_other(&mut names.other, &kind.to_id_string(), value),
            _ => {}
        }
    }
    names
}

fn add_other(names: &mut NameSet, kind: &str, value: &[u8]) {
    match kind {
        XMPP_ADDR => {
            // `Domain` refuses what has a localpart or a resource: a user's address proves no server.
            if let Some(text) = explicit_string(value, Tag::Utf8String) {
                names.exact.extend(Domain::parse(text));
            }
        }
        SRV_NAME => {
            if let Some(text) = explicit_string(value, Tag::Ia5String)
                && let Some(service) = text.get(..SRV_SERVICE.len())
                && service.eq_ignore_ascii_case(SRV_SERVICE)
            {
                names.add_dns(&text[SRV_SERVICE.len()..]);
            }
        }
        _ => {}
    }
}

/// The string in `value`, which is `[0] EXPLICIT` and one string of the type `expected`, and nothing behind either.
fn explicit_string(value: &[u8], expected: Tag) -> Option<&str> {
    let (rest, outer) = Any::from_der(value).ok()?;
    if !rest.is_empty() || outer.class() != Class::ContextSpecific || outer.tag() != Tag(0) {
        return None;
    }
    let (rest, inner) = Any::from_der(outer.data).ok()?;
    if !rest.is_empty() || inner.class() != Class::Universal || inner.tag() != expected {
        return None;
    }
    std::str::from_utf8(inner.data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::pem;

    /// Made by OpenSSL 3.0 (CN=cn.test), an encoder that knows nothing of ours. Names in their order: dNSName A.Test,
    /// *.rooms.a.test, xn--bcher-kva.test, *, w*.a.test; SRVName _xmpp-server.srv.test, _xmpp-client.client.test;
    /// XmppAddr addr.test, admin@user.test; SRVName as a UTF8String _xmpp-server.wrongtype.test; a Microsoft UPN; an
    /// e-mail address, a URI and an IP address.
    const ALL_KINDS: &str = "\
-----BEGIN CERTIFICATE-----
MIICpjCCAk2gAwIBAgIUSgvKOkNuVLVj+cJI6zIDvKjvbgMwCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHY24udGVzdDAgFw0yNjExMjAxMTIzNDNaGA8yMTI2MTAyNzEx
MjM0M1owEjEQMA4GA1UEAwwHY24udGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABARPmIOXeGBkzVJ5rsbfYxA8gi/XePsGtxop24p0RUejjf/tH9Of/BGsOSz2
LvTY0T8D0AwAOUcYNzwPeYojjjCjggF9MIIBeTAJBgNVHRMEAjAAMBMGA1UdJQQM
MAoGCCsGAQUFBwMBMIIBNgYDVR0RBIIBLTCCASmCBkEuVGVzdIIOKi5yb29tcy5h
LnRlc3SCEnhuLS1iY2hlci1rdmEudGVzdIIBKoIJdyouYS50ZXN0oCMGCCsGAQUF
BwgHoBcWFV94bXBwLXNlcnZlci5zcnYudGVzdKAmBggrBgEFBQcIB6AaFhhfeG1w
cC1jbGllbnQuY2xpZW50LnRlc3SgFwYIKwYBBQUHCAWgCwwJYWRkci50ZXN0oB0G
CCsGAQUFBwgFoBEMD2FkbWluQHVzZXIudGVzdKApBggrBgEFBQcIB6AdDBtfeG1w
cC1zZXJ2ZXIud3Jvbmd0eXBlLnRlc3SgGAYKKwYBBAGCNxQCA6AKDAh1cG4udGVz
dIEObWFpbEBtYWlsLnRlc3SGDXhtcHA6dXJpLnRlc3SHBMAAAgEwHQYDVR0OBBYE
FMQ6vKD3GRpVkabvIxahJgEoqkHVMAoGCCqGSM49BAMCA0cAMEQCIDPedZ65o3qq
pgAXDsRaRFCoMKHBJSBjXphe9ppizdxJAiBQKzle7ufvag4h1s1QCR3roTjj56mK
OQNeNi3ZF3Atxw==
-----END CERTIFICATE-----
";

    fn set(names: &[&str]) -> BTreeSet<Domain> {
        names.iter().map(|name| Domain::parse(name).unwrap()).collect()
    }

    #[test]
    fn only_names_that_xmpp_knows_are_read_and_each_in_its_own_type() {
        let der = pem::read(ALL_KINDS.as_bytes()).unwrap().certificates.remove(0);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let names = presented(&certificate);
        assert_eq!(names.dns.exact, set(&["a.test", "bücher.test"]));
        assert_eq!(names.dns.wildcard, set(&["rooms.a.test"]));
        assert_eq!(names.other.exact, set(&["srv.test", "addr.test"]));
        assert_eq!(names.other.wildcard, set(&[]));
    }

    #[test]
    fn an_other_name_is_one_explicitly_tagged_string_and_nothing_more() {
        let read = |value: &[u8]| explicit_string(value, Tag::Utf8String).map(str::to_owned);
        assert_eq!(read(b"\xa0\x03\x0c\x01a"), Some("a".to_owned()));
        for bad in [
            &b""[..],
            b"\x0c\x01a",                 // not tagged
            b"\xa1\x03\x0c\x01a",         // another tag
            b"\xa0\x03\x0c\x01a\x00",     // something behind it
            b"\xa0\x05\x0c\x01a\x05\x00", // something behind the string
            b"\xa0\x03\x16\x01a",         // another string type
            b"\xa0\x03\x0c\x01\xff",      // not UTF-8
            b"\xa0\x03\x0c\x7fa",         // longer than it is
        ] {
            assert_eq!(read(bad), None, "{bad:02x?}");
        }
    }
}
