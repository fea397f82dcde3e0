//! Another configuration: hosts that are taken away, and pairs that are denied from now on.

use super::lanes::a1_b1;
use super::*;

/// The hosts are these now, and nobody but `denied` may not talk to them.
fn reload(shell: &mut Shell, ours: &[&str], denied: DomainPolicy) {
    let facts = HostFacts { entry: 0, announce: false };
    let hosts = Hosts::new(ours.iter().map(|name| (domain(name), facts)), denied);
    let hosts = Arc::new(hosts.after(&shell.hosts));
    shell.hosts = Arc::clone(&hosts);
    shell.tell(|router, _| router.hosts_leave(&hosts));
    shell.tell(|router, now| router.hosts_changed(hosts, now));
}

fn denying(name: &str) -> DomainPolicy {
    let mut policy = DomainPolicy::default();
    policy.both.deny.push(DomainPattern::parse(name).unwrap());
    policy
}

/// How it comes that nothing of ours goes on a lane of the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Both,
    PeerAlone,
    /// It fell silent before it would have let us.
    PeerAloneAfterAWhile,
}

const SPEAKS: [Speaks; 3] = [Speaks::Both, Speaks::PeerAlone, Speaks::PeerAloneAfterAWhile];

/// A lane of the peer's for the pair of `back`, which is our direction.
fn opened(shell: &mut Shell, id: SessionId, back: &Route, speaks: Speaks) -> LaneId {
    let lane = shell.router.fresh_lane();
    shell.up.insert(lane);
    let bidi = speaks != Speaks::PeerAlone;
    shell.tell(|router, now| router.peer_lane_up(id, lane, back, bidi, now));
    if speaks == Speaks::PeerAloneAfterAWhile {
        shell.tell(|router, now| router.lane_is_one_way(lane, now));
    }
    lane
}

/// What it was told to close.
fn closed(shell: &mut Shell) -> Vec<(LaneId, Reason)> {
    let lanes = shell.told.drain(..).filter_map(|action| match action {
        Action::CloseLane { lane, reason } => Some((lane, reason)),
        _ => None,
    });
    lanes.collect()
}

#[test]
fn a_pair_that_is_denied_from_now_on_leaves_whatever_lane_the_peer_opened_for_it() {
    for speaks in SPEAKS {
        let mut shell = Shell::new(Limits::default());
        let (session, other) = shell.peer_came(&route("a1.test", "b2.test"), 1);
        let lane = opened(&mut shell, session, &a1_b1(), speaks);
        reload(&mut shell, &OURS, denying("b1.test"));
        assert_eq!(closed(&mut shell), [(lane, Reason::PolicyDenied)], "{speaks:?}, and {other:?} goes on");
    }
}

/// Who is denied may still ask about our keys, on a stream that brings nothing.
#[test]
fn a_lane_that_stands_though_its_pair_was_denied_before_is_left_alone() {
    let mut shell = Shell::new(Limits::default());
    let inbound = |name: &str| {
        let mut policy = DomainPolicy::default();
        policy.inbound.deny.extend(["b1.test", name].map(|name| DomainPattern::parse(name).unwrap()));
        policy
    };
    reload(&mut shell, &OURS, inbound("b3.test"));
    let (session, other) = shell.peer_came(&route("a1.test", "b2.test"), 1);
    opened(&mut shell, session, &a1_b1(), Speaks::PeerAlone);
    reload(&mut shell, &OURS, inbound("b2.test"));
    assert_eq!(closed(&mut shell), [(other, Reason::PolicyDenied)]);
}

#[test]
fn whoever_called_a_host_that_is_taken_away_is_told_and_is_heard_out() {
    for speaks in SPEAKS {
        let mut shell = Shell::new(Limits::default());
        let (session, _) = shell.peer_came(&route("a2.test", "b1.test"), 1);
        let lane = opened(&mut shell, session, &a1_b1(), speaks);
        shell.send(&a1_b1().reversed());
        let (local, _) = shell.local();
        shell.up.insert(local);
        shell.tell(|router, now| router.local_lane_established(local, now));
        reload(&mut shell, &OURS[1..], DomainPolicy::default());
        assert_eq!(closed(&mut shell), [(lane, Reason::HostGone)], "{speaks:?}");
        shell.lane_down(lane);
        assert_eq!(closed(&mut shell), [(local, Reason::HostGone)], "{speaks:?}");
    }
}
