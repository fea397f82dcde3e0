//! What stands when the records of a domain change.

use std::collections::BTreeSet;

use super::found::{ELSEWHERE, HERE, leads_to};
use super::*;
use crate::proto::discovery::found::Found;

#[test]
fn when_the_records_lead_elsewhere_the_sessions_lanes_for_that_domain_finish_and_others_stay() {
    let mut shell = Shell::discovering();
    let (stays, moves) = (route("a1.test", "x.test"), route("a1.test", "y.test"));
    shell.send(&stays);
    let (x, _) = shell.find();
    shell.found(x, leads_to("x.test", HERE));
    let (session, first, _) = shell.dial();
    shell.comes_up(session, &["x.test", "y.test"], HERE, 1, &[]);
    shell.established(first);
    shell.send(&moves);
    let (y, _) = shell.find();
    shell.found(y, leads_to("y.test", HERE));
    let (_, second, _) = shell.lane();
    shell.established(second);
    shell.pass(seconds(301));
    let asked: BTreeSet<_> = [shell.find(), shell.find()].into_iter().map(|(_, name)| name).collect();
    assert_eq!(asked, [domain("x.test"), domain("y.test")].into());
    shell.found(x, leads_to("x.test", HERE));
    shell.found(y, leads_to("y.test", ELSEWHERE));
    assert_eq!(shell.next_told(), Action::CloseLane { lane: second, reason: Reason::PeerMoved });
    shell.lane_down(second);
    shell.send(&moves);
    let Action::Dial { found: Some(found), .. } = shell.next_told() else { panic!() };
    assert_eq!(found.ways()[0].addresses, [ELSEWHERE.parse().unwrap()]);
    shell.send(&stays);
    shell.flush_all();
    assert_eq!(shell.lanes_of(&stays).last(), Some(&first));
}

#[test]
fn when_the_records_are_withdrawn_the_lanes_for_that_domain_finish() {
    let mut shell = Shell::discovering();
    let wanted = route("a1.test", "x.test");
    shell.send(&wanted);
    let (x, _) = shell.find();
    shell.found(x, leads_to("x.test", HERE));
    let (session, lane, _) = shell.dial();
    shell.comes_up(session, &["x.test"], HERE, 1, &[]);
    shell.established(lane);
    shell.pass(seconds(301));
    shell.find();
    shell.found(x, Found::failed(Reason::ServiceNotOffered));
    assert_eq!(shell.next_told(), Action::CloseLane { lane, reason: Reason::PeerMoved });
    shell.lane_down(lane);
    shell.send(&wanted);
    shell.find();
    shell.found(x, leads_to("x.test", ELSEWHERE));
    let Action::Dial { found: Some(found), .. } = shell.next_told() else { panic!() };
    assert_eq!(found.ways()[0].addresses, [ELSEWHERE.parse().unwrap()]);
}

#[test]
fn where_nothing_was_heard_for_long_a_lane_stands_and_its_records_are_asked_for_until_they_are_known() {
    let mut shell = Shell::discovering();
    let wanted = route("a1.test", "x.test");
    shell.send(&wanted);
    let (x, _) = shell.find();
    shell.found(x, leads_to("x.test", HERE));
    let (session, lane, _) = shell.dial();
    shell.comes_up(session, &["x.test"], HERE, 1, &[]);
    shell.established(lane);
    let until = shell.now + seconds(2 * 86_400);
    while shell.now < until {
        shell.pass(seconds(61));
        if let Some(Action::Find { .. }) = shell.told.front() {
            shell.find();
            shell.found(x, Found::failed(Reason::DnsTimeout));
        }
        assert!(shell.told.is_empty(), "{:?}", shell.told);
    }
    while shell.told.is_empty() {
        shell.pass(seconds(61));
    }
    shell.find();
    shell.found(x, leads_to("x.test", ELSEWHERE));
    assert_eq!(shell.next_told(), Action::CloseLane { lane, reason: Reason::PeerMoved });
}
