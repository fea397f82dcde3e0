//! Sessions come up, retire, fall idle and go.

use std::time::Instant;

use rustc_hash::FxHashSet;

use super::preference::{Place, is_of_place};
use super::proofs::Purpose;
use super::{Action, Again, LaneId, PeerId, Placement, Router, SessionEntry, SessionFacts, SessionId};
use crate::proto::session::Session;
use crate::reason::Reason;
use crate::xmpp::route::Route;

/// A session that the peer opened may be so many times as long without a lane as one of ours: its dialler closes it in good time, and
/// who doesn't would hold a place of `limits.remote_connections` for the life of its certificate.
const ACCEPTED: u32 = 10;

impl Router {
    /// A session's first stream is authenticated, and the session may carry; also when a later stream of it agreed to
    /// more. The stream itself is told next
    /// ([`Router::peer_lane_up`], [`Router::lane_established`]), and then whatever waits is placed: one pair may
    /// already have its lane with it.
    pub fn session_up(&mut self, id: SessionId, session: Session, facts: SessionFacts, now: Instant) {
        let dialled = session.facts().dialled;
        let entry = self
            .sessions
            .entry(id)
            .or_insert_with(|| SessionEntry { laneless_since: Some(now), ..SessionEntry::new(dialled) });
        let SessionFacts { pinned, place, exporter, mux_exporter, anchor } = facts;
        let reached = Some((place.transport, place.address)).filter(|_| dialled && entry.session.is_none());
        entry.place = Some(place);
        entry.since.get_or_insert(now);
        let session = entry.session.insert(session);
        session.set_hosts(&self.hosts);
        entry.exporter = exporter;
        entry.mux_exporter = mux_exporter;
        entry.anchor.get_or_insert(anchor);
        // The peer that it was dialled for is one of them, whatever the shell says.
        let mut pins = std::mem::take(&mut entry.pinned);
        pins.extend(pinned);
        pins.sort_unstable();
        pins.dedup();
        let named = pins.iter().find_map(|peer| self.peers.get(peer)?.proofs);
        entry.verifier.allow(named.unwrap_or(self.limits.proofs()));
        entry.pinned = pins;
        entry.news = true;
        for peer in &entry.pinned {
            if let (Some(place), Some(state)) = (reached, self.peers.get_mut(peer)) {
                state.preference.reached(place, now);
            }
        }
        self.match_peers(id, now);
    }

    /// A lane of session `id` is up. If the session is news, whatever waits for it is placed.
    pub(super) fn tell_news(&mut self, id: SessionId, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&id).filter(|entry| entry.session.is_some()) else { return };
        if std::mem::take(&mut entry.news) {
            let pinned = entry.pinned.clone();
            self.proofs_follow(id, now);
            for peer in pinned {
                self.peer_is_back(peer, id, now);
            }
            self.let_pass(id, now);
            self.second_up(id, now);
            self.ask_held(now);
        }
    }

    /// `peer` has a session: whatever waits for it need not wait for its own attempt.
    fn peer_is_back(&mut self, peer: PeerId, id: SessionId, now: Instant) {
        let (Some(state), Some(entry)) = (self.peers.get_mut(&peer), self.sessions.get(&id)) else { return };
        let was_down = state.retry.is_down();
        state.retry.succeeded();
        let dialled = state.dialling.remove(&id);
        // It carries that host's pairs and no others, and nothing else has changed.
        let alone = match &entry.purpose {
            Purpose::Proof { host, .. } if !was_down => Some(host.clone()),
            _ => None,
        };
        let carries = |route: &Route| entry.session.as_ref().is_some_and(|s| s.may_carry(route).is_ok());
        state.refused.retain(|route, _| !carries(route));
        let attempts = state.dialling.iter().filter_map(|other| self.sessions.get(other));
        let under_way: Vec<LaneId> = attempts.flat_map(|attempt| attempt.lanes.iter().copied()).collect();
        // A session for one pair alone carries nothing of what waits.
        let one_more = dialled && !was_down && self.is_for_one_pair(id, peer, now);
        let ahead = |lane: &LaneId| self.lanes.get(lane).is_some_and(|entry| entry.ahead);
        let under_way: Vec<LaneId> = under_way.into_iter().filter(|lane| !ahead(lane)).collect();
        for lane in under_way {
            // Nothing was sent on it yet, so nothing can be overtaken.
            let routes = self.lanes.get(&lane).map(|entry| entry.routes.clone()).unwrap_or_default();
            for route in routes.iter() {
                if self.choose(route, peer, now).is_none() {
                    continue;
                }
                if let Some(entry) = self.lanes.get_mut(&lane) {
                    entry.routes.remove(route);
                }
                if let Some(known) = self.routes.get_mut(route) {
                    known.placement = Placement::Unplaced;
                }
                self.place(route, now);
            }
        }
        if let Some(host) = alone {
            return self.place_waiting_with(peer, &host, now);
        }
        if one_more {
            return self.dial_waiting(peer, now);
        }
        self.place_waiting(peer, now);
        let later: Vec<Route> = self.later.iter().map(|(_, route)| route.clone()).collect();
        for route in later {
            if self.peer_for(&route.to) == Some(peer) {
                self.place_early(&route, now);
            }
        }
    }

    /// A connection that we dialled has led there, and comes to its end before a stream of it was authenticated; said before
    /// [`Router::session_down`].
    pub fn came_to_nothing(&mut self, id: SessionId, place: Place, reason: Reason, now: Instant) {
        let Some(entry) = self.sessions.get(&id) else { return };
        // What we have ended ourselves says nothing.
        if entry.session.is_some() || entry.again_plain || entry.retiring {
            return;
        }
        // Who is at the same places, and has waited for this attempt, learns it as well; but what is said of a pair is said of its peer.
        let behind = entry.ahead.behind.iter().filter(|_| is_of_place(reason));
        let concerned: Vec<PeerId> = entry.pinned.iter().chain(behind).copied().collect();
        let stand_there: FxHashSet<PeerId> = self
            .sessions
            .values()
            .filter(|other| other.session.is_some())
            .filter(|other| other.place.as_ref().is_some_and(|at| (at.transport, at.address) == place))
            .flat_map(|other| other.pinned.iter().copied())
            .collect();
        for peer in concerned {
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            if !is_of_place(reason) {
                state.preference.forgive();
            } else if !stand_there.contains(&peer) {
                state.preference.in_vain_at(place, now);
            }
        }
    }

    /// A connection that we dialled did not become a session.
    pub fn dial_failed(&mut self, id: SessionId, reason: Reason, now: Instant) {
        let Some(mut entry) = self.sessions.remove(&id) else { return };
        let ahead = std::mem::take(&mut entry.ahead);
        let routes: Vec<Route> = entry
            .lanes
            .iter()
            .filter_map(|lane| self.lanes.remove(lane))
            .flat_map(|l| l.routes.into_vec())
            .collect();
        if let Purpose::Proof { first, host, .. } = entry.purpose {
            self.detach_all(routes, Again::AtOnce, reason, now);
            return self.second_unreached(id, &entry.pinned, &(first, host), reason, now);
        }
        for peer in entry.pinned {
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            state.dialling.remove(&id);
            if reason.is_permanent() {
                // It says something about these pairs, nothing about the others of this peer, which did answer.
                state.retry.succeeded();
                for route in routes.iter() {
                    self.remember_refusal(peer, route, reason, now);
                }
            } else {
                state.retry.failed(reason, now, &self.limits, &mut self.jitter);
                for route in &state.waiting {
                    if let Some(known) = self.routes.get_mut(route) {
                        known.reason = reason;
                    }
                }
            }
            self.detach_all(routes.iter().cloned(), Again::AtOnce, reason, now);
            self.place_waiting(peer, now);
        }
        self.fails_for_all(id, ahead, reason, now);
        self.ask_held(now);
    }

    /// The lanes of a session, those that are still being opened among them.
    #[must_use]
    pub fn lanes_of(&self, id: SessionId) -> Vec<LaneId> {
        self.sessions.get(&id).map(|entry| entry.lanes.iter().copied().collect()).unwrap_or_default()
    }

    /// A session is gone. Its lanes went before it.
    pub fn session_down(&mut self, id: SessionId, reason: Reason, now: Instant) {
        let Some(entry) = self.sessions.get(&id) else { return };
        if entry.session.is_none() {
            return self.dial_failed(id, reason, now);
        }
        for lane in entry.lanes.clone() {
            self.lane_down(lane, reason, now);
        }
        self.forget_proofs(id);
        self.let_pass(id, now);
        let Some(entry) = self.sessions.remove(&id) else { return };
        self.held_lost(id, reason, now);
        // Routes may have waited for proofs that are gone with it.
        let was_first = entry.session.is_some_and(|session| session.is_multiplexed());
        for peer in entry.pinned.into_iter().chain(entry.joining) {
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            if !state.dialling.remove(&id) && !was_first {
                continue;
            }
            self.place_waiting(peer, now);
        }
    }

    /// A session takes no new lanes and drains: its certificates or its age near their end.
    pub fn session_retires(&mut self, id: SessionId, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        entry.retiring = true;
        if entry.lanes.is_empty() {
            entry.laneless_since = Some(now);
        }
        for lane in &entry.lanes {
            if self.lanes.get(lane).is_some_and(|lane| lane.ours) {
                self.actions.push(Action::CloseLane { lane: *lane, reason: Reason::Idle });
            }
        }
    }

    pub(super) fn session_deadline(&self) -> Option<Instant> {
        let idle = self.sessions.values().filter(|entry| entry.session.is_some());
        idle.filter_map(|entry| self.closes_at(entry)).min()
    }

    fn closes_at(&self, entry: &SessionEntry) -> Option<Instant> {
        let since = entry.laneless_since?;
        let patience = match (entry.dialled, entry.retiring) {
            // One that retires needs a moment: the peer may be opening a lane, which is refused, so that it goes elsewhere at once. With
            // the connection it would be lost, and nobody would know what of it was handled.
            (true, true) => self.limits.ack_wait,
            (true, false) => self.limits.session_idle,
            (false, _) => self.limits.session_idle.saturating_mul(ACCEPTED),
        };
        Some(since + patience)
    }

    pub(super) fn close_idle_sessions(&mut self, now: Instant) {
        let due: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, entry)| entry.session.is_some())
            .filter(|(_, entry)| self.closes_at(entry).is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for session in due {
            if let Some(entry) = self.sessions.get_mut(&session) {
                // Said once; the shell reports the end by `session_down`.
                entry.laneless_since = None;
                entry.retiring = true;
            }
            self.actions.push(Action::CloseSession { session, reason: Reason::Idle });
        }
    }
}
