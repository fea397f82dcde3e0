//! Whatever happens in whatever order: the tables agree with each other, nothing waits without an end in sight, and
//! nothing is left when all is over.

use proptest::prelude::*;

use super::*;

/// Something that may happen. Numbers pick among what is there.
#[derive(Debug, Clone)]
enum Happens {
    Send(usize, usize),
    Receive(usize, usize),
    /// What the router asked for comes to be, or does not.
    Succeed(usize, u8),
    Fail(usize, usize),
    LaneDown(usize),
    LaneClosing(usize),
    SessionDown(usize),
    Retire(usize),
    PeerCame(usize, usize, u8),
    PeerOpened(usize, usize, usize, bool),
    ServerOpened(usize, usize, bool),
    ForComponent(usize),
    ComponentCame,
    Pass(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    use Happens::*;
    let (n, d) = (0..1000_usize, 0..3_usize);
    prop_oneof![
        6 => (d.clone(), d.clone()).prop_map(|(a, b)| Send(a, b)),
        4 => (d.clone(), d.clone()).prop_map(|(a, b)| Receive(a, b)),
        8 => (n.clone(), 0..4_u8).prop_map(|(n, exporter)| Succeed(n, exporter)),
        4 => (n.clone(), n.clone()).prop_map(|(n, why)| Fail(n, why)),
        3 => n.clone().prop_map(LaneDown),
        1 => n.clone().prop_map(LaneClosing),
        1 => n.clone().prop_map(SessionDown),
        1 => n.clone().prop_map(Retire),
        1 => (d.clone(), d.clone(), 0..4_u8).prop_map(|(a, b, exporter)| PeerCame(a, b, exporter)),
        2 => (n, d.clone(), d.clone(), any::<bool>()).prop_map(|(n, a, b, bidi)| PeerOpened(n, a, b, bidi)),
        2 => (d.clone(), d, any::<bool>()).prop_map(|(a, b, bidi)| ServerOpened(a, b, bidi)),
        3 => (0..3_usize).prop_map(ForComponent),
        1 => Just(ComponentCame),
        6 => prop_oneof![0..50_u64, 200..2000_u64, 10_000..90_000_u64].prop_map(Pass),
    ]
}

const REASONS: [Reason; 4] =
    [Reason::ConnectionRefused, Reason::ConnectionTimeout, Reason::CertificateExpired, Reason::HostUnknown];

fn pick<T: Clone>(all: impl IntoIterator<Item = T>, n: usize) -> Option<T> {
    let all: Vec<T> = all.into_iter().collect();
    (!all.is_empty()).then(|| all[n % all.len()].clone())
}

impl Shell {
    fn happens(&mut self, what: &Happens) {
        let out = |a: usize, b: usize| route(OURS[a], THEIRS[b]);
        match *what {
            Happens::Send(a, b) => self.send(&out(a, b)),
            Happens::Receive(a, b) => self.send(&out(a, b).reversed()),
            Happens::ForComponent(a) => self.send(&route(THEIRS[a], COMPONENT)),
            Happens::ComponentCame => {
                let lanes = self.router.components.values().filter_map(|component| component.lane);
                let lived = lanes.into_iter().any(|lane| self.up.contains(&lane));
                let taken = super::components::component_came(self);
                assert!(taken.is_ok() || lived);
                self.told.retain(|action| !matches!(action, Action::Post { .. }));
            }
            Happens::Pass(millis) => self.pass(Duration::from_millis(millis)),
            Happens::Succeed(n, exporter) => self.succeed(n, exporter),
            Happens::Fail(n, why) => self.fail(n, why),
            Happens::LaneDown(n) => {
                if let Some(lane) = pick(self.up.iter().copied(), n) {
                    self.gone(lane);
                }
            }
            Happens::LaneClosing(n) => {
                if let Some(lane) = pick(self.up.iter().copied(), n) {
                    self.tell(|router, _| router.lane_closing(lane));
                }
            }
            Happens::SessionDown(n) => {
                if let Some(id) = pick(self.sessions_up(), n) {
                    self.session_gone(id);
                }
            }
            Happens::Retire(n) => {
                if let Some(id) = pick(self.sessions_up(), n) {
                    self.tell(|router, now| router.session_retires(id, now));
                }
            }
            Happens::PeerCame(a, b, exporter) => drop(self.peer_came(&out(a, b), exporter)),
            Happens::PeerOpened(n, a, b, bidi) => {
                if let Some(id) = pick(self.sessions_up(), n) {
                    let lane = self.router.fresh_lane();
                    self.up.insert(lane);
                    self.tell(|router, now| router.peer_lane_up(id, lane, &out(a, b), bidi, now));
                    self.flush_all();
                }
            }
            Happens::ServerOpened(a, b, bidi) => {
                let lane = self.router.fresh_lane();
                self.up.insert(lane);
                self.tell(|router, now| router.local_lane_up(lane, &out(a, b).reversed(), bidi, now));
                self.flush_all();
            }
        }
    }

    fn sessions_up(&self) -> Vec<SessionId> {
        let up = self.router.sessions.iter().filter(|(_, entry)| entry.session.is_some());
        up.map(|(id, _)| *id).collect()
    }

    fn gone(&mut self, lane: LaneId) {
        self.up.remove(&lane);
        match self.router.lanes.get(&lane).map(|entry| entry.carrier) {
            Some(Carrier::Local) => {
                self.tell(|router, now| router.local_lane_down(lane, Reason::ConnectionLost, now));
            }
            _ => self.tell(|router, now| router.lane_down(lane, Reason::ConnectionLost, now)),
        }
    }

    fn session_gone(&mut self, id: SessionId) {
        let lanes = self.router.sessions.get(&id).map(|entry| entry.lanes.clone()).unwrap_or_default();
        for lane in &lanes {
            self.gone(*lane);
        }
        self.tell(|router, now| router.session_down(id, Reason::ConnectionLost, now));
        let of_session = |action: &Action| match action {
            Action::OpenLane { session, .. } | Action::CloseSession { session, .. } => *session == id,
            Action::CloseLane { lane, .. } => lanes.contains(lane),
            _ => false,
        };
        self.told.retain(|action| !of_session(action));
    }

    fn take(&mut self, n: usize) -> Option<Action> {
        if self.told.is_empty() { None } else { self.told.remove(n % self.told.len()) }
    }

    fn succeed(&mut self, n: usize, exporter: u8) {
        match self.take(n) {
            Some(Action::Dial { session, lane, .. }) => self.dialled(session, lane, exporter),
            Some(Action::OpenLane { lane, .. }) => self.established(lane),
            Some(Action::OpenLocal { lane, .. }) => {
                self.up.insert(lane);
                self.tell(|router, now| router.local_lane_established(lane, now));
                self.flush_all();
            }
            Some(Action::CloseLane { lane, .. }) => self.gone(lane),
            Some(Action::CloseSession { session, .. }) => self.session_gone(session),
            _ => {}
        }
    }

    fn fail(&mut self, n: usize, why: usize) {
        let reason = REASONS[why % REASONS.len()];
        match self.take(n) {
            Some(Action::Dial { session, lane, .. }) => {
                // The connection was there, and its one lane was refused.
                if why.is_multiple_of(3) {
                    let failure = LaneFailure::Other(reason);
                    self.tell(|router, now| router.lane_failed(lane, failure, now));
                }
                self.tell(|router, now| router.session_down(session, reason, now));
            }
            Some(Action::OpenLane { lane, .. }) => {
                let failures = [
                    LaneFailure::PipeliningRefused,
                    LaneFailure::SingleStream,
                    LaneFailure::Other(reason),
                    LaneFailure::Closed(reason),
                ];
                self.tell(|router, now| router.lane_failed(lane, failures[why / 4 % 4], now));
            }
            Some(Action::OpenLocal { lane, .. }) => {
                self.tell(|router, now| router.local_lane_down(lane, reason, now));
            }
            Some(closing) => self.told.push_back(closing),
            None => {}
        }
    }

    fn check(&self) {
        let router = &self.router;
        for (lane, entry) in &router.lanes {
            for route in entry.routes.iter() {
                assert_eq!(router.routes[route].placement, Placement::On(*lane), "{route}");
                assert_eq!(self.outlets.get(route).and_then(|outlet| outlet.lane), Some(*lane), "{route}");
            }
        }
        for (route, state) in &router.routes {
            match state.placement {
                Placement::On(lane) => assert!(router.lanes[&lane].routes.iter().any(|on| on == route)),
                Placement::Waiting(Hop::Peer(peer)) => assert!(router.peers[&peer].waiting.contains(route)),
                Placement::Waiting(Hop::Component) => {
                    assert!(router.components[&route.to].waiting.contains(route))
                }
                Placement::Waiting(Hop::Server(n)) => assert!(router.servers[&n].waiting.contains(route)),
                Placement::Unplaced => assert!(state.not_before.is_some(), "{route} is nowhere"),
            }
            if let Some(at) = state.expires {
                assert!(router.expiries.contains(&(at, route.clone())));
            }
        }
        let armed = router.routes.values().filter(|state| state.expires.is_some()).count();
        assert_eq!(router.expiries.len(), armed);
        for (_, route) in &router.later {
            assert!(router.routes[route].not_before.is_some());
        }
        let listed = router.peers.values().map(|peer| peer.waiting.len()).sum::<usize>()
            + router.servers.values().map(|server| server.waiting.len()).sum::<usize>()
            + router.components.values().map(|component| component.waiting.len()).sum::<usize>();
        let waiting = router.routes.values().filter(|s| matches!(s.placement, Placement::Waiting(_)));
        assert_eq!(listed, waiting.count());
        self.check_outlets();
        for (id, peer) in &router.peers {
            let being_dialled = |entry: &SessionEntry| entry.session.is_none() && entry.pinned.contains(id);
            let under_way = router.sessions.values().filter(|entry| being_dialled(entry)).count();
            // More than one only where the peer was seen to take one stream for each connection.
            let most = if peer.single_stream_until.is_some() { self.limits.peer_dials } else { 1 };
            assert!(under_way <= most && peer.dialling.iter().all(|id| router.sessions.contains_key(id)));
        }
    }

    /// What waits is on a lane, or will bounce when its time has come.
    fn check_outlets(&self) {
        for (route, outlet) in &self.outlets {
            let state = self.router.routes.get(route);
            match outlet.lane {
                Some(lane) if self.up.contains(&lane) => assert!(outlet.waiting.is_empty(), "{route}"),
                Some(lane) => {
                    assert_eq!(state.map(|s| s.placement), Some(Placement::On(lane)), "{route}");
                    let armed = state.is_some_and(|state| state.expires.is_some());
                    assert!(armed || outlet.waiting.is_empty() || self.router.lanes[&lane].up, "{route}");
                }
                None => {
                    let armed = state.is_some_and(|state| state.expires.is_some());
                    assert!(armed || outlet.waiting.is_empty(), "{route} waits for ever");
                }
            }
        }
    }

    /// Everything fails until nothing is left.
    fn end(&mut self) {
        for _ in 0..200 {
            while let Some(lane) = self.up.first().copied() {
                self.gone(lane);
            }
            for id in self.sessions_up() {
                self.session_gone(id);
            }
            while !self.told.is_empty() {
                match self.told[0] {
                    Action::CloseLane { .. } | Action::CloseSession { .. } => self.succeed(0, 0),
                    _ => self.fail(0, 0),
                }
            }
            self.pass(seconds(10));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_tables_agree_and_nothing_is_left_in_the_end(
        all in prop::collection::vec(happens(), 1..60), seed: u64, pairs in prop_oneof![Just(4_usize), Just(100)],
    ) {
        let limits = Limits { pairs, ..Limits::default() };
        let mut shell = Shell::between(&OURS, &THEIRS, limits, seed);
        for what in &all {
            shell.happens(what);
            shell.check();
        }
        shell.end();
        shell.assert_empty();
        let (sent, bounced) = (shell.sent.len() as u64, shell.bounced.len() as u64);
        prop_assert_eq!(sent + bounced, shell.next, "each stanza left, or came back");
        let mut last = BTreeMap::new();
        for (_, route, number) in &shell.sent {
            let before = last.insert(route.clone(), *number);
            prop_assert!(before.is_none_or(|before| before < *number), "{} out of order", route);
        }
    }
}
