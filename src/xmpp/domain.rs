//! The domain part of an XMPP address (RFC 7622 section 3.2), in the one form in which domains compare.
//!
//! A certificate names `xn--bcher-kva.test`, a stanza says `Bücher.test`: both are one [`Domain`]. Its text is the
//! normalised U-label form, which is what stream headers and authorization identities carry; [`Domain::to_ascii`]
//! gives the A-label form for DNS and TLS.

use std::fmt;
use std::sync::Arc;

mod met;

/// Longest domain, in octets of its normalised form (RFC 7622 section 3.2: at most 1023 octets; DNS allows 253).
pub const DOMAIN_BYTES_MAX: usize = 253;

/// A domain, normalised: lower case, U-labels, no trailing dot. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Arc<Text>);

/// Behind a pointer of its own: what is kept of each of very many pairs names its domains a dozen times, and a pointer to a
/// text of unknown length is twice as large.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Text(Box<str>);

/// Why a text is not a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// Nothing, or nothing but a dot.
    #[error("a domain can't be empty")]
    Empty,
    /// Longer than [`DOMAIN_BYTES_MAX`].
    #[error("a domain has at most 253 octets")]
    TooLong,
    /// An IPv4 or IPv6 literal: no certificate or DNS record proves one (RFC 6120 section 13.7.2 speaks of names).
    #[error("an IP address is not an XMPP domain here")]
    IpLiteral,
    /// A label that IDNA or the host name rules refuse, a localpart or a resource.
    #[error("not a valid domain name")]
    Invalid,
}

impl Domain {
    /// Normalise and check `text`.
    ///
    /// # Errors
    /// [`DomainError`] if `text` is no domain; an address with a localpart or a resource is not one either.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        met::find(text).map_or_else(|| Self::normalise(text).inspect(met::note), Ok)
    }

    fn normalise(text: &str) -> Result<Self, DomainError> {
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        if text.len() > 4 * DOMAIN_BYTES_MAX {
            return Err(DomainError::TooLong);
        }
        if is_plain(text) {
            return Self::checked(text);
        }
        // IDNA would lower ASCII letters too, but in a name with an underscore it finds something else to refuse.
        let lower = text.to_ascii_lowercase();
        if is_plain(&lower) {
            return Self::checked(&lower);
        }
        let (unicode, outcome) = idna::domain_to_unicode(text);
        outcome.map_err(|_| DomainError::Invalid)?;
        // The way back shows that every label is a valid A-label, which `domain_to_unicode` alone tolerates.
        idna::domain_to_ascii_strict(&unicode).map_err(|_| DomainError::Invalid)?;
        Self::checked(&unicode)
    }

    fn checked(text: &str) -> Result<Self, DomainError> {
        if text.len() > DOMAIN_BYTES_MAX {
            return Err(DomainError::TooLong);
        }
        if text.parse::<std::net::IpAddr>().is_ok() || text.starts_with('[') {
            return Err(DomainError::IpLiteral);
        }
        let valid = text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63 * 4
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        });
        if valid { Ok(Self(Arc::new(Text(text.into())))) } else { Err(DomainError::Invalid) }
    }

    /// The normalised text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.0
    }

    /// The A-label form, for DNS look-ups and TLS server names.
    #[must_use]
    pub fn to_ascii(&self) -> String {
        idna::domain_to_ascii(self.as_str()).unwrap_or_else(|_| self.as_str().to_owned())
    }

    /// The domain without its left-most label: what a wildcard that covers this domain is written under. What is left
    /// of `a.127.0.0.1` is no domain.
    #[must_use]
    pub fn parent(&self) -> Option<Domain> {
        self.as_str().split_once('.').and_then(|(_, parent)| Self::checked(parent).ok())
    }

    /// Whether this domain is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Domain) -> bool {
        self.as_str().strip_suffix(other.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

/// Already normalised as it stands: what nearly every domain on the wire is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'))
        && !text.split('.').any(|label| label.starts_with("xn--"))
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Domain {
    type Err = DomainError;
    fn from_str(text: &str) -> Result<Self, DomainError> {
        Self::parse(text)
    }
}

/// Which domains a rule speaks of: one, a subtree below one, or all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DomainPattern {
    /// `*`
    Any,
    /// `b1.test`
    Exact(Domain),
    /// `*.b1.test`: everything below `b1.test`, at any depth, and not `b1.test` itself.
    Subtree(Domain),
}

impl DomainPattern {
    /// Read `*`, `*.b1.test` or `b1.test`.
    ///
    /// # Errors
    /// [`DomainError`] if what stands there, or behind `*.`, is no domain.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        match text {
            "*" => Ok(Self::Any),
            _ => match text.strip_prefix("*.") {
                Some(base) => Domain::parse(base).map(Self::Subtree),
                None => Domain::parse(text).map(Self::Exact),
            },
        }
    }

    /// Whether the rule speaks of `domain`.
    #[must_use]
    pub fn matches(&self, domain: &Domain) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == domain,
            Self::Subtree(base) => base != domain && domain.is_within(base),
        }
    }

    /// Whether there can be a domain of which both rules speak.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Exact(domain), rule) | (rule, Self::Exact(domain)) => rule.matches(domain),
            (Self::Subtree(one), Self::Subtree(other)) => one.is_within(other) || other.is_within(one),
        }
    }

    /// How closely the rule speaks of what it matches; the closest of several rules wins.
    #[must_use]
    pub fn closeness(&self) -> usize {
        match self {
            Self::Any => 0,
            Self::Subtree(base) => 1 + base.as_str().len(),
            Self::Exact(_) => usize::MAX,
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(domain) => domain.fmt(f),
            Self::Subtree(base) => write!(f, "*.{base}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_domain_has_one_form() {
        for text in ["Bücher.TEST", "xn--bcher-kva.test", "XN--BCHER-KVA.test.", "bücher.test"] {
            assert_eq!(Domain::parse(text).unwrap().as_str(), "bücher.test", "{text}");
        }
        assert_eq!(Domain::parse("Bücher.test").unwrap().to_ascii(), "xn--bcher-kva.test");
        for text in ["_xmpp.a_b.test", "_XMPP.A_B.Test", "_xmpp.a_b.TEST."] {
            assert_eq!(Domain::parse(text).unwrap().as_str(), "_xmpp.a_b.test", "{text}");
        }
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            "-a.test",
            "a-.test",
            "user@a.test",
            "a.test/r",
            "*.a.test",
            "a b.test",
            "a.test\0",
        ] {
            assert!(Domain::parse(text).is_err(), "{text:?}");
        }
        for text in ["127.0.0.1", "::1", "[::1]"] {
            assert_eq!(Domain::parse(text).map_err(|_| ()), Err(()), "{text}");
        }
        assert_eq!(Domain::parse(&"a.".repeat(200)), Err(DomainError::TooLong));
    }

    #[test]
    fn what_lies_above_a_domain_is_a_domain_or_nothing() {
        let parent = |text: &str| Domain::parse(text).unwrap().parent().map(|parent| parent.to_string());
        assert_eq!(parent("a.Bücher.test").as_deref(), Some("bücher.test"));
        assert_eq!((parent("test"), parent("a.127.0.0.1")), (None, None));
    }

    #[test]
    fn a_subtree_is_what_lies_below() {
        let rule = DomainPattern::parse("*.b.test").unwrap();
        let matches = |text: &str| rule.matches(&Domain::parse(text).unwrap());
        assert!(matches("a.b.test") && matches("x.y.b.test"));
        assert!(!matches("b.test") && !matches("ab.test") && !matches("b.test.evil"));
    }

    #[test]
    fn rules_overlap_where_one_domain_fits_both() {
        let overlap = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| DomainPattern::parse(text).unwrap());
            assert_eq!(one.overlaps(&other), other.overlaps(&one));
            one.overlaps(&other)
        };
        for (one, other) in
            [("*", "*.b.test"), ("b.test", "b.test"), ("a.b.test", "*.b.test"), ("*.a.b.test", "*.b.test")]
        {
            assert!(overlap(one, other), "{one} {other}");
        }
        for (one, other) in [("b.test", "*.b.test"), ("*.a.test", "*.b.test"), ("a.test", "b.test")] {
            assert!(!overlap(one, other), "{one} {other}");
        }
    }

    #[test]
    fn of_a_domain_that_was_met_there_is_one_copy() {
        let domain = |text: &str| Domain::parse(text).unwrap();
        let [one, again, with_dot] = ["met.test", "met.test", "met.test."].map(domain);
        assert!(Arc::ptr_eq(&one.0, &again.0) && Arc::ptr_eq(&one.0, &with_dot.0));
        assert_eq!((domain("MET.test"), domain("met.test")), (one.clone(), one));
        for text in ["", ".", "127.0.0.1", "-a.test", "met..test"] {
            assert!([(); 2].iter().all(|()| Domain::parse(text).is_err()), "{text}");
        }
    }
}
