//! All domain pairs: which lane carries each direction of each pair.
//!
//! A [`Route`] is placed once, when its first stanza comes, and stays on its lane until that is gone: order within a
//! pair can't change. Where no lane leads, the router asks for one, at most one attempt at a time for a next hop, and
//! meanwhile the stanzas wait in a bounded queue of the shell; where none can be had, it says so and they bounce.
//!
//! Which session may carry a remote domain (the half of the rule about mux secrets is in `proofs.rs`): its peer proved
//! the domain by certificate AND a `[[peer]]` pins the domain to this session's address, or the domain's own records
//! lead there. Without the second condition, whoever holds an old or stolen certificate for a name would receive its
//! mail by connecting.
//! Of several such sessions (both relays dialled at once) the one with the smaller exporter value takes new lanes, at
//! both ends alike; nothing moves away from the other, and when it has no lane left its dialler closes it.
//!
//! - `routes.rs`: routes, waiting and expiry
//! - `peers.rs`: peers, configured or found by their records; `preference.rs`: over what they were reached, and where in vain,
//!   `abreast.rs`: those that are at the same addresses, `several.rs`: those that take each pair on a connection of its own
//! - `remote.rs`: which session carries a route, and dialling; `sessions.rs`: sessions come and go; `lanes.rs`: their lanes
//! - `local.rs`: streams of and to our own servers; `components.rs`: components, which come to us
//! - `proofs.rs`: hosts that join a session by mux secrets, `verifying.rs` and `returning.rs`: the two sides of it,
//!   `turns.rs`: which next
//! - `again.rs`: proofs that a limit stopped; `rivals.rs`: for which of two sessions, where both ends dialled
//! - `reload.rs`: another configuration, `entries.rs`: its `[[peer]]`s; `facts.rs`: what whoever operates the relay may know
//! - `retry.rs`: when to try a failed next hop again; `ending.rs`: when there is no later

mod abreast;
mod action;
mod again;
mod components;
mod ending;
mod entries;
mod facts;
mod few;
mod lanes;
mod local;
mod peers;
mod preference;
pub mod proofs;
mod reload;
mod remote;
mod retry;
mod returning;
mod rivals;
mod routes;
mod sessions;
mod several;
mod turns;
mod verifying;

pub use action::Action;
pub use facts::{HopFacts, PeerFacts, RouteFacts, SessionLoad, Waits};
pub use lanes::LaneFailure;
pub use peers::PeerRule;
pub use preference::Place;

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::discovery::Transport;
use super::discovery::found::Whereabouts;
use super::discovery::pins::KeyDigest;
use super::hosts::Hosts;
use super::limits::Limits;
use super::mux::secret::{Dialled, SecretKeys};
use super::mux::verifier::{Allowance, Verifier};
use super::session::{Lanes, Session};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;
use abreast::{Ahead, AtPlaces, Places};
use again::Rested;
use components::Component;
use lanes::Lane;
use local::Server;
use peers::PeerState;
use proofs::{Anchor, Proof, Purpose};
use returning::Returned;

/// Refusals that are remembered of one peer: the users of our own servers choose the domains.
const REFUSALS_MAX: usize = 4096;

/// A session, for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// An XML stream that carries stanzas, on either side, for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u64);

/// A peer: a `[[peer]]` entry, or one that was found. An identifier never comes again: what leads to one can't become another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub usize);

impl PeerId {
    /// The first of those that are found.
    const FOUND: usize = usize::MAX / 2;

    /// Whether it is a `[[peer]]` entry.
    #[must_use]
    pub const fn is_configured(self) -> bool {
        self.0 < Self::FOUND
    }
}

/// Where the peer of a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPlace {
    /// How it is reached there.
    pub transport: Transport,
    /// Its address, canonical.
    pub address: SocketAddr,
    /// The SRV target through which we dialled it, if we did.
    pub target: Option<String>,
    /// The keys of the verified path of its certificate; none if it showed none.
    pub keys: Arc<[KeyDigest]>,
}

impl PeerPlace {
    fn whereabouts(&self) -> Whereabouts<'_> {
        let Self { transport, address, target, keys } = self;
        Whereabouts { transport: *transport, address: *address, target: target.as_deref(), keys }
    }
}

/// What is known of a session when its first stream is authenticated.
#[derive(Debug, Clone)]
pub struct SessionFacts {
    /// The `[[peer]]` entries whose configured address it leads to.
    pub pinned: Vec<PeerId>,
    /// Where the peer is.
    pub place: PeerPlace,
    /// The exporter value by which both ends choose among sessions.
    pub exporter: [u8; 32],
    /// The exporter value that secrets are bound to.
    pub mux_exporter: [u8; 32],
    /// The first stream.
    pub anchor: Anchor,
}

/// What carries a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// A session of the remote side.
    Session(SessionId),
    /// A stream of or to one of our own servers.
    Local,
}

/// A next hop in whose list of waiting routes a route stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hop {
    Peer(PeerId),
    /// A `[[host]]` entry, by its position.
    Server(usize),
    /// The component to which the route leads.
    Component,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    /// Nowhere: not looked at yet, or not before its time.
    Unplaced,
    Waiting(Hop),
    On(LaneId),
}

/// When a route that lost its lane may have another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    AtOnce,
    /// At once, and if that one ends as early as the last one did after a while, which grows.
    OnceMore,
    /// At once, but step by step.
    Plain,
    /// After a while, which grows.
    Later,
    /// The same, whatever the other end opens meanwhile: one of the two was full.
    WithRoom,
}

#[derive(Debug)]
struct RouteState {
    placement: Placement,
    /// When the queue has to be looked at for stanzas that waited too long.
    expires: Option<Instant>,
    /// A pipelined attempt was refused: go step by step.
    plain: bool,
    /// Lanes that did not come to be, or ended at once, or because an end was full, in an unbroken row.
    failures: u32,
    /// Its last lane did so: no other one before this.
    not_before: Option<Instant>,
    /// Its last lane ended because one of the two ends was full: not before that time on any lane.
    full: bool,
    /// Why the last attempt failed, for what expires.
    reason: Reason,
    /// A stream that we opened for it broke: the next lane is one that we open too, and resumes it.
    resumes: bool,
}

impl RouteState {
    fn new(expires: Option<Instant>) -> Self {
        Self {
            placement: Placement::Unplaced,
            expires,
            plain: false,
            failures: 0,
            not_before: None,
            full: false,
            reason: Reason::QueueTimeout,
            resumes: false,
        }
    }

    fn is_placed(&self) -> bool {
        matches!(self.placement, Placement::On(_))
    }
}

#[derive(Debug)]
struct SessionEntry {
    /// `None` until its first stream is authenticated.
    session: Option<Session>,
    /// When that was.
    since: Option<Instant>,
    /// The peers that it leads to: by configuration, by their domains' records.
    pinned: Vec<PeerId>,
    /// The peers for which routes wait to join it by mux secrets, those beside `pinned` among them.
    joining: BTreeSet<PeerId>,
    ahead: Ahead,
    place: Option<PeerPlace>,
    exporter: [u8; 32],
    mux_exporter: [u8; 32],
    /// The first stream, as soon as it is authenticated.
    anchor: Option<Anchor>,
    purpose: Purpose,
    verifier: Verifier,
    dialled: bool,
    retiring: bool,
    lanes: BTreeSet<LaneId>,
    /// Lanes by what they can carry for us.
    by_route: FxHashMap<Route, LaneId>,
    /// Its first lane is not up yet, or it has just agreed to more: what waits is told with the next lane.
    news: bool,
    /// It is still to be tried step by step, before it says anything about where it leads.
    again_plain: bool,
    /// How many lanes of ours the peer has taken.
    taken: usize,
    /// It gave no credit for the last lane of ours, or no answer, and hasn't been heard since: its path may be dead, which is noticed later.
    mute: bool,
    laneless_since: Option<Instant>,
}

impl SessionEntry {
    fn new(dialled: bool) -> Self {
        Self {
            session: None,
            since: None,
            pinned: Vec::new(),
            joining: BTreeSet::new(),
            ahead: Ahead::default(),
            place: None,
            exporter: [0; 32],
            mux_exporter: [0; 32],
            anchor: None,
            purpose: Purpose::Own,
            verifier: Verifier::new(Allowance::STRANGER),
            dialled,
            retiring: false,
            lanes: BTreeSet::new(),
            by_route: FxHashMap::default(),
            news: true,
            again_plain: false,
            taken: 0,
            mute: false,
            laneless_since: None,
        }
    }
}

impl SessionEntry {
    /// Whether we may open a lane in it.
    fn may_open(&self) -> bool {
        self.session.as_ref().is_some_and(Session::may_open)
    }

    /// Whether one lane carries every pair: without mux a stream proves its own pair alone, however the two ends meant to
    /// place pairs.
    fn shares_lanes(&self) -> bool {
        let shares = |session: &Session| session.facts().lanes == Lanes::Shared && session.is_multiplexed();
        self.session.as_ref().is_some_and(shares)
    }
}

/// The machine.
#[derive(Debug)]
pub struct Router {
    hosts: Arc<Hosts>,
    limits: Limits,
    routes: FxHashMap<Route, RouteState>,
    expiries: BTreeSet<(Instant, Route)>,
    /// Routes that may be placed again at a certain time.
    later: BTreeSet<(Instant, Route)>,
    lanes: FxHashMap<LaneId, Lane>,
    sessions: BTreeMap<SessionId, SessionEntry>,
    peers: BTreeMap<PeerId, PeerState>,
    /// The `[[peer]]` entries, in their order.
    configured: Vec<PeerId>,
    /// The `[[peer]]` entries that name a domain itself.
    peers_by_name: FxHashMap<Domain, PeerId>,
    /// The peers that were found, by their domain.
    found: FxHashMap<Domain, PeerId>,
    next_peer: usize,
    /// What is being dialled for found peers, by everywhere where they are tried.
    abreast: FxHashMap<Places, AtPlaces>,
    /// Peers without a `[[peer]]` entry are looked for.
    discovers: bool,
    /// When what is known of a found peer has to be asked for again.
    refreshes: BTreeSet<(Instant, PeerId)>,
    /// Of each `[[host]]` entry whose server was ever needed.
    servers: BTreeMap<usize, Server>,
    /// Of each component that ever came, or was waited for.
    components: FxHashMap<Domain, Component>,
    /// Lanes of the local side by what they can carry for us.
    local: FxHashMap<Route, LaneId>,
    /// Proofs under way, by the session that a host is to join and the host.
    proofs: FxHashMap<(SessionId, Domain), Proof>,
    /// Proofs that a limit stopped, and that are tried again.
    again: FxHashMap<(SessionId, Domain), Rested>,
    /// Proofs that wait for one of those to end, by the session.
    turns: FxHashMap<SessionId, BTreeMap<Domain, (PeerId, Dialled)>>,
    /// Secrets that we returned, by the id of the IQ.
    returned: FxHashMap<String, Returned>,
    /// Hosts that could not be proven to or by a peer, and until when that is remembered.
    unproven: FxHashMap<(PeerId, Domain), Instant>,
    /// The relay ends, and nothing waits for a proof.
    drains: bool,
    keys: Arc<SecretKeys>,
    next_id: u64,
    jitter: retry::Jitter,
    actions: Vec<Action>,
}

impl Router {
    /// A router with nothing placed; `peers`: the `[[peer]]` entries, whose identifiers are their positions. `seed` only spreads
    /// retries.
    #[must_use]
    pub fn new(
        hosts: Arc<Hosts>,
        peers: Vec<PeerRule>,
        limits: Limits,
        keys: Arc<SecretKeys>,
        seed: u64,
    ) -> Self {
        let rules = peers.into_iter().enumerate().map(|(at, rule)| (PeerId(at), rule)).collect();
        let mut router = Self {
            hosts,
            limits,
            routes: FxHashMap::default(),
            expiries: BTreeSet::new(),
            later: BTreeSet::new(),
            lanes: FxHashMap::default(),
            sessions: BTreeMap::new(),
            next_peer: PeerId::FOUND,
            peers: BTreeMap::new(),
            configured: Vec::new(),
            found: FxHashMap::default(),
            abreast: FxHashMap::default(),
            discovers: false,
            refreshes: BTreeSet::new(),
            peers_by_name: FxHashMap::default(),
            servers: BTreeMap::new(),
            components: FxHashMap::default(),
            local: FxHashMap::default(),
            proofs: FxHashMap::default(),
            again: FxHashMap::default(),
            turns: FxHashMap::default(),
            returned: FxHashMap::default(),
            unproven: FxHashMap::default(),
            drains: false,
            keys,
            next_id: 1,
            jitter: retry::Jitter::new(seed),
            actions: Vec::new(),
        };
        router.go_by(rules);
        router
    }

    /// What is to be done after the last call. Drain it after every call.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// An identifier for a session or a lane that the shell was given by somebody else.
    pub fn fresh_session(&mut self) -> SessionId {
        SessionId(self.fresh())
    }

    /// An identifier for a lane that the other end opened.
    pub fn fresh_lane(&mut self) -> LaneId {
        LaneId(self.fresh())
    }

    fn fresh(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// The pair that a session was made for.
    #[must_use]
    pub fn anchor(&self, session: SessionId) -> Option<Route> {
        Some(self.sessions.get(&session)?.anchor.as_ref()?.route())
    }

    /// Proofs under way, and secrets that were handed out and are not back yet.
    #[must_use]
    pub fn proof_counts(&self, now: Instant) -> (usize, usize) {
        (self.proofs.len(), self.sessions.values().map(|entry| entry.verifier.open_count(now)).sum())
    }

    /// How many routes are placed or waiting.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.routes.len()
    }

    /// Pairs of a host of ours and a remote domain of which at least one direction is placed. What only comes back from us in the
    /// name of a domain that nobody has proven is none.
    #[must_use]
    pub fn pair_count(&self) -> usize {
        let placed = |route: &Route| self.routes.get(route).is_some_and(RouteState::is_placed);
        let proven = |domain: &Domain| {
            let proves = |session: &Session| session.theirs_proven(domain);
            self.sessions.values().any(|entry| entry.session.as_ref().is_some_and(proves))
        };
        let mut known: FxHashMap<&Domain, bool> = FxHashMap::default();
        let mut count = 0;
        for (route @ Route { from, to }, _) in self.routes.iter().filter(|(_, state)| state.is_placed()) {
            count += usize::from(match (self.hosts.serves(from), self.hosts.serves(to)) {
                (true, true) => false,
                // The outbound direction stands for the pair; the inbound one only where there is no other.
                (_, false) => true,
                (false, true) => {
                    !placed(&route.reversed()) && *known.entry(from).or_insert_with(|| proven(from))
                }
            });
        }
        count
    }
}

#[cfg(test)]
mod tests;
