//! Domains (RFC 7622 section 3.2): whatever the text, its normal form is one, and is the same however it is spelled. Who
//! may speak for whom is decided by comparing them.

use fedmux::xmpp::domain::{DOMAIN_BYTES_MAX, Domain, DomainPattern};
use fedmux::xmpp::stanza::domain_of;

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(domain) = Domain::parse(domain_of(text)) {
        hold(&domain);
    }
    if let Ok(domain) = Domain::parse(text) {
        hold(&domain);
        assert_eq!(domain_of(text), text, "a domain has no localpart and no resource");
    }
    if let Ok(pattern) = DomainPattern::parse(text) {
        assert_eq!(DomainPattern::parse(&pattern.to_string()), Ok(pattern.clone()), "{pattern}");
        assert!(pattern.overlaps(&pattern));
    }
}

fn hold(domain: &Domain) {
    let text = domain.as_str();
    assert!(!text.is_empty() && text.len() <= DOMAIN_BYTES_MAX);
    assert!(!text.contains(['@', '/', '<', '>', '&', '\'', '"', ' ']), "{text} is written as it stands");
    assert_eq!(Domain::parse(text).as_ref(), Ok(domain), "the normal form is normal");
    let ascii = domain.to_ascii();
    assert!(ascii.is_ascii(), "{text} has no form for DNS: {ascii}");
    for spelled in [&ascii, &ascii.to_ascii_uppercase(), &format!("{ascii}."), &text.to_ascii_uppercase()] {
        assert_eq!(Domain::parse(spelled).as_ref(), Ok(domain), "{spelled}");
    }
    assert!(domain.is_within(domain));
    if let Some(parent) = domain.parent() {
        assert!(domain.is_within(&parent) && !parent.is_within(domain));
        assert_eq!(Domain::parse(parent.as_str()).as_ref(), Ok(&parent), "the domain above {text}");
    }
}
