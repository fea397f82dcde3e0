use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Action, IN_FLIGHT_MAX, Race};
use crate::reason::Reason;

const BOUND: Duration = Duration::from_secs(10);

/// How an address behaves when it is dialled.
#[derive(Debug, Clone, Copy)]
enum Behaviour {
    /// It is up after so many milliseconds.
    Up(u64),
    /// It fails after so many milliseconds.
    Fails(u64, Reason),
    /// Packets vanish.
    Silent,
}

use Behaviour::{Fails, Silent, Up};

/// What happened, in milliseconds since the start.
#[derive(Debug, Default)]
struct History {
    started: Vec<(usize, u64)>,
    abandoned: Vec<(usize, u64)>,
    end: Option<(Action, u64)>,
    most_in_flight: usize,
}

/// Run a race in virtual time.
fn run(addresses: &[Behaviour], bound: Duration) -> History {
    let start = Instant::now();
    let mut now = start;
    let mut race = Race::new(addresses.len(), bound, now);
    let mut history = History::default();
    // When the dialling of each address ends.
    let mut dialling: BTreeMap<usize, Option<Instant>> = BTreeMap::new();
    for _ in 0..1000 {
        let elapsed = u64::try_from((now - start).as_millis()).unwrap();
        while let Some(action) = race.poll_action() {
            assert!(history.end.is_none(), "{action:?} behind the end");
            match action {
                Action::Start(index) => {
                    history.started.push((index, elapsed));
                    let ends = match addresses[index] {
                        Up(after) | Fails(after, _) => Some(now + Duration::from_millis(after)),
                        Silent => None,
                    };
                    assert!(dialling.insert(index, ends).is_none());
                }
                Action::Abandon(index) => {
                    history.abandoned.push((index, elapsed));
                    assert!(dialling.remove(&index).is_some(), "{index} wasn't being dialled");
                }
                Action::Won(_) | Action::Failed(_) => history.end = Some((action, elapsed)),
            }
            history.most_in_flight = history.most_in_flight.max(dialling.len());
        }
        if history.end.is_some() {
            assert_eq!(race.deadline(), None);
            assert!(dialling.is_empty(), "{dialling:?} left behind");
            return history;
        }
        let next = dialling.iter().filter_map(|(index, ends)| Some(((*ends)?, *index))).min();
        let deadline = race.deadline().expect("a race that goes on has a deadline");
        match next {
            Some((ends, index)) if ends <= deadline => {
                now = ends;
                dialling.remove(&index);
                match addresses[index] {
                    Up(_) => race.handle_connected(index),
                    Fails(_, reason) => race.handle_failed(index, reason, now),
                    Silent => unreachable!(),
                }
            }
            _ => {
                assert!(deadline > now || race.poll_action().is_none(), "the clock stands still");
                now = deadline;
                race.handle_timeout(now);
            }
        }
    }
    panic!("the race never ends: {history:?}");
}

#[test]
fn an_ipv6_address_that_swallows_packets_costs_a_quarter_of_a_second() {
    let history = run(&[Silent, Up(30)], BOUND);
    assert_eq!(history.started, [(0, 0), (1, 250)]);
    assert_eq!(history.end, Some((Action::Won(1), 280)));
    assert_eq!(history.abandoned, [(0, 280)]);
}

#[test]
fn the_next_starts_at_once_when_one_fails() {
    let history = run(&[Fails(5, Reason::ConnectionRefused), Up(30)], BOUND);
    assert_eq!(history.started, [(0, 0), (1, 5)]);
    assert_eq!(history.end, Some((Action::Won(1), 35)));
}

#[test]
fn a_slow_first_address_still_wins_if_it_is_up_first() {
    let history = run(&[Up(400), Up(400), Up(400)], BOUND);
    assert_eq!(history.started, [(0, 0), (1, 250)]);
    assert_eq!(history.end, Some((Action::Won(0), 400)));
    assert_eq!(history.abandoned, [(1, 400)]);
}

#[test]
fn an_attempt_for_which_nobody_waits_has_the_whole_bound() {
    let history = run(&[Silent, Up(9_500)], BOUND);
    assert_eq!(history.end, Some((Action::Won(1), 9_750)));
}

#[test]
fn twenty_addresses_that_swallow_packets_leave_time_for_the_one_that_works() {
    let mut addresses = [Silent; 24];
    addresses[23] = Up(500);
    let history = run(&addresses, BOUND);
    assert!(matches!(history.end, Some((Action::Won(23), _))), "{history:?}");
    assert!(history.most_in_flight <= IN_FLIGHT_MAX);
}

#[test]
fn when_all_fail_the_reason_is_the_one_that_tells_most() {
    let failing = [
        Fails(1, Reason::ConnectionRefused),
        Fails(1, Reason::CertificateWrongName),
        Fails(1, Reason::CertificateExpired),
        Silent,
    ];
    let history = run(&failing, BOUND);
    assert_eq!(history.end, Some((Action::Failed(Reason::CertificateWrongName), 10_000)));

    let alpn = [Fails(1, Reason::AlpnRefused), Fails(1, Reason::NegotiationTimeout)];
    assert_eq!(run(&alpn, BOUND).end, Some((Action::Failed(Reason::NegotiationTimeout), 2)));

    let history = run(&[Silent, Silent], BOUND);
    assert_eq!(history.end, Some((Action::Failed(Reason::ConnectionTimeout), 10_000)));
    assert_eq!(history.abandoned, [(0, 10_000), (1, 10_000)]);
}

#[test]
fn a_race_of_none_is_lost_at_once() {
    assert_eq!(run(&[], BOUND).end, Some((Action::Failed(Reason::NoRoute), 0)));
}

#[test]
fn what_is_told_twice_or_too_late_changes_nothing() {
    let now = Instant::now();
    let mut race = Race::new(2, BOUND, now);
    race.handle_connected(1);
    race.handle_connected(7);
    assert_eq!(race.poll_action(), Some(Action::Start(0)));
    assert_eq!(race.poll_action(), None, "1 wasn't started");
    race.handle_connected(0);
    race.handle_failed(0, Reason::ConnectionLost, now);
    race.handle_timeout(now + BOUND);
    assert_eq!(race.poll_action(), Some(Action::Won(0)));
    assert_eq!(race.poll_action(), None);
}

proptest! {
    #[test]
    fn every_race_ends_within_its_bound_and_one_that_can_be_won_quickly_is(
        addresses in prop::collection::vec(
            prop_oneof![
                (0u64..1_000).prop_map(Up),
                (0u64..20_000).prop_map(|after| Fails(after, Reason::ConnectionRefused)),
                Just(Silent),
            ],
            1..25,
        ),
        bound in 4_000u64..20_000,
    ) {
        let bound = Duration::from_millis(bound);
        let history = run(&addresses, bound);
        let (end, at) = history.end.unwrap();
        prop_assert!(Duration::from_millis(at) <= bound);
        prop_assert!(history.most_in_flight <= IN_FLIGHT_MAX);
        // The share of an attempt among 24 is (bound - 3 delays) / 6.
        let quick = addresses.iter().any(|address| matches!(address, Up(after) if *after < 400));
        if quick {
            prop_assert!(matches!(end, Action::Won(_)), "{:?}", end);
        }
    }
}
