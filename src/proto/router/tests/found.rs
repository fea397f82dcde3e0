//! Peers that are found by their domains' records (section "Finding a peer" of `peers.rs`).

use super::*;
use crate::proto::discovery::found::{Answer, Found, Rules, conclude};
use crate::proto::discovery::pins::Pins;
use crate::proto::discovery::plan::plan;
use crate::proto::discovery::{AddressAnswer, SrvAnswer, SrvAnswers, SrvName, SrvRecord};

pub(super) const HERE: &str = "198.51.100.1:5269";
pub(super) const ELSEWHERE: &str = "198.51.100.2:5269";

/// What is found for a domain whose QUIC record leads to `address`, for five minutes.
pub(super) fn leads_to(name: &str, address: &str) -> Found {
    let address: SocketAddr = address.parse().unwrap();
    let host = "xmpp.example.net".to_owned();
    let mut srv = SrvAnswers::all(&SrvAnswer::Nothing);
    let record = SrvRecord { priority: 0, weight: 0, port: address.port(), target: host.clone() };
    srv.set(SrvName::Quic, SrvAnswer::Records(vec![record]));
    let addresses = [(host, AddressAnswer { addresses: vec![address.ip()], failed: None })].into();
    let rules = Rules { allow_private: true, own: &[] };
    let found = conclude(&srv, plan(&domain(name), &srv, false, 1), &addresses, rules, seconds(300));
    assert!(!found.ways().is_empty(), "{found:?}");
    found
}

fn nothing() -> Found {
    Found { answer: Answer::Nothing, ..Found::failed(Reason::NoRecords) }
}

/// A shell whose router looks for peers.
pub(super) fn discovering(limits: Limits) -> Shell {
    let mut shell = Shell::new(limits);
    shell.router.discover();
    shell
}

impl Shell {
    pub(super) fn discovering() -> Self {
        discovering(Limits::default())
    }

    /// The look-up that it was told to make.
    pub(super) fn find(&mut self) -> (PeerId, Domain) {
        match self.next_told() {
            Action::Find { peer, domain } => (peer, domain),
            other => panic!("expected a look-up, not {other:?}"),
        }
    }

    pub(super) fn found(&mut self, peer: PeerId, records: Found) {
        self.tell(|router, now| router.found(peer, Arc::new(records), now));
    }

    /// A session with who shows a certificate for `theirs`, at `address`, is up.
    pub(super) fn comes_up(
        &mut self,
        id: SessionId,
        theirs: &[&str],
        address: &str,
        exporter: u8,
        listed: &[&str],
    ) {
        self.comes_up_at(place(address), id, theirs, exporter, listed);
    }

    pub(super) fn comes_up_at(
        &mut self,
        place: PeerPlace,
        id: SessionId,
        theirs: &[&str],
        exporter: u8,
        listed: &[&str],
    ) {
        let dialled = self.router.sessions.contains_key(&id);
        let mut session = self.session_of(names(theirs), dialled, Lanes::PerPair, true);
        let listed = listed.iter().map(|name| domain(name)).collect();
        session.learn(Learned { mux: true, pipelining: true, listed, ..Learned::default() });
        let mut facts = up(&[], [exporter; 32]);
        facts.anchor.theirs = domain(theirs[0]);
        facts.place = place;
        self.tell(|router, now| router.session_up(id, session, facts, now));
    }
}

#[test]
fn a_domain_without_a_peer_entry_is_looked_up_once_and_then_dialled_where_its_records_lead() {
    let mut shell = Shell::discovering();
    let (one, two) = (route("a1.test", "x.test"), route("a2.test", "x.test"));
    shell.send(&one);
    shell.send(&two);
    shell.send(&one);
    let (peer, asked) = shell.find();
    assert_eq!(asked, domain("x.test"));
    assert!(shell.told.is_empty(), "one look-up for all that waits: {:?}", shell.told);
    shell.found(peer, leads_to("x.test", HERE));
    let Action::Dial { found: Some(found), session, lane, route, .. } = shell.next_told() else { panic!() };
    assert_eq!(found.ways()[0].addresses, [HERE.parse().unwrap()]);
    assert_eq!(route, one);
    shell.comes_up(session, &["x.test"], HERE, 1, &[]);
    shell.established(lane);
    let (_, second, _) = shell.lane();
    shell.established(second);
    assert_eq!(shell.lanes_of(&one), [lane, lane]);
    assert_eq!(shell.lanes_of(&two), [second], "both pairs share the session");
}

#[test]
fn a_second_domain_joins_the_session_that_its_own_records_lead_to() {
    let mut shell = Shell::discovering();
    shell.send(&route("a1.test", "x.test"));
    let (peer, _) = shell.find();
    shell.found(peer, leads_to("x.test", HERE));
    let (session, lane, _) = shell.dial();
    shell.comes_up(session, &["x.test", "y.test", "z.test"], HERE, 1, &["y.test", "z.test"]);
    shell.established(lane);
    shell.send(&route("a1.test", "y.test"));
    let (peer, _) = shell.find();
    shell.found(peer, leads_to("y.test", HERE));
    assert_eq!(shell.lane().0, session);
}

#[test]
fn a_certificate_for_a_domain_does_not_attract_it_against_its_records() {
    let mut shell = Shell::discovering();
    let thief = shell.router.fresh_session();
    shell.comes_up(thief, &["thief.test", "x.test"], ELSEWHERE, 0, &["x.test"]);
    shell.peer_opened(thief, &route("a1.test", "x.test"));
    let wanted = route("a1.test", "x.test");
    shell.send(&wanted);
    let (peer, _) = shell.find();
    assert!(shell.lanes_of(&wanted).is_empty(), "nothing leaves before it is known where the domain is");
    shell.found(peer, leads_to("x.test", HERE));
    let (session, ..) = shell.dial();
    assert_ne!(session, thief);
    assert!(shell.lanes_of(&wanted).is_empty());
}

#[test]
fn a_session_that_the_peer_dialled_from_its_listening_socket_is_used() {
    let mut shell = Shell::discovering();
    let theirs = shell.router.fresh_session();
    let wanted = route("a1.test", "x.test");
    shell.comes_up(theirs, &["x.test"], HERE, 0, &[]);
    let lane = shell.peer_opened(theirs, &wanted);
    shell.send(&wanted);
    let (peer, _) = shell.find();
    shell.found(peer, leads_to("x.test", HERE));
    shell.flush_all();
    assert_eq!(shell.lanes_of(&wanted), [lane]);
}

#[test]
fn a_domain_without_records_goes_only_where_a_session_with_its_certificate_lists_it() {
    let mut shell = Shell::discovering();
    shell.send(&route("a1.test", "x.test"));
    let (peer, _) = shell.find();
    shell.found(peer, leads_to("x.test", HERE));
    let (session, lane, _) = shell.dial();
    shell.comes_up(session, &["x.test", "rooms.x.test", "other.x.test"], HERE, 1, &["rooms.x.test"]);
    shell.established(lane);
    for (name, joins) in [("rooms.x.test", true), ("other.x.test", false)] {
        let wanted = route("a1.test", name);
        shell.send(&wanted);
        let (peer, _) = shell.find();
        shell.found(peer, nothing());
        if joins {
            assert_eq!(shell.lane().0, session);
        } else {
            assert_eq!(shell.bounces(&wanted), [Reason::NoRecords]);
        }
    }
}

/// Otherwise whoever holds a certificate for a domain gets what is sent to it while its DNS servers are away.
#[test]
fn a_list_does_not_stand_in_for_records_that_could_not_be_had() {
    for reason in [Reason::DnsFailed, Reason::DnsTimeout] {
        let mut shell = Shell::discovering();
        shell.send(&route("a1.test", "x.test"));
        let (peer, _) = shell.find();
        shell.found(peer, leads_to("x.test", HERE));
        let (session, lane, _) = shell.dial();
        shell.comes_up(session, &["x.test", "rooms.x.test"], HERE, 1, &["rooms.x.test"]);
        shell.established(lane);
        let wanted = route("a1.test", "rooms.x.test");
        shell.send(&wanted);
        let (peer, _) = shell.find();
        shell.found(peer, Found::failed(reason));
        shell.flush_all();
        assert!(shell.told.is_empty() && shell.lanes_of(&wanted).is_empty(), "{:?}", shell.told);
    }
}

#[test]
fn a_lookup_that_fails_is_tried_again_with_back_off_and_says_why_it_bounced() {
    let mut shell = Shell::discovering();
    let wanted = route("a1.test", "x.test");
    shell.send(&wanted);
    let mut asked = Vec::new();
    while shell.now < shell.began + seconds(120) {
        if matches!(shell.told.front(), Some(Action::Find { .. })) {
            let (peer, _) = shell.find();
            asked.push(shell.now - shell.began);
            shell.found(peer, Found::failed(Reason::DnsTimeout));
        }
        shell.pass(Duration::from_millis(100));
    }
    assert_eq!(shell.bounces(&wanted), [Reason::DnsTimeout]);
    let waits: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((2..12).contains(&asked.len()), "{asked:?}");
    assert!(waits.iter().all(|wait| *wait >= shell.limits.retry_min / 2), "{waits:?}");
}

#[test]
fn a_lookup_that_is_refused_for_good_bounces_at_once_and_is_remembered() {
    let mut shell = Shell::discovering();
    let wanted = route("a1.test", "localhost");
    shell.send(&wanted);
    let (peer, _) = shell.find();
    shell.found(peer, Found::failed(Reason::DomainNotPublic));
    assert_eq!(shell.bounces(&wanted), [Reason::DomainNotPublic]);
    shell.send(&wanted);
    assert_eq!(shell.bounces(&wanted).len(), 2);
    assert!(shell.told.is_empty(), "nothing is looked up again: {:?}", shell.told);
}

#[test]
fn what_a_peer_was_reached_over_is_tried_first_for_an_hour_and_then_the_best_again() {
    let mut shell = Shell::discovering();
    let wanted = route("a1.test", "x.test");
    let mut tried_first = Vec::new();
    let mut last = None;
    while shell.now <= shell.began + seconds(2 * 3600) {
        shell.send(&wanted);
        if matches!(shell.told.front(), Some(Action::Find { .. })) {
            let (peer, _) = shell.find();
            shell.found(peer, leads_to("x.test", HERE));
        }
        let Action::Dial { prefer, session, lane, .. } = shell.next_told() else { panic!() };
        if last != Some(prefer) {
            tried_first.push(((shell.now - shell.began).as_secs(), prefer));
        }
        last = Some(prefer);
        let over_tls = PeerPlace { transport: Transport::StartTls, ..place(HERE) };
        shell.comes_up_at(over_tls, session, &["x.test"], 1, &[]);
        shell.established(lane);
        shell.lane_down(lane);
        shell.tell(|router, now| router.session_down(session, Reason::ConnectionLost, now));
        shell.pass(seconds(600));
    }
    let tls = Some(Transport::StartTls);
    assert_eq!(tried_first, [(0, None), (600, tls), (3600, None), (4200, tls), (7200, None)]);
}

#[test]
fn a_connection_of_the_peers_says_nothing_about_how_it_is_reached() {
    let mut shell = Shell::discovering();
    let wanted = route("a1.test", "x.test");
    shell.send(&wanted);
    let (peer, _) = shell.find();
    shell.found(peer, Found::failed(Reason::DnsTimeout));
    let theirs = shell.router.fresh_session();
    let over_tls = PeerPlace { transport: Transport::StartTls, ..place(ELSEWHERE) };
    shell.comes_up_at(over_tls, theirs, &["x.test"], 1, &[]);
    shell.peer_opened(theirs, &wanted);
    shell.pass(seconds(1));
    let (peer, _) = shell.find();
    shell.found(peer, leads_to("x.test", HERE));
    let Action::Dial { prefer, .. } = shell.next_told() else { panic!() };
    assert_eq!(prefer, None);
}

/// A relay to which `count` domains are sent to at once, all at one place; the attempt that goes ahead.
fn at_one_place(count: usize) -> (Shell, Vec<Route>, (SessionId, LaneId, Route)) {
    let mut shell = Shell::discovering();
    let wanted: Vec<Route> = (0..count).map(|n| route("a1.test", &format!("x{n}.example"))).collect();
    wanted.iter().for_each(|wanted| shell.send(wanted));
    let asked: Vec<_> = wanted.iter().map(|_| shell.find()).collect();
    for (peer, domain) in asked {
        shell.found(peer, leads_to(domain.as_str(), HERE));
    }
    let ahead = shell.dial();
    assert!(shell.told.is_empty(), "one attempt for all: {:?}", shell.told);
    (shell, wanted, ahead)
}

#[test]
fn domains_at_one_place_make_one_attempt_and_share_what_it_proves() {
    let (mut shell, wanted, (session, lane, _)) = at_one_place(9);
    let theirs: Vec<String> = (0..6).map(|n| format!("x{n}.example")).collect();
    let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
    shell.comes_up(session, &theirs, HERE, 1, &[]);
    shell.established(lane);
    for wanted in &wanted[1..6] {
        let (carries, _, placed) = shell.lane();
        assert_eq!((carries, &placed), (session, wanted));
    }
    // The others wait for nobody any more.
    for wanted in &wanted[6..] {
        assert_eq!(shell.dial().2, *wanted);
    }
    assert!(shell.told.is_empty() && shell.router.abreast.len() == 1, "{:?}", shell.told);
}

#[test]
fn domains_at_one_place_share_its_silence_and_try_again_each_in_its_time() {
    let (mut shell, wanted, (session, ..)) = at_one_place(9);
    let mut attempts = 1;
    shell.dial_fails(session, Reason::ConnectionTimeout);
    while shell.now < shell.began + seconds(100) {
        while let Some(action) = shell.told.pop_front() {
            let Action::Dial { session, .. } = action else { panic!("{action:?}") };
            attempts += 1;
            shell.dial_fails(session, Reason::ConnectionTimeout);
        }
        shell.pass(Duration::from_millis(50));
    }
    for wanted in &wanted {
        assert_eq!(shell.bounces(wanted), [Reason::ConnectionTimeout]);
    }
    assert!((9..100).contains(&attempts), "{attempts}");
    assert!(shell.router.abreast.is_empty());
}

#[test]
fn what_is_wrong_with_one_domain_at_a_place_says_nothing_about_the_others() {
    let (mut shell, wanted, (session, _, first)) = at_one_place(3);
    shell.dial_fails(session, Reason::CertificateWrongName);
    assert_eq!(shell.bounces(&first), [Reason::CertificateWrongName]);
    for wanted in &wanted[1..] {
        assert_eq!(shell.dial().2, *wanted);
    }
}

/// y.test's records lead elsewhere, and the session lists it; a2.test has a certificate of its own.
#[test]
fn what_waits_for_two_proofs_is_placed_with_the_second_whichever_that_is() {
    for y_is_first in [true, false] {
        let mut shell = Shell::discovering();
        shell.ours = vec!["a1.test"];
        shell.send(&route("a1.test", "x.test"));
        let (x, _) = shell.find();
        shell.found(x, leads_to("x.test", HERE));
        let (session, lane, _) = shell.dial();
        shell.comes_up(session, &["x.test"], HERE, 1, &["x.test", "y.test"]);
        shell.established(lane);
        let wanted = route("a2.test", "y.test");
        shell.send(&wanted);
        let (y, _) = shell.find();
        shell.found(y, leads_to("y.test", ELSEWHERE));
        for (peer, at, pair) in
            [(y, ELSEWHERE, route("a1.test", "y.test")), (x, HERE, route("a2.test", "x.test"))]
        {
            let Action::Dial { peer: dialled, found: Some(found), route, second: true, .. } =
                shell.next_told()
            else {
                panic!()
            };
            assert_eq!((dialled, route), (peer, pair));
            assert_eq!(found.ways()[0].addresses, [at.parse().unwrap()]);
        }
        let mut steps = [("y.test", false), ("a2.test", true)];
        if !y_is_first {
            steps.reverse();
        }
        for (host, ours) in steps {
            // What has done its part closes; nothing else happens yet.
            shell.told.retain(|action| !matches!(action, Action::CloseLane { .. }));
            assert!(shell.told.is_empty(), "too early: {:?}", shell.told);
            shell.tell(|router, now| {
                let entry = router.sessions.get_mut(&session).unwrap();
                let (first, until) = (entry.session.as_mut().unwrap(), SystemTime::now());
                match ours {
                    true => first.grant_ours(domain(host), until).unwrap(),
                    false => first.grant_theirs(domain(host), until).unwrap(),
                }
                router.joined(session, &domain(host), now);
            });
        }
        shell.told.retain(|action| !matches!(action, Action::CloseLane { .. }));
        let (carries, _, placed) = shell.lane();
        assert_eq!((carries, placed), (session, wanted));
    }
}

#[test]
fn while_the_resolver_is_away_what_was_known_stays_good_for_a_day() {
    let mut shell = Shell::discovering();
    let wanted = route("a1.test", "x.test");
    shell.send(&wanted);
    let (peer, _) = shell.find();
    shell.found(peer, leads_to("x.test", HERE));
    let (session, lane, _) = shell.dial();
    shell.comes_up(session, &["x.test"], HERE, 1, &[]);
    shell.established(lane);
    shell.pass(seconds(301));
    shell.find();
    shell.found(peer, Found::failed(Reason::DnsFailed));
    let other = route("a2.test", "x.test");
    shell.send(&other);
    assert_eq!(shell.lane().0, session, "a second pair joins while the resolver is away");
    assert!(shell.bounced.is_empty());
}

/// The domain's own document may come after its records, and name other keys than those of the session that these led to.
#[test]
fn a_session_of_another_key_than_is_published_finishes_its_lanes_and_takes_no_other() {
    let mut shell = Shell::discovering();
    let wanted = route("a1.test", "x.test");
    shell.send(&wanted);
    let (peer, _) = shell.find();
    shell.found(peer, leads_to("x.test", HERE));
    let (session, lane, _) = shell.dial();
    let with_keys = |key| PeerPlace { keys: Arc::new([[key; 32]]), ..place(HERE) };
    shell.comes_up_at(with_keys(1), session, &["x.test"], 1, &[]);
    shell.established(lane);
    shell.pass(seconds(301));
    let (peer, _) = shell.find();
    let pinned = |key| Found { pins: Pins::published(&[[key; 32]]), ..leads_to("x.test", HERE) };
    shell.found(peer, pinned(1));
    assert!(shell.told.is_empty(), "its key is published: {:?}", shell.told);
    shell.pass(seconds(301));
    let (peer, _) = shell.find();
    shell.found(peer, pinned(2));
    assert_eq!(shell.next_told(), Action::CloseLane { lane, reason: Reason::PeerMoved });
    shell.lane_down(lane);
    shell.send(&route("a2.test", "x.test"));
    let Action::Dial { found: Some(found), .. } = shell.next_told() else { panic!() };
    assert_eq!(found.pins, Pins::published(&[[2; 32]]), "who is dialled must have it");
}

#[test]
fn found_peers_are_bounded_and_those_of_no_more_use_make_room() {
    let mut shell = Shell::new(Limits { pairs: 10, ..Limits::default() });
    shell.router.discover();
    for n in 0..50 {
        let wanted = route("a1.test", &format!("x{n}.example"));
        shell.send(&wanted);
        let (peer, _) = shell.find();
        shell.found(peer, nothing());
        assert_eq!(shell.bounces(&wanted), [Reason::NoRecords]);
        assert!(shell.router.found.len() <= 10 && shell.router.peers.len() <= 12);
    }
}
