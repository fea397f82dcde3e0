//! What a certificate proves, and how and until when a domain is proven for a session.
//!
//! RFC 6120 section 13.7 and RFC 9525 say which names of a certificate count; the `identity` floor reads them, this
//! file says what they amount to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::reason::Reason;
use crate::xmpp::domain::{Domain, DomainPattern};

/// How a domain was proven for a session or a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DomainProof {
    /// It stands in the certificate of the other end.
    Certificate,
    /// It was granted to the session by a mux secret (XEP-0451 section 3.2).
    MuxSecret,
    /// Server dialback: the domain's own server confirmed the key (XEP-0220).
    Dialback,
    /// The source address is one that the operator trusts for that host.
    Trusted,
    /// A component of ours showed its secret (XEP-0114).
    ComponentSecret,
}

impl DomainProof {
    /// The word, as it stands in logs and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::MuxSecret => "mux-secret",
            Self::Dialback => "dialback",
            Self::Trusted => "trusted",
            Self::ComponentSecret => "component-secret",
        }
    }
}

/// Which of a certificate's names count, by the authority that signed it.
///
/// A peer with an authority of its own (`[[peer]] trust`) must not vouch for anybody else's domains, and nobody else's
/// authority for those that are pinned to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustScope {
    /// The names that a pinned authority may vouch for.
    pub only: Vec<DomainPattern>,
    /// Whether an authority of `[identity] trust` verified the chain: every name counts but those of `except`.
    pub general: bool,
    /// Names pinned to authorities that didn't sign this chain.
    pub except: Vec<DomainPattern>,
}

impl TrustScope {
    /// Every name counts.
    #[must_use]
    pub fn everything() -> Self {
        Self { general: true, ..Self::default() }
    }

    /// The closest rule decides: `*.b.test` may be pinned to one authority, and `c.b.test` to another.
    fn allows(&self, domain: &Domain) -> bool {
        match (closest(&self.only, domain), closest(&self.except, domain)) {
            // One rule may be pinned to several authorities, this one among them.
            (Some(only), Some(except)) => only >= except,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => self.general,
        }
    }
}

/// How closely the closest of `rules` speaks of `domain`.
fn closest(rules: &[DomainPattern], domain: &Domain) -> Option<usize> {
    rules.iter().filter(|rule| rule.matches(domain)).map(DomainPattern::closeness).max()
}

/// The XMPP domains that a verified certificate carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedNames {
    /// dNSName, SRVName `_xmpp-server.` and XmppAddr names, as they are.
    pub exact: BTreeSet<Domain>,
    /// Of each `*.x` the `x`. A wildcard authorises on use, for one label, and is never enumerated.
    pub wildcard: BTreeSet<Domain>,
    /// The earliest notAfter of the path: what the certificate proves ends here.
    pub not_after: SystemTime,
    /// Which of the names count.
    pub scope: TrustScope,
}

impl CertifiedNames {
    /// No names: of an end that showed no certificate. `not_after`: until when that holds.
    #[must_use]
    pub fn none(not_after: SystemTime) -> Self {
        let scope = TrustScope::everything();
        Self { exact: BTreeSet::new(), wildcard: BTreeSet::new(), not_after, scope }
    }

    /// Whether the certificate proves `domain`.
    #[must_use]
    pub fn covers(&self, domain: &Domain) -> bool {
        self.scope.allows(domain)
            && (self.exact.contains(domain)
                || domain.parent().is_some_and(|parent| self.wildcard.contains(&parent)))
    }

    /// The names that can be listed: all but wildcards.
    pub fn listed(&self) -> impl Iterator<Item = &Domain> {
        self.exact.iter().filter(|domain| self.scope.allows(domain))
    }
}

/// The hosts that joined one session by mux secrets (XEP-0451 section 3.2), in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// Each until its own certificate ends.
    live: BTreeMap<Domain, SystemTime>,
    /// Those that were granted and have ended: the two ends don't notice in the same instant, so that a stanza for one of
    /// them is no violation.
    ended: BTreeSet<Domain>,
}

impl Grants {
    /// Grant `host` until `until`, if there are fewer than `max`.
    ///
    /// # Errors
    /// [`Reason::TooMany`].
    pub fn grant(&mut self, host: Domain, until: SystemTime, max: usize) -> Result<(), Reason> {
        if self.live.len() >= max && !self.live.contains_key(&host) {
            return Err(Reason::TooMany);
        }
        self.ended.remove(&host);
        self.live.insert(host, until);
        Ok(())
    }

    /// Whether `host` is granted.
    #[must_use]
    pub fn covers(&self, host: &Domain) -> bool {
        self.live.contains_key(host)
    }

    /// Whether `host` was granted, and no longer is.
    #[must_use]
    pub fn has_ended(&self, host: &Domain) -> bool {
        self.ended.contains(host)
    }

    /// Take back what `over` says. Unlike what has ended, it isn't remembered: whoever speaks for it now violates.
    pub fn revoke(&mut self, over: impl Fn(&Domain) -> bool) {
        self.live.retain(|host, _| !over(host));
    }

    /// Take back what has ended by `now`, of which at most `max` is remembered.
    pub fn end(&mut self, now: SystemTime, max: usize) -> Vec<Domain> {
        let over = self.live.iter().filter(|(_, until)| **until <= now);
        let ended: Vec<Domain> = over.map(|(host, _)| host.clone()).collect();
        self.live.retain(|_, until| *until > now);
        if self.ended.len() + ended.len() > max {
            self.ended.clear();
        }
        self.ended.extend(ended.iter().cloned());
        ended
    }

    /// When the next one ends.
    #[must_use]
    pub fn next_end(&self) -> Option<SystemTime> {
        self.live.values().min().copied()
    }

    /// Each that is granted, and until when.
    pub fn iter(&self) -> impl Iterator<Item = (&Domain, SystemTime)> {
        self.live.iter().map(|(host, until)| (host, *until))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn names(exact: &[&str], wildcard: &[&str], scope: TrustScope) -> CertifiedNames {
        CertifiedNames {
            exact: exact.iter().map(|n| domain(n)).collect(),
            wildcard: wildcard.iter().map(|n| domain(n)).collect(),
            not_after: SystemTime::UNIX_EPOCH,
            scope,
        }
    }

    #[test]
    fn a_wildcard_covers_one_label_and_is_never_listed() {
        let names = names(&["a.test"], &["a.test"], TrustScope::everything());
        assert!(names.covers(&domain("a.test")) && names.covers(&domain("rooms.a.test")));
        assert!(!names.covers(&domain("x.rooms.a.test")) && !names.covers(&domain("test")));
        assert_eq!(names.listed().count(), 1);
    }

    #[test]
    fn a_pinned_authority_vouches_for_its_own_domains_alone() {
        let rule = DomainPattern::parse("b.test").unwrap();
        let pinned = TrustScope { only: vec![rule.clone()], ..TrustScope::default() };
        let other = TrustScope { except: vec![rule], ..TrustScope::everything() };
        assert!(names(&["b.test"], &[], pinned.clone()).covers(&domain("b.test")));
        assert!(!names(&["c.test"], &[], pinned).covers(&domain("c.test")));
        assert!(!names(&["b.test"], &[], other.clone()).covers(&domain("b.test")));
        assert!(names(&["c.test"], &[], other).covers(&domain("c.test")));
    }
    #[test]
    fn of_overlapping_pins_the_closest_decides() {
        let rules = |texts: &[&str]| texts.iter().map(|text| DomainPattern::parse(text).unwrap()).collect();
        let covers = |only: &[&str], except: &[&str], general, name: &str| {
            let scope = TrustScope { only: rules(only), general, except: rules(except) };
            names(&[name], &[], scope).covers(&domain(name))
        };
        for general in [false, true] {
            // The authority of the whole subtree says nothing about the one name that is pinned elsewhere.
            assert!(!covers(&["*.b.test"], &["c.b.test"], general, "c.b.test"));
            assert!(covers(&["*.b.test"], &["c.b.test"], general, "d.b.test"));
            assert!(covers(&["c.b.test"], &["*.b.test"], general, "c.b.test"));
            assert!(!covers(&["*.b.test"], &["*.c.b.test"], general, "x.c.b.test"));
            assert!(covers(&["*", "*.c.b.test"], &["*.b.test"], general, "x.c.b.test"));
            assert!(covers(&["b.test"], &["b.test"], general, "b.test"), "pinned to both");
            assert_eq!(covers(&["b.test"], &["c.test"], general, "a.test"), general);
        }
    }
}
