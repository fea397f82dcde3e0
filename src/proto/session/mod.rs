//! One authenticated peer on one connection, with the domains that are proven for it.
//!
//! Each side keeps two sets: what the peer proved to us (`theirs`, its certificate), and what we proved to the peer
//! (`ours`, the certificate that we showed there). A stream of the session authenticates its own pair by EXTERNAL; where
//! mux was negotiated too, every domain of both certificates counts for the whole session (XEP-0451 section 3.1). Grants
//! belong to the connection: the stream that made them may close.
//!
//! A name that both certificates carry is ours if we serve it; a remote session never proves a host of ours.

mod authority;
#[cfg(test)]
mod tests;

pub use authority::StreamAuthority;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::admission::{Direction, Proven, Scope, Side, admit};
use super::hosts::Hosts;
use super::limits::Limits;
use super::proof::{CertifiedNames, Grants};
use super::stream::Learned;
use super::stream::initiating::{Bidi, Manage, Pipelining, Wants};
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

/// The machine.
#[derive(Debug, Clone)]
pub struct Session {
    facts: Facts,
    learned: Option<Learned>,
    /// Hosts that the peer proved by a mux secret, and until when.
    granted_theirs: Arc<Grants>,
    /// Hosts of ours whose secret the peer took, and until when.
    granted_ours: Arc<Grants>,
    grants_max: usize,
    /// The list that the peer was shown has changed: the next stream that it opens shows it again.
    list_is_news: Arc<AtomicBool>,
}

impl Session {
    /// A session on a connection whose certificates were verified; nothing is granted yet.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        let grants_max = Limits::default().grants;
        let (granted_theirs, granted_ours) = (Arc::default(), Arc::default());
        let list_is_news = Arc::default();
        Self { facts, learned: None, granted_theirs, granted_ours, grants_max, list_is_news }
    }

    /// With another bound for the hosts that may be granted to it, each way (`limits.grants`).
    #[must_use]
    pub fn with_grants_max(self, grants_max: usize) -> Self {
        Self { grants_max, ..self }
    }

    /// The hosts of this relay, or its policy, have changed: grants of hosts that it no longer serves end, and so do
    /// those of hosts that are its own now.
    pub fn set_hosts(&mut self, hosts: &Arc<Hosts>) {
        if Arc::ptr_eq(&self.facts.hosts, hosts) {
            return;
        }
        let shown = self.host_list();
        self.facts.hosts = Arc::clone(hosts);
        Arc::make_mut(&mut self.granted_ours).revoke(|host| !hosts.serves(host));
        Arc::make_mut(&mut self.granted_theirs).revoke(|host| hosts.serves(host));
        // An initiating entity shows no list.
        if !self.facts.dialled && self.is_up() && self.host_list() != shown {
            self.list_is_news.store(true, Ordering::Relaxed);
        }
    }

    /// The peer said that it no longer serves `host`: what it proved by a secret for it is over.
    pub fn revoke_theirs(&mut self, host: &Domain) {
        Arc::make_mut(&mut self.granted_theirs).revoke(|granted| granted == host);
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
        known.sm |= learned.sm;
        if !learned.listed.is_empty() {
            known.listed = learned.listed;
        }
    }

    /// The peer proved `host` by a mux secret, until `until`.
    ///
    /// # Errors
    /// [`Reason::InvalidFrom`] for a host of ours, [`Reason::TooMany`] beyond `limits.grants`.
    pub fn grant_theirs(&mut self, host: Domain, until: SystemTime) -> Result<(), Reason> {
        if self.facts.hosts.serves(&host) {
            return Err(Reason::InvalidFrom);
        }
        Arc::make_mut(&mut self.granted_theirs).grant(host, until, self.grants_max)
    }

    /// The peer took the secret of `host`, a host of ours, until `until`.
    ///
    /// # Errors
    /// [`Reason::HostUnknown`] if we don't serve it, [`Reason::TooMany`] beyond `limits.grants`.
    pub fn grant_ours(&mut self, host: Domain, until: SystemTime) -> Result<(), Reason> {
        if !self.facts.hosts.serves(&host) {
            return Err(Reason::HostUnknown);
        }
        Arc::make_mut(&mut self.granted_ours).grant(host, until, self.grants_max)
    }

    /// Take back what has ended by `now`: the hosts concerned.
    pub fn end_grants(&mut self, now: SystemTime) -> Vec<Domain> {
        let mut ended = Vec::new();
        for grants in [&mut self.granted_theirs, &mut self.granted_ours] {
            if grants.next_end().is_some_and(|end| end <= now) {
                ended.extend(Arc::make_mut(grants).end(now, self.grants_max));
            }
        }
        ended
    }

    /// When the next grant ends.
    #[must_use]
    pub fn next_grant_end(&self) -> Option<SystemTime> {
        self.granted_theirs.next_end().into_iter().chain(self.granted_ours.next_end()).min()
    }

    /// The hosts that were granted: the peer's, and ours.
    #[must_use]
    pub fn granted(&self) -> (&Grants, &Grants) {
        (&self.granted_theirs, &self.granted_ours)
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
        !self.facts.hosts.serves(domain)
            && (self.facts.theirs.covers(domain) || self.granted_theirs.covers(domain))
    }

    /// Whether the peer proved `domain` by a mux secret.
    #[must_use]
    pub fn theirs_granted(&self, domain: &Domain) -> bool {
        self.granted_theirs.covers(domain) && !self.facts.hosts.serves(domain)
    }

    /// Whether we are proven for `domain` to the peer, by certificate or by secret.
    #[must_use]
    pub fn ours_proven(&self, domain: &Domain) -> bool {
        self.facts.hosts.serves(domain)
            && (self.facts.ours.covers(domain) || self.granted_ours.covers(domain))
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
        if !dialback || hosts.serves(&route.from) {
            return Err(Reason::InvalidFrom);
        }
        if !hosts.serves(&route.to) {
            return Err(Reason::NotOurHost);
        }
        if !ours.covers(&route.to) {
            return Err(Reason::HostUnknown);
        }
        match hosts.policy(Direction::Inbound, &route.to, &route.from) {
            Err(_) if self.must_hear_back(route) => Ok(()),
            policy => policy,
        }
    }

    /// Whether a stream may be opened to us that brings nothing, for what we send the other way: who knows dialback only asks
    /// us about our keys on a stream of its own (XEP-0220 section 2.2), and some servers (Prosody 0.12) do so only when they
    /// are believed on it. No stanza passes there; that is held against each of them.
    fn must_hear_back(&self, route: &Route) -> bool {
        let Facts { hosts, dialback, .. } = &self.facts;
        *dialback && hosts.policy(Direction::Outbound, &route.to, &route.from).is_ok()
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
        let pipelines = known.is_some_and(|learned| learned.pipelining);
        Wants {
            mux: !self.is_multiplexed() && !self.facts.second,
            bidi: if self.facts.single { Bidi::BesideMux } else { Bidi::Offered },
            dialback: None,
            pipelining: if pipelines { Pipelining::AtOnce } else { Pipelining::WhenOffered },
            manage: Manage::Enable,
            sm_offered: known.is_some_and(|learned| learned.sm),
        }
    }

    /// The same on a stream for `route`. `plain`: step by step, because a flight was refused. Where the certificates don't prove
    /// both of its names nothing is sent ahead either.
    #[must_use]
    pub fn wants_for(&self, route: &Route, plain: bool) -> Wants {
        let wants = self.wants();
        if plain || self.may_carry(route).is_err() {
            return Wants { pipelining: Pipelining::Never, ..wants };
        }
        wants
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
        super::mux::within_bounds(list)
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
