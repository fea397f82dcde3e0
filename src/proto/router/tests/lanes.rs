//! Sessions and their lanes.

use super::*;

pub(super) fn a1_b1() -> Route {
    route("a1.test", "b1.test")
}

/// A shell with a dialled session that carries a1.test to b1.test.
pub(super) fn connected(exporter: u8) -> (Shell, SessionId, LaneId) {
    let mut shell = Shell::new(Limits::default());
    shell.send(&a1_b1());
    let (session, lane, _) = shell.dial();
    shell.dialled(session, lane, exporter);
    (shell, session, lane)
}

#[test]
fn a_session_that_proves_a_domain_but_comes_from_another_address_carries_nothing() {
    let mut shell = Shell::new(Limits::default());
    for pinned in [&[][..], &[OTHER][..]] {
        let id = shell.router.fresh_session();
        let session = shell.session(false);
        shell.tell(|router, now| router.session_up(id, session, up(pinned, [0; 32]), now));
        let lane = shell.peer_opened(id, &a1_b1());
        shell.send(&a1_b1());
        assert_ne!(shell.outlets[&a1_b1()].lane, Some(lane));
    }
    assert!(shell.sent.is_empty());
    shell.dial();
    assert!(shell.told.is_empty(), "the peer itself is dialled, once");
}

#[test]
fn a_session_carries_only_what_both_certificates_prove() {
    let (mut shell, session, _) = connected(1);
    // Pinned to the same peer, but not in its certificate.
    shell.tell(|router, now| {
        let other = router.sessions[&session].session.clone().unwrap();
        router.session_up(session, other, up(&[PEER, OTHER], [1; 32]), now);
    });
    shell.send(&route("a1.test", "rooms.b1.test"));
    shell.dial();
    assert!(shell.told.is_empty());
}

#[test]
fn of_two_sessions_the_smaller_exporter_takes_new_lanes_and_nothing_moves() {
    let (mut shell, ours, lane) = connected(5);
    let (theirs, _) = shell.peer_came(&route("a2.test", "b2.test"), 3);
    shell.send(&a1_b1());
    assert_eq!(shell.lanes_of(&a1_b1()), [lane, lane], "it stays where it is");
    let other = route("a3.test", "b1.test");
    shell.send(&other);
    let (session, in_theirs, _) = shell.lane();
    assert_eq!(session, theirs);
    shell.established(in_theirs);
    assert_eq!(shell.lanes_of(&other), [in_theirs]);
    // What is left of the loser goes when its dialler has had no lane in it for session_idle.
    shell.lane_down(lane);
    shell.pass(shell.limits.session_idle - Duration::from_millis(1));
    assert!(shell.told.is_empty());
    shell.pass(Duration::from_millis(1));
    assert_eq!(shell.next_told(), Action::CloseSession { session: ours, reason: Reason::Idle });
    shell.pass(seconds(1000));
    assert!(shell.told.is_empty(), "said once, and not of a session that has a lane");
    shell.tell(|router, now| router.session_down(ours, Reason::Idle, now));
    shell.send(&a1_b1());
    let (session, ..) = shell.lane();
    assert_eq!(session, theirs);
}

#[test]
fn a_lane_that_the_peer_opens_before_its_former_one_has_ended_here_carries_the_pair_from_then_on() {
    let mut shell = Shell::new(Limits::default());
    let (session, former) = shell.peer_came(&a1_b1(), 3);
    shell.send(&a1_b1());
    let next = shell.peer_opened(session, &a1_b1());
    // The peer's end of the former has come, and what is said now finds it shut.
    shell.up.remove(&former);
    shell.send(&a1_b1());
    shell.lane_down(former);
    assert!(shell.told.is_empty(), "no lane of ours beside it: {:?}", shell.told);
    assert_eq!(shell.lanes_of(&a1_b1()), [former, next]);
}

#[test]
fn a_session_with_lanes_is_not_idle_and_one_that_is_closing_takes_none() {
    let (mut shell, session, lane) = connected(1);
    shell.pass(shell.limits.session_idle * 3);
    assert!(shell.told.is_empty());
    shell.lane_down(lane);
    shell.pass(shell.limits.session_idle);
    assert!(matches!(shell.next_told(), Action::CloseSession { .. }));
    shell.send(&a1_b1());
    let (fresh, ..) = shell.dial();
    assert_ne!(fresh, session);
}

#[test]
fn a_session_that_the_peer_opened_and_has_no_lane_in_is_closed_long_after_its_dialler_would_have() {
    let mut shell = Shell::new(Limits::default());
    let (session, lane) = shell.peer_came(&a1_b1(), 3);
    let patience = 10 * shell.limits.session_idle;
    shell.pass(2 * patience);
    assert!(shell.told.is_empty(), "it has a lane");
    shell.lane_down(lane);
    shell.pass(patience - Duration::from_millis(1));
    let lane = shell.peer_opened(session, &a1_b1());
    shell.lane_down(lane);
    // Also when it takes no new lanes of ours: those of the peer go on.
    shell.tell(|router, now| router.session_retires(session, now));
    shell.pass(patience - Duration::from_millis(1));
    assert!(shell.told.is_empty());
    shell.pass(Duration::from_millis(1));
    assert_eq!(shell.next_told(), Action::CloseSession { session, reason: Reason::Idle });
    shell.pass(2 * patience);
    assert!(shell.told.is_empty(), "said once");
    shell.send(&a1_b1());
    shell.dial();
}

#[test]
fn a_refused_pipelined_lane_is_opened_again_step_by_step_at_once() {
    let (mut shell, session, _) = connected(1);
    let wanted = route("a2.test", "b1.test");
    shell.send(&wanted);
    let Action::OpenLane { lane, plain: false, .. } = shell.next_told() else { panic!() };
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::PipeliningRefused, now));
    let Action::OpenLane { session: again, lane, plain: true, .. } = shell.next_told() else { panic!() };
    assert_eq!(again, session);
    shell.established(lane);
    assert_eq!(shell.lanes_of(&wanted), [lane]);
    // What the peer took step by step it may take pipelined the next time.
    shell.lane_down(lane);
    shell.send(&wanted);
    assert!(matches!(shell.next_told(), Action::OpenLane { plain: false, .. }));
}

#[test]
fn a_pair_whose_first_lane_sends_ahead_stays_there_though_another_session_comes_up_before_it() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&a1_b1());
    let (ours, lane, _) = shell.dial();
    shell.up.insert(lane);
    shell.tell(|router, _| router.lane_goes_ahead(lane));
    shell.flush_all();
    let other = route("a2.test", "b1.test");
    shell.send(&other);
    // Where new lanes go is not where that pair goes.
    let (theirs, _) = shell.peer_came(&a1_b1(), 0);
    let (session, second, _) = shell.lane();
    assert_eq!(session, theirs);
    shell.established(second);
    shell.send(&a1_b1());
    assert_eq!(shell.lanes_of(&a1_b1()), [lane, lane], "what was sent isn't overtaken");
    assert_eq!(shell.lanes_of(&other), [second]);
    shell.dialled(ours, lane, 9);
    shell.send(&a1_b1());
    assert_eq!(shell.lanes_of(&a1_b1()), [lane; 3]);
}

#[test]
fn a_peer_that_refuses_the_flight_of_a_first_stream_is_dialled_again_step_by_step_at_once() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&a1_b1());
    let Action::Dial { session, lane, plain: false, .. } = shell.next_told() else { panic!() };
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::PipeliningRefused, now));
    shell.tell(|router, now| router.session_down(session, Reason::ExternalRefused, now));
    let Action::Dial { session, lane, plain: true, .. } = shell.next_told() else { panic!() };
    assert!(shell.bounces(&a1_b1()).is_empty());
    shell.dialled(session, lane, 1);
    assert_eq!(shell.lanes_of(&a1_b1()), [lane]);
    // So is every pair for a while, whichever was refused: it says something about the peer.
    let again = |shell: &mut Shell, session, lane| {
        shell.lane_down(lane);
        shell.tell(|router, now| router.session_down(session, Reason::ConnectionLost, now));
        shell.send(&route("a2.test", "b2.test"));
        let Action::Dial { session, lane, plain, .. } = shell.next_told() else { panic!() };
        shell.dialled(session, lane, 1);
        (session, lane, plain)
    };
    let (session, lane, plain) = again(&mut shell, session, lane);
    assert!(plain);
    shell.pass(shell.limits.retry_max);
    assert!(!again(&mut shell, session, lane).2, "what it refused it may take the next time");
}

#[test]
fn a_peer_that_refuses_a_flight_and_then_the_pair_itself_is_not_asked_for_ever() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&a1_b1());
    let Action::Dial { session, lane, .. } = shell.next_told() else { panic!() };
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::PipeliningRefused, now));
    shell.tell(|router, now| router.session_down(session, Reason::ExternalRefused, now));
    let (session, lane, _) = shell.dial();
    let refused = LaneFailure::Other(Reason::ExternalRefused);
    shell.tell(|router, now| router.lane_failed(lane, refused, now));
    shell.tell(|router, now| router.session_down(session, Reason::ExternalRefused, now));
    assert_eq!(shell.bounces(&a1_b1()), [Reason::ExternalRefused]);
    shell.send(&a1_b1());
    assert_eq!(shell.bounces(&a1_b1()).len(), 2, "remembered");
    assert!(shell.told.is_empty());
}

#[test]
fn a_peer_that_closes_each_further_stream_before_its_header_gets_a_connection_for_the_pair() {
    let (mut shell, standing, _) = connected(1);
    let wanted = route("a2.test", "b1.test");
    shell.send(&wanted);
    for _ in 0..4 {
        while shell.told.is_empty() {
            shell.pass(Duration::from_millis(100));
        }
        let (session, lane, _) = shell.lane();
        assert_eq!(session, standing, "it may be stopping");
        shell.tell(|router, now| router.lane_failed(lane, LaneFailure::Closed(Reason::Idle), now));
    }
    let (session, lane, _) = shell.dial();
    shell.dialled(session, lane, 2);
    assert_eq!(shell.lanes_of(&wanted), [lane]);
}

#[test]
fn a_lane_that_can_never_be_bounces_at_once_and_a_passing_failure_backs_off() {
    let (mut shell, ..) = connected(1);
    let (never, later) = (route("a2.test", "b1.test"), route("a3.test", "b1.test"));
    shell.send(&never);
    let (_, lane, _) = shell.lane();
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::Other(Reason::HostUnknown), now));
    assert_eq!(shell.bounces(&never), [Reason::HostUnknown]);
    shell.send(&never);
    assert_eq!(shell.bounces(&never).len(), 2, "remembered");
    assert!(shell.told.is_empty());

    shell.send(&later);
    let mut waits = Vec::new();
    for _ in 0..5 {
        let (_, lane, _) = shell.lane();
        let failure = LaneFailure::Other(Reason::ResourceConstraint);
        shell.tell(|router, now| router.lane_failed(lane, failure, now));
        let failed = shell.now;
        while shell.told.is_empty() {
            shell.pass(Duration::from_millis(20));
        }
        waits.push(shell.now - failed);
    }
    for (n, wait) in waits.iter().enumerate() {
        let full = shell.limits.retry_min * (1 << n);
        assert!(*wait >= full / 2 && *wait <= full + Duration::from_millis(40), "{waits:?}");
    }
}

#[test]
fn what_answers_somebody_waits_until_a_refusal_is_over() {
    let (mut shell, session, _) = connected(1);
    let refused = route("a2.test", "b1.test");
    shell.send(&refused);
    let (_, lane, _) = shell.lane();
    shell.outlets.get_mut(&refused).unwrap().answers = true;
    let failure = LaneFailure::Other(Reason::CertificateExpired);
    shell.tell(|router, now| router.lane_failed(lane, failure, now));
    assert_eq!(shell.bounces(&refused), [Reason::CertificateExpired]);
    // What comes now needn't wait for anything.
    shell.send(&refused);
    assert_eq!(shell.bounces(&refused).len(), 2);
    assert!(shell.told.is_empty(), "{:?}", shell.told);
    shell.pass(shell.limits.retry_max);
    let (again, lane, wanted) = shell.lane();
    assert_eq!((again, &wanted), (session, &refused));
    shell.established(lane);
    shell.send(&refused);
    assert_eq!(shell.lanes_of(&refused), [lane]);
}

#[test]
fn a_lost_lane_is_wanted_again_and_what_waits_goes_in_order() {
    let (mut shell, session, lane) = connected(1);
    shell.up.remove(&lane);
    for _ in 0..3 {
        shell.send(&a1_b1());
    }
    shell.lane_down(lane);
    let (again, fresh, _) = shell.lane();
    assert_eq!(again, session);
    shell.send(&a1_b1());
    shell.established(fresh);
    let numbers: Vec<_> = shell.sent.iter().map(|(lane, _, number)| (*lane, *number)).collect();
    assert_eq!(numbers, [(lane, 0), (fresh, 1), (fresh, 2), (fresh, 3), (fresh, 4)]);
}

#[test]
fn a_lost_session_is_dialled_again_only_for_what_waits() {
    let (mut shell, session, lane) = connected(1);
    let quiet = route("a2.test", "b2.test");
    shell.send(&quiet);
    let (_, other, _) = shell.lane();
    shell.established(other);
    shell.up.clear();
    shell.send(&a1_b1());
    for lane in [lane, other] {
        shell.lane_down(lane);
    }
    shell.told.clear();
    shell.tell(|router, now| router.session_down(session, Reason::ConnectionLost, now));
    assert_eq!(shell.router.route_count(), 1, "nothing waits for the other");
}

#[test]
fn a_retiring_session_takes_no_lane_and_hands_over() {
    let (mut shell, old, lane) = connected(1);
    let theirs = shell.peer_opened(old, &route("a2.test", "b2.test"));
    shell.tell(|router, now| router.session_retires(old, now));
    assert_eq!(shell.next_told(), Action::CloseLane { lane, reason: Reason::Idle });
    assert!(shell.told.is_empty(), "the peer's own lanes are the peer's to close");
    // Until the lane has finished its stanzas wait, so that none overtakes.
    shell.up.remove(&lane);
    shell.send(&a1_b1());
    assert!(shell.told.is_empty());
    shell.lane_down(lane);
    let (fresh, lane, _) = shell.dial();
    shell.dialled(fresh, lane, 9);
    assert_eq!(shell.lanes_of(&a1_b1()).last(), Some(&lane));
    shell.send(&route("a3.test", "b3.test"));
    let (session, ..) = shell.lane();
    assert_eq!(session, fresh, "though the old one has the smaller exporter value");
    shell.lane_down(theirs);
    shell.pass(shell.limits.ack_wait);
    assert_eq!(shell.next_told(), Action::CloseSession { session: old, reason: Reason::Idle });
}

#[test]
fn a_session_whose_peer_takes_no_new_lane_is_left_at_once() {
    let (mut shell, old, lane) = connected(1);
    shell.pass(shell.limits.retry_min);
    let wanted = [route("a2.test", "b1.test"), route("a2.test", "b2.test")];
    wanted.iter().for_each(|route| shell.send(route));
    let refused = [shell.lane().1, shell.lane().1];
    shell.tell(|router, now| router.lane_failed(refused[0], LaneFailure::Elsewhere, now));
    assert_eq!(shell.next_told(), Action::CloseLane { lane, reason: Reason::Idle });
    assert_eq!(shell.next_told(), Action::CloseLane { lane: refused[1], reason: Reason::Idle });
    let (fresh, first, dialled_for) = shell.dial();
    assert_eq!(dialled_for, wanted[0]);
    shell.tell(|router, now| router.lane_failed(refused[1], LaneFailure::Elsewhere, now));
    assert!(shell.told.is_empty(), "nothing is told twice, and one attempt is enough: {:?}", shell.told);
    // Its exporter value is greater.
    shell.dialled(fresh, first, 9);
    assert_eq!(shell.lanes_of(&wanted[0]), [first]);
    let (session, second, _) = shell.lane();
    assert_eq!(session, fresh);
    shell.established(second);
    assert_eq!(shell.lanes_of(&wanted[1]), [second]);
    // What went well there moves too, and behind it the session is closed.
    shell.lane_down(lane);
    shell.send(&a1_b1());
    assert_eq!(shell.lane().0, fresh);
    shell.pass(shell.limits.ack_wait);
    assert_eq!(shell.next_told(), Action::CloseSession { session: old, reason: Reason::Idle });
}

#[test]
fn a_lane_of_the_peer_without_bidi_carries_nothing_for_us() {
    let mut shell = Shell::new(Limits::default());
    let id = shell.router.fresh_session();
    let theirs = names(&THEIRS);
    let session = shell.session_of(theirs, false, Lanes::PerPair, false);
    shell.tell(|router, now| router.session_up(id, session, up(&[PEER], [0; 32]), now));
    let lane = shell.router.fresh_lane();
    shell.tell(|router, now| router.peer_lane_up(id, lane, &a1_b1(), false, now));
    shell.send(&a1_b1());
    // Without mux the end that was dialled opens nothing either.
    let (session, ..) = shell.dial();
    assert_ne!(session, id);
}

#[test]
fn one_stream_carries_all_pairs_where_both_ends_mean_it_and_mux_was_agreed() {
    for mux in [true, false] {
        let mut shell = Shell::new(Limits::default());
        shell.send(&a1_b1());
        let (id, lane, _) = shell.dial();
        let session = shell.session_of(names(&THEIRS), true, Lanes::Shared, mux);
        shell.tell(|router, now| router.session_up(id, session, up(&[PEER], [0; 32]), now));
        shell.established(lane);
        let other = route("a2.test", "b2.test");
        shell.send(&other);
        if mux {
            assert_eq!(shell.lanes_of(&other), [lane]);
        } else {
            let (session, own, _) = shell.lane();
            assert_eq!(session, id);
            assert_ne!(own, lane, "the peer believes that stream for its own pair alone");
        }
    }
}

#[test]
fn a_lane_that_closes_takes_no_further_route() {
    let (mut shell, session, lane) = connected(1);
    let theirs = shell.peer_opened(session, &a1_b1());
    shell.tell(|router, _| router.lane_closing(lane));
    shell.lane_down(lane);
    shell.send(&a1_b1());
    let (_, fresh, _) = shell.lane();
    assert_ne!(fresh, theirs);
    shell.established(fresh);
    shell.tell(|router, _| router.lane_closing(fresh));
    let newer = shell.peer_opened(session, &a1_b1());
    shell.lane_down(fresh);
    shell.send(&a1_b1());
    assert_eq!(shell.lanes_of(&a1_b1()).last(), Some(&newer), "the peer's fresh lane serves both ways");
}
