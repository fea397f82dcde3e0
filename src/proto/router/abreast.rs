//! Domains whose records lead to the very same addresses: a provider's. The first stanzas for all of them, as after a
//! restart, make one connection and not one for each. The first domain's attempt goes ahead; the others wait for its
//! end, once. If it comes up, those that its peer proves use it, and the rest dial for themselves; if nobody answered,
//! nobody will have answered them either, and each tries again after a back-off of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use super::{PeerId, Router, SessionId};
use crate::proto::discovery::Transport;
use crate::reason::Reason;

/// Everywhere where a found peer is dialled, in a fixed order.
pub(super) type Places = Vec<(Transport, SocketAddr)>;

/// What a session that is being dialled goes ahead of.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    places: Option<Places>,
    behind: BTreeSet<PeerId>,
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

    /// Whether `peer` waits for another's attempt to reach the same places.
    pub(super) fn waits_for_another(&mut self, peer: PeerId) -> bool {
        let ahead = self.places(peer).and_then(|places| self.abreast.get(&places).copied());
        let Some(ahead) = ahead else { return false };
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

    /// `session` is dialled for `peer`, if nobody dials the same places yet ahead of others.
    pub(super) fn goes_ahead(&mut self, session: SessionId, peer: PeerId) {
        let Some(places) = self.places(peer).filter(|places| !self.abreast.contains_key(places)) else {
            return;
        };
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.ahead.places = Some(places.clone());
            self.abreast.insert(places, session);
        }
    }

    /// An attempt has ended: nobody waits for it any more. Whoever did.
    pub(super) fn ends(&mut self, ahead: &mut Ahead) -> BTreeSet<PeerId> {
        if let Some(places) = ahead.places.take() {
            self.abreast.remove(&places);
        }
        std::mem::take(&mut ahead.behind)
    }

    /// The session `id` is up, or gone: whoever waited for it goes on.
    pub(super) fn let_pass(&mut self, id: SessionId, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        let mut ahead = std::mem::take(&mut entry.ahead);
        for peer in self.ends(&mut ahead) {
            self.place_waiting(peer, now);
        }
    }

    /// The attempt for which `behind` waited failed.
    pub(super) fn fails_for_all(&mut self, behind: BTreeSet<PeerId>, reason: Reason, now: Instant) {
        for peer in behind {
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
    }
}
