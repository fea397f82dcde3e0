//! How many attempts to reach a peer are under way at once.
//!
//! One, as long as it isn't known that it is up: what comes of the first attempt may carry everything that waits, and a peer
//! that is down isn't knocked at by everybody. But most servers of today take a connection for each pair of domains, and one
//! that has taken such a connection of ours will take others: then up to `limits.peer_dials` are made side by side, so that
//! the last of a hundred pairs doesn't wait for a hundred handshakes in a row. When all of these have gone, or an attempt
//! fails, it is one at a time again.

use std::time::Instant;

use super::proofs::Purpose;
use super::{Action, Hop, PeerId, Placement, Router, SessionId};
use crate::xmpp::route::Route;

impl Router {
    /// Whether an attempt to reach `peer` may begin now for `route`, beside those that are under way.
    pub(super) fn may_dial(&mut self, route: &Route, peer: PeerId, now: Instant) -> bool {
        let Some(state) = self.peers.get(&peer) else { return false };
        if state.is_asked_for() || !state.retry.may_try(now) {
            return false;
        }
        let under_way = state.dialling.len();
        if under_way == 0 {
            return true;
        }
        let several = self.takes_pairs_one_by_one(peer, now);
        if several && under_way >= self.limits.peer_dials {
            self.full(route, peer);
        }
        several && under_way < self.limits.peer_dials
    }

    /// `route` has to wait because of `limits.peer_dials`; told when it begins to.
    pub(super) fn full(&mut self, route: &Route, peer: PeerId) {
        let waits = Placement::Waiting(Hop::Peer(peer));
        if self.routes.get(route).is_some_and(|state| state.placement != waits) {
            self.actions.push(Action::LimitHit { limit: "peer_dials" });
        }
    }

    /// Something goes on waiting for `peer`, maybe because of `limits.peer_dials`.
    pub(super) fn still_full(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(|state| state.dialling.len() >= self.limits.peer_dials) {
            self.actions.push(Action::LimitHit { limit: "peer_dials" });
        }
    }

    /// Whether one more attempt to reach `peer` could begin at all.
    pub(super) fn has_room(&self, peer: PeerId, now: Instant) -> bool {
        let Some(state) = self.peers.get(&peer) else { return false };
        let most = if self.takes_pairs_one_by_one(peer, now) { self.limits.peer_dials } else { 1 };
        !state.is_asked_for() && state.retry.may_try(now) && state.dialling.len() < most
    }

    /// Whether `peer` is known to be up, and to take a connection for each pair of domains: we hold one such.
    pub(super) fn takes_pairs_one_by_one(&self, peer: PeerId, now: Instant) -> bool {
        let Some(state) = self.peers.get(&peer) else { return false };
        let leads_there = |id: &&SessionId| {
            self.sessions.get(id).is_some_and(|entry| !entry.retiring && entry.pinned.contains(&peer))
        };
        !state.retry.is_down()
            && self.sessions.keys().filter(leads_there).any(|id| self.is_for_one_pair(*id, peer, now))
    }

    /// Whether `id`, a session that we dialled for `peer`, carries no pair but the one that it was dialled for.
    pub(super) fn is_for_one_pair(&self, id: SessionId, peer: PeerId, now: Instant) -> bool {
        let Some(entry) = self.sessions.get(&id) else { return false };
        let Some(session) = &entry.session else { return false };
        // The second connection of a proof carries one host's pairs because we want it so.
        let own = entry.dialled && matches!(entry.purpose, Purpose::Own);
        let alone = session.facts().single && !session.is_multiplexed();
        own && (alone || self.is_single_stream(peer, now))
    }
}
