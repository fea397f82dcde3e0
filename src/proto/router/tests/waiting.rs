//! What waits for a way: how long, how much, and what is known of it.

use super::*;

#[test]
fn what_waits_too_long_bounces_with_the_last_reason_and_what_came_later_goes_on_waiting() {
    let mut shell = Shell::new(Limits::default());
    let wanted = route("a1.test", "b1.test");
    shell.send(&wanted);
    shell.pass(seconds(1));
    let (session, ..) = shell.dial();
    shell.dial_fails(session, Reason::ConnectionRefused);
    shell.pass(shell.limits.hold - seconds(2));
    while let Some(Action::Dial { session, .. }) = shell.told.pop_front() {
        shell.dial_fails(session, Reason::NameNotResolved);
    }
    shell.send(&wanted);
    assert!(shell.bounced.is_empty());
    shell.pass(seconds(2));
    assert_eq!(shell.bounces(&wanted), [Reason::NameNotResolved]);
    assert_eq!(shell.outlets[&wanted].waiting.len(), 1);
    shell.pass(shell.limits.hold);
    assert_eq!(shell.bounces(&wanted).len(), 2);
}

#[test]
fn an_iq_is_asked_about_before_the_rest() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&route("a1.test", "b1.test"));
    assert_eq!(shell.router.deadline(), Some(shell.now + shell.limits.hold_iq));
}

#[test]
fn what_waits_behind_a_dial_that_never_ends_expires_too() {
    let mut shell = Shell::new(Limits::default());
    let (dialled_for, waiting) = (route("a1.test", "b1.test"), route("a2.test", "b1.test"));
    shell.send(&dialled_for);
    shell.send(&waiting);
    let (session, lane, _) = shell.dial();
    shell.pass(shell.limits.hold);
    assert_eq!(shell.bounces(&dialled_for), [Reason::QueueTimeout]);
    assert_eq!(shell.bounces(&waiting), [Reason::QueueTimeout]);
    // A stanza that comes now has its own full time.
    shell.send(&dialled_for);
    shell.pass(shell.limits.hold - seconds(1));
    assert_eq!(shell.bounces(&dialled_for).len(), 1);
    shell.dial_fails(session, Reason::ConnectionTimeout);
    shell.pass(seconds(1));
    assert_eq!(shell.bounces(&dialled_for).len(), 2, "its time went on when its dial failed");
    let _unused = lane;
}

#[test]
fn nothing_expires_on_a_lane_that_is_up() {
    let mut shell = Shell::new(Limits::default());
    let wanted = route("a1.test", "b1.test");
    shell.send(&wanted);
    let (session, lane, _) = shell.dial();
    shell.dialled(session, lane, 1);
    shell.up.remove(&lane);
    shell.send(&wanted);
    shell.pass(shell.limits.hold * 10);
    assert!(shell.bounced.is_empty(), "a slow lane is not a missing way");
}

#[test]
fn directions_that_are_remembered_are_bounded_and_each_is_forgotten_when_it_is_over() {
    let mut shell = Shell::new(Limits { pairs: 2, ..Limits::default() });
    let routes = THEIRS.map(|theirs| route("a1.test", theirs));
    routes.iter().for_each(|route| shell.send(route));
    assert_eq!(shell.bounces(&routes[2]), [Reason::TooMany]);
    let (session, ..) = shell.dial();
    shell.pass(shell.limits.hold);
    shell.dial_fails(session, Reason::ConnectionTimeout);
    shell.assert_empty();
    shell.send(&routes[2]);
    assert_eq!(shell.bounces(&routes[2]).len(), 1, "there is room again");
}

#[test]
fn a_stanza_that_came_while_its_route_was_being_placed_hears_of_the_lane() {
    let mut shell = Shell::new(Limits::default());
    let wanted = route("a1.test", "b1.test");
    shell.send(&wanted);
    let (session, lane, _) = shell.dial();
    shell.dialled(session, lane, 1);
    // The shell has just dropped the empty queue, and made a new one for this stanza.
    shell.outlets.remove(&wanted);
    shell.send(&wanted);
    assert_eq!(shell.lanes_of(&wanted), [lane, lane]);
}

#[test]
fn a_route_that_nobody_wants_any_more_asks_for_no_lane() {
    let mut shell = Shell::new(Limits::default());
    let wanted = route("a1.test", "b1.test");
    shell.send(&wanted);
    let (session, first, _) = shell.dial();
    shell.dialled(session, first, 1);
    let other = route("a2.test", "b1.test");
    shell.send(&other);
    let (_, lane, _) = shell.lane();
    shell.pass(shell.limits.hold);
    assert_eq!(shell.bounces(&other).len(), 1);
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::Other(Reason::Idle), now));
    shell.pass(shell.limits.retry_max * 2);
    assert!(!shell.told.iter().any(|action| matches!(action, Action::OpenLane { .. })));
}

#[test]
fn pairs_are_counted_once_whatever_their_directions_and_lanes() {
    let mut shell = Shell::new(Limits::default());
    let (out, back) = (route("a1.test", "b1.test"), route("b1.test", "a1.test"));
    shell.send(&out);
    assert_eq!(shell.router.pair_count(), 1, "placed on the lane that is being dialled");
    let (session, lane, _) = shell.dial();
    shell.dialled(session, lane, 1);
    shell.send(&back);
    let (local, _) = shell.local();
    assert_eq!(shell.router.pair_count(), 1);
    shell.lane_down(lane);
    assert_eq!(shell.router.pair_count(), 1, "the inbound direction stands");
    shell.tell(|router, now| router.local_lane_down(local, Reason::ConnectionLost, now));
    assert_eq!(shell.router.pair_count(), 0, "its stanza waits for the server to come back");
    shell.send(&route("a1.test", "a2.test"));
    shell.send(&route("a2.test", "a1.test"));
    assert_eq!(shell.router.pair_count(), 0, "what stays among our own hosts is no remote pair");
}
