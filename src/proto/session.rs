//! One authenticated peer on one connection, with the domains that are proven for it.
//!
//! Each side keeps two sets: what the peer proved to us (`theirs`, its certificate), and what we proved to the peer
//! (`ours`, the certificate that we showed there). A stream of the session authenticates its own pair by EXTERNAL; where
//! mux was negotiated too, every domain of both certificates counts for the whole session (XEP-0451 section 3.1). Grants
//! belong to the connection: the stream that made them may close.
//!
//! A name that both certificates carry is ours if we serve it; a remote session never proves a host of ours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::admission::{Direction, Proven, Scope, Side, admit};
use super::hosts::Hosts;
use super::proof::CertifiedNames;
use super::stream::Learned;
use super::stream::initiating::{Bidi, Wants};
use super::stream::receiving::{Authority, DialbackOffer, Offers};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// How a session places domain pairs; agreed by configuration at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lanes {
    /// A stream for each pair; a lane carries its own pair only.
    #[default]
    PerPair,
    /// One stream for all proven pairs, as XEP-0451 is written.
    Shared,
}

/// What is fixed when the connection is up.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The hosts of this relay, and its policy.
    pub hosts: Arc<Hosts>,
    /// The peer's certificate.
    pub theirs: Arc<CertifiedNames>,
    /// The certificate that we showed.
    pub ours: Arc<CertifiedNames>,
    /// Whether we opened the connection.
    pub dialled: bool,
    /// How pairs are placed.
    pub lanes: Lanes,
    /// The connection is one XML stream: TLS over TCP.
    pub single: bool,
    /// A domain may be proven by dialback, for its pair on its stream.
    pub dialback: bool,
    /// The peer may see every host of ours.
    pub announce_all: bool,
    /// We dialled it to prove a host for another session: mux isn't negotiated, so that neither end takes it for a first.
    pub second: bool,
}

/// Hosts that may be granted to one session, each way.
pub const GRANTS_MAX: usize = 4096;

/// The machine.
#[derive(Debug, Clone)]
pub struct Session {
    facts: Facts,
    learned: Option<Learned>,
    /// Hosts that the peer proved by a mux secret, and until when.
    granted_theirs: Arc<BTreeMap<Domain, SystemTime>>,
    /// Hosts of ours whose secret the peer took, and until when.
    granted_ours: Arc<BTreeMap<Domain, SystemTime>>,
}

impl Session {
    /// A session on a connection whose certificates were verified; nothing is granted yet.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        Self { facts, learned: None, granted_theirs: Arc::default(), granted_ours: Arc::default() }
    }

    /// What is fixed.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether a stream of this session has been authenticated.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.learned.is_some()
    }

    /// Whether mux was negotiated: certificates count as a whole.
    #[must_use]
    pub fn is_multiplexed(&self) -> bool {
        self.learned.as_ref().is_some_and(|learned| learned.mux)
    }

    /// A stream was authenticated. What one stream agreed to is never taken back by another.
    pub fn learn(&mut self, learned: Learned) {
        let known = self.learned.get_or_insert_default();
        known.mux |= learned.mux;
        known.pipelining |= learned.pipelining;
        known.authorize |= learned.authorize;
        if !learned.listed.is_empty() {
            known.listed = learned.listed;
        }
    }

    /// The peer proved `host` by a mux secret, until `until`.
    ///
    /// # Errors
    /// [`Reason::InvalidFrom`] for a host of ours, [`Reason::TooMany`] beyond [`GRANTS_MAX`].
    pub fn grant_theirs(&mut self, host: Domain, until: SystemTime) -> Result<(), Reason> {
        if self.facts.hosts.serves(&host) {
            return Err(Reason::InvalidFrom);
        }
        grant(&mut self.granted_theirs, host, until)
    }

    /// The peer took the secret of `host`, a host of ours, until `until`.
    ///
    /// # Errors
    /// [`Reason::HostUnknown`] if we don't serve it, [`Reason::TooMany`] beyond [`GRANTS_MAX`].
    pub fn grant_ours(&mut self, host: Domain, until: SystemTime) -> Result<(), Reason> {
        if !self.facts.hosts.serves(&host) {
            return Err(Reason::HostUnknown);
        }
        grant(&mut self.granted_ours, host, until)
    }

    /// Take back what has ended by `now`: the hosts concerned.
    pub fn end_grants(&mut self, now: SystemTime) -> Vec<Domain> {
        let mut ended = Vec::new();
        for grants in [&mut self.granted_theirs, &mut self.granted_ours] {
            let over: Vec<Domain> =
                grants.iter().filter(|(_, until)| **until <= now).map(|(host, _)| host.clone()).collect();
            if !over.is_empty() {
                let grants = Arc::make_mut(grants);
                grants.retain(|host, _| !over.contains(host));
                ended.extend(over);
            }
        }
        ended
    }

    /// When the next grant ends.
    #[must_use]
    pub fn next_grant_end(&self) -> Option<SystemTime> {
        self.granted_theirs.values().chain(self.granted_ours.values()).min().copied()
    }

    /// How many hosts were granted: the peer's, and ours.
    #[must_use]
    pub fn grants(&self) -> (usize, usize) {
        (self.granted_theirs.len(), self.granted_ours.len())
    }

    /// Whether the peer's certificate itself proves `domain`. Only such a domain may prove others: a name proven by
    /// secret never serves as p.
    #[must_use]
    pub fn theirs_by_certificate(&self, domain: &Domain) -> bool {
        !self.facts.hosts.serves(domain) && self.facts.theirs.covers(domain)
    }

    /// Whether the certificate that we showed itself proves `domain`, a host of ours.
    #[must_use]
    pub fn ours_by_certificate(&self, domain: &Domain) -> bool {
        self.facts.hosts.serves(domain) && self.facts.ours.covers(domain)
    }

    /// Whether the peer is proven for `domain`, by certificate or by secret.
    #[must_use]
    pub fn theirs_proven(&self, domain: &Domain) -> bool {
        self.certificate_scope().theirs.covers(domain) && !self.facts.hosts.serves(domain)
    }

    /// Whether we are proven for `domain` to the peer, by certificate or by secret.
    #[must_use]
    pub fn ours_proven(&self, domain: &Domain) -> bool {
        self.certificate_scope().ours.covers(domain) && self.facts.hosts.serves(domain)
    }

    /// Whether the peer makes secrets for who asks.
    #[must_use]
    pub fn offers_authorization(&self) -> bool {
        self.learned.as_ref().is_some_and(|learned| learned.authorize)
    }

    /// Whether the peer's host list names `domain`. A hint, and no proof.
    #[must_use]
    pub fn lists(&self, domain: &Domain) -> bool {
        self.learned.as_ref().is_some_and(|learned| learned.listed.contains(domain))
    }

    /// When what the certificates prove ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.facts.theirs.not_after.min(self.facts.ours.not_after)
    }

    /// What may pass on a stream of this session that was authenticated for `pair`.
    #[must_use]
    pub fn scope(&self, pair: &Route, dialled_by_us: bool) -> Scope {
        let shared = self.facts.lanes == Lanes::Shared;
        let pair_alone = (!shared).then(|| pair.clone());
        if self.is_multiplexed() {
            return Scope { pair: pair_alone, ..self.certificate_scope() };
        }
        let (ours, theirs) = if dialled_by_us { (&pair.from, &pair.to) } else { (&pair.to, &pair.from) };
        Scope {
            side: Side::Remote,
            theirs: Proven::only(theirs.clone()),
            ours: Proven::only(ours.clone()),
            pair: pair_alone,
        }
    }

    /// Whether a stream for `route` (from us to the peer) can be authenticated on this connection.
    ///
    /// # Errors
    /// What stands against it; see [`admit`].
    pub fn may_carry(&self, route: &Route) -> Result<(), Reason> {
        admit(&self.certificate_scope(), &self.facts.hosts, Direction::Outbound, &route.from, &route.to)
    }

    /// Whether `route.from` may be proven by dialback.
    fn may_dial_back(&self, route: &Route) -> Result<(), Reason> {
        let Facts { hosts, ours, dialback, .. } = &self.facts;
        hosts.policy(&route.from)?;
        if !dialback || hosts.serves(&route.from) {
            return Err(Reason::InvalidFrom);
        }
        if !hosts.serves(&route.to) {
            return Err(Reason::NotOurHost);
        }
        if ours.covers(&route.to) { Ok(()) } else { Err(Reason::HostUnknown) }
    }

    /// Whether we may open further streams: there can be any, and we opened the connection, or the peer speaks mux,
    /// which is symmetric.
    #[must_use]
    pub fn may_open(&self) -> bool {
        !self.facts.single && (self.facts.dialled || self.is_multiplexed())
    }

    /// What to ask for on a stream that we open in this session.
    #[must_use]
    pub fn wants(&self) -> Wants {
        let known = self.learned.as_ref();
        Wants {
            mux: !self.is_multiplexed() && !self.facts.second,
            bidi: if self.facts.single { Bidi::BesideMux } else { Bidi::Offered },
            dialback: None,
            pipelined: known.is_some_and(|learned| learned.pipelining),
        }
    }

    /// Our hosts that the peer may know of: those of the certificate that it sees anyway, and the announced ones.
    #[must_use]
    pub fn host_list(&self) -> Vec<Domain> {
        let Facts { hosts, ours, announce_all, .. } = &self.facts;
        let mut list: Vec<Domain> = hosts
            .iter()
            .filter(|(domain, facts)| {
                *announce_all || facts.announce || ours.listed().any(|name| name == *domain)
            })
            .map(|(domain, _)| domain.clone())
            .collect();
        list.sort_unstable();
        list.truncate(super::mux::HOST_LIST_ENTRIES_MAX);
        list
    }

    fn certificate_scope(&self) -> Scope {
        Scope {
            side: Side::Remote,
            theirs: Proven::Session(Arc::clone(&self.facts.theirs), Arc::clone(&self.granted_theirs)),
            ours: Proven::Session(Arc::clone(&self.facts.ours), Arc::clone(&self.granted_ours)),
            pair: None,
        }
    }
}

fn grant(
    grants: &mut Arc<BTreeMap<Domain, SystemTime>>,
    host: Domain,
    until: SystemTime,
) -> Result<(), Reason> {
    if grants.len() >= GRANTS_MAX && !grants.contains_key(&host) {
        return Err(Reason::TooMany);
    }
    Arc::make_mut(grants).insert(host, until);
    Ok(())
}

/// The authority for one stream that the peer opened in a session.
#[derive(Debug)]
pub struct StreamAuthority<'a> {
    /// The session.
    pub session: &'a Session,
    /// Whether this is the first stream of the connection, the one with the host list.
    pub first: bool,
}

impl Authority for StreamAuthority<'_> {
    fn offers(&self, route: &Route) -> Result<Offers, Reason> {
        let (session, dialback) = (self.session, self.session.facts.dialback);
        let admitted = admit(
            &session.certificate_scope(),
            &session.facts.hosts,
            Direction::Inbound,
            &route.from,
            &route.to,
        );
        match admitted {
            Ok(()) => Ok(Offers { external: true, dialback, bidi: true, mux: true, pipelining: true }),
            Err(Reason::InvalidFrom) if dialback => {
                session.may_dial_back(route)?;
                Ok(Offers { dialback, bidi: true, ..Offers::default() })
            }
            Err(reason) => Err(reason),
        }
    }

    fn host_list(&self) -> Vec<Domain> {
        if self.first { self.session.host_list() } else { Vec::new() }
    }

    /// The stream's own pair alone: a second one would let each of two domains speak to the other's host.
    fn dialback(&self, stream: &Route, route: &Route) -> Result<DialbackOffer, Reason> {
        if stream != route {
            return Err(Reason::InvalidFrom);
        }
        self.session.may_dial_back(route)?;
        // Whoever holds the certificate of the domain needs nobody to vouch for it (XEP-0344 section 3).
        let certified = self.session.theirs_by_certificate(&route.from);
        Ok(if certified { DialbackOffer::Believe } else { DialbackOffer::Verify })
    }

    fn made_key(&self, _route: &Route, _stream_id: &str, _key: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::hosts::HostFacts;
    use crate::proto::proof::TrustScope;
    use crate::xmpp::domain::DomainPattern;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn route(from: &str, to: &str) -> Route {
        Route::new(domain(from), domain(to))
    }

    fn session(dialled: bool) -> Session {
        let names = |list: &[&str]| {
            Arc::new(CertifiedNames {
                exact: list.iter().map(|n| domain(n)).collect(),
                wildcard: [domain("b.test")].into(),
                not_after: SystemTime::UNIX_EPOCH,
                scope: TrustScope::everything(),
            })
        };
        let facts = |announce| HostFacts { entry: 0, announce };
        let hosts = [
            (domain("a.test"), facts(false)),
            (domain("x.test"), facts(true)),
            (domain("y.test"), facts(false)),
        ];
        Session::new(Facts {
            hosts: Arc::new(Hosts::new(hosts, vec![DomainPattern::Any], Vec::new())),
            theirs: names(&["b.test", "a.test"]),
            ours: names(&["a.test", "unserved.test"]),
            dialled,
            lanes: Lanes::PerPair,
            single: false,
            dialback: false,
            announce_all: false,
            second: false,
        })
    }

    #[test]
    fn without_mux_only_the_streams_own_pair_counts() {
        let mut session = session(false);
        session.learn(Learned::default());
        let scope = session.scope(&route("b.test", "a.test"), false);
        let hosts = &session.facts.hosts;
        let inbound =
            |from: &str, to: &str| admit(&scope, hosts, Direction::Inbound, &domain(from), &domain(to));
        assert_eq!(inbound("b.test", "a.test"), Ok(()));
        assert_eq!(inbound("rooms.b.test", "a.test"), Err(Reason::InvalidFrom));
        assert!(!session.may_open(), "a peer without mux takes no streams from the end that it dialled");
    }

    #[test]
    fn a_connection_of_one_stream_takes_no_second_whoever_opened_it() {
        for dialled in [false, true] {
            let facts = Facts { single: true, ..session(dialled).facts };
            let mut session = Session::new(facts);
            assert!(!session.may_open());
            session.learn(Learned { mux: true, ..Learned::default() });
            assert!(!session.may_open());
            assert_eq!(session.wants().bidi, Bidi::BesideMux);
        }
    }

    #[test]
    fn dialback_is_offered_where_it_is_allowed_and_external_only_to_whom_the_certificate_proves() {
        let offers = |dialback, from: &str, to: &str| {
            let session = Session::new(Facts { dialback, ..session(false).facts });
            StreamAuthority { session: &session, first: true }.offers(&route(from, to))
        };
        assert_eq!(offers(false, "c.test", "a.test"), Err(Reason::InvalidFrom));
        let offered = offers(true, "c.test", "a.test").unwrap();
        assert!(offered.dialback && !offered.external && !offered.mux);
        let offered = offers(true, "b.test", "a.test").unwrap();
        assert!(offered.external && offered.mux && offered.dialback);
        assert_eq!(offers(true, "x.test", "a.test"), Err(Reason::InvalidFrom), "a host of ours");
        assert_eq!(offers(true, "c.test", "unserved.test"), Err(Reason::NotOurHost));
        assert_eq!(offers(true, "c.test", "x.test"), Err(Reason::HostUnknown), "not in what we showed");
    }

    #[test]
    fn dialback_proves_the_streams_own_pair_alone() {
        let session = Session::new(Facts { dialback: true, ..session(false).facts });
        let authority = StreamAuthority { session: &session, first: true };
        let own = route("c.test", "a.test");
        assert_eq!(authority.dialback(&own, &own), Ok(DialbackOffer::Verify));
        assert_eq!(authority.dialback(&own, &route("d.test", "a.test")), Err(Reason::InvalidFrom));
        let certified = route("b.test", "a.test");
        assert_eq!(authority.dialback(&certified, &certified), Ok(DialbackOffer::Believe));
    }

    #[test]
    fn with_mux_every_domain_of_the_certificate_counts() {
        let mut session = session(false);
        session.learn(Learned { mux: true, ..Learned::default() });
        assert_eq!(session.may_carry(&route("a.test", "rooms.b.test")), Ok(()));
        assert_eq!(session.may_carry(&route("x.test", "b.test")), Err(Reason::HostUnknown));
        assert_eq!(session.may_carry(&route("a.test", "a.test")), Err(Reason::InvalidFrom));
        session.learn(Learned::default());
        assert!(session.is_multiplexed(), "one stream can't take back what another agreed to");
    }

    #[test]
    fn a_stream_is_offered_external_only_for_what_the_certificate_proves() {
        let session = session(false);
        let offers = |from: &str, to: &str| {
            StreamAuthority { session: &session, first: false }.offers(&route(from, to))
        };
        assert!(offers("b.test", "a.test").unwrap().external);
        assert_eq!(offers("c.test", "a.test"), Err(Reason::InvalidFrom));
        assert_eq!(offers("a.test", "a.test"), Err(Reason::InvalidFrom));
        assert_eq!(offers("b.test", "unserved.test"), Err(Reason::NotOurHost));
    }

    #[test]
    fn a_granted_host_counts_until_its_grant_ends_and_never_proves_others() {
        let mut session = session(false);
        session.learn(Learned { mux: true, ..Learned::default() });
        let until = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(10);
        assert_eq!(session.may_carry(&route("x.test", "n.test")), Err(Reason::InvalidFrom));
        session.grant_theirs(domain("n.test"), until).unwrap();
        assert_eq!(session.may_carry(&route("x.test", "n.test")), Err(Reason::HostUnknown));
        session.grant_ours(domain("x.test"), until).unwrap();
        assert_eq!(session.may_carry(&route("x.test", "n.test")), Ok(()));
        assert!(
            !session.theirs_by_certificate(&domain("n.test"))
                && !session.ours_by_certificate(&domain("x.test"))
        );
        assert_eq!(session.grant_theirs(domain("x.test"), until), Err(Reason::InvalidFrom), "a host of ours");
        assert_eq!(session.end_grants(until), [domain("n.test"), domain("x.test")]);
        assert_eq!(session.may_carry(&route("a.test", "n.test")), Err(Reason::InvalidFrom));
    }

    #[test]
    fn the_host_list_stands_on_the_first_stream_and_shows_what_is_announced() {
        let session = session(false);
        assert_eq!(session.host_list(), [domain("a.test"), domain("x.test")]);
        assert!(StreamAuthority { session: &session, first: false }.host_list().is_empty());
    }
}
