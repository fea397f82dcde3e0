//! Who may speak for whom: the one function that every stanza passes, inbound and outbound, on either side.
//!
//! RFC 6120 sections 4.9.3.9 and 8.1.2, XEP-0451. Each stream has a [`Scope`]: what the other end proved to us on it,
//! and what we proved to the other end. [`admit`] holds a stanza's domains against it. Nothing else in the relay decides
//! this, and nothing is forwarded that did not pass.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::hosts::Hosts;
use super::proof::{CertifiedNames, Grants};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// Which side of the relay a stream belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Towards our own servers.
    Local,
    /// Towards other providers.
    Remote,
}

impl Side {
    /// The word, as it stands in logs and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

/// A set of proven domains.
#[derive(Debug, Clone)]
pub enum Proven {
    /// Every name of a certificate: EXTERNAL succeeded and mux was negotiated (XEP-0451 section 3.1). And the hosts that
    /// were granted to the session by mux secrets (section 3.2), each until its own end.
    Session(Arc<CertifiedNames>, Arc<Grants>),
    /// These, one by one: without mux only the stream's own pair counts, and dialback proves pair by pair.
    Domains(BTreeSet<Domain>),
    /// Whatever we forward: our own server trusts its relay, or was given a dialback key for each pair.
    Any,
}

impl Proven {
    /// Nothing yet.
    #[must_use]
    pub fn nothing() -> Self {
        Self::Domains(BTreeSet::new())
    }

    /// One domain.
    #[must_use]
    pub fn only(domain: Domain) -> Self {
        Self::Domains(BTreeSet::from([domain]))
    }

    /// Whether `domain` is proven.
    #[must_use]
    pub fn covers(&self, domain: &Domain) -> bool {
        match self {
            Self::Session(names, granted) => names.covers(domain) || granted.covers(domain),
            Self::Domains(domains) => domains.contains(domain),
            Self::Any => true,
        }
    }

    /// Whether `domain` was granted to the session, and no longer is.
    #[must_use]
    pub fn has_ended(&self, domain: &Domain) -> bool {
        matches!(self, Self::Session(_, granted) if granted.has_ended(domain))
    }
}

/// What may pass on one stream.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Which side the stream belongs to.
    pub side: Side,
    /// What the other end proved to us.
    pub theirs: Proven,
    /// What we proved to the other end.
    pub ours: Proven,
    /// A lane carries this pair alone, both directions of it; `None`: a stream shared by all proven pairs.
    pub pair: Option<Route>,
}

/// Which way a stanza goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the other end of the stream to us.
    Inbound,
    /// From us to the other end.
    Outbound,
}

impl Direction {
    /// The same stanza as the other side of the relay sees it: what comes in on one side goes out on the other.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Inbound => Self::Outbound,
            Self::Outbound => Self::Inbound,
        }
    }
}

/// Decide whether a stanza with these domains may pass on a stream.
///
/// # Errors
/// - [`Reason::InvalidFrom`]: `from` isn't proven by the other end. A remote session never proves a host of ours,
///   whatever its certificate says; a local stream proves nothing but hosts of ours.
/// - [`Reason::NotOurHost`]: from a remote session to a domain that we don't serve; nothing goes remote to remote.
/// - [`Reason::HostGone`]: to a host that we served before a change of the configuration; on the local side, from one.
/// - [`Reason::HostUnknown`]: to a host of ours that we didn't prove on this session.
/// - [`Reason::WrongPair`]: a lane carries its own pair only.
/// - [`Reason::PolicyDenied`]: the operator doesn't want this pair to exchange stanzas, or not this way.
pub fn admit(
    scope: &Scope,
    hosts: &Hosts,
    direction: Direction,
    from: &Domain,
    to: &Domain,
) -> Result<(), Reason> {
    // `theirs` is the domain that the other end answers for, `ours` the one that we answer for.
    let (theirs, ours) = match direction {
        Direction::Inbound => (from, to),
        Direction::Outbound => (to, from),
    };
    let ours_is_host = hosts.serves(ours);
    match scope.side {
        Side::Remote => {
            if hosts.serves(theirs) || !scope.theirs.covers(theirs) {
                return Err(Reason::InvalidFrom);
            }
            if hosts.has_gone(ours) {
                return Err(Reason::HostGone);
            }
            if !ours_is_host {
                return Err(Reason::NotOurHost);
            }
            if !scope.ours.covers(ours) {
                return Err(Reason::HostUnknown);
            }
        }
        Side::Local => {
            if hosts.has_gone(theirs) && scope.theirs.covers(theirs) {
                return Err(Reason::HostGone);
            }
            if !hosts.serves(theirs) || !scope.theirs.covers(theirs) {
                return Err(Reason::InvalidFrom);
            }
            if !scope.ours.covers(ours) {
                return Err(Reason::HostUnknown);
            }
        }
    }
    let carries = |pair: &Route| pair.from == *from && pair.to == *to || pair.from == *to && pair.to == *from;
    if scope.pair.as_ref().is_some_and(|pair| !carries(pair)) {
        return Err(Reason::WrongPair);
    }
    // Last, so that whoever is told so has proven who it is. Between two hosts of ours it stays local, and nobody's policy
    // speaks of it.
    match scope.side {
        Side::Remote => hosts.policy(direction, ours, theirs),
        Side::Local if ours_is_host => Ok(()),
        Side::Local => hosts.policy(direction.reversed(), theirs, ours),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::hosts::HostFacts;
    use super::super::policy::{DomainPolicy, Lists};
    use super::super::proof::TrustScope;
    use super::*;
    use crate::xmpp::domain::DomainPattern;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn certificate(names: &[&str], wildcard: &[&str]) -> Proven {
        let names = CertifiedNames {
            exact: names.iter().map(|n| domain(n)).collect(),
            wildcard: wildcard.iter().map(|n| domain(n)).collect(),
            not_after: SystemTime::UNIX_EPOCH,
            scope: TrustScope::everything(),
        };
        Proven::Session(Arc::new(names), Arc::default())
    }

    fn hosts() -> Hosts {
        let facts = HostFacts { entry: 0, announce: false };
        let deny = |name: &str| Lists { deny: vec![DomainPattern::parse(name).unwrap()], ..Lists::default() };
        let all = DomainPolicy { both: deny("bad.test"), ..DomainPolicy::default() };
        let own = DomainPolicy { both: deny("b1.test"), inbound: deny("b2.test"), ..DomainPolicy::default() };
        Hosts::new(["a1.test", "a2.test", "a3.test"].map(|name| (domain(name), facts)), all)
            .with_policies([(domain("a2.test"), Arc::new(own))])
    }

    fn remote() -> Scope {
        Scope {
            side: Side::Remote,
            theirs: certificate(&["b1.test", "b2.test", "bad.test", "a1.test"], &["b1.test"]),
            ours: certificate(&["a1.test", "a2.test", "c.test"], &[]),
            pair: None,
        }
    }

    fn check(scope: &Scope, direction: Direction, from: &str, to: &str) -> Result<(), Reason> {
        admit(scope, &hosts(), direction, &domain(from), &domain(to))
    }

    #[test]
    fn a_session_carries_what_both_ends_proved() {
        for (from, to) in [("b1.test", "a1.test"), ("rooms.b1.test", "a2.test"), ("rooms.b1.test", "a1.test")]
        {
            assert_eq!(check(&remote(), Direction::Inbound, from, to), Ok(()));
            assert_eq!(check(&remote(), Direction::Outbound, to, from), Ok(()));
        }
    }

    #[test]
    fn nobody_speaks_for_an_unproven_domain() {
        let inbound = |from, to| check(&remote(), Direction::Inbound, from, to);
        assert_eq!(inbound("b3.test", "a1.test"), Err(Reason::InvalidFrom));
        assert_eq!(inbound("x.rooms.b1.test", "a1.test"), Err(Reason::InvalidFrom));
        assert_eq!(
            inbound("a1.test", "a2.test"),
            Err(Reason::InvalidFrom),
            "a certificate that names a host of ours"
        );
        assert_eq!(inbound("bad.test", "a1.test"), Err(Reason::PolicyDenied));
    }

    #[test]
    fn nothing_goes_from_remote_to_remote_or_to_a_host_not_proven_here() {
        assert_eq!(check(&remote(), Direction::Inbound, "b1.test", "b2.test"), Err(Reason::NotOurHost));
        assert_eq!(check(&remote(), Direction::Inbound, "b1.test", "c.test"), Err(Reason::NotOurHost));
        assert_eq!(check(&remote(), Direction::Inbound, "b1.test", "a3.test"), Err(Reason::HostUnknown));
        assert_eq!(check(&remote(), Direction::Outbound, "a3.test", "b1.test"), Err(Reason::HostUnknown));
    }

    #[test]
    fn a_lane_carries_its_own_pair_only() {
        let lane = Scope { pair: Some(Route::new(domain("b1.test"), domain("a1.test"))), ..remote() };
        assert_eq!(check(&lane, Direction::Inbound, "b1.test", "a1.test"), Ok(()));
        assert_eq!(check(&lane, Direction::Outbound, "a1.test", "b1.test"), Ok(()));
        assert_eq!(check(&lane, Direction::Inbound, "b1.test", "a2.test"), Err(Reason::WrongPair));
        assert_eq!(check(&lane, Direction::Inbound, "b2.test", "a1.test"), Err(Reason::WrongPair));
    }

    #[test]
    fn a_host_narrows_the_policy_for_itself_and_each_way() {
        let local = Scope { side: Side::Local, theirs: Proven::Any, ours: Proven::Any, pair: None };
        // The remote domain, the host; and whether stanzas may come in, and go out.
        for (theirs, ours, comes, goes) in [
            ("b1.test", "a1.test", true, true),
            ("b2.test", "a1.test", true, true),
            ("b1.test", "a2.test", false, false),
            ("b2.test", "a2.test", false, true),
            ("bad.test", "a2.test", false, false),
        ] {
            let expected = |allowed: bool| if allowed { Ok(()) } else { Err(Reason::PolicyDenied) };
            let remote = |way, from, to| check(&remote(), way, from, to);
            assert_eq!(remote(Direction::Inbound, theirs, ours), expected(comes), "{theirs} to {ours}");
            assert_eq!(remote(Direction::Outbound, ours, theirs), expected(goes), "{ours} to {theirs}");
            // What comes in on one side goes out on the other.
            let local = |way, from, to| check(&local, way, from, to);
            assert_eq!(local(Direction::Outbound, theirs, ours), expected(comes), "{theirs} to {ours}");
            assert_eq!(local(Direction::Inbound, ours, theirs), expected(goes), "{ours} to {theirs}");
        }
        assert_eq!(
            check(&remote(), Direction::Inbound, "b3.test", "a2.test"),
            Err(Reason::InvalidFrom),
            "who isn't proven learns nothing of the policy"
        );
    }

    #[test]
    fn a_local_stream_proves_hosts_of_ours_alone() {
        let local = Scope {
            side: Side::Local,
            theirs: Proven::only(domain("a1.test")),
            ours: Proven::Any,
            pair: None,
        };
        assert_eq!(check(&local, Direction::Inbound, "a1.test", "b1.test"), Ok(()));
        assert_eq!(
            check(&local, Direction::Inbound, "a1.test", "a2.test"),
            Ok(()),
            "between two hosts of ours"
        );
        assert_eq!(check(&local, Direction::Inbound, "a2.test", "b1.test"), Err(Reason::InvalidFrom));
        assert_eq!(check(&local, Direction::Inbound, "b1.test", "a1.test"), Err(Reason::InvalidFrom));
        assert_eq!(check(&local, Direction::Inbound, "a1.test", "bad.test"), Err(Reason::PolicyDenied));
    }
}
