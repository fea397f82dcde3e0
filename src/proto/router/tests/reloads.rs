//! Another configuration: hosts that are taken away or that were the peer's until now, and pairs that are denied from now on.

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

/// Hosts of ours from now on, one of which the peer had.
const WITH_B1: [&str; 3] = ["a1.test", "a2.test", "b1.test"];

#[test]
fn what_leads_to_a_domain_of_the_peers_that_is_our_own_now_stays_here_when_its_lanes_have_finished() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&a1_b1());
    let (session, lane, _) = shell.dial();
    shell.dialled(session, lane, 1);
    shell.peer_opened(session, &route("a1.test", "b2.test"));
    let theirs = SPEAKS.map(|speaks| opened(&mut shell, session, &route("a2.test", "b1.test"), speaks));
    reload(&mut shell, &WITH_B1, DomainPolicy::default());
    let mut all = closed(&mut shell);
    all.sort_unstable();
    let of_peer = theirs.map(|lane| (lane, Reason::PeerChanged));
    assert_eq!(all, [&[(lane, Reason::Idle)], &of_peer[..]].concat());
    // What comes meanwhile stays behind what is on the lane.
    shell.up.remove(&lane);
    shell.send(&a1_b1());
    assert!(shell.told.is_empty(), "{:?}", shell.told);
    shell.lane_down(lane);
    let (local, to) = shell.local();
    assert_eq!(to, a1_b1());
    shell.up.insert(local);
    shell.tell(|router, now| router.local_lane_established(local, now));
    shell.flush_all();
    assert_eq!(shell.lanes_of(&a1_b1()), [lane, local]);
}

#[test]
fn a_stream_that_all_pairs_share_goes_on_without_those_of_a_domain_that_is_our_own_now() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&a1_b1());
    let (id, lane, _) = shell.dial();
    let session = shell.session_of(names(&THEIRS), true, Lanes::Shared, true);
    shell.tell(|router, now| router.session_up(id, session, up(&[PEER], [0; 32]), now));
    shell.established(lane);
    let other = route("a2.test", "b2.test");
    shell.send(&other);
    reload(&mut shell, &WITH_B1, DomainPolicy::default());
    assert!(shell.told.is_empty(), "{:?}", shell.told);
    shell.send(&a1_b1());
    assert_eq!(shell.local().1, a1_b1());
    shell.send(&other);
    assert_eq!(shell.lanes_of(&other), [lane; 2]);
    assert_eq!(shell.lanes_of(&a1_b1()), [lane]);
}

#[test]
fn what_waits_for_a_domain_of_the_peers_that_is_our_own_now_goes_to_our_own_server_at_once() {
    let mut shell = Shell::new(Limits::default());
    let waits = route("a2.test", "b1.test");
    shell.send(&a1_b1());
    let (_, lane, _) = shell.dial();
    shell.send(&waits);
    assert!(shell.told.is_empty(), "one attempt at a time");
    reload(&mut shell, &WITH_B1, DomainPolicy::default());
    let opens = |action: &Action| match action {
        Action::OpenLocal { route, .. } => Some(route.clone()),
        _ => None,
    };
    let opened: BTreeSet<Route> = shell.told.iter().filter_map(opens).collect();
    assert_eq!(opened, BTreeSet::from([a1_b1(), waits]));
    assert_eq!(closed(&mut shell), [(lane, Reason::Idle)]);
}

#[test]
fn a_domain_that_is_a_peers_by_now_is_left_alone_by_later_reloads() {
    let mut shell = Shell::new(Limits::default());
    reload(&mut shell, &WITH_B1, DomainPolicy::default());
    reload(&mut shell, &OURS, DomainPolicy::default());
    shell.send(&a1_b1());
    let (session, lane, _) = shell.dial();
    let (waits, comes) = (route("a2.test", "b1.test"), route("b1.test", "a2.test"));
    shell.send(&waits);
    shell.send(&comes);
    reload(&mut shell, &OURS, denying("elsewhere.test"));
    assert_eq!((shell.bounces(&waits), shell.bounces(&comes)), (vec![], vec![]));
    shell.dialled(session, lane, 1);
    opened(&mut shell, session, &route("a3.test", "b1.test"), Speaks::Both);
    shell.told.clear();
    reload(&mut shell, &OURS, DomainPolicy::default());
    assert_eq!(closed(&mut shell), []);
}
