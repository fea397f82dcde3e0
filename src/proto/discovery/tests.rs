use core::net::IpAddr;
use core::net::SocketAddr;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::found::{
    ATTEMPTS_MAX, Answer, FAILED_VALID, Found, Rules, VALID_MAX, VALID_MIN, WAY_ADDRESSES_KEPT_MAX, Ways,
    Whereabouts, conclude,
};
use super::host_meta::{self, Document};
use super::pins::{KeyDigest, Pins};
use super::plan::{CANDIDATES_MAX, Plan, plan};
use super::refused::REFUSED_SHOWN_MAX;
use super::standing::Counting;
use super::{AddressAnswer, Candidate, HostMeta, SrvAnswer, SrvAnswers, SrvName, SrvRecord, Transport};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

const TTL: Duration = Duration::from_secs(300);

fn b() -> Domain {
    Domain::parse("b.example.com").unwrap()
}

/// `"10 5 5269 x.b.example"`: priority, weight, port and target.
fn record(text: &str) -> SrvRecord {
    let fields: Vec<&str> = text.split(' ').collect();
    let number = |index: usize| fields[index].parse().unwrap();
    SrvRecord { priority: number(0), weight: number(1), port: number(2), target: fields[3].to_owned() }
}

fn records(texts: &[&str]) -> SrvAnswer {
    SrvAnswer::Records(texts.iter().map(|text| record(text)).collect())
}

/// Answers of some names; the others don't exist.
fn answers(given: &[(SrvName, SrvAnswer)]) -> SrvAnswers {
    let mut answers = SrvAnswers::all(&SrvAnswer::Nothing);
    for (name, answer) in given {
        answers.set(*name, answer.clone());
    }
    answers
}

fn shown(candidates: &[Candidate]) -> Vec<String> {
    candidates.iter().map(|c| format!("{} {}:{}", c.transport, c.host, c.port)).collect()
}

/// The plan as text, or the reason why there is none.
fn planned(given: &[(SrvName, SrvAnswer)], quic_443: bool) -> Result<Vec<String>, Reason> {
    match plan(&b(), &answers(given), quic_443, 1) {
        Plan::Candidates(candidates) => Ok(shown(&candidates)),
        Plan::Failed(reason) => Err(reason),
    }
}

fn addresses(given: &[(&str, &[&str])]) -> HashMap<String, AddressAnswer> {
    let each = given.iter().map(|(host, ips)| {
        let addresses = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        ((*host).to_owned(), AddressAnswer { addresses, failed: None })
    });
    each.collect()
}

const PUBLIC: Rules<'_> = Rules { allow_private: false, own: &[] };

fn found(given: &[(SrvName, SrvAnswer)], hosts: &HashMap<String, AddressAnswer>) -> Found {
    let srv = answers(given);
    let plan = plan(&b(), &srv, false, 1);
    conclude(&srv, plan, hosts, PUBLIC, TTL)
}

fn ways(found: &Found) -> &Ways {
    match &found.answer {
        Answer::Ways(ways) => ways,
        other => panic!("{other:?}"),
    }
}

#[test]
fn priority_decides_before_transport_and_transport_before_weight() {
    let given = [
        (SrvName::StartTls, records(&["1 0 5269 first", "2 100 5269 tcp"])),
        (SrvName::DirectTls, records(&["2 50 5270 tls"])),
        (SrvName::Quic, records(&["2 0 5269 quic"])),
        (SrvName::QuicUdp, records(&["3 0 443 last"])),
    ];
    let expected = [
        "starttls first:5269",
        "quic quic:5269",
        "direct-tls tls:5270",
        "starttls tcp:5269",
        "quic last:443",
    ];
    assert_eq!(planned(&given, false).unwrap(), expected);
}

#[test]
fn weights_share_the_tries_within_a_priority() {
    let given = answers(&[(SrvName::StartTls, records(&["0 60 1 a", "0 30 1 b", "0 10 1 c", "0 0 1 d"]))]);
    let mut firsts: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..10_000 {
        let Plan::Candidates(candidates) = plan(&b(), &given, false, seed) else { panic!() };
        assert_eq!(candidates.len(), 4);
        *firsts.entry(candidates[0].host.clone()).or_default() += 1;
    }
    // RFC 2782 draws from 0 to the sum, so that a weight of 0 has a small share, too.
    for (host, share) in [("a", 6000), ("b", 3000), ("c", 1000), ("d", 100)] {
        let count = firsts[host];
        assert!(count.abs_diff(share) < 200, "{host}: {count}");
    }
    assert_eq!(plan(&b(), &given, false, 7), plan(&b(), &given, false, 7));
}

#[test]
fn own_addresses_are_tried_only_if_neither_tcp_name_exists() {
    let own = || Ok(vec!["starttls b.example.com:5269".to_owned()]);
    assert_eq!(planned(&[], false), own());
    for answer in [SrvAnswer::NotOffered, SrvAnswer::Failed(Reason::DnsFailed)] {
        let quic = [(SrvName::Quic, answer.clone()), (SrvName::QuicUdp, answer)];
        assert_eq!(planned(&quic, false), own(), "QUIC says nothing about TCP");
    }
    let quic = [(SrvName::QuicUdp, records(&["0 0 443 q"]))];
    assert_eq!(planned(&quic, false).unwrap(), ["quic q:443", "starttls b.example.com:5269"]);
    for name in [SrvName::DirectTls, SrvName::StartTls] {
        assert_eq!(planned(&[(name, SrvAnswer::NotOffered)], false), Err(Reason::ServiceNotOffered));
        let silent = SrvAnswer::Failed(Reason::DnsTimeout);
        assert_eq!(
            planned(&[(name, silent)], false),
            Err(Reason::DnsTimeout),
            "it is not known to be absent"
        );
        assert_eq!(planned(&[(name, records(&["0 0 1 t"]))], false).unwrap().len(), 1);
    }
}

#[test]
fn a_name_that_is_not_offered_leaves_the_others() {
    let given = [(SrvName::DirectTls, SrvAnswer::NotOffered), (SrvName::StartTls, records(&["0 0 5269 t"]))];
    assert_eq!(planned(&given, false).unwrap(), ["starttls t:5269"]);
}

#[test]
fn udp_443_is_tried_on_opt_in_and_behind_all_records() {
    assert_eq!(planned(&[], true).unwrap(), ["quic b.example.com:443", "starttls b.example.com:5269"]);
    let tcp = [(SrvName::StartTls, records(&["9 0 5269 t"]))];
    assert_eq!(planned(&tcp, true).unwrap(), ["starttls t:5269", "quic b.example.com:443"]);
    for answer in [records(&["0 0 5269 q"]), SrvAnswer::NotOffered, SrvAnswer::Failed(Reason::DnsFailed)] {
        let ways = planned(&[(SrvName::Quic, answer), tcp[0].clone()], true).unwrap();
        assert!(!ways.contains(&"quic b.example.com:443".to_owned()), "{ways:?}");
    }
}

#[test]
fn records_that_name_nothing_are_passed_over_and_equal_ones_count_once() {
    let given = [
        (SrvName::StartTls, records(&["0 0 0 portless", "0 0 5269 ", "0 0 5269 .", "5 0 5269 T"])),
        (SrvName::Quic, records(&["5 0 5269 q"])),
        (SrvName::QuicUdp, records(&["1 0 5269 q"])),
    ];
    assert_eq!(planned(&given, false).unwrap(), ["quic q:5269", "starttls t:5269"]);
}

#[test]
fn thirty_targets_of_one_name_leave_room_for_another_transport() {
    let many: Vec<SrvRecord> = (0..30).map(|n| record(&format!("0 {n} 5269 q{n}"))).collect();
    let given = [(SrvName::Quic, SrvAnswer::Records(many)), (SrvName::StartTls, records(&["0 0 5269 t"]))];
    let planned = planned(&given, false).unwrap();
    assert_eq!(planned.len(), 9);
    assert_eq!(planned.last().unwrap(), "starttls t:5269");
}

#[test]
fn addresses_of_a_way_take_turns_and_many_ways_get_one_of_each_family() {
    let given = [(SrvName::StartTls, records(&["0 0 5269 t"]))];
    let ips = ["9.0.0.1", "9.0.0.2", "9.0.0.3", "2600::1", "::ffff:9.0.0.1", "9.0.0.4", "2600::1"];
    let found = found(&given, &addresses(&[("t", &ips)]));
    let dialled: Vec<_> = ways(&found).attempts(0).iter().map(|a| a.address.to_string()).collect();
    assert_eq!(dialled, ["[2600::1]:5269", "9.0.0.1:5269", "9.0.0.2:5269", "9.0.0.3:5269"]);

    let texts: Vec<String> = (0..20).map(|n| format!("0 {n} 5269 t{n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let given = [(SrvName::StartTls, records(&texts)), (SrvName::DirectTls, records(&texts))];
    let hosts: HashMap<_, _> = (0..20)
        .map(|n| {
            let ips = (1..9).flat_map(|i| [format!("9.0.{n}.{i}"), format!("2600:{n}::{i}")]);
            let addresses = ips.map(|ip| ip.parse().unwrap()).collect();
            (format!("t{n}"), AddressAnswer { addresses, failed: None })
        })
        .collect();
    let found = self::found(&given, &hosts);
    let attempts = ways(&found).attempts(3);
    assert_eq!(attempts.len(), ATTEMPTS_MAX);
    let hosts: std::collections::BTreeSet<_> = attempts.iter().map(|a| (a.transport, &a.host)).collect();
    assert_eq!(hosts.len(), CANDIDATES_MAX, "every way is tried");
}

#[test]
fn a_domain_without_any_record_has_nothing_and_one_that_failed_is_not_known() {
    let none = HashMap::new();
    let nothing = found(&[], &none);
    assert_eq!((nothing.answer, nothing.valid), (Answer::Nothing, TTL));

    for name in SrvName::ALL {
        let given = [(name, SrvAnswer::Failed(Reason::DnsFailed))];
        let failed = found(&given, &none);
        assert_eq!((failed.answer, failed.valid), (Answer::Failed(Reason::DnsFailed), FAILED_VALID));
    }
    let half = AddressAnswer { addresses: Vec::new(), failed: Some(Reason::DnsTimeout) };
    let failed = found(&[], &HashMap::from([("b.example.com".to_owned(), half)]));
    assert_eq!(failed.answer, Answer::Failed(Reason::DnsTimeout));

    let dangling = found(&[(SrvName::StartTls, records(&["0 0 5269 t"]))], &none);
    assert_eq!(dangling.answer, Answer::Failed(Reason::NameNotResolved), "records there are");
}

#[test]
fn what_failed_beside_a_way_is_told_and_soon_asked_again() {
    let given = [
        (SrvName::Quic, SrvAnswer::Failed(Reason::DnsTimeout)),
        (SrvName::StartTls, records(&["0 0 5269 t"])),
    ];
    let found = found(&given, &addresses(&[("t", &["9.0.0.1"])]));
    assert_eq!((ways(&found).as_slice().len(), found.incomplete), (1, Some(Reason::DnsTimeout)));
    assert_eq!(found.valid, VALID_MIN);
}

#[test]
fn addresses_inside_are_left_out_and_told() {
    let given = [(SrvName::StartTls, records(&["0 0 5269 t", "1 0 5269 10.0.0.9", "2 0 5269 9.0.0.9"]))];
    let hosts = addresses(&[("t", &["127.0.0.1", "9.0.0.1", "::1"])]);
    let found = found(&given, &hosts);
    let left: Vec<_> = ways(&found).attempts(0).iter().map(|a| a.address.to_string()).collect();
    assert_eq!(left, ["9.0.0.1:5269", "9.0.0.9:5269"], "a literal as a target is judged like any address");
    let refused: Vec<_> = found.refused.iter().map(|r| (r.address.to_string(), r.reason)).collect();
    let inside = ["[::1]:5269", "127.0.0.1:5269", "10.0.0.9:5269"];
    assert_eq!(refused, inside.map(|a| (a.to_owned(), Reason::AddressNotPublic)));

    let only = self::found(&given[..0], &addresses(&[("b.example.com", &["192.168.1.1"])]));
    assert_eq!(only.answer, Answer::Failed(Reason::AddressNotPublic), "it has records: not nothing");
}

/// A zone of somebody who wants us to keep as much as possible for each of any number of domains.
#[test]
fn what_a_zone_of_thousands_of_addresses_leaves_is_little_and_says_how_many_there_were() {
    let label = "x".repeat(60);
    let target = |n: usize| format!("t{n:03}.{label}.{label}.{label}.{label}");
    let named = |at: usize| {
        let all: Vec<String> = (0..64).map(|n| format!("{n} 0 5269 {}", target(64 * at + n))).collect();
        records(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let given: Vec<_> = SrvName::ALL.into_iter().enumerate().map(|(at, name)| (name, named(at))).collect();
    let private = (0..64).map(|n| [format!("10.0.0.{n}"), format!("fd00::{n:x}")]);
    let public = (0..20).map(|n| [format!("9.0.0.{n}"), format!("2600::{n:x}")]);
    let all: Vec<IpAddr> = private.chain(public).flatten().map(|text| text.parse().unwrap()).collect();
    let answer = AddressAnswer { addresses: all, failed: None };
    let hosts: HashMap<_, _> = (0..256).map(|n| (target(n), answer.clone())).collect();
    let found = found(&given, &hosts);
    assert_eq!((ways(&found).as_slice().len(), found.refused.iter().len()), (CANDIDATES_MAX, 8));
    // Three ports and transports lead to each; an address and port counts once.
    assert_eq!(found.refused.len(), 128);
    assert_eq!(found.refused.counts(), [(Reason::AddressNotPublic, 128)]);
    for way in ways(&found).as_slice() {
        let (v6, v4): (Vec<&SocketAddr>, Vec<&SocketAddr>) = way.addresses.iter().partition(|a| a.is_ipv6());
        assert_eq!((v6.len(), v4.len()), (4, 4));
    }
    let text: usize = ways(&found).as_slice().iter().map(|way| way.candidate.host.len()).sum();
    assert!(text < 4_000 && WAY_ADDRESSES_KEPT_MAX + REFUSED_SHOWN_MAX <= 16, "{text}");
}

#[test]
fn of_many_addresses_the_same_are_kept_in_whichever_order_they_come() {
    let mut all: Vec<String> = (1..=20).map(|n| format!("9.0.0.{n}")).collect();
    let kept = |all: &[String]| {
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let found = found(&[], &addresses(&[("b.example.com", &all)]));
        let kept = ways(&found).as_slice()[0].addresses.clone();
        (kept[0], kept.into_iter().collect::<std::collections::BTreeSet<_>>())
    };
    let (first, known) = kept(&all);
    assert_eq!(known.len(), WAY_ADDRESSES_KEPT_MAX);
    all.rotate_left(3);
    let (other, same) = kept(&all);
    assert!(known == same && first != other, "{known:?} {same:?}");
}

#[test]
fn validity_is_bounded() {
    for (ttl, valid) in [(0, VALID_MIN), (300, TTL), (1_000_000, VALID_MAX)] {
        let srv = answers(&[]);
        let hosts = addresses(&[("b.example.com", &["9.0.0.1"])]);
        let plan = plan(&b(), &srv, false, 0);
        let found = conclude(&srv, plan, &hosts, PUBLIC, Duration::from_secs(ttl));
        assert_eq!(found.valid, valid);
    }
}

#[test]
fn records_lead_to_a_session_by_address_and_kind_of_transport_or_by_target() {
    let given = [(SrvName::Quic, records(&["0 0 443 q"])), (SrvName::StartTls, records(&["0 0 5269 t"]))];
    let found = found(&given, &addresses(&[("q", &["9.0.0.1"]), ("t", &["9.0.0.2"])]));
    let leads = |transport, address: &str, target| {
        let address: SocketAddr = address.parse().unwrap();
        found.leads_to(&Whereabouts { transport, address, target, keys: &[] })
    };
    assert!(leads(Transport::Quic, "9.0.0.1:443", None));
    assert!(leads(Transport::DirectTls, "9.0.0.2:5269", None), "both run over TCP");
    assert!(!leads(Transport::StartTls, "9.0.0.1:443", None), "TCP is another listener");
    assert!(!leads(Transport::Quic, "9.0.0.1:5269", None), "another port");
    assert!(!leads(Transport::Quic, "9.0.0.3:443", None));
    assert!(leads(Transport::Quic, "9.0.0.3:443", Some("T")), "the same target");
    assert!(!leads(Transport::Quic, "9.0.0.3:443", Some("x")));

    let own = self::found(&[], &addresses(&[("b.example.com", &["9.0.0.1"])]));
    let stranger = Whereabouts {
        transport: Transport::Quic,
        address: "9.0.0.3:443".parse().unwrap(),
        target: Some("b.example.com"),
        keys: &[],
    };
    assert!(!own.leads_to(&stranger), "the domain itself is no SRV target of its own");
}

/// A document with a link to each of these addresses, and with these pins.
fn counting(links: &[&str], pins: &[KeyDigest], expired: bool) -> Counting {
    let link = |address: &&str| {
        let address: SocketAddr = address.parse().unwrap();
        serde_json::json!({
            "rel": "urn:xmpp:alt-connections:s2s-tls", "port": address.port(), "ips": [address.ip().to_string()],
            "priority": 0, "weight": 0, "sni": "front.example.net",
        })
    };
    let links: Vec<_> = links.iter().map(link).collect();
    let body = serde_json::json!({ "xmpp": { "ttl": 600 }, "links": links }).to_string();
    let document = host_meta::read(body.as_bytes(), 0).unwrap().unwrap();
    let pins = if pins.is_empty() { document.pins.clone() } else { Pins::published(pins) };
    Counting { document: Arc::new(Document { pins, ..document }), expired, fresh_for: 2 * TTL }
}

fn dialled(found: &Found) -> Vec<String> {
    ways(found).attempts(0).iter().map(|a| format!("{} {}", a.transport, a.address)).collect()
}

#[test]
fn an_address_that_both_dns_and_the_document_name_is_refused_once() {
    let found = found(&[], &addresses(&[("b.example.com", &["10.0.0.9"])]));
    let told = found.with_document(
        &counting(&["10.0.0.9:5269", "10.0.0.9:443"], &[], false),
        HostMeta::Fallback,
        PUBLIC,
    );
    let refused: Vec<_> = told.refused.iter().map(|refused| refused.address.to_string()).collect();
    assert_eq!(refused, ["10.0.0.9:5269", "10.0.0.9:443"]);
}

#[test]
fn links_count_instead_of_own_addresses_and_instead_of_srv_records_if_they_are_preferred() {
    let own = || found(&[], &addresses(&[("b.example.com", &["9.0.0.1"])]));
    let srv = || found(&[(SrvName::StartTls, records(&["0 0 5269 t"]))], &addresses(&[("t", &["9.0.0.2"])]));
    let (current, expired) = (counting(&["9.0.0.3:443"], &[], false), counting(&["9.0.0.3:443"], &[], true));
    let (link, own_way, srv_way) =
        ("direct-tls 9.0.0.3:443", "starttls 9.0.0.1:5269", "starttls 9.0.0.2:5269");
    for (found, document, when, expected) in [
        (own(), &current, HostMeta::Fallback, link),
        (own(), &expired, HostMeta::Fallback, link),
        (srv(), &current, HostMeta::Fallback, srv_way),
        (srv(), &current, HostMeta::Prefer, link),
        (srv(), &expired, HostMeta::Prefer, srv_way),
        (own(), &expired, HostMeta::Prefer, link),
        (own(), &counting(&[], &[], false), HostMeta::Prefer, own_way),
        (srv(), &counting(&["10.0.0.1:443"], &[], false), HostMeta::Prefer, srv_way),
        (Found::failed(Reason::DnsFailed), &current, HostMeta::Fallback, link),
    ] {
        let found = found.with_document(document, when, PUBLIC);
        assert_eq!(dialled(&found), [expected], "{when:?} {document:?}");
        let valid = if expected == link { 2 * TTL } else { TTL };
        assert_eq!(found.valid, valid, "{when:?} {document:?}");
    }
    let attempts = ways(&own().with_document(&current, HostMeta::Fallback, PUBLIC)).attempts(0);
    assert_eq!((&*attempts[0].host, &attempts[0].target), ("front.example.net", &None));
    assert_eq!(attempts[0].tls.sni.as_deref(), Some("front.example.net"));
}

#[test]
fn a_document_cannot_lead_inside() {
    let inside = counting(&["10.0.0.1:443", "127.0.0.1:22", "9.0.0.9:444"], &[], false);
    let own = ["9.0.0.9:444".parse().unwrap()];
    let rules = Rules { own: &own, ..PUBLIC };
    let nothing = Found { answer: Answer::Nothing, ..Found::failed(Reason::NoRecords) };
    let told = nothing.with_document(&inside, HostMeta::Prefer, rules);
    assert_eq!(told.answer, Answer::Failed(Reason::AddressNotPublic));
    let refused: Vec<_> = told.refused.iter().map(|r| (r.address.to_string(), r.reason)).collect();
    let (private, ourselves) = (Reason::AddressNotPublic, Reason::AddressOwn);
    let expected = [("10.0.0.1:443", private), ("127.0.0.1:22", private), ("9.0.0.9:444", ourselves)];
    assert_eq!(refused, expected.map(|(address, reason)| (address.to_owned(), reason)));
    assert_eq!(
        Found::failed(Reason::DnsFailed).with_document(&inside, HostMeta::Prefer, rules).answer,
        Answer::Failed(Reason::DnsFailed)
    );
}

#[test]
fn pins_hold_for_all_ways_until_the_document_expires_and_lead_to_no_session_of_another_key() {
    let (key, other) = ([1; 32], [2; 32]);
    let srv = || found(&[(SrvName::StartTls, records(&["0 0 5269 t"]))], &addresses(&[("t", &["9.0.0.2"])]));
    let leads = |found: &Found, keys: &[KeyDigest]| {
        let address = "9.0.0.2:5269".parse().unwrap();
        found.leads_to(&Whereabouts { transport: Transport::StartTls, address, target: None, keys })
    };
    for when in [HostMeta::Fallback, HostMeta::Prefer] {
        let pinned = srv().with_document(&counting(&[], &[key], false), when, PUBLIC);
        assert!(leads(&pinned, &[other, key]), "any key of the path");
        assert!(
            !leads(&pinned, &[other]) && !leads(&pinned, &[]),
            "by address or target, the key is another"
        );
        let expired = srv().with_document(&counting(&[], &[key], true), when, PUBLIC);
        assert!(leads(&expired, &[other]));
    }
    assert!(leads(&srv(), &[]));
    let link = counting(&["9.0.0.2:5269"], &[], false);
    let told = srv().with_document(&link, HostMeta::Prefer, PUBLIC);
    assert!(leads(&told, &[]), "an address that it names");
    let by_sni = Whereabouts {
        transport: Transport::DirectTls,
        address: "9.0.0.7:5269".parse().unwrap(),
        target: Some("front.example.net"),
        keys: &[],
    };
    assert!(!told.leads_to(&by_sni), "the name for SNI is no target");
}

#[test]
fn what_is_on_its_way_or_missing_is_asked_for_again_soon() {
    let own = || found(&[], &addresses(&[("b.example.com", &["9.0.0.1"])]));
    let srv = || found(&[(SrvName::StartTls, records(&["0 0 5269 t"]))], &addresses(&[("t", &["9.0.0.2"])]));
    assert_eq!(own().awaiting_document().valid, FAILED_VALID);
    let missing = own().without_document(Reason::HostMetaFailed);
    assert_eq!((missing.valid, missing.incomplete), (VALID_MIN, Some(Reason::HostMetaFailed)));
    assert_eq!(srv().without_document(Reason::HostMetaFailed), srv());
}

fn any_answer() -> impl Strategy<Value = SrvAnswer> {
    let target =
        prop_oneof![Just(String::new()), "[a-c]", Just("10.0.0.1".to_owned()), Just("9.0.0.1".to_owned())];
    let record = (0..3u16, 0..3u16, 0..3u16, target).prop_map(|(priority, weight, port, target)| SrvRecord {
        priority,
        weight,
        port,
        target,
    });
    prop_oneof![
        prop::collection::vec(record, 0..40).prop_map(SrvAnswer::Records),
        Just(SrvAnswer::NotOffered),
        Just(SrvAnswer::Nothing),
        Just(SrvAnswer::Failed(Reason::DnsFailed)),
    ]
}

proptest! {
    #[test]
    fn whatever_dns_says_the_bounds_hold_and_nothing_inside_is_dialled(
        four in prop::array::uniform4(any_answer()),
        ips in prop::collection::vec(any::<[u8; 4]>(), 0..20),
        quic_443: bool,
        seed: u64,
    ) {
        let mut srv = SrvAnswers::all(&SrvAnswer::Nothing);
        for (name, answer) in SrvName::ALL.into_iter().zip(&four) {
            srv.set(name, answer.clone());
        }
        let addresses: Vec<IpAddr> = ips.into_iter().map(IpAddr::from).collect();
        let answer = AddressAnswer { addresses, failed: None };
        let hosts = ["a", "b", "b.example.com"].map(|host| (host.to_owned(), answer.clone()));
        let plan = plan(&b(), &srv, quic_443, seed);
        let found = conclude(&srv, plan, &HashMap::from(hosts), PUBLIC, TTL);
        if srv.failed().is_some() {
            prop_assert_ne!(&found.answer, &Answer::Nothing);
        }
        if let Answer::Ways(ways) = &found.answer {
            prop_assert!(!ways.as_slice().is_empty() && ways.as_slice().len() <= CANDIDATES_MAX);
            let attempts = ways.attempts(seed);
            prop_assert!(!attempts.is_empty() && attempts.len() <= ATTEMPTS_MAX);
            for attempt in &attempts {
                prop_assert!(super::refusal::refuse_address(attempt.address, false, &[]).is_ok());
            }
        }
    }
}
