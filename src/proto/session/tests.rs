//! A session and what it proves, as a specification.

use super::*;
use crate::proto::hosts::HostFacts;
use crate::proto::policy::{DomainPolicy, Lists};
use crate::proto::proof::TrustScope;
use crate::proto::stream::receiving::{Authority as _, DialbackOffer, Offers};
use crate::xmpp::domain::DomainPattern;

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn route(from: &str, to: &str) -> Route {
    Route::new(domain(from), domain(to))
}

fn session(dialled: bool) -> Session {
    let names = |list: &[&str]| {
        Arc::new(CertifiedNames {
            exact: list.iter().map(|n| domain(n)).collect(),
            wildcard: [domain("b.test")].into(),
            not_after: SystemTime::UNIX_EPOCH,
            scope: TrustScope::everything(),
        })
    };
    let facts = |announce| HostFacts { entry: 0, announce };
    let hosts =
        [(domain("a.test"), facts(false)), (domain("x.test"), facts(true)), (domain("y.test"), facts(false))];
    Session::new(Facts {
        hosts: Arc::new(Hosts::new(hosts, DomainPolicy::default())),
        theirs: names(&["b.test", "a.test"]),
        ours: names(&["a.test", "unserved.test"]),
        dialled,
        lanes: Lanes::PerPair,
        single: false,
        dialback: false,
        announce_all: false,
        second: false,
    })
}

#[test]
fn without_mux_only_the_streams_own_pair_counts() {
    let mut session = session(false);
    session.learn(Learned::default());
    let scope = session.scope(&route("b.test", "a.test"), false);
    let hosts = &session.facts.hosts;
    let inbound = |from: &str, to: &str| admit(&scope, hosts, Direction::Inbound, &domain(from), &domain(to));
    assert_eq!(inbound("b.test", "a.test"), Ok(()));
    assert_eq!(inbound("rooms.b.test", "a.test"), Err(Reason::InvalidFrom));
    assert!(!session.may_open(), "a peer without mux takes no streams from the end that it dialled");
}

#[test]
fn a_connection_of_one_stream_takes_no_second_whoever_opened_it() {
    for dialled in [false, true] {
        let facts = Facts { single: true, ..session(dialled).facts };
        let mut session = Session::new(facts);
        assert!(!session.may_open());
        session.learn(Learned { mux: true, ..Learned::default() });
        assert!(!session.may_open());
        assert_eq!(session.wants().bidi, Bidi::BesideMux);
    }
}

#[test]
fn dialback_is_offered_where_it_is_allowed_and_external_only_to_whom_the_certificate_proves() {
    let offers = |dialback, from: &str, to: &str| {
        let session = Session::new(Facts { dialback, ..session(false).facts });
        StreamAuthority { session: &session, first: true }.offers(&route(from, to))
    };
    assert_eq!(offers(false, "c.test", "a.test"), Err(Reason::InvalidFrom));
    let offered = offers(true, "c.test", "a.test").unwrap();
    assert!(offered.dialback && !offered.external && !offered.mux);
    let offered = offers(true, "b.test", "a.test").unwrap();
    assert!(offered.external && offered.mux && offered.dialback);
    assert_eq!(offers(true, "x.test", "a.test"), Err(Reason::InvalidFrom), "a host of ours");
    assert_eq!(offers(true, "c.test", "unserved.test"), Err(Reason::NotOurHost));
    assert_eq!(offers(true, "c.test", "x.test"), Err(Reason::HostUnknown), "not in what we showed");
}

#[test]
fn where_nothing_may_come_in_a_stream_is_taken_for_dialback_alone_if_anything_may_go_out() {
    let lists = |deny: &[&str]| Lists {
        deny: deny.iter().map(|rule| DomainPattern::parse(rule).unwrap()).collect(),
        ..Lists::default()
    };
    let policy = DomainPolicy {
        inbound: lists(&["b.test", "c.test", "x.test"]),
        outbound: lists(&["d.test"]),
        both: lists(&["e.test"]),
    };
    let known = session(false).facts;
    let hosts = known.hosts.iter().map(|(name, facts)| (name.clone(), facts)).collect::<Vec<_>>();
    let hosts = Arc::new(Hosts::new(hosts, policy));
    let offers = |dialback, from: &str, to: &str| {
        let facts = Facts { dialback, hosts: Arc::clone(&hosts), ..known.clone() };
        let session = Session::new(facts);
        let authority = StreamAuthority { session: &session, first: true };
        (authority.offers(&route(from, to)), authority.dialback(&route(from, to), &route(from, to)))
    };
    let alone = Offers { dialback: true, ..Offers::default() };
    // Whether its certificate proves it or nothing does.
    assert_eq!(offers(true, "b.test", "a.test"), (Ok(alone), Ok(DialbackOffer::Believe)));
    assert_eq!(offers(true, "c.test", "a.test"), (Ok(alone), Ok(DialbackOffer::Verify)));
    assert_eq!(offers(false, "b.test", "a.test").0, Err(Reason::PolicyDenied));
    assert_eq!(offers(false, "c.test", "a.test").0, Err(Reason::InvalidFrom));
    let denied = Err(Reason::PolicyDenied);
    assert_eq!(
        offers(true, "e.test", "a.test"),
        (Err(Reason::PolicyDenied), denied),
        "nothing goes out either"
    );
    assert_eq!(offers(true, "x.test", "a.test").0, Err(Reason::InvalidFrom), "a host of ours");
    assert_eq!(offers(true, "c.test", "unserved.test").0, Err(Reason::NotOurHost));
    assert!(offers(true, "d.test", "a.test").0.unwrap().bidi, "what may come in is as it was");
}

#[test]
fn dialback_proves_the_streams_own_pair_alone() {
    let session = Session::new(Facts { dialback: true, ..session(false).facts });
    let authority = StreamAuthority { session: &session, first: true };
    let own = route("c.test", "a.test");
    assert_eq!(authority.dialback(&own, &own), Ok(DialbackOffer::Verify));
    assert_eq!(authority.dialback(&own, &route("d.test", "a.test")), Err(Reason::InvalidFrom));
    let certified = route("b.test", "a.test");
    assert_eq!(authority.dialback(&certified, &certified), Ok(DialbackOffer::Believe));
}

#[test]
fn with_mux_every_domain_of_the_certificate_counts() {
    let mut session = session(false);
    session.learn(Learned { mux: true, ..Learned::default() });
    assert_eq!(session.may_carry(&route("a.test", "rooms.b.test")), Ok(()));
    assert_eq!(session.may_carry(&route("x.test", "b.test")), Err(Reason::HostUnknown));
    assert_eq!(session.may_carry(&route("a.test", "a.test")), Err(Reason::InvalidFrom));
    session.learn(Learned::default());
    assert!(session.is_multiplexed(), "one stream can't take back what another agreed to");
}

#[test]
fn a_stream_is_offered_external_only_for_what_the_certificate_proves() {
    let session = session(false);
    let offers =
        |from: &str, to: &str| StreamAuthority { session: &session, first: false }.offers(&route(from, to));
    assert!(offers("b.test", "a.test").unwrap().external);
    assert_eq!(offers("c.test", "a.test"), Err(Reason::InvalidFrom));
    assert_eq!(offers("a.test", "a.test"), Err(Reason::InvalidFrom));
    assert_eq!(offers("b.test", "unserved.test"), Err(Reason::NotOurHost));
}

#[test]
fn a_granted_host_counts_until_its_grant_ends_and_never_proves_others() {
    let mut session = session(false);
    session.learn(Learned { mux: true, ..Learned::default() });
    let until = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(10);
    assert_eq!(session.may_carry(&route("x.test", "n.test")), Err(Reason::InvalidFrom));
    session.grant_theirs(domain("n.test"), until).unwrap();
    assert_eq!(session.may_carry(&route("x.test", "n.test")), Err(Reason::HostUnknown));
    session.grant_ours(domain("x.test"), until).unwrap();
    assert_eq!(session.may_carry(&route("x.test", "n.test")), Ok(()));
    assert!(
        !session.theirs_by_certificate(&domain("n.test")) && !session.ours_by_certificate(&domain("x.test"))
    );
    assert_eq!(session.grant_theirs(domain("x.test"), until), Err(Reason::InvalidFrom), "a host of ours");
    assert_eq!(session.end_grants(until), [domain("n.test"), domain("x.test")]);
    assert_eq!(session.may_carry(&route("a.test", "n.test")), Err(Reason::InvalidFrom));
    let scope = session.scope(&route("a.test", "b.test"), true);
    assert!(scope.theirs.has_ended(&domain("n.test")) && scope.ours.has_ended(&domain("x.test")));
    session.grant_theirs(domain("n.test"), until).unwrap();
    let scope = session.scope(&route("a.test", "b.test"), true);
    assert!(!scope.theirs.has_ended(&domain("n.test")), "it has joined again");
    let mut session = session.with_grants_max(1);
    assert_eq!(session.grant_theirs(domain("m.test"), until), Err(Reason::TooMany));
}

#[test]
fn a_session_takes_4096_grants_each_way_and_no_more() {
    let name = |n: usize| domain(&format!("h{n}.test"));
    let facts = HostFacts { entry: 0, announce: false };
    let hosts = (0..4097).map(|n| (domain(&format!("o{n}.test")), facts));
    let hosts = Arc::new(Hosts::new(hosts, DomainPolicy::default()));
    let mut session = Session::new(Facts { hosts, ..session(false).facts });
    let until = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(10);
    for n in 0..4096 {
        assert_eq!(session.grant_theirs(name(n), until), Ok(()));
        assert_eq!(session.grant_ours(domain(&format!("o{n}.test")), until), Ok(()));
    }
    assert_eq!(session.grant_theirs(name(4096), until), Err(Reason::TooMany));
    assert_eq!(session.grant_ours(domain("o4096.test"), until), Err(Reason::TooMany));
    assert_eq!(session.grants(), (4096, 4096));
    assert_eq!(session.grant_theirs(name(0), until), Ok(()), "one that it has may last longer");
}

/// Its secret may have been on its way when the host was taken away.
#[test]
fn a_host_that_is_not_or_no_longer_served_does_not_join() {
    let mut session = session(false);
    let until = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(10);
    assert_eq!(session.grant_ours(domain("unserved.test"), until), Err(Reason::HostUnknown));
    let facts = HostFacts { entry: 0, announce: true };
    let hosts = Hosts::new([(domain("a.test"), facts)], DomainPolicy::default());
    session.set_hosts(&Arc::new(hosts.after(&session.facts.hosts)));
    assert_eq!(session.grant_ours(domain("x.test"), until), Err(Reason::HostUnknown), "it has gone");
    assert_eq!(session.grant_ours(domain("a.test"), until), Ok(()));
    assert_eq!(session.grants(), (0, 1));
}

#[test]
fn a_change_of_hosts_ends_their_grants_and_shows_the_list_once_more() {
    let mut session = session(false);
    session.learn(Learned { mux: true, ..Learned::default() });
    let until = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(10);
    session.grant_ours(domain("x.test"), until).unwrap();
    session.grant_theirs(domain("n.test"), until).unwrap();
    session.grant_theirs(domain("m.test"), until).unwrap();
    let facts = HostFacts { entry: 0, announce: true };
    let hosts = [(domain("a.test"), facts), (domain("n.test"), facts)];
    let hosts = Hosts::new(hosts, DomainPolicy::default()).after(&session.facts.hosts);
    session.set_hosts(&Arc::new(hosts));
    assert_eq!(session.grants(), (1, 0), "m.test alone: n.test is ours now, and x.test isn't");
    let later = StreamAuthority { session: &session, first: false };
    assert_eq!(later.host_list(), [domain("a.test"), domain("n.test")]);
    assert!(later.host_list().is_empty(), "once");
    assert_eq!(later.offers(&route("b.test", "x.test")), Err(Reason::HostGone));
    assert_eq!(later.offers(&route("b.test", "unserved.test")), Err(Reason::NotOurHost));
    session.revoke_theirs(&domain("m.test"));
    assert_eq!(session.grants(), (0, 0));
}

#[test]
fn the_host_list_stands_on_the_first_stream_and_shows_what_is_announced() {
    let session = session(false);
    assert_eq!(session.host_list(), [domain("a.test"), domain("x.test")]);
    assert!(StreamAuthority { session: &session, first: false }.host_list().is_empty());
    let all = Session::new(Facts { announce_all: true, ..session.facts });
    assert_eq!(all.host_list(), ["a.test", "x.test", "y.test"].map(domain));
}

#[test]
fn a_host_list_is_sent_within_its_bounds() {
    let facts = HostFacts { entry: 0, announce: true };
    let label = "a".repeat(63);
    // 262144 octets of names, each 201 long.
    for (name, fit) in [(String::from("test"), 4096), (format!("{label}.{label}.{label}.test"), 1304)] {
        let hosts = (0..5000).map(|n| (domain(&format!("{n:04}.{name}")), facts));
        let hosts = Arc::new(Hosts::new(hosts, DomainPolicy::default()));
        let session = Session::new(Facts { hosts, ..session(false).facts });
        let list = StreamAuthority { session: &session, first: true }.host_list();
        assert_eq!(list.len(), fit, "of {name}");
        let mut feature = String::new();
        crate::proto::mux::write_feature(&mut feature, &list);
        assert!(feature.len() < Limits::default().stanza_bytes);
    }
}
