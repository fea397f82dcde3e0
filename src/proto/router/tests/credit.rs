//! Peers that give no credit for a lane: those of one stream, and those that are short of it, or gone.

use super::lanes::{a1_b1, connected};
use super::*;

#[test]
fn a_single_stream_peer_gets_a_connection_for_each_pair() {
    let (mut shell, first, lane) = connected(1);
    let routes = [route("a2.test", "b1.test"), route("a3.test", "b1.test")];
    routes.iter().for_each(|route| shell.send(route));
    let (_, second, _) = shell.lane();
    let (_, third, _) = shell.lane();
    for refused in [second, third] {
        shell.tell(|router, now| router.lane_failed(refused, LaneFailure::SingleStream, now));
    }
    // It is known to be up: nobody waits for another.
    let dials = [shell.dial(), shell.dial()];
    assert!(shell.told.is_empty());
    for (route, (session, lane, dialled_for)) in routes.iter().zip(dials) {
        assert_eq!(dialled_for, *route);
        shell.dialled(session, lane, 9);
        assert_eq!(shell.lanes_of(route), [lane]);
    }
    // When its one stream has gone, a connection isn't used for another.
    shell.lane_down(lane);
    shell.send(&a1_b1());
    let (session, lane, _) = shell.dial();
    assert_ne!(session, first);
    shell.dialled(session, lane, 1);
    // After a day it is asked again.
    shell.pass(shell.limits.single_stream_memory);
    shell.send(&route("a2.test", "b2.test"));
    assert!(shell.told.iter().any(|action| matches!(action, Action::OpenLane { .. })), "{:?}", shell.told);
}

#[test]
fn connections_for_single_streams_are_bounded() {
    let mut shell = Shell::new(Limits { remote_connections: 2, ..Limits::default() });
    shell.router.peers.get_mut(&PEER).unwrap().single_stream_until = Some(shell.now + seconds(3600));
    let routes = THEIRS.map(|theirs| route("a1.test", theirs));
    for route in &routes {
        shell.send(route);
        while let Some(Action::Dial { session, lane, .. }) = shell.told.pop_front() {
            shell.dialled(session, lane, 1);
        }
    }
    assert_eq!(shell.bounces(&routes[2]), [Reason::TooMany]);
}

#[test]
fn a_peer_that_has_taken_many_lanes_is_short_of_credit_and_not_a_single_stream_peer() {
    let (mut shell, session, _) = connected(1);
    shell.send(&route("a2.test", "b1.test"));
    let (_, lane, _) = shell.lane();
    shell.established(lane);
    let wanted = route("a3.test", "b1.test");
    shell.send(&wanted);
    let (_, lane, _) = shell.lane();
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::SingleStream, now));
    assert!(shell.told.is_empty());
    shell.pass(shell.limits.retry_min);
    let (again, ..) = shell.lane();
    assert_eq!(again, session);
}

#[test]
fn a_session_that_gives_no_credit_any_more_is_left_for_another_one() {
    let (mut shell, mute, _) = connected(1);
    shell.send(&route("a2.test", "b1.test"));
    let (_, lane, _) = shell.lane();
    shell.established(lane);
    let wanted = route("a3.test", "b1.test");
    shell.send(&wanted);
    let (session, lane, _) = shell.lane();
    assert_eq!(session, mute);
    // The peer has lost it, and comes anew; its exporter value is greater.
    let (fresh, _) = shell.peer_came(&route("a1.test", "b2.test"), 9);
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::SingleStream, now));
    let (session, lane, _) = shell.lane();
    assert_eq!(session, fresh, "at once, and on the other one");
    shell.established(lane);
    assert_eq!(shell.lanes_of(&wanted), [lane]);
    // If none gives credit, all wait.
    let another = route("a2.test", "b2.test");
    shell.send(&another);
    let (session, lane, _) = shell.lane();
    assert_eq!(session, fresh);
    shell.router.sessions.get_mut(&fresh).unwrap().taken = 2;
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::SingleStream, now));
    assert!(shell.told.is_empty(), "{:?}", shell.told);
    // Whatever is heard there, it is there after all.
    shell.peer_opened(mute, &route("a1.test", "b3.test"));
    shell.pass(shell.limits.retry_min);
    let (session, ..) = shell.lane();
    assert_eq!(session, mute);
}

#[test]
fn a_peer_that_is_silent_altogether_may_still_take_many_streams() {
    let (mut shell, silent, _) = connected(1);
    let wanted = route("a2.test", "b1.test");
    shell.send(&wanted);
    let (_, lane, _) = shell.lane();
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::Unheard, now));
    assert!(shell.told.is_empty(), "{:?}", shell.told);
    shell.pass(shell.limits.retry_min);
    let (session, lane, _) = shell.lane();
    assert_eq!(session, silent, "no other connection is made for it");
    // The peer has lost it, and comes anew; its exporter value is greater.
    let (fresh, _) = shell.peer_came(&route("a1.test", "b2.test"), 9);
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::Unheard, now));
    let (session, lane, _) = shell.lane();
    assert_eq!(session, fresh, "at once, and on the other one");
    shell.established(lane);
    assert_eq!(shell.lanes_of(&wanted), [lane]);
}
