//! Ways on which a connection comes to be, and no stream (`preference.rs`).

use super::found::{ELSEWHERE, HERE, discovering, leads_to};
use super::*;

fn at(address: &str) -> Place {
    (Transport::Quic, address.parse().unwrap())
}

impl Shell {
    /// The next attempt for what waits, as soon as its time has come: the session, its lane, and what it tries last.
    fn attempt(&mut self) -> (SessionId, LaneId, Vec<Place>) {
        for _ in 0..600 {
            match self.told.pop_front() {
                Some(Action::Find { peer, domain }) => self.found(peer, leads_to(domain.as_str(), HERE)),
                Some(Action::Dial { session, lane, in_vain, .. }) => return (session, lane, in_vain),
                Some(other) => panic!("expected an attempt, not {other:?}"),
                None => self.pass(Duration::from_millis(500)),
            }
        }
        panic!("nothing is tried any more");
    }

    fn comes_to_nothing(&mut self, session: SessionId, place: Place) {
        self.comes_to_nothing_for(session, place, Reason::ConnectionLost);
    }

    fn comes_to_nothing_for(&mut self, session: SessionId, place: Place, reason: Reason) {
        self.tell(|router, now| {
            router.came_to_nothing(session, place, reason, now);
            router.session_down(session, reason, now);
        });
    }

    /// The session of an attempt comes up, and goes again a moment later.
    fn comes_and_goes(&mut self, session: SessionId, lane: LaneId, address: &str) {
        self.comes_up(session, &["x.test"], address, 1, &[]);
        self.established(lane);
        self.lane_down(lane);
        self.tell(|router, now| router.session_down(session, Reason::ConnectionLost, now));
    }
}

/// A relay that has something for a peer, and its first attempt.
fn begin() -> (Shell, SessionId, LaneId) {
    begin_with(Limits::default())
}

fn begin_with(limits: Limits) -> (Shell, SessionId, LaneId) {
    let mut shell = discovering(limits);
    shell.send(&route("a1.test", "x.test"));
    let (session, lane, in_vain) = shell.attempt();
    assert_eq!(in_vain, []);
    (shell, session, lane)
}

#[test]
fn where_no_stream_came_of_a_connection_is_tried_last() {
    let (mut shell, session, _) = begin();
    shell.comes_to_nothing(session, at(HERE));
    let (session, _, in_vain) = shell.attempt();
    assert_eq!(in_vain, [at(HERE)]);
    shell.comes_to_nothing(session, at(ELSEWHERE));
    let (session, _, in_vain) = shell.attempt();
    assert_eq!(in_vain, [at(HERE), at(ELSEWHERE)]);
    // All were tried, the one of long ago once more.
    shell.comes_to_nothing(session, at(HERE));
    assert_eq!(shell.attempt().2, [at(ELSEWHERE), at(HERE)]);
}

#[test]
fn domains_at_the_same_places_learn_it_from_the_one_that_went_ahead() {
    let (mut shell, session, _) = begin();
    let others = ["y.test", "z.test"];
    for other in others {
        shell.send(&route("a1.test", other));
        let (peer, domain) = shell.find();
        shell.found(peer, leads_to(domain.as_str(), HERE));
    }
    shell.comes_to_nothing(session, at(HERE));
    for _ in 0..3 {
        let (session, _, in_vain) = shell.attempt();
        assert_eq!(in_vain, [at(HERE)]);
        shell.tell(|router, now| router.session_down(session, Reason::ConnectionLost, now));
    }
}

#[test]
fn what_is_said_of_the_pair_says_nothing_about_the_way() {
    for reason in
        [Reason::HostUnknown, Reason::ExternalRefused, Reason::NotAuthorized, Reason::PolicyViolation]
    {
        let (mut shell, session, _) = begin();
        shell.comes_to_nothing_for(session, at(HERE), reason);
        shell.send(&route("a2.test", "x.test"));
        assert_eq!(shell.attempt().2, [], "{reason}");
    }
}

#[test]
fn a_way_that_refuses_the_pair_lets_the_one_that_was_in_vain_take_its_turn_again() {
    let (mut shell, session, _) = begin();
    shell.comes_to_nothing(session, at(HERE));
    let (session, _, in_vain) = shell.attempt();
    assert_eq!(in_vain, [at(HERE)]);
    shell.comes_to_nothing_for(session, at(ELSEWHERE), Reason::ExternalRefused);
    shell.send(&route("a2.test", "x.test"));
    assert_eq!(shell.attempt().2, []);
}

#[test]
fn an_attempt_that_we_have_ended_says_nothing() {
    let (mut shell, session, lane) = begin();
    shell.tell(|router, now| {
        router.lane_closing(lane);
        router.lane_failed(lane, LaneFailure::Other(Reason::Idle), now);
    });
    shell.comes_to_nothing_for(session, at(HERE), Reason::Idle);
    shell.send(&route("a1.test", "x.test"));
    assert_eq!(shell.attempt().2, []);
}

#[test]
fn where_a_session_with_the_peer_stands_it_is_not_in_vain() {
    let (mut shell, session, _) = begin();
    let theirs = shell.router.fresh_session();
    shell.comes_up(theirs, &["x.test"], HERE, 1, &[]);
    shell.comes_to_nothing(session, at(HERE));
    assert_eq!(shell.lane().0, theirs);
    shell.tell(|router, now| router.session_down(theirs, Reason::ConnectionLost, now));
    shell.send(&route("a1.test", "x.test"));
    assert_eq!(shell.attempt().2, []);
}

#[test]
fn where_it_worked_before_once_is_forgiven() {
    let (mut shell, session, lane) = begin();
    shell.comes_and_goes(session, lane, HERE);
    shell.send(&route("a1.test", "x.test"));
    let (session, _, _) = shell.attempt();
    shell.comes_to_nothing(session, at(HERE));
    let (session, _, in_vain) = shell.attempt();
    assert_eq!(in_vain, [], "its server restarts, perhaps");
    shell.comes_to_nothing(session, at(HERE));
    assert_eq!(shell.attempt().2, [at(HERE)]);
}

#[test]
fn a_reload_forgets_what_was_in_vain() {
    let (mut shell, session, _) = begin();
    shell.comes_to_nothing(session, at(HERE));
    let hosts = Arc::clone(&shell.router.hosts);
    shell.tell(|router, now| router.hosts_changed(hosts, now));
    assert_eq!(shell.attempt().2, []);
}

#[test]
fn a_way_that_is_to_be_tried_step_by_step_is_not_in_vain_yet() {
    let (mut shell, session, lane) = begin();
    shell.tell(|router, now| router.lane_failed(lane, LaneFailure::PipeliningRefused, now));
    shell.comes_to_nothing(session, at(HERE));
    let (session, _, in_vain) = shell.attempt();
    assert_eq!(in_vain, []);
    shell.comes_to_nothing(session, at(HERE));
    assert_eq!(shell.attempt().2, [at(HERE)]);
}

#[test]
fn what_was_in_vain_is_tried_last_for_an_hour_while_another_way_works() {
    let (mut shell, session, _) = begin();
    shell.comes_to_nothing(session, at(ELSEWHERE));
    let began = shell.now;
    let mut lasts = Vec::new();
    while shell.now < began + seconds(2 * 3600) {
        shell.send(&route("a1.test", "x.test"));
        let (session, lane, in_vain) = shell.attempt();
        lasts.push(((shell.now - began).as_secs() / 600, !in_vain.is_empty()));
        shell.comes_and_goes(session, lane, HERE);
        shell.pass(seconds(600));
    }
    assert!(lasts.iter().all(|(sixth, in_vain)| *in_vain == (*sixth < 6)), "{lasts:?}");
    assert!(lasts.len() > 6, "{lasts:?}");
}

#[test]
fn a_way_that_works_after_all_takes_its_turn_again() {
    let (mut shell, session, _) = begin();
    shell.comes_to_nothing(session, at(HERE));
    let (session, lane, _) = shell.attempt();
    shell.comes_and_goes(session, lane, HERE);
    shell.send(&route("a1.test", "x.test"));
    assert_eq!(shell.attempt().2, []);
}

#[test]
fn of_very_many_places_the_last_are_remembered() {
    let (mut shell, mut session, _) = begin_with(Limits { retry_max: seconds(1), ..Limits::default() });
    let places: Vec<Place> = (0..100).map(|n| at(&format!("198.51.100.{n}:5269"))).collect();
    for place in &places {
        shell.comes_to_nothing(session, *place);
        shell.pass(seconds(1));
        shell.send(&route("a1.test", "x.test"));
        let (next, _, in_vain) = shell.attempt();
        assert_eq!(in_vain.last(), Some(place));
        session = next;
    }
    shell.comes_to_nothing(session, places[99]);
    shell.pass(seconds(1));
    shell.send(&route("a1.test", "x.test"));
    assert_eq!(shell.attempt().2, places[76..]);
}
