//! Two routers with the sessions between them, in virtual time: octets take a while, and both dial when they like.

use proptest::prelude::*;

use super::*;

/// How long anything takes from one relay to the other.
const ONE_WAY: Duration = Duration::from_millis(50);

/// Something that arrives at a relay.
#[derive(Debug, Clone)]
enum Arrives {
    /// The end that was dialled sees the session's first lane.
    Connected { wire: usize, lane: usize },
    /// The dialler sees that its session is up.
    Answered { wire: usize, lane: usize },
    /// The peer opened a lane.
    Opened { wire: usize, lane: usize },
    /// The peer took our lane.
    Taken { lane: usize },
    /// A lane is gone.
    Closed { lane: usize },
    /// A session is gone.
    Ended { wire: usize },
}

/// A connection between the two, under the names of both ends.
#[derive(Debug, Clone, Default)]
struct Wire {
    ids: [Option<SessionId>; 2],
    dialler: usize,
    exporter: [u8; 32],
    closed: bool,
}

/// A lane between the two.
#[derive(Debug, Clone)]
struct Strand {
    ids: [Option<LaneId>; 2],
    opener: usize,
    route: Route,
    last_used: Instant,
}

struct World {
    relays: [Shell; 2],
    wires: Vec<Wire>,
    strands: Vec<Strand>,
    arriving: BTreeMap<(Instant, u64), (usize, Arrives)>,
    next: u64,
    now: Instant,
    seen: [usize; 2],
}

impl World {
    fn new(seed: u64) -> Self {
        let limits = Limits { lane_idle: seconds(60), ..Limits::default() };
        let a = Shell::between(&OURS, &THEIRS, limits.clone(), seed);
        let mut b = Shell::between(&THEIRS, &OURS, limits, seed ^ 1);
        b.now = a.now;
        b.began = a.now;
        let now = a.now;
        Self {
            relays: [a, b],
            wires: Vec::new(),
            strands: Vec::new(),
            arriving: BTreeMap::new(),
            next: 0,
            now,
            seen: [0, 0],
        }
    }

    fn post(&mut self, to: usize, after: Duration, what: Arrives) {
        self.next += 1;
        self.arriving.insert((self.now + after, self.next), (to, what));
    }

    fn strand(&mut self, opener: usize, lane: LaneId, route: Route) -> usize {
        let mut ids = [None; 2];
        ids[opener] = Some(lane);
        self.strands.push(Strand { ids, opener, route, last_used: self.now });
        self.strands.len() - 1
    }

    /// Do what the relays were told.
    fn obey(&mut self) {
        for relay in [0, 1] {
            while let Some(action) = self.relays[relay].told.pop_front() {
                match action {
                    Action::Dial { session, lane, route, .. } => {
                        let mut exporter = [0; 32];
                        // Unlike each other, and not in the order of dialling.
                        exporter[0] = u8::try_from((self.wires.len() * 151 + 89) % 251).unwrap();
                        let mut ids = [None; 2];
                        ids[relay] = Some(session);
                        self.wires.push(Wire { ids, dialler: relay, exporter, closed: false });
                        let wire = self.wires.len() - 1;
                        let lane = self.strand(relay, lane, route);
                        self.post(1 - relay, 2 * ONE_WAY, Arrives::Connected { wire, lane });
                    }
                    Action::OpenLane { session, lane, route, .. } => {
                        let wire =
                            self.wires.iter().position(|wire| wire.ids[relay] == Some(session)).unwrap();
                        let lane = self.strand(relay, lane, route);
                        self.post(1 - relay, ONE_WAY, Arrives::Opened { wire, lane });
                    }
                    Action::OpenLocal { lane, .. } => {
                        self.relays[relay].up.insert(lane);
                        self.relays[relay].tell(|router, now| router.local_lane_established(lane, now));
                        self.relays[relay].flush_all();
                    }
                    Action::CloseLane { lane, .. } => {
                        let lane = self.strands.iter().position(|s| s.ids[relay] == Some(lane)).unwrap();
                        self.close(relay, lane);
                    }
                    Action::CloseSession { session, .. } => {
                        let wire =
                            self.wires.iter().position(|wire| wire.ids[relay] == Some(session)).unwrap();
                        self.post(relay, Duration::ZERO, Arrives::Ended { wire });
                        self.post(1 - relay, ONE_WAY, Arrives::Ended { wire });
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    /// `relay` finishes a lane: the other end sees it, and answers.
    fn close(&mut self, relay: usize, lane: usize) {
        self.post(1 - relay, ONE_WAY, Arrives::Closed { lane });
        self.post(relay, 2 * ONE_WAY, Arrives::Closed { lane });
    }

    fn arrives(&mut self, relay: usize, what: Arrives) {
        match what {
            Arrives::Connected { wire, lane } => {
                let id = self.relays[relay].router.fresh_session();
                self.wires[wire].ids[relay] = Some(id);
                self.up(relay, wire);
                self.opened(relay, wire, lane);
                self.post(1 - relay, ONE_WAY, Arrives::Answered { wire, lane });
            }
            Arrives::Answered { wire, lane } => {
                self.up(relay, wire);
                self.relays[relay].established(self.strands[lane].ids[relay].unwrap());
            }
            Arrives::Opened { wire, lane } if !self.wires[wire].closed => {
                self.opened(relay, wire, lane);
                self.post(1 - relay, ONE_WAY, Arrives::Taken { lane });
            }
            Arrives::Opened { .. } => self.post(1 - relay, ONE_WAY, Arrives::Closed { lane: usize::MAX }),
            Arrives::Taken { lane } => {
                self.relays[relay].established(self.strands[lane].ids[relay].unwrap());
            }
            Arrives::Closed { lane } => {
                if let Some(id) = self.strands.get(lane).and_then(|strand| strand.ids[relay]) {
                    self.relays[relay].lane_down(id);
                }
            }
            Arrives::Ended { wire } => {
                self.wires[wire].closed = true;
                let id = self.wires[wire].ids[relay].unwrap();
                self.relays[relay].tell(|router, now| router.session_down(id, Reason::Idle, now));
            }
        }
    }

    fn up(&mut self, relay: usize, wire: usize) {
        let Wire { ids, dialler, exporter, .. } = self.wires[wire].clone();
        let session = self.relays[relay].session(dialler == relay);
        let id = ids[relay].unwrap();
        self.relays[relay].tell(|router, now| router.session_up(id, session, &[PEER], exporter, now));
    }

    fn opened(&mut self, relay: usize, wire: usize, lane: usize) {
        let (session, back) = (self.wires[wire].ids[relay].unwrap(), self.strands[lane].route.reversed());
        let id = self.relays[relay].peer_opened(session, &back);
        self.strands[lane].ids[relay] = Some(id);
        self.relays[relay].flush_all();
    }

    /// Idle lanes are closed by whoever opened them.
    fn close_idle(&mut self) {
        for relay in [0, 1] {
            for (id, ..) in &self.relays[relay].sent[self.seen[relay]..] {
                for strand in self.strands.iter_mut().filter(|strand| strand.ids[relay] == Some(*id)) {
                    strand.last_used = self.now;
                }
            }
            self.seen[relay] = self.relays[relay].sent.len();
        }
        let idle = self.relays[0].limits.lane_idle;
        for lane in 0..self.strands.len() {
            let Strand { ids, opener, last_used, .. } = self.strands[lane].clone();
            let Some(id) = ids[opener].filter(|id| self.relays[opener].up.contains(id)) else { continue };
            if last_used + idle <= self.now {
                self.strands[lane].last_used = self.now + seconds(1_000_000);
                self.relays[opener].tell(|router, _| router.lane_closing(id));
                self.close(opener, lane);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.obey();
            let arrival = self.arriving.first_key_value().map(|((at, _), _)| *at);
            let deadlines = self.relays.iter().filter_map(|relay| relay.router.deadline()).min();
            let next = [arrival, deadlines].into_iter().flatten().min().filter(|at| *at <= until);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            for relay in &mut self.relays {
                relay.pass(self.now - relay.now);
            }
            self.obey();
            while let Some(((at, number), (relay, what))) = self.arriving.first_key_value() {
                let (at, number, relay, what) = (*at, *number, *relay, what.clone());
                if at > self.now {
                    break;
                }
                self.arriving.remove(&(at, number));
                self.arrives(relay, what);
                self.obey();
            }
        }
        self.now = until;
        for relay in &mut self.relays {
            relay.pass(until - relay.now);
        }
        self.obey();
        self.close_idle();
    }

    fn send(&mut self, relay: usize, pair: usize) {
        let (ours, theirs) = if relay == 0 { (OURS, THEIRS) } else { (THEIRS, OURS) };
        // The same pair has the same number at both relays.
        let (a, b) = (pair % 3, pair / 3 % 3);
        let (ours, theirs) = if relay == 0 { (ours[a], theirs[b]) } else { (ours[b], theirs[a]) };
        self.relays[relay].send(&route(ours, theirs));
        self.obey();
    }
}

fn converges(first: &[(usize, usize, u64)], seed: u64) {
    let mut world = World::new(seed);
    for (relay, pair, after) in first {
        world.pass(Duration::from_millis(*after));
        world.send(*relay, *pair);
    }
    let pairs: BTreeSet<(usize, usize)> = first.iter().map(|(relay, pair, _)| (*relay, *pair)).collect();
    world.pass(seconds(1));
    // Traffic goes on for a while; each direction of each pair keeps its lane.
    let before: Vec<usize> = world.relays.iter().map(|relay| relay.sent.len()).collect();
    for _ in 0..20 {
        for (relay, pair) in &pairs {
            world.send(*relay, *pair);
        }
        world.pass(seconds(5));
    }
    for (relay, before) in world.relays.iter().zip(before) {
        let mut lanes: BTreeMap<Route, BTreeSet<LaneId>> = BTreeMap::new();
        for (lane, route, _) in &relay.sent[before..] {
            lanes.entry(route.clone()).or_default().insert(*lane);
        }
        assert!(lanes.values().all(|lanes| lanes.len() == 1), "one lane a direction: {lanes:?}");
    }
    // All fall silent, and the loser goes; what speaks again then meets on one session and one lane a pair.
    world.pass(seconds(61));
    world.pass(seconds(1));
    for (relay, pair) in &pairs {
        world.send(*relay, *pair);
    }
    world.pass(seconds(30));
    world.pass(world.relays[0].limits.session_idle);
    let open = world.wires.iter().filter(|wire| !wire.closed).count();
    assert!(open <= 1, "{open} sessions are left");
    let distinct: BTreeSet<usize> = pairs.iter().map(|(_, pair)| *pair % 9).collect();
    for relay in &world.relays {
        assert!(relay.bounced.is_empty(), "{:?}", relay.bounced);
        assert!(relay.router.lanes.len() <= 2 * distinct.len());
        let mut numbers: BTreeMap<Route, u64> = BTreeMap::new();
        for (_, route, number) in &relay.sent {
            let before = numbers.insert(route.clone(), *number);
            assert!(before.is_none_or(|before| before < *number), "in order");
        }
        assert!(relay.outlets.values().all(|outlet| outlet.waiting.is_empty()));
        assert_eq!(relay.sent.len() as u64, relay.next, "all of it left, once");
    }
}

#[test]
fn one_side_dials_and_both_directions_share_its_lane() {
    let mut world = World::new(1);
    world.send(0, 0);
    world.pass(seconds(1));
    world.send(1, 0);
    world.pass(seconds(1));
    assert_eq!((world.wires.len(), world.strands.len()), (1, 1));
    assert_eq!((world.relays[0].sent.len(), world.relays[1].sent.len()), (1, 1));
}

#[test]
fn both_sides_dial_at_once_and_converge() {
    converges(&[(0, 0, 0), (1, 0, 0)], 1);
    converges(&[(0, 0, 0), (1, 0, 10), (0, 1, 0), (1, 2, 30), (1, 1, 200)], 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whoever_speaks_when_they_converge(
        first in prop::collection::vec((0..2_usize, 0..9_usize, 0..160_u64), 1..16), seed: u64,
    ) {
        converges(&first, seed);
    }
}
