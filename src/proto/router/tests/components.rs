//! Components, which come to us.

use super::*;

fn to_component(from: &str) -> Route {
    route(from, COMPONENT)
}

/// The component connects: its lane, if it is taken.
pub(super) fn component_came(shell: &mut Shell) -> Result<LaneId, Reason> {
    let lane = shell.router.fresh_lane();
    shell.up.insert(lane);
    let taken = shell.tell(|router, now| router.component_up(lane, &domain(COMPONENT), now));
    if taken.is_err() {
        shell.up.remove(&lane);
    }
    shell.flush_all();
    taken.map(|()| lane)
}

fn component_left(shell: &mut Shell, lane: LaneId) {
    shell.up.remove(&lane);
    shell.tell(|router, now| router.local_lane_down(lane, Reason::ConnectionLost, now));
}

#[test]
fn everything_for_a_component_goes_on_its_one_lane_and_nobody_dials_it() {
    let mut shell = Shell::new(Limits::default());
    let lane = component_came(&mut shell).unwrap();
    for from in ["b1.test", "b2.test", "a1.test"] {
        shell.send(&to_component(from));
        assert_eq!(shell.lanes_of(&to_component(from)), [lane]);
    }
    assert!(shell.told.is_empty(), "{:?}", shell.told);
}

#[test]
fn what_comes_before_the_component_waits_for_it() {
    let mut shell = Shell::new(Limits::default());
    for from in ["b1.test", "a1.test", "b1.test"] {
        shell.send(&to_component(from));
    }
    shell.pass(seconds(1));
    assert!(shell.told.is_empty() && shell.sent.is_empty());
    let lane = component_came(&mut shell).unwrap();
    assert_eq!(shell.lanes_of(&to_component("b1.test")), [lane; 2]);
    assert_eq!(shell.lanes_of(&to_component("a1.test")), [lane]);
}

#[test]
fn what_waits_too_long_comes_back_with_the_reason() {
    let limits = Limits::default();
    let mut shell = Shell::new(limits.clone());
    shell.send(&to_component("b1.test"));
    shell.pass(limits.hold);
    assert_eq!(shell.bounces(&to_component("b1.test")), [Reason::ComponentNotConnected]);
    shell.assert_empty();
}

#[test]
fn what_comes_after_it_has_left_waits_for_its_return_with_a_time_of_its_own() {
    let limits = Limits::default();
    let mut shell = Shell::new(limits.clone());
    let first = component_came(&mut shell).unwrap();
    shell.send(&to_component("b1.test"));
    shell.pass(limits.hold * 3);
    component_left(&mut shell, first);
    shell.send(&to_component("b1.test"));
    shell.pass(limits.hold - seconds(1));
    assert!(shell.bounced.is_empty());
    let second = component_came(&mut shell).unwrap();
    assert_eq!(shell.lanes_of(&to_component("b1.test")), [first, second]);
}

#[test]
fn a_second_connection_conflicts_with_one_that_lives_and_makes_the_shell_look_at_it() {
    let mut shell = Shell::new(Limits::default());
    let first = component_came(&mut shell).unwrap();
    assert_eq!(component_came(&mut shell), Err(Reason::ComponentConnected));
    assert_eq!(shell.next_told(), Action::Post { lane: first, octets: " ".to_owned() });
    shell.send(&to_component("b1.test"));
    assert_eq!(shell.lanes_of(&to_component("b1.test")), [first]);
    component_left(&mut shell, first);
    assert!(component_came(&mut shell).is_ok());
}

#[test]
fn a_connection_that_is_finishing_is_no_rival_and_its_end_takes_nothing_from_the_next() {
    let mut shell = Shell::new(Limits::default());
    let first = component_came(&mut shell).unwrap();
    shell.tell(|router, _| router.lane_closing(first));
    let second = component_came(&mut shell).unwrap();
    component_left(&mut shell, first);
    assert_eq!(component_came(&mut shell), Err(Reason::ComponentConnected));
    shell.send(&to_component("b1.test"));
    assert_eq!(shell.lanes_of(&to_component("b1.test")), [second]);
}

#[test]
fn only_a_component_may_be_one() {
    let mut shell = Shell::new(Limits::default());
    for name in ["a1.test", "b1.test"] {
        let lane = shell.router.fresh_lane();
        let taken = shell.tell(|router, now| router.component_up(lane, &domain(name), now));
        assert_eq!(taken, Err(Reason::HostUnknown), "{name}");
    }
    shell.assert_empty();
}

#[test]
fn what_a_component_says_to_a_host_beside_it_is_delivered_to_that_hosts_server() {
    let mut shell = Shell::new(Limits::default());
    component_came(&mut shell).unwrap();
    shell.send(&route(COMPONENT, "a1.test"));
    assert_eq!(shell.local().1, route(COMPONENT, "a1.test"));
}

#[test]
fn a_component_that_comes_back_at_once_has_what_waits_however_often_it_does() {
    let mut shell = Shell::new(Limits::default());
    let mut lanes = Vec::new();
    for _ in 0..5 {
        let lane = component_came(&mut shell).unwrap();
        lanes.push(lane);
        shell.up.remove(&lane);
        shell.send(&to_component("b1.test"));
        shell.tell(|router, now| router.local_lane_down(lane, Reason::ConnectionLost, now));
    }
    lanes.push(component_came(&mut shell).unwrap());
    assert_eq!(shell.lanes_of(&to_component("b1.test")), lanes[1..]);
}
