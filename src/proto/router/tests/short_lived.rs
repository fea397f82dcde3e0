//! Lanes that come to be and end, again and again.

use super::lanes::{a1_b1, connected};
use super::*;

/// Each lane that carries the pair ends as soon as it is established, for `time`: when each one was opened, from then on.
fn ends_at_once(shell: &mut Shell, time: Duration) -> Vec<Duration> {
    let (begun, mut opened) = (shell.now, Vec::new());
    while shell.now < begun + time {
        match shell.told.pop_front() {
            Some(Action::OpenLane { lane, .. }) => {
                opened.push(shell.now - begun);
                shell.tell(|router, now| router.lane_established(lane, now));
                shell.tell(|router, now| router.lane_down(lane, Reason::ConnectionLost, now));
            }
            Some(Action::OpenLocal { lane, .. }) => {
                opened.push(shell.now - begun);
                shell.tell(|router, now| router.local_lane_established(lane, now));
                shell.tell(|router, now| router.local_lane_down(lane, Reason::ConnectionLost, now));
            }
            _ => shell.pass(Duration::from_millis(10)),
        }
    }
    opened
}

#[test]
fn a_stream_that_ends_at_once_is_opened_again_at_once_and_from_then_on_with_back_off() {
    let (mut shell, _, lane) = connected(1);
    // What was sent on it, and nobody has acknowledged, comes back to its queue.
    shell.up.remove(&lane);
    shell.send(&a1_b1());
    shell.tell(|router, now| router.lane_down(lane, Reason::ConnectionLost, now));
    let opened = ends_at_once(&mut shell, seconds(30));
    assert_eq!(opened[0], Duration::ZERO, "that one stream ends means little");
    assert!((4..=7).contains(&opened.len()), "{opened:?}");
    // It waits as long as anything that waits for a next hop, and no longer.
    let hold = shell.limits.hold;
    ends_at_once(&mut shell, hold);
    assert_eq!(shell.bounces(&a1_b1()), [Reason::ConnectionLost]);
}

#[test]
fn a_stream_to_a_server_that_ends_it_at_once_is_opened_with_back_off() {
    let mut shell = Shell::new(Limits::default());
    let inward = route("b1.test", "a1.test");
    shell.send(&inward);
    let opened = ends_at_once(&mut shell, seconds(30));
    assert_eq!(opened[..2], [Duration::ZERO; 2]);
    assert!((5..=8).contains(&opened.len()), "{opened:?}");
    let hold = shell.limits.hold;
    ends_at_once(&mut shell, hold);
    assert_eq!(shell.bounces(&inward), [Reason::ConnectionLost]);
}

#[test]
fn a_peer_that_calls_each_session_used_up_is_not_dialled_without_a_pause() {
    let mut shell = Shell::new(Limits::default());
    let (pairs, mut dialled) = ([a1_b1(), route("a2.test", "b2.test")], 0);
    let until = shell.now + seconds(30);
    while shell.now < until && dialled < 1_000 {
        for pair in &pairs {
            shell.send(pair);
        }
        match shell.told.pop_front() {
            // The first stream of each connection is served, and every other one is to go elsewhere.
            Some(Action::Dial { session, lane, .. }) => {
                dialled += 1;
                shell.dialled(session, lane, 1);
            }
            Some(Action::OpenLane { lane, .. }) => {
                shell.tell(|router, now| router.lane_failed(lane, LaneFailure::Elsewhere, now));
            }
            Some(Action::CloseLane { lane, .. }) => shell.lane_down(lane),
            Some(Action::CloseSession { session, reason }) => {
                shell.tell(|router, now| router.session_down(session, reason, now));
            }
            _ => shell.pass(Duration::from_millis(10)),
        }
    }
    assert!((8..=64).contains(&dialled), "{dialled}");
}

#[test]
fn a_stream_that_lasts_a_while_is_opened_again_at_once_however_often_it_ends() {
    let (mut shell, _, mut lane) = connected(1);
    for _ in 0..8 {
        shell.pass(shell.limits.retry_min);
        shell.up.remove(&lane);
        shell.send(&a1_b1());
        shell.tell(|router, now| router.lane_down(lane, Reason::ConnectionLost, now));
        lane = shell.lane().1;
        shell.established(lane);
    }
}

/// A session whose other end has no room: whatever lane comes up, ours or the peer's, it ends. How many came up in `time`, and
/// how many of them carried the pair.
fn without_room(
    shell: &mut Shell,
    session: SessionId,
    reason: Reason,
    time: Duration,
    peer_opens: bool,
) -> (u32, u32) {
    let (mut opened, mut carried, until) = (0, 0, shell.now + time);
    while shell.now < until {
        let lane = match shell.told.pop_front() {
            Some(Action::OpenLane { lane, .. }) => {
                shell.tell(|router, now| router.lane_established(lane, now));
                Some(lane)
            }
            None if peer_opens => {
                let lane = shell.router.fresh_lane();
                shell.tell(|router, now| router.peer_lane_up(session, lane, &a1_b1(), true, now));
                Some(lane)
            }
            _ => None,
        };
        if let Some(lane) = lane {
            opened += 1;
            carried += u32::from(shell.outlets.get(&a1_b1()).is_some_and(|outlet| outlet.lane == Some(lane)));
            // What was sent on it comes back to its queue, and with it the lane goes.
            shell.tell(|router, now| router.lane_down(lane, reason, now));
        }
        shell.pass(Duration::from_millis(10));
    }
    (opened, carried)
}

#[test]
fn a_pair_that_the_other_end_has_no_room_for_is_tried_with_back_off_by_either_end() {
    for reason in [Reason::ResourceConstraint, Reason::QueueFull] {
        for peer_opens in [false, true] {
            let (mut shell, session, lane) = connected(1);
            shell.up.remove(&lane);
            shell.send(&a1_b1());
            shell.tell(|router, now| router.lane_down(lane, reason, now));
            let (opened, carried) = without_room(&mut shell, session, reason, seconds(50), peer_opens);
            assert!((4..=8).contains(&carried), "{reason} {peer_opens}: {carried} of {opened}");
            assert!(peer_opens || opened == carried, "{opened}");
            assert!(shell.bounces(&a1_b1()).is_empty());
            // It waits as long as anything that waits for a next hop, and no longer.
            without_room(&mut shell, session, reason, seconds(30), peer_opens);
            assert_eq!(shell.bounces(&a1_b1()), [reason]);
        }
    }
}

#[test]
fn a_pair_that_was_too_much_for_the_other_end_after_a_long_time_waits_little() {
    let (mut shell, _, mut lane) = connected(1);
    for _ in 0..6 {
        shell.pass(shell.limits.hold);
        shell.up.remove(&lane);
        shell.send(&a1_b1());
        shell.tell(|router, now| router.lane_down(lane, Reason::ResourceConstraint, now));
        assert!(shell.told.is_empty());
        shell.pass(shell.limits.retry_min);
        lane = shell.lane().1;
        shell.established(lane);
    }
}
