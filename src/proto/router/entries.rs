//! Other `[[peer]]` entries: pairs whose domain belongs to another peer from now on follow it, and those of all others stay.
//!
//! What waits is placed anew at once. What is on a lane stays there until the lane has finished, so that order within a pair doesn't
//! change. An attempt that is under way for the former peer and has sent nothing yet comes to nothing: its pairs leave it.

use std::collections::BTreeSet;
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};

use super::peers::{self, PeerRule, PeerState};
use super::{Action, Again, Carrier, Lane, LaneId, PeerId, Placement, Router, SessionId};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

impl Router {
    /// The `[[peer]]` entries are `rules` now, in their order. One that has the identifier of a former one is the same peer, whatever
    /// else it says.
    pub fn peers_changed(&mut self, rules: Vec<(PeerId, PeerRule)>, now: Instant) {
        let former = self.peers_of_domains();
        self.go_by(rules);
        self.forget_found();
        let moved: FxHashSet<Domain> = former
            .into_iter()
            .filter(|(domain, peer)| self.peer_for(domain) != *peer)
            .map(|(domain, _)| domain)
            .collect();
        self.move_lanes(&moved, now);
        let routes = self.routes.iter();
        let concerned = routes.filter(|(route, state)| !state.is_placed() && moved.contains(&route.to));
        let concerned: Vec<Route> = concerned.map(|(route, _)| route.clone()).collect();
        for route in concerned {
            self.leave(&route);
            if let Some(state) = self.routes.get_mut(&route) {
                state.placement = Placement::Unplaced;
            }
            self.place_early(&route, now);
        }
    }

    /// A session was made by rules that no longer hold, or has had the time to hand over: all of its lanes finish, the peer's too, and it
    /// takes no other. Nor does a host of the peer's join another one because of what was proven on this. Idempotent.
    pub fn session_leaves(&mut self, id: SessionId, reason: Reason, now: Instant) {
        self.lanes_leave(id, reason);
        self.proofs_leave(id, reason, now);
    }

    /// The first half of [`Router::session_leaves`], which decides nothing: who the peers are may be changing.
    pub fn lanes_leave(&mut self, id: SessionId, reason: Reason) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        entry.retiring = true;
        let lanes = entry.lanes.iter().filter(|lane| self.lanes.get(lane).is_some_and(|lane| !lane.closing));
        self.actions.extend(lanes.map(|lane| Action::CloseLane { lane: *lane, reason }));
    }

    /// The second: what waited for a proof is placed anew.
    pub fn proofs_leave(&mut self, id: SessionId, reason: Reason, now: Instant) {
        let proofs = self.proofs.iter().filter(|(_, proof)| proof.second == id && !proof.is_our_wish());
        for key in proofs.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.proof_failed(&key, reason, now);
        }
    }

    /// The peer of each remote domain that a route leads to, or a lane of ours was opened for.
    fn peers_of_domains(&self) -> FxHashMap<Domain, Option<PeerId>> {
        let opened = self.lanes.values().filter_map(Lane::opened_for);
        let mut peers = FxHashMap::default();
        for route in self.routes.keys().chain(opened).filter(|route| !self.hosts.serves(&route.to)) {
            if !peers.contains_key(&route.to) {
                peers.insert(route.to.clone(), self.peer_for(&route.to));
            }
        }
        peers
    }

    pub(super) fn go_by(&mut self, rules: Vec<(PeerId, PeerRule)>) {
        self.peers_by_name = peers::by_name(&rules);
        let configured: Vec<PeerId> = rules.iter().map(|(id, _)| *id).collect();
        let stay: BTreeSet<PeerId> = configured.iter().copied().collect();
        for gone in std::mem::replace(&mut self.configured, configured) {
            if !stay.contains(&gone) {
                self.peers.remove(&gone);
            }
        }
        for (id, rule) in rules {
            self.peers.entry(id).or_insert_with(PeerState::unconfigured).configure(rule);
        }
        let is_there = |id: &PeerId| self.peers.contains_key(id) || !id.is_configured();
        for entry in self.sessions.values_mut() {
            entry.pinned.retain(is_there);
            entry.joining.retain(is_there);
            if let Some(proofs) = entry.pinned.iter().find_map(|peer| self.peers.get(peer)?.proofs) {
                entry.verifier.allow(proofs);
            }
        }
        self.unproven.retain(|(peer, _), _| is_there(peer));
    }

    /// What was found for domains that a `[[peer]]` names now means nothing any more.
    fn forget_found(&mut self) {
        let named = |domain: &&Domain| self.peer_for(domain).is_some_and(PeerId::is_configured);
        let named: Vec<Domain> = self.found.keys().filter(named).cloned().collect();
        for domain in named {
            if let Some(peer) = self.found.remove(&domain) {
                self.peers.remove(&peer);
            }
        }
    }

    /// Lanes that lead to one of the domains `moved`, or were opened for it, finish.
    fn move_lanes(&mut self, moved: &FxHashSet<Domain>, now: Instant) {
        let mut closing: Vec<LaneId> = Vec::new();
        let mut leaving: Vec<Route> = Vec::new();
        for (id, lane) in &mut self.lanes {
            let Carrier::Session(session) = lane.carrier else { continue };
            if lane.closing
                || !lane
                    .opened_for()
                    .into_iter()
                    .chain(lane.routes.iter())
                    .any(|route| moved.contains(&route.to))
            {
                continue;
            }
            closing.push(*id);
            let Some(entry) = self.sessions.get_mut(&session).filter(|entry| entry.session.is_none()) else {
                continue;
            };
            entry.retiring = true;
            if !lane.ahead {
                leaving.extend(std::mem::take(&mut lane.routes).into_vec());
            }
        }
        let reason = Reason::PeerChanged;
        self.detach_all(leaving, Again::AtOnce, reason, now);
        self.actions.extend(closing.into_iter().map(|lane| Action::CloseLane { lane, reason }));
    }
}
