//! The router in virtual time, with a shell that does nothing but what it is told.

mod components;
mod credit;
mod dialling;
mod ending;
mod entries;
mod found;
mod in_vain;
mod invariants;
mod lanes;
mod local;
mod moved;
mod proofs;
mod reloads;
mod rivals;
mod secrets;
mod several;
mod short_lived;
mod two_relays;
mod waiting;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use super::proofs::Anchor;
use super::*;
use crate::proto::component::Secret;
use crate::proto::hosts::HostFacts;
use crate::proto::mux::secret::SecretKeys;
use crate::proto::policy::DomainPolicy;
use crate::proto::proof::{CertifiedNames, TrustScope};
use crate::proto::session::{Facts, Lanes};
use crate::proto::stream::Learned;
use crate::xmpp::domain::DomainPattern;

pub(super) fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

pub(super) fn route(from: &str, to: &str) -> Route {
    Route::new(domain(from), domain(to))
}

pub(super) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A component of relay A, behind two servers.
pub(super) const COMPONENT: &str = "irc.a1.test";
/// The hosts of relay A, and the domains of its peer.
pub(super) const OURS: [&str; 3] = ["a1.test", "a2.test", "a3.test"];
pub(super) const THEIRS: [&str; 3] = ["b1.test", "b2.test", "b3.test"];
/// The `[[peer]]` entries: the relay of `THEIRS`, and another one.
pub(super) const PEER: PeerId = PeerId(0);
pub(super) const OTHER: PeerId = PeerId(1);

/// A peer that is reached over QUIC at `address`.
pub(super) fn place(address: &str) -> PeerPlace {
    PeerPlace {
        transport: Transport::Quic,
        address: address.parse().unwrap(),
        target: None,
        keys: Arc::new([]),
    }
}

/// What a session brings along when it is up.
pub(super) fn up(pinned: &[PeerId], exporter: [u8; 32]) -> SessionFacts {
    let (ours, theirs, stream_id) = (domain("a1.test"), domain("b1.test"), "s1".to_owned());
    let anchor = Anchor { ours, theirs, stream_id, bidi: true };
    SessionFacts {
        pinned: pinned.to_vec(),
        place: place("192.0.2.1:5269"),
        exporter,
        mux_exporter: exporter,
        anchor,
    }
}

/// When the certificates of these tests end.
pub(super) fn end_of_certificates() -> SystemTime {
    SystemTime::UNIX_EPOCH + seconds(4_000_000_000)
}

pub(super) fn names(exact: &[&str]) -> Arc<CertifiedNames> {
    Arc::new(CertifiedNames {
        exact: exact.iter().map(|name| domain(name)).collect(),
        wildcard: BTreeSet::new(),
        not_after: end_of_certificates(),
        scope: TrustScope::everything(),
    })
}

/// The queue of one route, as the shell keeps it.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    pub(super) lane: Option<LaneId>,
    /// When each stanza came, and its number.
    pub(super) waiting: VecDeque<(Instant, u64)>,
    /// An error of the relay's own waits too.
    pub(super) answers: bool,
}

/// A shell in virtual time.
pub(super) struct Shell {
    pub(super) router: Router,
    pub(super) now: Instant,
    pub(super) began: Instant,
    pub(super) limits: Limits,
    hosts: Arc<Hosts>,
    ours: Vec<&'static str>,
    theirs: Vec<&'static str>,
    pub(super) outlets: BTreeMap<Route, Outlet>,
    /// What it was told and has not answered yet, other than what it answers by itself.
    pub(super) told: VecDeque<Action>,
    /// Lanes that take stanzas.
    pub(super) up: BTreeSet<LaneId>,
    pub(super) sent: Vec<(LaneId, Route, u64)>,
    pub(super) bounced: Vec<(Route, u64, Reason)>,
    next: u64,
}

/// denied.test is.
fn policy() -> DomainPolicy {
    let mut policy = DomainPolicy::default();
    policy.both.deny.push(DomainPattern::parse("denied.test").unwrap());
    policy
}

impl Shell {
    pub(super) fn new(limits: Limits) -> Self {
        Self::between(&OURS, &THEIRS, limits, 7)
    }

    pub(super) fn between(ours: &[&'static str], theirs: &[&'static str], limits: Limits, seed: u64) -> Self {
        let facts = |entry| HostFacts { entry, announce: false };
        // The last host has a server of its own.
        let hosts = ours.iter().enumerate().map(|(n, name)| (domain(name), facts(usize::from(n == 2))));
        let pattern = |name: &&str| DomainPattern::parse(name).unwrap();
        let component = (domain(COMPONENT), facts(2), Secret::new("opensesame").unwrap());
        let hosts = Hosts::new(hosts, policy());
        let hosts = Arc::new(hosts.with_components([component]));
        let rules = vec![
            PeerRule { domains: theirs.iter().map(pattern).collect(), proofs: Allowance::PEER },
            PeerRule {
                domains: vec![pattern(&"*.other.test"), pattern(&"*.b1.test")],
                proofs: Allowance::PEER,
            },
        ];
        let now = Instant::now();
        Self {
            router: Router::new(
                Arc::clone(&hosts),
                rules,
                limits.clone(),
                Arc::new(SecretKeys::new([seed.to_be_bytes().repeat(4).try_into().unwrap()])),
                seed,
            ),
            now,
            began: now,
            limits,
            hosts,
            ours: ours.to_vec(),
            theirs: theirs.to_vec(),
            outlets: BTreeMap::new(),
            told: VecDeque::new(),
            up: BTreeSet::new(),
            sent: Vec::new(),
            bounced: Vec::new(),
            next: 0,
        }
    }

    /// A session whose two certificates carry everything of both sides.
    pub(super) fn session(&self, dialled: bool) -> Session {
        self.session_of(names(&self.theirs), dialled, Lanes::PerPair, true)
    }

    pub(super) fn session_of(
        &self,
        theirs: Arc<CertifiedNames>,
        dialled: bool,
        lanes: Lanes,
        mux: bool,
    ) -> Session {
        let hosts = Arc::clone(&self.hosts);
        let facts = Facts {
            hosts,
            theirs,
            ours: names(&self.ours),
            dialled,
            lanes,
            single: false,
            dialback: false,
            announce_all: false,
            second: false,
        };
        let mut session = Session::new(facts);
        session.learn(Learned { mux, pipelining: true, ..Learned::default() });
        session
    }

    /// Tell the router something, and do what it says.
    pub(super) fn tell<T>(&mut self, tell: impl FnOnce(&mut Router, Instant) -> T) -> T {
        let told = tell(&mut self.router, self.now);
        self.obey();
        told
    }

    fn obey(&mut self) {
        let hold = |limits: &Limits, came: Instant| came + limits.hold;
        for _ in 0..10_000 {
            let actions = self.router.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Attach { route, lane } => {
                        self.outlets.entry(route.clone()).or_default().lane = Some(lane);
                        self.flush(&route);
                    }
                    Action::Detach { route } => {
                        let outlet = self.outlets.entry(route.clone()).or_default();
                        outlet.lane = None;
                        if outlet.waiting.is_empty() {
                            self.outlets.remove(&route);
                            self.router.unwanted(&route);
                        } else {
                            self.router.want(&route, self.now);
                        }
                    }
                    Action::Expire { route, reason } => {
                        let (now, limits) = (self.now, self.limits.clone());
                        let outlet = self.outlets.entry(route.clone()).or_default();
                        let due = outlet.waiting.iter().take_while(|(came, _)| hold(&limits, *came) <= now);
                        let due = due.count();
                        let gone: Vec<_> = outlet.waiting.drain(..due).collect();
                        let next = outlet.waiting.front().map(|(came, _)| hold(&limits, *came));
                        let next = next.or(outlet.answers.then(|| now + 10 * limits.hold));
                        self.bounced.extend(gone.into_iter().map(|(_, n)| (route.clone(), n, reason)));
                        self.router.rearm(&route, next, now);
                    }
                    Action::Bounce { route, reason } => {
                        let outlet = self.outlets.remove(&route).unwrap_or_default();
                        assert!(outlet.lane.is_none(), "{route} bounces while a lane takes it");
                        let gone = outlet.waiting.into_iter();
                        self.bounced.extend(gone.map(|(_, n)| (route.clone(), n, reason)));
                    }
                    Action::BounceAllButAnswers { route, reason } => {
                        let outlet = self.outlets.entry(route.clone()).or_default();
                        assert!(outlet.lane.is_none(), "{route} bounces while a lane takes it");
                        let gone = outlet.waiting.drain(..);
                        self.bounced.extend(gone.map(|(_, n)| (route.clone(), n, reason)));
                        if !outlet.answers {
                            self.router.unwanted(&route);
                        }
                    }
                    Action::CloseLane { lane, .. } => {
                        self.router.lane_closing(lane);
                        self.told.push_back(action);
                    }
                    // For a counter only.
                    Action::ProofStarted { .. } => {}
                    other => self.told.push_back(other),
                }
            }
        }
        panic!("the router and its shell talk for ever");
    }

    /// Let what waits go where it can.
    fn flush(&mut self, route: &Route) {
        if let Some(outlet) = self.outlets.get_mut(route)
            && let Some(lane) = outlet.lane.filter(|lane| self.up.contains(lane))
        {
            self.sent.extend(outlet.waiting.drain(..).map(|(_, n)| (lane, route.clone(), n)));
        }
    }

    /// A stanza comes for `route`.
    pub(super) fn send(&mut self, route: &Route) {
        let outlet = self.outlets.entry(route.clone()).or_default();
        outlet.waiting.push_back((self.now, self.next));
        self.next += 1;
        if outlet.lane.is_none() {
            self.tell(|router, now| router.want(route, now));
        }
        self.flush(route);
    }

    /// Time passes, and the router is woken when it wants to be.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..100_000 {
            match self.router.deadline().filter(|at| *at <= until) {
                None => {
                    self.now = until;
                    return;
                }
                Some(at) => {
                    self.now = self.now.max(at);
                    self.tell(|router, now| router.tick(now));
                    let next = self.router.deadline();
                    assert!(
                        next.is_none_or(|next| next > self.now),
                        "the deadline is in the past after its tick"
                    );
                }
            }
        }
        panic!("the router wakes for ever");
    }

    /// The next thing that it was told, which must be there.
    pub(super) fn next_told(&mut self) -> Action {
        self.told.pop_front().expect("the router wants something")
    }

    /// The dial that it was told to make.
    pub(super) fn dial(&mut self) -> (SessionId, LaneId, Route) {
        match self.next_told() {
            Action::Dial { session, lane, route, .. } => (session, lane, route),
            other => panic!("expected a dial, not {other:?}"),
        }
    }

    /// The lane that it was told to open.
    pub(super) fn lane(&mut self) -> (SessionId, LaneId, Route) {
        match self.next_told() {
            Action::OpenLane { session, lane, route, .. } => (session, lane, route),
            other => panic!("expected a lane, not {other:?}"),
        }
    }

    pub(super) fn local(&mut self) -> (LaneId, Route) {
        match self.next_told() {
            Action::OpenLocal { lane, route } => (lane, route),
            other => panic!("expected a local stream, not {other:?}"),
        }
    }

    /// The dialled session and its first lane are up.
    pub(super) fn dialled(&mut self, id: SessionId, lane: LaneId, exporter: u8) {
        let session = self.session(true);
        self.tell(|router, now| router.session_up(id, session, up(&[PEER], [exporter; 32]), now));
        self.established(lane);
    }

    pub(super) fn established(&mut self, lane: LaneId) {
        self.up.insert(lane);
        self.tell(|router, now| router.lane_established(lane, now));
        self.flush_all();
    }

    pub(super) fn flush_all(&mut self) {
        for route in self.outlets.keys().cloned().collect::<Vec<_>>() {
            self.flush(&route);
        }
    }

    /// The peer has connected, and opened a lane for the pair of `back`, which is our direction.
    pub(super) fn peer_came(&mut self, back: &Route, exporter: u8) -> (SessionId, LaneId) {
        let id = self.router.fresh_session();
        let session = self.session(false);
        self.tell(|router, now| router.session_up(id, session, up(&[PEER], [exporter; 32]), now));
        (id, self.peer_opened(id, back))
    }

    pub(super) fn peer_opened(&mut self, id: SessionId, back: &Route) -> LaneId {
        let lane = self.router.fresh_lane();
        self.up.insert(lane);
        self.tell(|router, now| router.peer_lane_up(id, lane, back, true, now));
        lane
    }

    pub(super) fn lane_down(&mut self, lane: LaneId) {
        self.up.remove(&lane);
        self.tell(|router, now| router.lane_down(lane, Reason::ConnectionLost, now));
    }

    pub(super) fn dial_fails(&mut self, id: SessionId, reason: Reason) {
        self.tell(|router, now| router.dial_failed(id, reason, now));
    }

    /// Why stanzas of `route` bounced, in order.
    pub(super) fn bounces(&self, route: &Route) -> Vec<Reason> {
        self.bounced.iter().filter(|(of, ..)| of == route).map(|(.., reason)| *reason).collect()
    }

    /// On which lanes the stanzas of `route` left, in order.
    pub(super) fn lanes_of(&self, route: &Route) -> Vec<LaneId> {
        self.sent.iter().filter(|(_, of, _)| of == route).map(|(lane, ..)| *lane).collect()
    }

    /// The tables hold nothing that belongs to a route, lane or session.
    pub(super) fn assert_empty(&self) {
        let router = &self.router;
        assert!(router.routes.is_empty(), "{:?}", router.routes);
        assert!(router.expiries.is_empty() && router.later.is_empty());
        assert!(router.lanes.is_empty() && router.sessions.is_empty() && router.local.is_empty());
        assert!(router.peers.values().all(|peer| peer.waiting.is_empty() && peer.dialling.is_empty()));
        assert!(router.servers.values().all(|server| server.waiting.is_empty()));
        assert!(router.components.values().all(|component| component.waiting.is_empty()));
        assert_eq!((router.route_count(), router.pair_count()), (0, 0));
        assert_eq!(router.deadline(), None);
    }
}
