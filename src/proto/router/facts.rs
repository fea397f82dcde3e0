//! What whoever operates the relay may know of the router: what is placed where, and what waits for what. Nothing here
//! changes anything.

use std::time::Instant;

use super::peers::PeerState;
use super::retry::Retry;
use super::{Carrier, Hop, Lane, LaneId, PeerId, Placement, RouteState, Router, SessionId};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// What a route without a lane waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// The answer of DNS.
    Records,
    /// A connection that is being made.
    Connection,
    /// A stream that is being negotiated.
    Stream,
    /// A host that is to join a session by a mux secret.
    Proof,
    /// The end of the back-off after a failed attempt, at this time.
    BackOff(Instant),
    /// One of our own servers, which was asked for and didn't answer.
    Server,
    /// A component that isn't connected.
    Component,
    /// Its turn: as many attempts are under way as may be.
    Turn,
}

impl Waits {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Connection => "connection",
            Self::Stream => "stream",
            Self::Proof => "proof",
            Self::BackOff(_) => "back-off",
            Self::Server => "server",
            Self::Component => "component",
            Self::Turn => "turn",
        }
    }
}

/// The words for what can be waited for.
const WAITS: [&str; 8] =
    ["records", "connection", "stream", "proof", "back-off", "server", "component", "turn"];

/// The words for what is going on with a peer.
const PEER_STATES: [&str; 5] = ["asking-dns", "dialling", "back-off", "refused", "idle"];

fn peer_state(asking: bool, dialling: usize, down: bool, refused: bool) -> &'static str {
    match (asking, dialling, down, refused) {
        (true, ..) => "asking-dns",
        (_, 1.., ..) => "dialling",
        (_, _, true, _) => "back-off",
        (.., true) => "refused",
        _ => "idle",
    }
}

/// Where one direction of a domain pair stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFacts {
    /// The direction.
    pub route: Route,
    /// The session that carries it, or is to.
    pub session: Option<SessionId>,
    /// What it waits for; `None`: its lane is up.
    pub waits: Option<Waits>,
    /// Why the last attempt to find it a lane failed, if one did.
    pub failed: Option<Reason>,
}

/// What is known of a next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopFacts {
    /// Attempts to reach it that are under way.
    pub dialling: usize,
    /// Routes that wait for it.
    pub waiting: usize,
    /// Since when every attempt has failed, and why the last one did.
    pub down: Option<(Instant, Reason)>,
    /// When the next attempt may be made, if not now.
    pub retry: Option<Instant>,
}

/// What is known of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFacts {
    /// The domain by which it was found; `None` for a `[[peer]]` entry.
    pub domain: Option<Domain>,
    /// Its records are being asked for.
    pub asking: bool,
    /// Pairs that were refused for a reason that waiting doesn't cure.
    pub refused: usize,
    /// Of those, one of the latest, why, and until when it isn't tried again.
    pub refusal: Option<(Route, Reason, Instant)>,
    /// It takes one stream for each connection.
    pub single_stream: bool,
    /// The rest.
    pub hop: HopFacts,
}

/// What one session carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionLoad {
    /// Its lanes.
    pub lanes: usize,
    /// Directions of domain pairs that are placed on them.
    pub routes: usize,
    /// It takes no new lane.
    pub retiring: bool,
}

impl PeerFacts {
    /// What is going on: `asking-dns`, `dialling`, `back-off`, `refused` or `idle`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        peer_state(self.asking, self.hop.dialling, self.hop.down.is_some(), self.refused > 0)
    }
}

impl HopFacts {
    fn of(retry: &Retry, dialling: usize, waiting: usize, now: Instant) -> Self {
        let retry_at = retry.at.filter(|at| *at > now);
        Self { dialling, waiting, down: retry.down(), retry: retry_at }
    }
}

impl Router {
    /// Where each route stands.
    #[must_use]
    pub fn route_facts(&self, now: Instant) -> Vec<RouteFacts> {
        self.routes.iter().map(|(route, state)| self.facts_of(route, state, now)).collect()
    }

    /// How many routes wait for each of the things that can be waited for.
    #[must_use]
    pub fn waits_counts(&self, now: Instant) -> [(&'static str, usize); 8] {
        let mut counts = WAITS.map(|waits| (waits, 0));
        for (route, state) in &self.routes {
            if let Some(waits) = self.stands(route, state, now).1
                && let Some((_, count)) = counts.iter_mut().find(|(word, _)| *word == waits.as_str())
            {
                *count += 1;
            }
        }
        counts
    }

    /// How many peers are in each state.
    #[must_use]
    pub fn peer_counts(&self, now: Instant) -> [(&'static str, usize); 5] {
        let mut counts = PEER_STATES.map(|state| (state, 0));
        for state in self.peers.values() {
            let word = peer_state(
                state.is_asked_for(),
                state.dialling.len(),
                state.retry.is_down(),
                state.refused.values().any(|(until, _)| *until > now),
            );
            if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == word) {
                *count += 1;
            }
        }
        counts
    }

    /// Where one route stands, if it is known.
    #[must_use]
    pub fn route_fact(&self, route: &Route, now: Instant) -> Option<RouteFacts> {
        self.routes.get(route).map(|state| self.facts_of(route, state, now))
    }

    fn facts_of(&self, route: &Route, state: &RouteState, now: Instant) -> RouteFacts {
        let (session, waits) = self.stands(route, state, now);
        // A route that has not failed yet says so by the reason for which it would expire.
        let failed = (waits.is_some() && state.reason != Reason::QueueTimeout).then_some(state.reason);
        RouteFacts { route: route.clone(), session, waits, failed }
    }

    /// The session that carries a route, or is to, and what it waits for.
    fn stands(&self, route: &Route, state: &RouteState, now: Instant) -> (Option<SessionId>, Option<Waits>) {
        let lane = match state.placement {
            Placement::On(lane) => self.lanes.get(&lane),
            Placement::Unplaced | Placement::Waiting(_) => None,
        };
        let session = match lane.map(|lane| lane.carrier) {
            Some(Carrier::Session(session)) => Some(session),
            Some(Carrier::Local) | None => None,
        };
        let waits = match (state.placement, lane) {
            (Placement::On(_), Some(Lane { up: true, .. })) => None,
            (Placement::On(_), _) => Some(self.waits_on(session)),
            (Placement::Waiting(hop), _) => Some(self.waits_for(route, hop, now)),
            (Placement::Unplaced, _) => Some(state.not_before.map_or(Waits::Turn, Waits::BackOff)),
        };
        (session, waits)
    }

    fn waits_on(&self, session: Option<SessionId>) -> Waits {
        let dialled = session.and_then(|session| self.sessions.get(&session));
        if dialled.is_some_and(|entry| entry.session.is_none()) { Waits::Connection } else { Waits::Stream }
    }

    fn waits_for(&self, route: &Route, hop: Hop, now: Instant) -> Waits {
        let peer = match hop {
            Hop::Server(_) => return Waits::Server,
            Hop::Component => return Waits::Component,
            Hop::Peer(peer) => peer,
        };
        let Some(state) = self.peers.get(&peer) else { return Waits::Turn };
        let joins = |(_, host): &&(SessionId, Domain)| *host == route.to || *host == route.from;
        match state.retry.at.filter(|at| *at > now) {
            _ if state.is_asked_for() => Waits::Records,
            _ if self.proofs.keys().any(|key| joins(&key)) => Waits::Proof,
            Some(at) => Waits::BackOff(at),
            None if !state.dialling.is_empty() => Waits::Connection,
            None => Waits::Turn,
        }
    }

    /// What is known of each peer.
    #[must_use]
    pub fn peer_facts(&self, now: Instant) -> Vec<(PeerId, PeerFacts)> {
        self.peers.iter().map(|(id, state)| (*id, self.facts_of_peer(*id, state, now))).collect()
    }

    /// What is known of one peer.
    #[must_use]
    pub fn peer_fact(&self, peer: PeerId, now: Instant) -> Option<PeerFacts> {
        self.peers.get(&peer).map(|state| self.facts_of_peer(peer, state, now))
    }

    fn facts_of_peer(&self, peer: PeerId, state: &PeerState, now: Instant) -> PeerFacts {
        let standing = state.refused.iter().filter(|(_, (until, _))| *until > now);
        let latest = standing.clone().max_by_key(|(_, (until, _))| *until);
        PeerFacts {
            domain: state.domain().cloned(),
            asking: state.is_asked_for(),
            refused: standing.count(),
            refusal: latest.map(|(route, (until, reason))| (route.clone(), *reason, *until)),
            single_stream: self.is_single_stream(peer, now),
            hop: HopFacts::of(&state.retry, state.dialling.len(), state.waiting.len(), now),
        }
    }

    /// What is known of the server of each `[[host]]` entry that was ever needed.
    #[must_use]
    pub fn server_facts(&self, now: Instant) -> Vec<(usize, HopFacts)> {
        let facts = self
            .servers
            .iter()
            .map(|(entry, server)| (*entry, HopFacts::of(server.retry(), 0, server.waiting.len(), now)));
        facts.collect()
    }

    /// The components that are waited for or connected, and whether they are.
    #[must_use]
    pub fn component_facts(&self) -> Vec<(Domain, bool, usize)> {
        let components = self.components.iter();
        let facts = components.map(|(domain, component)| {
            (domain.clone(), self.live_lane(domain).is_some(), component.waiting.len())
        });
        facts.collect()
    }

    /// What `session` carries, if it is known.
    #[must_use]
    pub fn session_load(&self, session: SessionId) -> Option<SessionLoad> {
        let entry = self.sessions.get(&session)?;
        let routes = |lane: &LaneId| self.lanes.get(lane).map_or(0, |lane| lane.routes.len());
        Some(SessionLoad {
            lanes: entry.lanes.len(),
            routes: entry.lanes.iter().map(routes).sum(),
            retiring: entry.retiring,
        })
    }
}
