//! Domains whose records lead to the very same addresses: a provider's. The first stanzas for all of them, as after a
//! restart, make one connection and not one for each. The first domain's attempt goes ahead; the others wait for its
//! end, once. If it comes up, those that its peer proves use it, and the rest dial for themselves, `limits.peer_dials` at a
//! time; if nobody answered, nobody will have answered them either, and each tries again after a back-off of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use super::{PeerId, Router, SessionId};
use crate::proto::discovery::Transport;
use crate::proto::session::Session;
use crate::reason::Reason;
use crate::xmpp::route::Route;

/// Everywhere where a found peer is dialled, in a fixed order.
pub(super) type Places = Vec<(Transport, SocketAddr)>;

/// What goes on at the same places.
#[derive(Debug, Default)]
pub(super) struct AtPlaces {
    /// The sessions that are being dialled there.
    pub(super) under_way: BTreeSet<SessionId>,
    /// The peers that wait for one of these to end, because they are as many as may be.
    crowd: BTreeSet<PeerId>,
}

/// What a session that is being dialled goes ahead of.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    places: Option<Places>,
    /// They are at the same places, and wait for it.
    pub(super) behind: BTreeSet<PeerId>,
}

impl Router {
    fn places(&self, peer: PeerId) -> Option<Places> {
        let records = self.peers.get(&peer)?.records()?;
        let each = records
            .ways()
            .iter()
            .flat_map(|way| way.addresses.iter().map(|address| (way.candidate.transport, *address)));
        let mut places: Places = each.collect();
        places.sort_unstable();
        places.dedup();
        Some(places)
    }

    /// Whether `peer`, for which `route` waits, waits for another's attempt to reach the same places, or for a place among
    /// those that are made there at once.
    pub(super) fn waits_for_another(&mut self, route: &Route, peer: PeerId, now: Instant) -> bool {
        let Some(places) = self.places(peer) else { return false };
        let Some(at) = self.abreast.get(&places) else { return false };
        let Some(ahead) = at.under_way.first().copied() else { return false };
        if at.under_way.len() >= self.limits.peer_dials {
            self.full(route, peer);
            self.abreast.entry(places).or_default().crowd.insert(peer);
            return true;
        }
        // Where its own connections have come up it knows all that another's attempt could tell.
        if self.takes_pairs_one_by_one(peer, now) {
            return false;
        }
        let (Some(entry), Some(state)) = (self.sessions.get_mut(&ahead), self.peers.get_mut(&peer)) else {
            return false;
        };
        // For one attempt only: a hundred of them one after the other would take too long.
        let waits = *state.behind.get_or_insert(ahead) == ahead;
        if waits {
            entry.ahead.behind.insert(peer);
        }
        waits
    }

    /// `session` is dialled for `peer`: others that are to be reached at the same places may wait for it.
    pub(super) fn goes_ahead(&mut self, session: SessionId, peer: PeerId) {
        let Some(places) = self.places(peer) else { return };
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.ahead.places = Some(places.clone());
            self.abreast.entry(places).or_default().under_way.insert(session);
        }
    }

    /// The session `id` is up, or gone: whoever waited for it goes on.
    pub(super) fn let_pass(&mut self, id: SessionId, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        let ahead = std::mem::take(&mut entry.ahead);
        let shares = entry.session.as_ref().is_some_and(Session::is_multiplexed);
        self.ends(id, ahead.places.as_ref());
        for peer in ahead.behind {
            self.place_waiting(peer, now);
        }
        self.fill(ahead.places.as_ref(), shares, now);
    }

    /// The attempt `id`, which went `ahead`, failed.
    pub(super) fn fails_for_all(&mut self, id: SessionId, ahead: Ahead, reason: Reason, now: Instant) {
        self.ends(id, ahead.places.as_ref());
        for peer in ahead.behind {
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            // What is permanent was said of the other domain.
            if !reason.is_permanent() {
                state.behind = None;
                state.retry.failed(reason, now, &self.limits, &mut self.jitter);
                for route in &state.waiting {
                    if let Some(known) = self.routes.get_mut(route) {
                        known.reason = reason;
                    }
                }
            }
            self.place_waiting(peer, now);
        }
        self.fill(ahead.places.as_ref(), false, now);
    }

    /// The attempt `id` is no longer under way.
    fn ends(&mut self, id: SessionId, places: Option<&Places>) {
        if let Some(at) = places.and_then(|places| self.abreast.get_mut(places)) {
            at.under_way.remove(&id);
        }
    }

    /// An attempt at these places has ended, and leaves room for others. `shares`: what came of it may carry all that waits.
    fn fill(&mut self, places: Option<&Places>, shares: bool, now: Instant) {
        let Some(places) = places else { return };
        let Some(at) = self.abreast.get_mut(places) else { return };
        if shares {
            for peer in std::mem::take(&mut at.crowd) {
                self.place_waiting(peer, now);
            }
        }
        // Of the others only as many are looked at as there is room for.
        while let Some(at) = self.abreast.get_mut(places) {
            if at.under_way.len() >= self.limits.peer_dials {
                return;
            }
            let Some(next) = at.crowd.pop_first() else { break };
            self.place_waiting(next, now);
        }
        if self.abreast.get(places).is_some_and(|at| at.under_way.is_empty()) {
            self.abreast.remove(places);
        }
    }
}
