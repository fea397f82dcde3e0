//! When there is no later.

use super::lanes::connected;
use super::*;

#[test]
fn what_waits_for_a_back_off_is_tried_before_the_relay_ends() {
    let (mut shell, session, _) = connected(1);
    shell.send(&route("a2.test", "b1.test"));
    let (_, lane, _) = shell.lane();
    shell.established(lane);
    shell.send(&route("a3.test", "b1.test"));
    let (_, lane, _) = shell.lane();
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::SingleStream, now));
    assert!(shell.told.is_empty(), "later");
    shell.tell(Router::hurries);
    let (again, ..) = shell.lane();
    assert_eq!(again, session);
}

#[test]
fn a_peer_that_is_down_is_dialled_once_more_before_the_relay_ends() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&route("a1.test", "b1.test"));
    let (session, ..) = shell.dial();
    shell.dial_fails(session, Reason::ConnectionRefused);
    assert!(shell.told.is_empty(), "later: {:?}", shell.told);
    shell.tell(Router::hurries);
    let (again, ..) = shell.dial();
    assert_ne!(again, session);
    // And again, however often that fails.
    let mut session = again;
    for _ in 0..4 {
        shell.dial_fails(session, Reason::ConnectionRefused);
        shell.pass(shell.limits.retry_min);
        (session, ..) = shell.dial();
    }
}
