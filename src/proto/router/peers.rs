//! Peers: those of `[[peer]]`, and those that are found by their domains' own records.
//!
//! A found peer is one remote domain. Before a route to it is placed its records are asked for, and which sessions lead
//! to it follows from them: those whose address the records name, or, for a domain that has no records at all, those
//! whose host list names it. Without that, whoever holds an old or stolen certificate for a name would receive its mail
//! by connecting (RFC 8336 section 4). The records are asked for again when their time is over; a session that they no
//! longer lead to takes no further lane for the domain, and the lanes that it has for it finish. While the resolver
//! can't be asked, what was known stays good (RFC 8767).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::preference::Preference;
use super::retry::Retry;
use super::{Action, PeerId, Router, SessionEntry, SessionId};
use crate::proto::discovery::found::{Answer, Found};
use crate::proto::mux::verifier::Allowance;
use crate::reason::Reason;
use crate::xmpp::domain::{Domain, DomainPattern};
use crate::xmpp::route::Route;

/// When a resolver that failed is asked again about records that were good.
const STALE_RETRY: Duration = Duration::from_secs(60);
/// How long records stay good while the resolver can't be asked (RFC 8767 section 5 suggests 1 to 3 days).
const STALE_MAX: Duration = Duration::from_secs(86_400);

/// A `[[peer]]` entry, as far as routing goes.
#[derive(Debug, Clone)]
pub struct PeerRule {
    /// The domains that it carries.
    pub domains: Vec<DomainPattern>,
    /// How many secrets are made for its sessions.
    pub proofs: Allowance,
}

/// The entries that name a domain itself. Of two that name the same one the first counts.
pub(super) fn by_name(rules: &[(PeerId, PeerRule)]) -> FxHashMap<Domain, PeerId> {
    let mut names = FxHashMap::default();
    for (id, rule) in rules {
        for domain in &rule.domains {
            if let DomainPattern::Exact(domain) = domain {
                names.entry(domain.clone()).or_insert(*id);
            }
        }
    }
    names
}

/// What is known of a peer.
#[derive(Debug, Default)]
pub(super) struct PeerState {
    /// `[[peer]] domains`; none for a peer that was found.
    domains: Vec<DomainPattern>,
    /// How many secrets are made for its sessions; `None` for a peer that was found: as for any stranger.
    pub(super) proofs: Option<Allowance>,
    search: Option<Search>,
    /// The attempts to reach it that are under way; see `several.rs`.
    pub(super) dialling: BTreeSet<SessionId>,
    pub(super) waiting: BTreeSet<Route>,
    pub(super) retry: Retry,
    /// Pairs that were refused for a reason that waiting doesn't cure, and until when that is remembered. It says
    /// nothing about other pairs of the same domain: the reason may be ours, a host without a certificate.
    pub(super) refused: FxHashMap<Route, (Instant, Reason)>,
    pub(super) single_stream_until: Option<Instant>,
    /// It refused the flight of a connection's first stream: until then these go step by step.
    pub(super) plain_until: Option<Instant>,
    pub(super) preference: Preference,
    /// It has waited for this attempt of another peer, and not yet made one of its own.
    pub(super) behind: Option<SessionId>,
}

/// The records of a domain, asked for.
#[derive(Debug)]
struct Search {
    domain: Domain,
    asking: bool,
    found: Option<Answered>,
    /// When it is looked for again of itself, where nothing was found.
    again_at: Option<Instant>,
}

#[derive(Debug)]
struct Answered {
    records: Arc<Found>,
    at: Instant,
    good_until: Instant,
}

impl PeerState {
    /// A `[[peer]]` of which nothing is known yet.
    pub(super) fn unconfigured() -> Self {
        Self::default()
    }

    /// It goes by `rule` from now on.
    pub(super) fn configure(&mut self, rule: PeerRule) {
        self.domains = rule.domains;
        self.proofs = Some(rule.proofs);
    }

    fn searched(domain: Domain) -> Self {
        Self {
            search: Some(Search { domain, asking: false, found: None, again_at: None }),
            ..Self::default()
        }
    }

    /// Whether nothing is being tried for it.
    pub(super) fn is_idle(&self) -> bool {
        self.dialling.is_empty() && !self.is_asked_for()
    }

    /// The domain by which it was found; `None` for a `[[peer]]`.
    pub(super) fn domain(&self) -> Option<&Domain> {
        self.search.as_ref().map(|search| &search.domain)
    }

    /// Whether its records are being asked for.
    pub(super) fn is_asked_for(&self) -> bool {
        self.search.as_ref().is_some_and(|search| search.asking)
    }

    /// Whether it is known where it is: always, for a `[[peer]]`.
    pub(super) fn is_known(&self, now: Instant) -> bool {
        let Some(search) = &self.search else { return true };
        search.found.as_ref().is_some_and(|found| found.good_until > now)
    }

    /// Where its domain's records lead; `None` for a `[[peer]]`.
    pub(super) fn records(&self) -> Option<Arc<Found>> {
        Some(Arc::clone(&self.search.as_ref()?.found.as_ref()?.records))
    }

    /// Whether its domain's records, if it was found by them, lead to `session`.
    fn leads_to(&self, session: &SessionEntry) -> bool {
        let Some(Search { domain, found: Some(found), .. }) = &self.search else { return false };
        let listed = session.session.as_ref().is_some_and(|session| session.lists(domain));
        match found.records.answer {
            Answer::Ways(_) => {
                session.place.as_ref().is_some_and(|at| found.records.leads_to(&at.whereabouts()))
            }
            Answer::Nothing => listed,
            Answer::Failed(_) => false,
        }
    }

    /// Whether its domain has no records at all: nobody can be dialled for it.
    pub(super) fn has_no_records(&self) -> bool {
        self.records().is_some_and(|records| records.answer == Answer::Nothing)
    }

    /// Whether something would be lost by forgetting it.
    fn is_needed(&self, now: Instant) -> bool {
        self.search.is_none() || !self.waiting.is_empty() || !self.is_idle() || !self.retry.may_try(now)
    }
}

impl Router {
    /// Let peers be found by their domains' records. Without it only `[[peer]]` entries are reached.
    pub fn discover(&mut self) {
        self.discovers = true;
    }

    /// The peer of `domain`: the `[[peer]]` entry whose rule speaks most closely of it, or else what was found.
    #[must_use]
    pub fn peer_for(&self, domain: &Domain) -> Option<PeerId> {
        if let Some(named) = self.peers_by_name.get(domain) {
            return Some(*named);
        }
        // The last of several is the maximum, and the first one counts.
        let closest = self.configured.iter().rev().filter_map(|id| {
            let rules = self.peers.get(id)?.domains.iter().filter(|rule| rule.matches(domain));
            Some((rules.map(DomainPattern::closeness).max()?, *id))
        });
        let closest = closest.max_by_key(|(closeness, _)| *closeness);
        closest.map(|(_, id)| id).or_else(|| self.found.get(domain).copied())
    }

    /// The peer of `domain`, made if it is to be looked for.
    ///
    /// # Errors
    /// [`Reason::NoRoute`] if there is no `[[peer]]` for it and peers aren't looked for, [`Reason::TooMany`] if as many
    /// as `limits.pairs` are being dealt with.
    pub(super) fn peer_or_search(&mut self, domain: &Domain, now: Instant) -> Result<PeerId, Reason> {
        if let Some(peer) = self.peer_for(domain) {
            return Ok(peer);
        }
        if !self.discovers {
            return Err(Reason::NoRoute);
        }
        if self.found.len() >= self.limits.pairs {
            self.peers.retain(|_, peer| peer.is_needed(now));
            self.found.retain(|_, id| self.peers.contains_key(id));
        }
        if self.found.len() >= self.limits.pairs {
            return Err(Reason::TooMany);
        }
        // Positions never come again: what a session leads to can't become another peer.
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        self.peers.insert(peer, PeerState::searched(domain.clone()));
        self.found.insert(domain.clone(), peer);
        Ok(peer)
    }

    /// Ask for the records of a peer, unless they are being asked for.
    pub(super) fn search(&mut self, peer: PeerId) {
        let Some(search) = self.peers.get_mut(&peer).and_then(|state| state.search.as_mut()) else { return };
        if !std::mem::replace(&mut search.asking, true) {
            self.actions.push(Action::Find { peer, domain: search.domain.clone() });
        }
    }

    /// After [`Action::Find`]: where the records of the peer's domain lead, or why that is not known.
    pub fn found(&mut self, peer: PeerId, records: Arc<Found>, now: Instant) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(search) = &mut state.search else { return };
        search.asking = false;
        let was_known = search.found.as_ref().is_some_and(|found| now < found.at + STALE_MAX);
        let good_until = match records.answer {
            Answer::Ways(_) | Answer::Nothing => {
                let good_until = now + records.valid;
                search.found = Some(Answered { records, at: now, good_until });
                good_until
            }
            Answer::Failed(reason) if reason.is_permanent() => {
                search.found = None;
                // What they led to so far is no way any more.
                self.match_sessions(peer, now);
                return self.not_found(peer, reason, now);
            }
            Answer::Failed(reason) if !was_known => {
                search.found = None;
                // What stands is looked at again, as long as it does.
                if search.again_at.is_none_or(|at| at <= now) {
                    search.again_at = Some(now + STALE_RETRY);
                    self.refreshes.insert((now + STALE_RETRY, peer));
                }
                return self.not_found(peer, reason, now);
            }
            Answer::Failed(_) => {
                let good_until = now + STALE_RETRY;
                if let Some(found) = &mut search.found {
                    found.good_until = good_until;
                }
                good_until
            }
        };
        self.refreshes.insert((good_until, peer));
        self.match_sessions(peer, now);
        self.place_waiting(peer, now);
    }

    fn not_found(&mut self, peer: PeerId, reason: Reason, now: Instant) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let waiting: Vec<Route> = state.waiting.iter().cloned().collect();
        if reason.is_permanent() {
            state.retry.succeeded();
            for route in waiting {
                self.remember_refusal(peer, &route, reason, now);
                self.give_up(&route, reason);
            }
        } else {
            state.retry.failed(reason, now, &self.limits, &mut self.jitter);
            for route in waiting {
                if let Some(known) = self.routes.get_mut(&route) {
                    known.reason = reason;
                }
            }
        }
    }

    /// Which sessions lead to `peer`, now that its records are known anew.
    fn match_sessions(&mut self, peer: PeerId, now: Instant) {
        let Some(state) = self.peers.get(&peer) else { return };
        let mut left = Vec::new();
        for (id, entry) in &mut self.sessions {
            if entry.session.is_none() {
                continue;
            }
            match (state.leads_to(entry), entry.pinned.iter().position(|pinned| *pinned == peer)) {
                (true, None) => entry.pinned.push(peer),
                (false, Some(at)) => {
                    entry.pinned.remove(at);
                    left.push(*id);
                }
                _ => {}
            }
        }
        let Some(domain) = state.search.as_ref().map(|search| search.domain.clone()) else { return };
        for session in left {
            self.close_lanes_of(session, |route| route.to == domain, Reason::PeerMoved);
            self.place_waiting_of(session, now);
        }
    }

    /// Which found peers `entry` leads to, now that it is up.
    pub(super) fn match_peers(&mut self, id: SessionId, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        for (peer, state) in &self.peers {
            if state.search.is_some()
                && state.is_known(now)
                && !entry.pinned.contains(peer)
                && state.leads_to(entry)
            {
                entry.pinned.push(*peer);
            }
        }
    }

    /// Whether `to`, a domain of `peer`, could join the session `entry` by a mux secret: the session leads to it, or lists
    /// it. In the second case its records lead elsewhere, and whoever answers there decides.
    pub(super) fn may_join(&self, entry: &SessionEntry, peer: PeerId, to: &Domain) -> bool {
        let searched = self.peers.get(&peer).is_some_and(|state| state.search.is_some());
        let listed = entry.session.as_ref().is_some_and(|session| session.lists(to));
        entry.pinned.contains(&peer) || (searched && listed)
    }

    /// The peers for which routes may wait that `session` would carry, if their hosts joined it.
    pub(super) fn peers_of(&self, session: SessionId) -> Vec<PeerId> {
        let Some(entry) = self.sessions.get(&session) else { return Vec::new() };
        let mut peers = entry.pinned.clone();
        peers.extend(entry.joining.iter().filter(|peer| !entry.pinned.contains(peer)));
        peers
    }

    /// The peers for which routes from or to `host` may wait, that has joined `session` or could not.
    pub(super) fn peers_with(&self, session: SessionId, host: &Domain) -> Vec<PeerId> {
        let mut peers = self.peers_of(session);
        let own = self.found.get(host).filter(|peer| !peers.contains(peer));
        peers.extend(own);
        peers
    }

    /// Whose records lead to where `domain` is spoken for, as far as that is known; `peer` if not.
    pub(super) fn known_peer(&self, domain: &Domain, peer: PeerId) -> PeerId {
        let is_known = |id: &PeerId| {
            self.peers.get(id).is_some_and(|state| state.search.is_none() || state.records().is_some())
        };
        self.peer_for(domain).filter(is_known).unwrap_or(peer)
    }

    /// Finish the lanes of `session` that we opened for, or use for, a route that is concerned.
    pub(super) fn close_lanes_of(
        &mut self,
        session: SessionId,
        concerns: impl Fn(&Route) -> bool,
        reason: Reason,
    ) {
        let Some(entry) = self.sessions.get(&session) else { return };
        let concerned = entry.lanes.iter().filter(|id| {
            let lane = self.lanes.get(id).filter(|lane| !lane.closing);
            lane.is_some_and(|lane| lane.opened_for().into_iter().chain(lane.routes.iter()).any(&concerns))
        });
        let actions: Vec<_> = concerned.map(|lane| Action::CloseLane { lane: *lane, reason }).collect();
        self.actions.extend(actions);
    }

    /// Records whose time is over are asked for again, if a session carries something because of them.
    pub(super) fn refresh_records(&mut self, now: Instant) {
        while let Some((_, peer)) = self.refreshes.first().filter(|(at, _)| *at <= now).copied() {
            self.refreshes.pop_first();
            let carries = |entry: &SessionEntry| entry.pinned.contains(&peer) && !entry.lanes.is_empty();
            let stale = self.peers.get(&peer).is_some_and(|state| !state.is_known(now));
            if stale && self.sessions.values().any(carries) {
                self.search(peer);
            }
        }
    }

    /// When records have to be asked for again.
    pub(super) fn refresh_deadline(&self) -> Option<Instant> {
        self.refreshes.first().map(|(at, _)| *at)
    }
}
