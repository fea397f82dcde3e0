//! The remote side: sessions, their lanes, and the choice among them.

use std::collections::BTreeSet;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::{Action, Again, Carrier, Lane, LaneId, PeerId, Placement, Router, SessionEntry, SessionId};
use crate::proto::session::{Lanes, Session};
use crate::reason::Reason;
use crate::xmpp::route::Route;

/// Why a lane that we opened did not come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneFailure {
    /// The pipelined negotiation was refused; step by step it may work.
    PipeliningRefused,
    /// The peer takes one stream for each connection.
    SingleStream,
    /// Anything else.
    Other(Reason),
}

impl Router {
    /// A session's first stream is authenticated, and the session may carry. `pinned`: the peers whose configured
    /// address it leads to.
    pub fn session_up(
        &mut self,
        id: SessionId,
        session: Session,
        pinned: &[PeerId],
        exporter: [u8; 32],
        now: Instant,
    ) {
        let entry = self.sessions.entry(id).or_insert_with(|| SessionEntry {
            session: None,
            pinned: Vec::new(),
            exporter,
            dialled: session.facts().dialled,
            retiring: false,
            lanes: BTreeSet::new(),
            by_route: FxHashMap::default(),
            laneless_since: Some(now),
        });
        entry.session = Some(session);
        entry.exporter = exporter;
        entry.pinned = pinned.to_vec();
        for peer in pinned {
            let Some(state) = self.peers.get_mut(peer.0) else { continue };
            state.retry.succeeded();
            if state.dialling.as_ref().is_some_and(|(dialled, _)| *dialled == id) {
                state.dialling = None;
            }
            self.place_waiting(*peer, now);
        }
    }

    /// A connection that we dialled did not become a session.
    pub fn dial_failed(&mut self, id: SessionId, reason: Reason, now: Instant) {
        let Some(entry) = self.sessions.remove(&id) else { return };
        let routes: Vec<Route> =
            entry.lanes.iter().filter_map(|lane| self.lanes.remove(lane)).flat_map(|l| l.routes).collect();
        for peer in entry.pinned {
            let Some(state) = self.peers.get_mut(peer.0) else { continue };
            let dialled = state.dialling.take().map(|(_, route)| route);
            state.retry.failed(reason, now, &self.limits, &mut self.jitter);
            if reason.is_permanent() {
                let until = now + self.limits.retry_max;
                for route in routes.iter().chain(&dialled) {
                    state.refused.insert(route.to.clone(), (until, reason));
                }
                // It says something about these domains, nothing about the others of this peer.
                state.retry.succeeded();
            }
            let waiting: Vec<Route> = state.waiting.iter().cloned().collect();
            for route in waiting {
                if let Some(known) = self.routes.get_mut(&route) {
                    known.reason = reason;
                }
            }
            self.detach_all(routes.iter().cloned(), Again::AtOnce, reason);
            self.place_waiting(peer, now);
        }
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
        self.sessions.remove(&id);
    }

    /// A session takes no new lanes and drains: its certificates or its age near their end.
    pub fn session_retires(&mut self, id: SessionId, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        entry.retiring = true;
        if entry.lanes.is_empty() {
            entry.laneless_since = Some(now);
        }
        for lane in &entry.lanes {
            if self.lanes.get(lane).is_some_and(|l| l.initiated) {
                self.actions.push(Action::CloseLane { lane: *lane, reason: Reason::Idle });
            }
        }
    }

    /// The peer opened a lane and was believed on it; `route` is the direction that WE could send on it, if `bidi`.
    pub fn peer_lane_up(&mut self, id: SessionId, lane: LaneId, route: &Route, bidi: bool, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.lanes.insert(lane);
        session.laneless_since = None;
        let mut offers = BTreeSet::new();
        if bidi {
            session.by_route.entry(route.clone()).or_insert(lane);
            offers.insert(route.clone());
        }
        let carrier = Carrier::Session(id);
        let entry =
            Lane { carrier, initiated: false, up: true, closing: false, routes: BTreeSet::new(), offers };
        self.lanes.insert(lane, entry);
        if self.routes.get(route).is_some_and(|state| state.placement == Placement::Waiting) {
            self.place(route, now);
        }
    }

    /// A lane that we opened is established.
    pub fn lane_established(&mut self, lane: LaneId) {
        self.settle(lane);
    }

    /// A lane that we opened did not come to be; the session stands.
    pub fn lane_failed(&mut self, lane: LaneId, failure: LaneFailure, now: Instant) {
        let (reason, again) = match failure {
            LaneFailure::PipeliningRefused => (Reason::ExternalRefused, Again::Plain),
            LaneFailure::SingleStream => (Reason::NotMultiplexed, Again::AtOnce),
            LaneFailure::Other(reason) => (reason, Again::NotBefore(now + self.limits.retry_min)),
        };
        let Some(entry) = self.remove_lane(lane, now) else { return };
        for route in &entry.routes {
            let Some(peer) = self.peer_for(&route.to).and_then(|peer| self.peers.get_mut(peer.0)) else {
                continue;
            };
            if failure == LaneFailure::SingleStream {
                peer.single_stream_until = Some(now + self.limits.single_stream_memory);
            } else if reason.is_permanent() && again != Again::Plain {
                peer.refused.insert(route.to.clone(), (now + self.limits.retry_max, reason));
            }
        }
        self.detach_all(entry.routes, again, reason);
    }

    /// A lane is finishing: it takes no further route.
    pub fn lane_closing(&mut self, lane: LaneId) {
        if let Some(entry) = self.lanes.get_mut(&lane) {
            entry.closing = true;
        }
    }

    /// A lane of the remote side is gone.
    pub fn lane_down(&mut self, lane: LaneId, reason: Reason, now: Instant) {
        let Some(entry) = self.remove_lane(lane, now) else { return };
        self.detach_all(entry.routes, Again::AtOnce, reason);
    }

    fn remove_lane(&mut self, lane: LaneId, now: Instant) -> Option<Lane> {
        let entry = self.lanes.remove(&lane)?;
        if let Carrier::Session(id) = entry.carrier
            && let Some(session) = self.sessions.get_mut(&id)
        {
            session.lanes.remove(&lane);
            for route in entry.offers.iter().chain(&entry.routes) {
                if session.by_route.get(route) == Some(&lane) {
                    session.by_route.remove(route);
                }
            }
            if session.lanes.is_empty() {
                session.laneless_since = Some(now);
            }
        }
        Some(entry)
    }

    pub(super) fn place_remote(&mut self, route: &Route, now: Instant) {
        if let Err(reason) = self.hosts.policy(&route.to) {
            return self.give_up(route, reason);
        }
        let Some(peer) = self.peer_for(&route.to) else {
            return self.give_up(route, Reason::NoRoute);
        };
        if let Some(session) = self.choose(route, peer, now) {
            return self.place_in(route, session);
        }
        let Some(state) = self.peers.get_mut(peer.0) else { return };
        if let Some((until, reason)) = state.refused.get(&route.to).copied() {
            if until > now {
                return self.give_up(route, reason);
            }
            state.refused.remove(&route.to);
        }
        if let Some(reason) = state.retry.long_down(now, &self.limits) {
            return self.give_up(route, reason);
        }
        state.waiting.insert(route.clone());
        if state.dialling.is_none() && state.retry.may_try(now) {
            self.dial(route, peer);
        }
    }

    fn dial(&mut self, route: &Route, peer: PeerId) {
        let session = SessionId(self.fresh());
        let lane = LaneId(self.fresh());
        self.sessions.insert(
            session,
            SessionEntry {
                session: None,
                pinned: vec![peer],
                exporter: [0; 32],
                dialled: true,
                retiring: false,
                lanes: BTreeSet::from([lane]),
                by_route: FxHashMap::from_iter([(route.clone(), lane)]),
                laneless_since: None,
            },
        );
        if let Some(state) = self.peers.get_mut(peer.0) {
            state.dialling = Some((session, route.clone()));
        }
        self.new_lane(lane, session);
        self.actions.push(Action::Dial { peer, session, lane, route: route.clone() });
        self.attach(route, lane);
    }

    /// The session that carries `route`: pinned, proven at both ends, the smallest exporter value.
    fn choose(&self, route: &Route, peer: PeerId, now: Instant) -> Option<SessionId> {
        let single = self.peers.get(peer.0)?.single_stream_until.is_some_and(|until| until > now);
        let may = |entry: &SessionEntry| {
            let session = entry.session.as_ref()?;
            let carries = !entry.retiring && entry.pinned.contains(&peer) && session.may_carry(route).is_ok();
            let room = if single { entry.lanes.is_empty() } else { session.may_open() };
            let lane_there = self.lane_in(entry, route).is_some();
            (carries && (room || lane_there)).then_some(entry.exporter)
        };
        self.sessions.iter().filter_map(|(id, entry)| Some((may(entry)?, *id))).min().map(|(_, id)| id)
    }

    /// A lane of `entry` that can take `route` as it is.
    fn lane_in(&self, entry: &SessionEntry, route: &Route) -> Option<LaneId> {
        let shared = entry.session.as_ref().is_some_and(|session| session.facts().lanes == Lanes::Shared);
        let usable = |lane: &LaneId| {
            self.lanes.get(lane).is_some_and(|l| !l.closing && (l.initiated || !l.offers.is_empty()))
        };
        if shared {
            entry.lanes.iter().copied().find(usable)
        } else {
            entry.by_route.get(route).copied().filter(usable)
        }
    }

    fn place_in(&mut self, route: &Route, id: SessionId) {
        let Some(entry) = self.sessions.get(&id) else { return };
        if let Some(lane) = self.lane_in(entry, route) {
            return self.attach(route, lane);
        }
        let lane = LaneId(self.fresh());
        if let Some(entry) = self.sessions.get_mut(&id) {
            entry.lanes.insert(lane);
            entry.laneless_since = None;
            entry.by_route.insert(route.clone(), lane);
        }
        self.new_lane(lane, id);
        let plain = self.routes.get(route).is_some_and(|state| state.plain);
        self.actions.push(Action::OpenLane { session: id, lane, route: route.clone(), plain });
        self.attach(route, lane);
    }

    fn new_lane(&mut self, lane: LaneId, session: SessionId) {
        let carrier = Carrier::Session(session);
        let entry = Lane {
            carrier,
            initiated: true,
            up: false,
            closing: false,
            routes: BTreeSet::new(),
            offers: BTreeSet::new(),
        };
        self.lanes.insert(lane, entry);
    }

    /// Whatever waits for `peer` is placed anew: a session came, or an attempt failed.
    fn place_waiting(&mut self, peer: PeerId, now: Instant) {
        let waiting: Vec<Route> =
            self.peers.get(peer.0).map(|p| p.waiting.iter().cloned().collect()).unwrap_or_default();
        for route in waiting {
            self.place(&route, now);
        }
    }

    pub(super) fn retry_waiting(&mut self, now: Instant) {
        for index in 0..self.peers.len() {
            let peer = &self.peers[index];
            if peer.dialling.is_none() && !peer.waiting.is_empty() && peer.retry.may_try(now) {
                self.place_waiting(PeerId(index), now);
            }
        }
        self.retry_servers(now);
    }

    pub(super) fn session_deadline(&self) -> Option<Instant> {
        let idle = self.sessions.values().filter(|entry| entry.dialled && entry.session.is_some());
        idle.filter_map(|entry| self.closes_at(entry)).min()
    }

    fn closes_at(&self, entry: &SessionEntry) -> Option<Instant> {
        let since = entry.laneless_since?;
        Some(if entry.retiring { since } else { since + self.limits.session_idle })
    }

    pub(super) fn close_idle_sessions(&mut self, now: Instant) {
        let due: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, entry)| entry.dialled && entry.session.is_some())
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
