//! Streams of and to our own servers.

use super::*;

fn b1_a1() -> Route {
    route("b1.test", "a1.test")
}

fn server_fails(shell: &mut Shell, lane: LaneId) {
    shell.up.remove(&lane);
    shell.tell(|router, now| router.local_lane_down(lane, Reason::ConnectionRefused, now));
}

fn server_answers(shell: &mut Shell, lane: LaneId) {
    shell.up.insert(lane);
    shell.tell(|router, now| router.local_lane_established(lane, now));
    shell.flush_all();
}

#[test]
fn each_pair_has_a_stream_to_its_server() {
    let mut shell = Shell::new(Limits::default());
    let routes = THEIRS.map(|theirs| route(theirs, "a1.test"));
    routes.iter().for_each(|route| shell.send(route));
    for route in &routes {
        let (lane, opened_for) = shell.local();
        assert_eq!(opened_for, *route);
        server_answers(&mut shell, lane);
        assert_eq!(shell.lanes_of(route), [lane]);
    }
}

#[test]
fn a_stream_that_the_server_opened_with_bidi_carries_the_way_back() {
    for bidi in [true, false] {
        let mut shell = Shell::new(Limits::default());
        let lane = shell.router.fresh_lane();
        shell.up.insert(lane);
        shell.tell(|router, now| router.local_lane_up(lane, &b1_a1(), bidi, now));
        shell.send(&b1_a1());
        if bidi {
            assert_eq!(shell.lanes_of(&b1_a1()), [lane]);
            shell.tell(|router, _| router.lane_closing(lane));
            server_fails(&mut shell, lane);
            shell.send(&b1_a1());
        }
        shell.local();
        assert!(shell.told.is_empty());
    }
}

#[test]
fn what_waits_for_a_server_takes_the_stream_that_the_server_opens() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&b1_a1());
    let (lane, _) = shell.local();
    server_fails(&mut shell, lane);
    let lane = shell.router.fresh_lane();
    shell.up.insert(lane);
    shell.tell(|router, now| router.local_lane_up(lane, &b1_a1(), true, now));
    assert_eq!(shell.lanes_of(&b1_a1()), [lane]);
}

#[test]
fn a_server_that_is_down_is_probed_by_one_stream_at_a_time_and_its_failures_count_once() {
    let mut shell = Shell::new(Limits::default());
    let routes: Vec<Route> =
        (0..50).map(|n| route(&format!("r{n}.test"), ["a1.test", "a2.test"][n % 2])).collect();
    routes.iter().for_each(|route| shell.send(route));
    let lanes: Vec<LaneId> = routes.iter().map(|_| shell.local().0).collect();
    lanes.iter().for_each(|lane| server_fails(&mut shell, *lane));
    assert!(shell.told.is_empty());
    let wait = shell.router.deadline().unwrap() - shell.now;
    assert!(wait <= shell.limits.retry_min, "fifty streams that failed together are one failure: {wait:?}");
    shell.pass(shell.limits.retry_min);
    let (probe, _) = shell.local();
    shell.send(&route("more.test", "a1.test"));
    assert!(shell.told.is_empty(), "one at a time");
    // Another server is another matter.
    shell.send(&route("b1.test", "a3.test"));
    shell.local();
    server_fails(&mut shell, probe);
    shell.pass(shell.limits.retry_min * 2);
    let (probe, _) = shell.local();
    server_answers(&mut shell, probe);
    // It is back, and nobody waits any longer.
    while let Some(Action::OpenLocal { lane, .. }) = shell.told.pop_front() {
        server_answers(&mut shell, lane);
    }
    assert_eq!(shell.sent.len(), 51);
    assert!(shell.bounced.is_empty());
}

#[test]
fn a_server_that_opens_a_stream_is_back() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&b1_a1());
    for _ in 0..6 {
        let (lane, _) = shell.local();
        server_fails(&mut shell, lane);
        shell.pass(seconds(5));
        if shell.told.is_empty() {
            break;
        }
    }
    assert!(shell.told.is_empty() && shell.bounced.is_empty());
    let lane = shell.router.fresh_lane();
    shell.tell(|router, now| router.local_lane_up(lane, &route("c.test", "a2.test"), true, now));
    let (lane, _) = shell.local();
    server_answers(&mut shell, lane);
    assert_eq!(shell.lanes_of(&b1_a1()), [lane]);
}

#[test]
fn what_waits_for_a_dead_server_bounces_with_the_reason_and_in_the_end_at_once() {
    let mut shell = Shell::new(Limits::default());
    let second = route("b2.test", "a1.test");
    shell.send(&b1_a1());
    shell.send(&second);
    while shell.now < shell.began + shell.limits.hold + seconds(5) {
        while let Some(Action::OpenLocal { lane, .. }) = shell.told.pop_front() {
            server_fails(&mut shell, lane);
        }
        shell.pass(seconds(1));
    }
    assert_eq!(shell.bounces(&b1_a1()), [Reason::ConnectionRefused]);
    assert_eq!(shell.bounces(&second), [Reason::ConnectionRefused]);
    shell.send(&second);
    shell.send(&b1_a1());
    assert_eq!(shell.bounced.len(), 4, "long down: at once");
    assert!(shell.told.is_empty());
    shell.assert_empty();
}

#[test]
fn a_stream_that_was_up_and_broke_is_opened_again_at_once() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&b1_a1());
    let (lane, _) = shell.local();
    server_answers(&mut shell, lane);
    shell.up.clear();
    shell.send(&b1_a1());
    server_fails(&mut shell, lane);
    shell.local();
    assert!(shell.told.is_empty());
}

#[test]
fn between_two_hosts_of_ours_it_stays_local() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&route("a1.test", "a2.test"));
    let (_, opened_for) = shell.local();
    assert_eq!(opened_for, route("a1.test", "a2.test"));
}

#[test]
fn a_server_that_refuses_one_pair_is_there_for_the_others() {
    for reason in [Reason::DialbackInvalid, Reason::PolicyViolation, Reason::HostUnknown] {
        let limits = Limits::default();
        let mut shell = Shell::new(limits.clone());
        let (refused, good) = (b1_a1(), route("b2.test", "a1.test"));
        shell.send(&refused);
        let (lane, _) = shell.local();
        shell.tell(|router, now| router.local_lane_down(lane, reason, now));
        shell.send(&good);
        assert_eq!(shell.local().1, good, "{reason}");
        // The refused one is tried again, less and less often, until what waits has waited for its time.
        let mut tries = 0;
        for _ in 0..limits.hold.as_secs() {
            shell.pass(seconds(1));
            while let Some(Action::OpenLocal { lane, route }) = shell.told.pop_front() {
                assert_eq!(route, refused);
                tries += 1;
                shell.tell(|router, now| router.local_lane_down(lane, reason, now));
            }
        }
        assert!((2..20).contains(&tries), "{tries} attempts");
        assert_eq!(shell.bounces(&refused), [reason]);
    }
}
