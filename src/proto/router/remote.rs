//! The remote side: which session carries a route, and when to dial for one.

use std::collections::BTreeSet;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::peers::PeerState;
use super::proofs::Purpose;
use super::{Action, Carrier, Hop, Lane, LaneId, PeerId, REFUSALS_MAX, Router, SessionEntry, SessionId};
use crate::proto::admission::Direction;
use crate::reason::Reason;
use crate::xmpp::route::Route;

impl Router {
    pub(super) fn place_remote(&mut self, route: &Route, now: Instant) {
        if !self.hosts.serves(&route.from) {
            // Taken away while something waited.
            return self.give_up(route, Reason::HostGone);
        }
        if let Err(reason) = self.hosts.policy(Direction::Outbound, &route.from, &route.to) {
            return self.give_up(route, reason);
        }
        let peer = match self.peer_or_search(&route.to, now) {
            Ok(peer) => peer,
            Err(reason) => return self.give_up(route, reason),
        };
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if let Some((until, reason)) = state.refused.get(route).copied() {
            if until > now {
                return self.refused_until(route, peer, reason, until);
            }
            state.refused.remove(route);
        }
        if !state.is_known(now) {
            return self.place_when_found(route, peer, now);
        }
        if let Some(session) = self.choose(route, peer, now) {
            return self.place_in(route, session);
        }
        if self.waits_for_proof(route, peer, now) {
            return self.wait_for(route, Hop::Peer(peer));
        }
        let Some(state) = self.peers.get(&peer) else { return };
        if state.has_no_records() {
            return self.give_up(route, Reason::NoRecords);
        }
        if let Some(reason) = state.retry.long_down(now, &self.limits) {
            return self.turn_away(route, Hop::Peer(peer), reason);
        }
        if !self.may_dial(route, peer, now) || self.waits_for_another(route, peer, now) {
            return self.wait_for(route, Hop::Peer(peer));
        }
        // A connection for each pair ends somewhere.
        let dialled = self.sessions.values().filter(|session| session.dialled).count();
        if dialled >= self.limits.remote_connections {
            return self.give_up(route, Reason::TooMany);
        }
        self.dial(route, peer, now);
    }

    /// `route` waits until it is known where its peer is.
    fn place_when_found(&mut self, route: &Route, peer: PeerId, now: Instant) {
        let Some(state) = self.peers.get(&peer) else { return };
        if let Some(reason) = state.retry.long_down(now, &self.limits) {
            return self.turn_away(route, Hop::Peer(peer), reason);
        }
        let may_try = state.retry.may_try(now);
        self.wait_for(route, Hop::Peer(peer));
        if may_try {
            self.search(peer);
        }
    }

    fn dial(&mut self, route: &Route, peer: PeerId, now: Instant) {
        let (session, lane) = self.new_session(route, peer, Purpose::Own);
        if let Some(state) = self.peers.get_mut(&peer) {
            state.dialling.insert(session);
            state.behind = None;
        }
        self.goes_ahead(session, peer);
        self.order_dial(peer, (session, lane), route.clone(), false, now);
        self.attach(route, lane);
    }

    pub(super) fn order_dial(
        &mut self,
        peer: PeerId,
        (session, lane): (SessionId, LaneId),
        route: Route,
        second: bool,
        now: Instant,
    ) {
        let state = self.peers.get(&peer);
        let found = state.and_then(PeerState::records);
        let prefer = state.and_then(|state| state.preference.transport(now));
        let in_vain = state.map(|state| state.preference.in_vain(now)).unwrap_or_default();
        let plain = state.is_some_and(|state| state.plain_until.is_some_and(|until| until > now))
            || self.routes.get(&route).is_some_and(|state| state.plain);
        self.actions.push(Action::Dial { peer, found, prefer, in_vain, session, lane, route, second, plain });
    }

    /// A session that is being dialled, and its first lane.
    pub(super) fn new_session(
        &mut self,
        route: &Route,
        peer: PeerId,
        purpose: Purpose,
    ) -> (SessionId, LaneId) {
        let session = SessionId(self.fresh());
        let lane = LaneId(self.fresh());
        let entry = SessionEntry {
            pinned: vec![peer],
            lanes: BTreeSet::from([lane]),
            by_route: FxHashMap::from_iter([(route.clone(), lane)]),
            purpose,
            laneless_since: None,
            ..SessionEntry::new(true)
        };
        self.sessions.insert(session, entry);
        self.lanes.insert(lane, Lane::opening(Carrier::Session(session), route));
        (session, lane)
    }

    /// A pair was refused, and trying it again at once can't help.
    pub(super) fn remember_refusal(&mut self, peer: PeerId, route: &Route, reason: Reason, now: Instant) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.refused.len() >= REFUSALS_MAX {
            state.refused.retain(|_, (until, _)| *until > now);
        }
        if state.refused.len() >= REFUSALS_MAX {
            // Any of them: it costs one more attempt.
            if let Some(forgotten) = state.refused.keys().next().cloned() {
                state.refused.remove(&forgotten);
            }
        }
        state.refused.insert(route.clone(), (now + self.limits.retry_max, reason));
    }

    pub(super) fn is_single_stream(&self, peer: PeerId, now: Instant) -> bool {
        let until = self.peers.get(&peer).and_then(|peer| peer.single_stream_until);
        until.is_some_and(|until| until > now)
    }

    /// The session that carries `route`: pinned, proven at both ends, the smallest exporter value, as the other end chooses it; one that is
    /// mute only if there is no other.
    pub(super) fn choose(&self, route: &Route, peer: PeerId, now: Instant) -> Option<SessionId> {
        let single = self.is_single_stream(peer, now);
        let may = |entry: &SessionEntry| {
            let session = entry.session.as_ref()?;
            // Of a host proven by a secret its holder itself said that this session carries it.
            let leads = entry.pinned.contains(&peer) || session.theirs_granted(&route.to);
            let carries = !entry.retiring && leads && session.may_carry(route).is_ok();
            // A connection that was good for one stream isn't good for a second one when the first has gone.
            let room = !single && session.may_open();
            (carries && (room || self.lane_in(entry, route).is_some()))
                .then_some((entry.mute, entry.exporter))
        };
        self.sessions.iter().filter_map(|(id, entry)| Some((may(entry)?, *id))).min().map(|(_, id)| id)
    }

    /// A lane of `entry` that can take `route` as it is.
    fn lane_in(&self, entry: &SessionEntry, route: &Route) -> Option<LaneId> {
        let usable = |lane: &LaneId| {
            self.lanes.get(lane).is_some_and(|lane| !lane.closing && (lane.ours || !lane.offers.is_empty()))
        };
        if entry.shares_lanes() {
            entry.lanes.iter().copied().find(usable)
        } else {
            entry.by_route.get(route).copied().filter(usable)
        }
    }

    fn place_in(&mut self, route: &Route, id: SessionId) {
        let Some(entry) = self.sessions.get(&id) else { return };
        let resumes = self.routes.get(route).is_some_and(|state| state.resumes) && entry.may_open();
        if let Some(lane) = self.lane_in(entry, route).filter(|_| !resumes) {
            return self.attach(route, lane);
        }
        let lane = LaneId(self.fresh());
        if let Some(entry) = self.sessions.get_mut(&id) {
            entry.lanes.insert(lane);
            entry.laneless_since = None;
            entry.by_route.insert(route.clone(), lane);
        }
        self.lanes.insert(lane, Lane::opening(Carrier::Session(id), route));
        let plain = self.routes.get(route).is_some_and(|state| state.plain);
        self.actions.push(Action::OpenLane { session: id, lane, route: route.clone(), plain });
        self.attach(route, lane);
    }

    /// Whatever waits for `peer` is placed anew: a session came, or an attempt failed.
    pub(super) fn place_waiting(&mut self, peer: PeerId, now: Instant) {
        let waiting = self.peers.get(&peer).map(|peer| peer.waiting.clone()).unwrap_or_default();
        for route in waiting {
            self.place(&route, now);
        }
    }

    /// The same when all that has changed is that one more attempt may begin.
    pub(super) fn dial_waiting(&mut self, peer: PeerId, now: Instant) {
        let waiting = self.peers.get(&peer).map(|peer| peer.waiting.clone()).unwrap_or_default();
        for route in waiting {
            // Looking at all of them each time would cost millions of decisions where a thousand wait.
            if !self.has_room(peer, now) {
                return self.still_full(peer);
            }
            self.place(&route, now);
        }
    }

    pub(super) fn retry_peers(&mut self, now: Instant) {
        let due =
            |peer: &&mut PeerState| peer.is_idle() && !peer.waiting.is_empty() && peer.retry.may_try(now);
        let due: Vec<PeerId> = self
            .peers
            .iter_mut()
            .filter_map(|(id, peer)| {
                let due = Some(peer).filter(due)?;
                // Its time has come and is told once: what waits for a proof doesn't dial, and would be woken for ever.
                due.retry.hurry();
                Some(*id)
            })
            .collect();
        for peer in due {
            self.place_waiting(peer, now);
        }
    }
}
