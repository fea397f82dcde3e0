//! Dialling: one attempt at a time, failures that pass and failures that don't.

use super::*;

#[test]
fn one_dial_at_a_time_for_a_peer_and_its_waiting_queue_goes_as_a_whole_to_the_first_session() {
    let mut shell = Shell::new(Limits::default());
    let routes: Vec<Route> =
        OURS.iter().flat_map(|ours| THEIRS.iter().map(move |theirs| route(ours, theirs))).collect();
    for route in routes.iter().chain(&routes) {
        shell.send(route);
    }
    let (session, first, dialled_for) = shell.dial();
    assert_eq!(dialled_for, routes[0]);
    assert!(shell.told.is_empty(), "the others wait");
    shell.dialled(session, first, 1);
    assert_eq!(shell.lanes_of(&routes[0]), [first, first]);
    for route in &routes[1..] {
        let (in_session, lane, opened_for) = shell.lane();
        assert_eq!((in_session, &opened_for), (session, route));
        shell.established(lane);
        assert_eq!(shell.lanes_of(route), [lane, lane]);
    }
    assert!(shell.told.is_empty() && shell.bounced.is_empty());
    let numbers: Vec<u64> = shell.sent.iter().filter(|s| s.1 == routes[4]).map(|s| s.2).collect();
    assert_eq!(numbers, [4, 13]);
}

#[test]
fn a_session_that_the_peer_opens_takes_even_the_queue_that_is_being_dialled_for() {
    let mut shell = Shell::new(Limits::default());
    let (dialled_for, waiting) = (route("a1.test", "b1.test"), route("a2.test", "b1.test"));
    shell.send(&dialled_for);
    shell.send(&waiting);
    let (session, first, _) = shell.dial();
    let (_, lane) = shell.peer_came(&dialled_for, 9);
    assert_eq!(shell.lanes_of(&dialled_for), [lane], "over the peer's own lane, both ways");
    let (_, other, _) = shell.lane();
    shell.established(other);
    assert_eq!(shell.lanes_of(&waiting), [other]);
    // The attempt of our own comes to nothing, or to a session: either way nothing moves any more.
    shell.dialled(session, first, 1);
    shell.send(&dialled_for);
    assert_eq!(shell.lanes_of(&dialled_for), [lane, lane]);
    assert!(shell.told.is_empty());
}

#[test]
fn a_failure_that_waiting_cannot_cure_bounces_at_once_and_is_remembered_for_that_pair() {
    let mut shell = Shell::new(Limits::default());
    let (refused, other) = (route("a1.test", "b1.test"), route("a2.test", "b1.test"));
    shell.send(&refused);
    shell.send(&other);
    let (session, ..) = shell.dial();
    shell.dial_fails(session, Reason::CertificateNone);
    assert_eq!(shell.bounces(&refused), [Reason::CertificateNone]);
    // a1.test may have no certificate; that says nothing about a2.test.
    let (session, first, dialled_for) = shell.dial();
    assert_eq!(dialled_for, other);
    shell.send(&refused);
    assert_eq!(shell.bounces(&refused).len(), 2, "remembered");
    shell.dial_fails(session, Reason::ConnectionRefused);
    shell.pass(shell.limits.retry_max);
    assert_eq!(shell.bounces(&refused).len(), 2);
    shell.told.clear();
    let _unused = first;
    shell.send(&refused);
    assert_eq!(shell.bounces(&refused).len(), 2, "and forgotten in time");
}

#[test]
fn a_session_that_can_carry_a_refused_pair_ends_its_refusal() {
    let mut shell = Shell::new(Limits::default());
    let refused = route("a1.test", "b1.test");
    shell.send(&refused);
    let (session, ..) = shell.dial();
    shell.dial_fails(session, Reason::CertificateExpired);
    shell.send(&refused);
    assert_eq!(shell.bounces(&refused).len(), 2);
    let (_, lane) = shell.peer_came(&refused, 1);
    shell.send(&refused);
    assert_eq!(shell.lanes_of(&refused), [lane]);
}

#[test]
fn refusals_that_are_remembered_are_bounded() {
    let mut shell = Shell::new(Limits::default());
    for n in 0..REFUSALS_MAX + 10 {
        let refused = route("a1.test", &format!("x{n}.other.test"));
        shell.send(&refused);
        let (session, ..) = shell.dial();
        shell.dial_fails(session, Reason::CertificateWrongName);
        assert_eq!(shell.bounces(&refused), [Reason::CertificateWrongName]);
        shell.bounced.clear();
    }
    assert_eq!(shell.router.peers[&OTHER].refused.len(), REFUSALS_MAX);
    shell.pass(shell.limits.retry_max + seconds(1));
    shell.send(&route("a1.test", "y.other.test"));
    let (session, ..) = shell.dial();
    shell.dial_fails(session, Reason::CertificateWrongName);
    assert_eq!(shell.router.peers[&OTHER].refused.len(), 1, "what is over is dropped when room is needed");
    shell.assert_empty();
}

#[test]
fn passing_failures_back_off_with_jitter_and_never_storm() {
    for seed in 0..20 {
        let mut shell = Shell::between(&OURS, &THEIRS, Limits::default(), seed);
        let (mut failures, mut last) = (Vec::new(), None);
        // A stanza each 100 ms for ten minutes, for nine pairs.
        for n in 0..6000 {
            let (ours, theirs) = (OURS[n % 3], THEIRS[n / 3 % 3]);
            shell.send(&route(ours, theirs));
            shell.pass(Duration::from_millis(100));
            while let Some(action) = shell.told.pop_front() {
                let Action::Dial { session, .. } = action else { panic!("{action:?}") };
                failures.extend(last.map(|last| shell.now - last));
                last = Some(shell.now);
                shell.dial_fails(session, Reason::ConnectionRefused);
            }
        }
        let tick = Duration::from_millis(200);
        let limits = &shell.limits;
        for (n, wait) in failures.iter().enumerate() {
            let full = limits.retry_min.saturating_mul(1 << n.min(16)).min(limits.retry_max);
            assert!(*wait >= full / 2 && *wait <= full + tick, "attempt {n} after {wait:?}");
        }
        assert!(failures.len() <= 11, "{} attempts in ten minutes", failures.len());
    }
}

#[test]
fn a_thousand_relays_do_not_return_in_one_moment() {
    let first_retry = |seed| {
        let mut shell = Shell::between(&OURS, &THEIRS, Limits::default(), seed);
        shell.send(&route("a1.test", "b1.test"));
        let (session, ..) = shell.dial();
        shell.dial_fails(session, Reason::ConnectionRefused);
        shell.router.deadline().unwrap() - shell.now
    };
    let times: BTreeSet<u128> = (1..1000).map(|seed: u64| first_retry(seed << 32).as_millis() / 10).collect();
    assert!(times.len() > 25, "{} of 50 moments", times.len());
}

/// A relay whose peer has been down for longer than stanzas are held.
fn long_down(wanted: &Route) -> Shell {
    let mut shell = Shell::new(Limits::default());
    while shell.now < shell.began + shell.limits.hold * 2 {
        shell.send(wanted);
        while let Some(Action::Dial { session, .. }) = shell.told.pop_front() {
            shell.dial_fails(session, Reason::ConnectionTimeout);
        }
        shell.pass(seconds(1));
    }
    while let Some(Action::Dial { session, .. }) = shell.told.pop_front() {
        shell.dial_fails(session, Reason::ConnectionTimeout);
    }
    shell
}

#[test]
fn long_down_bounces_at_once_with_the_reason_and_still_finds_out_when_it_is_over() {
    let wanted = route("a1.test", "b1.test");
    let mut shell = long_down(&wanted);
    let before = shell.bounces(&wanted).len();
    shell.send(&wanted);
    assert_eq!(shell.bounces(&wanted).len(), before + 1, "at once");
    assert_eq!(shell.bounces(&wanted).last(), Some(&Reason::ConnectionTimeout));
    assert!(shell.told.is_empty());
    // When the next attempt is due, the next stanza makes it.
    shell.pass(shell.limits.retry_max);
    shell.send(&wanted);
    let (session, lane, _) = shell.dial();
    shell.dialled(session, lane, 1);
    assert_eq!(shell.lanes_of(&wanted), [lane]);
    shell.send(&route("a2.test", "b2.test"));
    let (session, ..) = shell.lane();
    shell.tell(|router, now| router.session_down(session, Reason::ConnectionLost, now));
    shell.dial();
    assert!(shell.told.is_empty());
}

#[test]
fn an_error_waits_for_a_peer_that_is_long_down_and_has_it_tried_again() {
    let wanted = route("a1.test", "b1.test");
    let mut shell = long_down(&wanted);
    let (before, limits) = (shell.bounces(&wanted).len(), shell.limits.clone());
    shell.outlets.entry(wanted.clone()).or_default().answers = true;
    shell.tell(|router, now| router.want(&wanted, now));
    assert!(shell.told.is_empty() && shell.bounces(&wanted).len() == before, "nothing is to be said");
    shell.pass(limits.retry_max);
    let (_, _, route) = shell.dial();
    assert_eq!(route, wanted);
}

#[test]
fn nobody_is_dialled_for_what_has_no_peer_or_is_not_allowed() {
    let mut shell = Shell::new(Limits::default());
    for (to, reason) in [("c.test", Reason::NoRoute), ("denied.test", Reason::PolicyDenied)] {
        let wanted = route("a1.test", to);
        shell.send(&wanted);
        assert_eq!(shell.bounces(&wanted), [reason]);
    }
    assert!(shell.told.is_empty());
    shell.assert_empty();
}

#[test]
fn the_peer_whose_rule_speaks_most_closely_is_dialled() {
    let mut shell = Shell::new(Limits::default());
    shell.send(&route("a1.test", "rooms.b1.test"));
    let Action::Dial { peer, .. } = shell.next_told() else { panic!() };
    assert_eq!(peer, OTHER);
}
