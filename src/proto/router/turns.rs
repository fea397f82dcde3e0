//! Proofs that wait for their turn: only so many are under way at once for one first session.
//!
//! With a hundred hosts at each end, ten thousand routes wait for two hundred proofs. When one of these has ended only
//! its own host's routes are looked at, and the next proof begins; looking at all of them each time would cost millions
//! of decisions under one lock.

use std::time::Instant;

use super::{Action, PeerId, Router, SessionId};
use crate::proto::mux::secret::Dialled;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

impl Router {
    /// Begin the proof of `host` for `first`, at once or when another has ended.
    pub(super) fn want_proof(
        &mut self,
        first: SessionId,
        peer: PeerId,
        host: Domain,
        dialled: Dialled,
        now: Instant,
    ) {
        if self.proofs.contains_key(&(first, host.clone())) {
            return;
        }
        if self.may_begin(first) {
            self.begin(first, peer, host, dialled, now);
        } else {
            self.actions.push(Action::LimitHit { limit: "proofs_under_way" });
            self.turns.entry(first).or_default().insert(host, (peer, dialled));
        }
    }

    pub(super) fn may_begin(&self, first: SessionId) -> bool {
        self.proofs.keys().filter(|(session, _)| *session == first).count() < self.limits.proofs_under_way
    }

    /// A proof for `first` has ended: others begin, for whose hosts stanzas still wait.
    pub(super) fn next_turn(&mut self, first: SessionId, now: Instant) {
        while self.may_begin(first) {
            let Some((host, (peer, dialled))) =
                self.turns.get_mut(&first).and_then(std::collections::BTreeMap::pop_first)
            else {
                self.turns.remove(&first);
                return;
            };
            let missing =
                self.sessions.get(&first).and_then(|entry| entry.session.as_ref()).is_some_and(|session| {
                    match dialled {
                        Dialled::ByVerifier => !session.theirs_proven(&host),
                        Dialled::ByProver => !session.ours_proven(&host),
                    }
                });
            let refused = self.is_remembered(peer, &host, now);
            if missing && !refused && self.waits_for_host(peer, &host) {
                self.want_proof(first, peer, host, dialled, now);
            }
        }
    }

    fn waits_for_host(&self, peer: PeerId, host: &Domain) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.waiting.iter().any(|route| concerns(route, host)))
    }

    /// Whatever waits for `peer` and comes from or goes to `host` is placed anew.
    pub(super) fn place_waiting_with(&mut self, peer: PeerId, host: &Domain, now: Instant) {
        let Some(state) = self.peers.get(&peer) else { return };
        let waiting: Vec<Route> =
            state.waiting.iter().filter(|route| concerns(route, host)).cloned().collect();
        for route in waiting {
            self.place(&route, now);
        }
    }
}

fn concerns(route: &Route, host: &Domain) -> bool {
    route.from == *host || route.to == *host
}
