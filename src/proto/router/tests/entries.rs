//! Other `[[peer]]` entries.

use super::*;

/// A peer that no entry had before.
const NEW: PeerId = PeerId(7);

fn rule(domains: &[&str]) -> PeerRule {
    let domains = domains.iter().map(|domain| DomainPattern::parse(domain).unwrap()).collect();
    PeerRule { domains, proofs: Allowance::PEER }
}

fn change(shell: &mut Shell, rules: &[(PeerId, &[&str])]) {
    let rules = rules.iter().map(|(id, domains)| (*id, rule(domains))).collect();
    shell.tell(|router, now| router.peers_changed(rules, now));
}

fn a1_b1() -> Route {
    route("a1.test", "b1.test")
}

/// Two pairs in one session of the peer that has all of `THEIRS`.
fn connected() -> (Shell, SessionId, [LaneId; 2]) {
    let mut shell = Shell::new(Limits::default());
    shell.send(&a1_b1());
    let (session, first, _) = shell.dial();
    shell.dialled(session, first, 1);
    shell.send(&route("a1.test", "b2.test"));
    let (_, second, _) = shell.lane();
    shell.established(second);
    (shell, session, [first, second])
}

#[test]
fn what_says_the_same_changes_nothing_whatever_its_order() {
    let (mut shell, session, lanes) = connected();
    change(
        &mut shell,
        &[(OTHER, &["*.other.test"]), (PEER, &["*.b9.test", "b1.test", "b2.test", "b3.test"])],
    );
    assert!(shell.told.is_empty(), "{:?}", shell.told);
    shell.send(&a1_b1());
    assert_eq!(shell.lanes_of(&a1_b1()), [lanes[0]; 2]);
    shell.send(&route("a1.test", "b3.test"));
    assert_eq!(shell.lane().0, session);
}

#[test]
fn another_peer_is_dialled_when_the_lanes_of_the_former_have_finished_and_not_before() {
    let (mut shell, session, lanes) = connected();
    shell.tell(|router, now| router.session_leaves(session, Reason::PeerChanged, now));
    let closing: Vec<_> = lanes.map(|lane| Action::CloseLane { lane, reason: Reason::PeerChanged }).into();
    assert_eq!(shell.told.drain(..).collect::<Vec<_>>(), closing);
    change(&mut shell, &[(NEW, &THEIRS), (OTHER, &["*.other.test"])]);
    assert!(shell.told.is_empty(), "{:?}", shell.told);
    // What comes meanwhile stays behind what is on the lane.
    shell.up.remove(&lanes[0]);
    shell.send(&a1_b1());
    assert!(shell.told.is_empty(), "{:?}", shell.told);
    shell.lane_down(lanes[0]);
    let Action::Dial { peer, lane, session: fresh, .. } = shell.next_told() else { panic!() };
    assert_eq!(peer, NEW);
    let machine = shell.session(true);
    shell.tell(|router, now| router.session_up(fresh, machine, up(&[NEW], [9; 32]), now));
    shell.established(lane);
    assert_eq!(shell.lanes_of(&a1_b1()), [lanes[0], lane]);
    // A later lane of the peer's in the former session carries nothing of ours, though its exporter is smaller.
    let again = shell.peer_opened(session, &route("a1.test", "b3.test"));
    shell.send(&route("a1.test", "b3.test"));
    assert_eq!(shell.lane().0, fresh);
    shell.tell(|router, now| router.session_leaves(session, Reason::PeerChanged, now));
    assert!(shell.told.contains(&Action::CloseLane { lane: again, reason: Reason::PeerChanged }));
}

#[test]
fn what_waits_for_a_peer_that_is_another_now_goes_there_at_once() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&a1_b1());
    let (attempt, lane, _) = shell.dial();
    shell.send(&route("a2.test", "b2.test"));
    assert!(shell.told.is_empty(), "one attempt at a time");
    change(&mut shell, &[(NEW, &THEIRS)]);
    // The pair that the attempt was made for leaves it: it may never end.
    let told: Vec<Action> = shell.told.drain(..).collect();
    assert!(told.contains(&Action::CloseLane { lane, reason: Reason::PeerChanged }), "{told:?}");
    let dials: Vec<_> = told
        .iter()
        .filter_map(|action| match action {
            Action::Dial { peer, session, lane, .. } => Some((*peer, *session, *lane)),
            _ => None,
        })
        .collect();
    let [(NEW, fresh, first)] = dials[..] else { panic!("{told:?}") };
    // That the former comes up all the same, or fails, means nothing to anybody.
    let machine = shell.session(true);
    shell.tell(|router, now| router.session_up(attempt, machine, up(&[PEER], [0; 32]), now));
    shell.established(lane);
    assert!(shell.sent.is_empty() && shell.told.is_empty(), "{:?} {:?}", shell.sent, shell.told);
    let machine = shell.session(true);
    shell.tell(|router, now| router.session_up(fresh, machine, up(&[NEW], [9; 32]), now));
    shell.established(first);
    let (session, second, _) = shell.lane();
    shell.established(second);
    assert_eq!(session, fresh);
    assert_eq!(shell.lanes_of(&a1_b1()), [first]);
    assert_eq!(shell.lanes_of(&route("a2.test", "b2.test")), [second]);
}

#[test]
fn a_pair_that_an_attempt_has_sent_ahead_stays_there_until_that_has_ended() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&a1_b1());
    let (attempt, lane, _) = shell.dial();
    shell.up.insert(lane);
    shell.tell(|router, _| router.lane_goes_ahead(lane));
    shell.flush_all();
    change(&mut shell, &[(NEW, &THEIRS)]);
    let closes = Action::CloseLane { lane, reason: Reason::PeerChanged };
    assert_eq!(shell.told.drain(..).collect::<Vec<_>>(), [closes], "and nothing is dialled beside it");
    shell.up.remove(&lane);
    shell.send(&a1_b1());
    shell.tell(|router, now| router.lane_down(lane, Reason::PeerChanged, now));
    shell.tell(|router, now| router.session_down(attempt, Reason::PeerChanged, now));
    assert!(matches!(shell.next_told(), Action::Dial { peer: NEW, .. }));
    assert_eq!(shell.lanes_of(&a1_b1()), [lane]);
}

#[test]
fn a_peer_in_back_off_is_tried_at_once_when_it_is_another() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&a1_b1());
    let (attempt, ..) = shell.dial();
    shell.dial_fails(attempt, Reason::ConnectionRefused);
    assert!(shell.told.is_empty(), "it backs off");
    change(&mut shell, &[(NEW, &THEIRS)]);
    assert!(matches!(shell.next_told(), Action::Dial { peer: NEW, .. }));
}

#[test]
fn what_waits_for_a_peer_that_is_taken_away_comes_back() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&a1_b1());
    shell.dial();
    shell.send(&route("a2.test", "b2.test"));
    change(&mut shell, &[(OTHER, &["*.other.test"])]);
    for route in [a1_b1(), route("a2.test", "b2.test")] {
        assert_eq!(shell.bounces(&route), [Reason::NoRoute], "{route}");
    }
}

#[test]
fn a_domain_that_another_entry_has_now_follows_it_and_its_neighbours_stay() {
    let (mut shell, _, [first, second]) = connected();
    change(&mut shell, &[(PEER, &["b2.test", "b3.test"]), (NEW, &["b1.test"])]);
    assert_eq!(shell.next_told(), Action::CloseLane { lane: first, reason: Reason::PeerChanged });
    assert!(shell.told.is_empty(), "{:?}", shell.told);
    shell.send(&route("a1.test", "b2.test"));
    assert_eq!(shell.lanes_of(&route("a1.test", "b2.test")), [second; 2]);
    shell.lane_down(first);
    shell.send(&a1_b1());
    assert!(matches!(shell.next_told(), Action::Dial { peer: NEW, .. }));
}

#[test]
fn a_domain_that_was_found_and_is_configured_now_is_reached_by_its_entry() {
    let mut shell = Shell::new(Limits::default());
    shell.router.discover();
    let wanted = route("a1.test", "c.test");
    shell.send(&wanted);
    let Action::Find { peer, .. } = shell.next_told() else { panic!() };
    assert!(!peer.is_configured());
    change(&mut shell, &[(PEER, &THEIRS), (NEW, &["c.test"])]);
    assert!(matches!(shell.next_told(), Action::Dial { peer: NEW, .. }));
    // The answer comes too late to mean anything.
    let records = crate::proto::discovery::found::Found::failed(Reason::DnsTimeout);
    shell.tell(|router, now| router.found(peer, Arc::new(records), now));
    assert!(shell.told.is_empty(), "{:?}", shell.told);
    change(&mut shell, &[(PEER, &THEIRS)]);
    assert!(shell.told.iter().any(|action| matches!(action, Action::Find { .. })), "{:?}", shell.told);
}
