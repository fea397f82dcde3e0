//! One proof between two routers, step by step, each with a wall clock of its own (XEP-0451 section 3.2).

use super::*;
use crate::proto::mux::authorize::{Authorization, Refused};
use crate::proto::mux::iq::MuxIq;
use crate::proto::mux::secret::{Dialled, NONCE_BYTES};
use crate::proto::mux::verifier::Clocks;
use crate::xmpp::element::Element;

/// What the clock of the world shows when a test begins.
const UNIX: u64 = 1_700_000_000;
/// From one step of a proof to the next.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// One of the two relays: its router, its sessions and their lanes.
struct End {
    shell: Shell,
    lanes: Lanes,
    /// How far its wall clock is off, in seconds.
    offset: i64,
    first: (SessionId, LaneId),
    second: (SessionId, LaneId),
}

impl End {
    fn clocks(&self) -> Clocks {
        let passed = (self.shell.now - self.shell.began).as_secs();
        Clocks { now: self.shell.now, unix: (UNIX + passed).checked_add_signed(self.offset).unwrap() }
    }

    /// A session in which we show `ours` and the peer `theirs`.
    fn session(&self, ours: &str, theirs: &str, dialled: bool, mux: bool) -> (Session, SessionFacts) {
        let facts = Facts {
            hosts: Arc::clone(&self.shell.hosts),
            theirs: names(&[theirs]),
            ours: names(&[ours]),
            dialled,
            lanes: self.lanes,
            announce_all: true,
            single: false,
            dialback: false,
            second: dialled && !mux,
        };
        let mut session = Session::new(facts);
        let listed = vec![domain(theirs)];
        session.learn(Learned { mux, authorize: true, listed, ..Learned::default() });
        let stream_id = "s1".to_owned();
        let anchor = Anchor { ours: domain(ours), theirs: domain(theirs), stream_id, bidi: true };
        let exporter = if mux { [1; 32] } else { [2; 32] };
        (
            session,
            SessionFacts {
                pinned: vec![PEER],
                place: place("192.0.2.1:5269"),
                exporter,
                mux_exporter: exporter,
                anchor,
            },
        )
    }

    /// The octets that it was told to post on `lane` next; everything before that is done or of no interest here.
    fn posted(&mut self, on: LaneId) -> Element {
        loop {
            if let Action::Post { lane, octets } = self.shell.next_told()
                && lane == on
            {
                return Element::parse(octets.as_bytes()).unwrap();
            }
        }
    }

    /// What it said about grants, refusals and clocks since it was last asked.
    fn said(&mut self) -> Vec<Action> {
        let said = |action: &Action| {
            matches!(
                action,
                Action::Granted { .. } | Action::ProofRefused { .. } | Action::ClockStepped { .. }
            )
        };
        std::mem::take(&mut self.shell.told).into_iter().filter(said).collect()
    }
}

/// V and P, whose S1 is up, and a stanza from n.test waits at P.
struct Two {
    v: End,
    p: End,
}

impl Two {
    fn new() -> Self {
        Self::placed(Lanes::PerPair)
    }

    fn placed(lanes: Lanes) -> Self {
        let end = |ours: &[&'static str], theirs: &[&'static str]| {
            let shell = Shell::between(ours, theirs, Limits::default(), 7);
            let nowhere = (SessionId(0), LaneId(0));
            End { shell, lanes, offset: 0, first: nowhere, second: nowhere }
        };
        let (mut v, mut p) =
            (end(&["v.test"], &["p.test", "n.test"]), end(&["p.test", "n.test"], &["v.test"]));
        p.shell.send(&route("p.test", "v.test"));
        p.first = p.dialled("p.test", true);
        v.first = v.accepted("p.test", true);
        p.shell.send(&route("n.test", "v.test"));
        p.second = p.dialled("n.test", false);
        v.second = v.accepted("n.test", false);
        Self { v, p }
    }

    fn pass(&mut self, time: Duration) {
        self.v.shell.pass(time);
        self.p.shell.pass(time);
    }

    /// P asks on S2. What V says there.
    fn ask(&mut self) -> Element {
        let asked = self.p.posted(self.p.second.1);
        let Ok(Some(Authorization::Request { prover, stream_id })) = Authorization::parse(&asked) else {
            panic!("{asked:?} is no request");
        };
        self.pass(ON_THE_WAY);
        let (second, lane) = self.v.second;
        let pair = route("n.test", "v.test");
        self.v.shell.tell(|router, now| {
            router.secret_requested(second, lane, &pair, &prover, &stream_id, now);
        });
        let first = self.v.first.0;
        let made = Action::MakeSecret { first, host: domain("n.test") };
        if self.v.shell.told.contains(&made) {
            let clocks = self.v.clocks();
            let host = domain("n.test");
            self.v.shell.tell(|router, _| router.make_secret(first, &host, [9; NONCE_BYTES], clocks));
        }
        self.v.posted(lane)
    }

    /// V's secret comes to P, once for each of `ids`.
    fn receive(&mut self, said: &Element, ids: impl IntoIterator<Item = String>) {
        let Ok(Some(Authorization::Secret { prover, secret })) = Authorization::parse(said) else {
            panic!("{said:?} is no secret");
        };
        let (second, pair) = (self.p.second.0, route("n.test", "v.test"));
        for id in ids {
            self.p.shell.tell(|router, now| router.secret_received(second, &pair, &prover, &secret, id, now));
        }
    }

    /// V's secret comes to P, which returns it on S1.
    fn hand_over(&mut self, said: &Element) -> MuxIq {
        self.pass(ON_THE_WAY);
        self.receive(said, ["fedmux-mux-1".to_owned()]);
        MuxIq::read(&self.p.posted(self.p.first.1)).unwrap()
    }

    /// P's offer comes to V, and V's answer to P.
    fn offer(&mut self, offer: &MuxIq) {
        self.pass(ON_THE_WAY);
        let ((first, lane), clocks) = (self.v.first, self.v.clocks());
        self.v.shell.tell(|router, _| router.mux_iq(first, lane, offer, clocks));
        let told: Vec<Action> = self.v.shell.told.iter().cloned().collect();
        let answer = MuxIq::read(&self.v.posted(lane)).unwrap();
        self.v.shell.told = told.into();
        self.pass(ON_THE_WAY);
        let ((first, lane), clocks) = (self.p.first, self.p.clocks());
        self.p.shell.tell(|router, _| router.mux_iq(first, lane, &answer, clocks));
    }

    /// The whole proof, with `step` between the secret and its return.
    fn prove(&mut self, step: impl FnOnce(&mut Self)) {
        let said = self.ask();
        let offer = self.hand_over(&said);
        step(self);
        self.v.said();
        self.offer(&offer);
    }

    fn is_granted(&mut self) {
        let granted = |end: &mut End| {
            let said = end.said();
            matches!(said[..], [Action::Granted { .. }])
        };
        assert!(granted(&mut self.v) && granted(&mut self.p));
        assert!(self.p.believes("n.test") && self.v.believes("n.test"));
    }
}

impl End {
    /// It was told to dial for a host of its own, and the connection is up.
    fn dialled(&mut self, ours: &str, mux: bool) -> (SessionId, LaneId) {
        let (id, lane, dialled) = self.shell.dial();
        assert_eq!(dialled, route(ours, "v.test"));
        let (session, facts) = self.session(ours, "v.test", true, mux);
        self.shell.tell(|router, now| router.session_up(id, session, facts, now));
        self.shell.established(lane);
        (id, lane)
    }

    /// The peer has dialled with the certificate of `theirs`.
    fn accepted(&mut self, theirs: &str, mux: bool) -> (SessionId, LaneId) {
        let id = self.shell.router.fresh_session();
        let (session, facts) = self.session("v.test", theirs, false, mux);
        self.shell.tell(|router, now| router.session_up(id, session, facts, now));
        (id, self.shell.peer_opened(id, &route("v.test", theirs)))
    }

    /// Whether S1 speaks for `host`.
    fn believes(&self, host: &str) -> bool {
        let session = self.shell.router.sessions[&self.first.0].session.as_ref().unwrap();
        session.theirs_proven(&domain(host)) || session.ours_proven(&domain(host))
    }
}

#[test]
fn clocks_that_are_ten_minutes_apart_make_no_difference() {
    for (v, p) in [(0, 0), (0, 600), (0, -600), (600, 0), (-600, 0), (600, -600)] {
        let mut two = Two::new();
        (two.v.offset, two.p.offset) = (v, p);
        two.prove(|_| {});
        two.is_granted();
    }
}

#[test]
fn the_provers_clock_may_be_set_while_it_holds_a_secret() {
    for step in [600, -600] {
        let mut two = Two::new();
        two.prove(|two| two.p.offset = step);
        two.is_granted();
    }
}

#[test]
fn a_verifier_whose_clock_is_set_while_a_secret_is_out_refuses_it_and_says_by_how_much() {
    for (step, reason) in [(600, Reason::MuxExpired), (-600, Reason::MuxClockBack)] {
        let mut two = Two::new();
        two.prove(|two| two.v.offset = step);
        let refused =
            Action::ProofRefused { session: Some(two.v.first.0), host: Some(domain("n.test")), reason };
        assert_eq!(two.v.said(), [Action::ClockStepped { seconds: step }, refused]);
        assert!(!two.v.believes("n.test") && !two.p.believes("n.test"));
        let refusals = two.p.said();
        assert!(
            matches!(refusals[..], [Action::ProofRefused { reason: Reason::MuxRefused, .. }]),
            "{refusals:?}"
        );
    }
}

impl Two {
    /// V's refusal comes to P.
    fn refuse(&mut self, said: &Element) {
        let Ok(Some(Authorization::Refused(refused))) = Authorization::parse(said) else {
            panic!("{said:?} is no refusal");
        };
        let second = self.p.second.0;
        self.p.shell.tell(|router, now| router.secret_refused(second, refused, now));
    }

    /// What V may hand out for its session with P.
    fn allow(&mut self, allowance: Allowance) {
        let first = self.v.first.0;
        self.v.shell.router.sessions.get_mut(&first).unwrap().verifier.allow(allowance);
    }
}

/// Whether the relay was told to dial or to write anything.
fn wants_something(end: &End) -> bool {
    end.shell.told.iter().any(|action| matches!(action, Action::Dial { .. } | Action::Post { .. }))
}

#[test]
fn a_prover_that_met_a_limit_asks_again_on_the_same_connection_a_little_later_each_time() {
    let mut two = Two::new();
    two.allow(Allowance { burst: 0, ..Allowance::PEER });
    let mut waits = Vec::new();
    for _ in 0..5 {
        let said = two.ask();
        assert!(matches!(two.v.said()[..], [Action::ProofRefused { reason: Reason::MuxBusy, .. }]));
        two.refuse(&said);
        let refusals = two.p.said();
        assert!(
            matches!(refusals[..], [Action::ProofRefused { reason: Reason::MuxBusy, .. }]),
            "{refusals:?}"
        );
        let began = two.p.shell.now;
        while !wants_something(&two.p) {
            two.pass(Duration::from_millis(100));
        }
        assert!(matches!(two.p.shell.told[0], Action::Post { .. }), "{:?}", two.p.shell.told);
        waits.push(two.p.shell.now - began);
    }
    assert!(waits[0] <= seconds(1) && waits[4] > seconds(7) && waits[4] <= seconds(17), "{waits:?}");
    two.allow(Allowance::PEER);
    two.prove(|_| {});
    two.is_granted();
}

#[test]
fn a_prover_that_met_a_rule_does_not_ask_again_for_an_hour() {
    for refused in [Refused::NoSession, Refused::NotProven, Refused::Other] {
        let mut two = Two::new();
        two.p.posted(two.p.second.1);
        let second = two.p.second.0;
        two.p.shell.tell(|router, now| router.secret_refused(second, refused, now));
        two.p.said();
        two.p.shell.lane_down(two.p.second.1);
        two.p.shell.tell(|router, now| router.session_down(second, Reason::Idle, now));
        two.p.shell.pass(seconds(3500));
        two.p.shell.send(&route("n.test", "v.test"));
        assert!(
            matches!(two.p.shell.next_told(), Action::Dial { second: false, .. }),
            "a connection of its own, and no proof"
        );
    }
}

#[test]
fn a_refusal_from_who_was_to_return_a_secret_changes_nothing() {
    let mut two = Two::new();
    two.prove(|two| {
        let second = two.v.second.0;
        two.v.shell.tell(|router, now| router.secret_refused(second, Refused::NoSession, now));
        assert!(two.v.said().is_empty());
    });
    two.is_granted();
}

#[test]
fn a_limit_that_stopped_a_proof_is_named() {
    let hits = |two: &Two| {
        let hit = |action: &Action| match action {
            Action::LimitHit { limit } => Some(*limit),
            _ => None,
        };
        [&two.v, &two.p].map(|end| end.shell.told.iter().filter_map(hit).collect::<Vec<_>>())
    };
    let first_hit = |prepare: &dyn Fn(&mut Two)| {
        let mut two = Two::new();
        prepare(&mut two);
        let asked = two.p.shell.told.clone();
        let lane = two.v.second.1;
        let pair = route("n.test", "v.test");
        let second = two.v.second.0;
        two.v.shell.tell(|router, now| {
            router.secret_requested(second, lane, &pair, &domain("p.test"), "s1", now);
        });
        let (first, clocks, host) = (two.v.first.0, two.v.clocks(), domain("n.test"));
        two.v.shell.tell(|router, _| router.make_secret(first, &host, [9; NONCE_BYTES], clocks));
        two.p.shell.told = asked;
        hits(&two)[0].clone()
    };
    assert_eq!(first_hit(&|_| {}), [""; 0]);
    assert_eq!(first_hit(&|two| two.allow(Allowance { open: 0, ..Allowance::PEER })), ["proofs_open"]);
    assert_eq!(first_hit(&|two| two.allow(Allowance { burst: 0, ..Allowance::PEER })), ["proofs_burst"]);
    // One connection doesn't take what is there for all.
    for (secrets_returned, taken) in [(0, 0), (160, 11)] {
        let mut two = Two::new();
        two.p.shell.router.limits.secrets_returned = secrets_returned;
        let said = two.ask();
        two.receive(&said, (0..=taken).map(|n| n.to_string()));
        assert_eq!(
            (hits(&two)[1].clone(), two.p.shell.router.returned.len()),
            (vec!["secrets_returned"], taken)
        );
    }
    let mut two = Two::new();
    two.p.shell.router.limits.proofs_under_way = 0;
    let first = two.p.first.0;
    two.p.shell.tell(|router, now| {
        router.want_proof(first, PEER, domain("m.test"), Dialled::ByProver, now);
    });
    assert_eq!(hits(&two)[1], ["proofs_under_way"]);
}

#[test]
fn a_shared_lane_whose_grant_ends_goes_on_with_all_other_pairs() {
    let mut two = Two::placed(Lanes::Shared);
    two.prove(|_| {});
    two.is_granted();
    let ((first, lane), p) = (two.p.first, &mut two.p);
    let (own, joined) = (route("p.test", "v.test"), route("n.test", "v.test"));
    p.shell.lane_down(p.second.1);
    p.shell.send(&joined);
    assert_eq!(p.shell.lanes_of(&joined).last(), Some(&lane), "it has joined");
    p.shell.told.clear();
    p.shell.tell(|router, now| router.grants_end(first, end_of_certificates(), now));
    assert!(p.shell.told.is_empty(), "the lane stays: {:?}", p.shell.told);
    p.shell.send(&own);
    assert_eq!(p.shell.lanes_of(&own), [lane, lane]);
    p.shell.send(&joined);
    assert!(p.shell.outlets[&joined].lane != Some(lane), "not there");
    assert!(matches!(p.shell.next_told(), Action::Dial { .. }), "it finds another way");
}

#[test]
fn a_pair_whose_grant_ends_leaves_its_lane_at_once_and_the_lane_finishes() {
    let mut two = Two::new();
    two.prove(|_| {});
    two.is_granted();
    let ((first, _), p) = (two.p.first, &mut two.p);
    let joined = route("n.test", "v.test");
    p.shell.lane_down(p.second.1);
    p.shell.send(&joined);
    let lane = loop {
        if let Action::OpenLane { lane, .. } = p.shell.next_told() {
            break lane;
        }
    };
    p.shell.established(lane);
    assert_eq!(p.shell.lanes_of(&joined).last(), Some(&lane));
    p.shell.told.clear();
    p.shell.tell(|router, now| router.grants_end(first, end_of_certificates(), now));
    assert_eq!(p.shell.told, [Action::CloseLane { lane, reason: Reason::CertificateExpired }]);
    assert!(
        p.shell.outlets.get(&joined).is_none_or(|outlet| outlet.lane.is_none()),
        "nothing more goes there"
    );
}

/// Who shares the name v, with a certificate of its own, may have a session with us too, which takes new lanes.
#[test]
fn a_secret_that_was_asked_for_goes_back_on_the_session_that_was_named_and_on_no_other() {
    let mut two = Two::new();
    let said = two.ask();
    let rival = two.p.shell.router.fresh_session();
    let (session, facts) = two.p.session("p.test", "v.test", false, true);
    let facts = SessionFacts { exporter: [0; 32], mux_exporter: [0; 32], ..facts };
    two.p.shell.tell(|router, now| router.session_up(rival, session, facts, now));
    let rivals_lane = two.p.shell.peer_opened(rival, &route("p.test", "v.test"));
    two.receive(&said, ["fedmux-mux-1".to_owned()]);
    let returned_on = |two: &Two| {
        let on = two.p.shell.told.iter().filter_map(|action| match action {
            Action::Post { lane, octets } if octets.starts_with("<iq") => Some(*lane),
            _ => None,
        });
        on.collect::<Vec<_>>()
    };
    assert_eq!(returned_on(&two), [two.p.first.1], "the rival would be {rivals_lane:?}");
    // And if it isn't taken there, that is the last word.
    let refusal = MuxIq::Answer {
        id: "fedmux-mux-1".to_owned(),
        from: "v.test".to_owned(),
        to: "p.test".to_owned(),
        granted: false,
    };
    let ((first, lane), clocks) = (two.p.first, two.p.clocks());
    two.p.shell.tell(|router, _| router.mux_iq(first, lane, &refusal, clocks));
    assert_eq!(returned_on(&two), [two.p.first.1]);
    assert!(matches!(two.p.said()[..], [Action::ProofRefused { reason: Reason::MuxRefused, .. }]));
}

#[test]
fn a_relay_that_ends_waits_for_no_proof() {
    let shell = Shell::between(&["p.test", "n.test"], &["v.test", "x.test"], Limits::default(), 7);
    let nowhere = (SessionId(0), LaneId(0));
    let mut end = End { shell, lanes: Lanes::PerPair, offset: 0, first: nowhere, second: nowhere };
    let up = |end: &mut End, ours: &str, theirs: &str, mux: bool| {
        let (id, lane, dialled) = end.shell.dial();
        assert_eq!(dialled, route(ours, theirs));
        let (mut session, facts) = end.session(ours, theirs, true, mux);
        let listed = vec![domain("v.test"), domain("x.test")];
        session.learn(Learned { mux, authorize: true, listed, ..Learned::default() });
        end.shell.tell(|router, now| router.session_up(id, session, facts, now));
        end.shell.established(lane);
    };
    end.shell.send(&route("p.test", "v.test"));
    up(&mut end, "p.test", "v.test", true);
    // Both of its hosts could join that session.
    let waits = route("n.test", "x.test");
    end.shell.send(&waits);
    up(&mut end, "p.test", "x.test", false);
    up(&mut end, "n.test", "v.test", false);
    let dials = |end: &mut End| {
        let told = std::mem::take(&mut end.shell.told).into_iter();
        let dial = |action| if let Action::Dial { route, .. } = action { Some(route) } else { None };
        told.filter_map(dial).collect::<Vec<_>>()
    };
    assert_eq!(dials(&mut end), [], "the proofs are under way");
    end.shell.tell(Router::drains);
    assert_eq!(dials(&mut end), [waits]);
}

#[test]
fn what_is_proven_on_a_connection_that_leaves_lets_nobody_join() {
    let leave = |two: &mut Two| {
        let second = two.v.second.0;
        two.v.shell.tell(|router, now| router.session_leaves(second, Reason::PeerChanged, now));
    };
    let mut two = Two::new();
    two.prove(leave);
    assert!(!two.v.believes("n.test") && !two.p.believes("n.test"));
    // Nor is a secret made there.
    let mut two = Two::new();
    leave(&mut two);
    let said = two.ask();
    assert_eq!(Authorization::parse(&said), Ok(Some(Authorization::Refused(Refused::Busy))));
}
