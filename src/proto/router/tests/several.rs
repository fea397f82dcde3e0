//! Several attempts to reach one peer at once.

use super::found::{discovering, leads_to};
use super::*;

const MOST: usize = 4;

fn limits() -> Limits {
    Limits { peer_dials: MOST, ..Limits::default() }
}

/// Stanzas from `count` hosts of ours wait for b1.test.
fn crowd(count: usize) -> (Shell, Vec<Route>) {
    let names: Vec<&'static str> = (0..count).map(|n| &*Box::leak(format!("h{n}.test").into())).collect();
    let mut shell = Shell::between(&names, &THEIRS, limits(), 7);
    let routes: Vec<Route> = names.iter().map(|name| route(name, "b1.test")).collect();
    routes.iter().for_each(|route| shell.send(route));
    (shell, routes)
}

impl Shell {
    /// The dials that it was told to make, and how often the limit was hit meanwhile.
    fn dials(&mut self) -> (Vec<(SessionId, LaneId, Route)>, usize) {
        let (mut dials, mut hits) = (Vec::new(), 0);
        while let Some(action) = self.told.pop_front() {
            match action {
                Action::Dial { session, lane, route, .. } => dials.push((session, lane, route)),
                Action::LimitHit { limit: "peer_dials" } => hits += 1,
                other => panic!("{other:?}"),
            }
        }
        (dials, hits)
    }

    /// A connection to a server that speaks neither mux nor QUIC is up, for the pair that it was dialled for.
    fn up_for_one_pair(&mut self, (id, lane, _): &(SessionId, LaneId, Route), peer: PeerId) {
        let plain = self.session_of(names(&THEIRS), true, Lanes::Shared, false);
        let facts = Facts { single: true, ..plain.facts().clone() };
        let mut session = Session::new(facts);
        session.learn(Learned::default());
        self.tell(|router, now| router.session_up(*id, session, up(&[peer], [1; 32]), now));
        self.established(*lane);
    }
}

#[test]
fn a_server_that_takes_each_pair_on_a_connection_is_dialled_for_several_at_once_when_the_first_is_up() {
    let (mut shell, routes) = crowd(10);
    let (first, hits) = shell.dials();
    assert_eq!((first.len(), hits), (1, 0), "it isn't known that anybody is there");
    shell.up_for_one_pair(&first[0], PEER);
    let (mut open, _) = shell.dials();
    assert_eq!(open.len(), MOST);
    let mut carried = 1;
    while !open.is_empty() {
        // The others wait for a place, whichever becomes free.
        let next = open.remove(open.len() / 2);
        shell.up_for_one_pair(&next, PEER);
        carried += 1;
        let (more, _) = shell.dials();
        assert!(more.len() <= 1);
        open.extend(more);
        assert_eq!(open.len(), MOST.min(10 - carried), "after {carried}");
    }
    for route in &routes {
        assert_eq!(shell.lanes_of(route).len(), 1, "{route}");
    }
    assert!(shell.bounced.is_empty());
}

#[test]
fn the_limit_is_told_once_for_each_pair_that_waits_because_of_it() {
    let mut shell = Shell::new(Limits { peer_dials: 1, ..Limits::default() });
    shell.send(&route("a1.test", "b1.test"));
    let (first, _) = shell.dials();
    shell.up_for_one_pair(&first[0], PEER);
    for to in THEIRS {
        shell.send(&route("a2.test", to));
        shell.send(&route("a2.test", to));
    }
    let (dials, hits) = shell.dials();
    assert_eq!((dials.len(), hits), (1, 2));
}

#[test]
fn a_peer_that_may_carry_more_than_one_pair_is_dialled_once() {
    let (mut shell, routes) = crowd(10);
    let (first, _) = shell.dials();
    let (session, lane, _) = first[0];
    shell.dialled(session, lane, 1);
    for _ in &routes[1..] {
        let (in_session, lane, _) = shell.lane();
        assert_eq!(in_session, session);
        shell.established(lane);
    }
    assert!(shell.told.is_empty());
}

/// What waits is for hosts outside of the certificate that was shown: the next connection may carry all of them.
#[test]
fn a_peer_with_mux_is_dialled_one_at_a_time_for_what_its_session_does_not_carry() {
    for single in [false, true] {
        let (mut shell, routes) = crowd(4);
        let (first, _) = shell.dials();
        let (id, lane, _) = &first[0];
        let facts = Facts { single, ours: names(&["h0.test"]), ..shell.session(true).facts().clone() };
        let mut session = Session::new(facts);
        session.learn(Learned { mux: true, ..Learned::default() });
        shell.tell(|router, now| router.session_up(*id, session, up(&[PEER], [1; 32]), now));
        shell.established(*lane);
        let (next, _) = shell.dials();
        assert_eq!(next.len(), 1);
        let (id, lane, _) = &next[0];
        shell.dialled(*id, *lane, 1);
        for route in &routes[2..] {
            assert_eq!(shell.lane().2, *route);
        }
        assert!(shell.told.is_empty(), "the second carries the rest: {:?}", shell.told);
    }
}

#[test]
fn several_attempts_that_fail_together_count_as_one_and_then_it_is_one_at_a_time() {
    let (mut shell, _) = crowd(10);
    let (first, _) = shell.dials();
    shell.up_for_one_pair(&first[0], PEER);
    let (open, _) = shell.dials();
    for (session, ..) in &open {
        shell.dial_fails(*session, Reason::ConnectionRefused);
    }
    assert!(shell.dials().0.is_empty(), "none before its time");
    let mut failures = 1;
    while shell.now < shell.began + seconds(50) {
        shell.pass(Duration::from_millis(100));
        let (dials, _) = shell.dials();
        assert!(dials.len() <= 1, "the connection that stands says nothing about now");
        for (session, ..) in dials {
            shell.dial_fails(session, Reason::ConnectionRefused);
            failures += 1;
        }
    }
    // 1 + 2 + 4 + 8 + 16 seconds, of which between half and all.
    assert!((5..=7).contains(&failures), "{failures}");
}

#[test]
fn when_its_connections_are_gone_a_peer_is_dialled_one_at_a_time_again() {
    let (mut shell, routes) = crowd(10);
    let (first, _) = shell.dials();
    shell.up_for_one_pair(&first[0], PEER);
    let (open, _) = shell.dials();
    let mut up = first;
    let mut next = open;
    while let Some(opened) = next.pop() {
        shell.up_for_one_pair(&opened, PEER);
        up.push(opened);
        next.extend(shell.dials().0);
    }
    assert_eq!(up.len(), 10);
    for (session, ..) in up {
        shell.tell(|router, now| router.session_down(session, Reason::ConnectionLost, now));
    }
    routes.iter().for_each(|route| shell.send(route));
    assert_eq!(shell.dials().0.len(), 1);
}

#[test]
fn domains_at_one_place_that_takes_each_pair_on_a_connection_share_the_limit() {
    const COUNT: usize = 40;
    let mut shell = discovering(limits());
    let wanted: Vec<Route> = (0..COUNT).map(|n| route("a1.test", &format!("x{n}.example"))).collect();
    wanted.iter().for_each(|wanted| shell.send(wanted));
    let mut asked = Vec::new();
    while let Some(Action::Find { peer, domain }) = shell.told.pop_front() {
        asked.push((peer, domain));
    }
    let peers: BTreeMap<Domain, PeerId> =
        asked.iter().map(|(peer, domain)| (domain.clone(), *peer)).collect();
    for (peer, domain) in asked {
        let records = leads_to(domain.as_str(), "198.51.100.1:5269");
        shell.tell(|router, now| router.found(peer, Arc::new(records), now));
    }
    let (mut open, _) = shell.dials();
    assert_eq!(open.len(), 1);
    let mut carried = 0;
    while let Some(next) = open.pop() {
        let peer = peers[&next.2.to];
        shell.up_for_one_pair(&next, peer);
        carried += 1;
        open.extend(shell.dials().0);
        assert_eq!(open.len(), MOST.min(COUNT - carried), "after {carried}");
        assert!(shell.router.abreast.values().all(|at| at.under_way.len() <= MOST));
    }
    assert_eq!(carried, COUNT);
    assert!(shell.router.abreast.is_empty() && shell.bounced.is_empty());
}
