use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::RecordType;
use tokio::net::UdpSocket;

use super::{ADDRESS_GRACE, Finder, FinderSettings, KNOWN_MAX, SRV_GRACE};
use crate::dns::test_server::{Misbehaviour, TestServer, Zone, record};
use crate::dns::trail::Said;
use crate::proto::discovery::SrvAnswer;
use crate::proto::discovery::found::{Answer, Found, VALID_MIN};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

const BOUND: Duration = Duration::from_secs(4);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(1);

fn settings(server: &TestServer) -> FinderSettings {
    FinderSettings {
        servers: vec![server.address],
        allow_private: true,
        quic_443: false,
        own: Vec::new(),
        bound: BOUND,
        host_meta: None,
    }
}

fn finder(server: &TestServer) -> Finder {
    Finder::new(settings(server)).unwrap()
}

async fn find(finder: &Finder, domain: &str) -> Found {
    Found::clone(&*finder.find(&Domain::parse(domain).unwrap(), 1).await)
}

/// `"quic 127.0.0.3:443"` for each address that would be dialled.
fn dialled(found: &Found) -> Vec<String> {
    match &found.answer {
        Answer::Ways(ways) => ways
            .attempts(1)
            .iter()
            .map(|attempt| format!("{} {}", attempt.transport, attempt.address))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn all_four_names_lead_to_ways_in_their_order() {
    let server = Zone::new(&[
        "_xmpp-server._quic.b1.test SRV 5 0 443 q.test",
        "_xmppq-server._udp.b1.test SRV 9 0 8443 q.test",
        "_xmpps-server._tcp.b1.test SRV 5 0 5270 t.test",
        "_xmpp-server._tcp.b1.test SRV 1 0 5269 t.test",
        "q.test A 127.0.0.3",
        "q.test AAAA fd00::3",
        "t.test CNAME alias.test",
        "alias.test A 127.0.0.4",
    ])
    .serve()
    .await;
    let found = find(&finder(&server), "b1.test").await;
    let expected = [
        "starttls 127.0.0.4:5269",
        "quic [fd00::3]:443",
        "quic 127.0.0.3:443",
        "direct-tls 127.0.0.4:5270",
        "quic [fd00::3]:8443",
        "quic 127.0.0.3:8443",
    ];
    assert_eq!(dialled(&found), expected);
    // The alias has no AAAA record, and the zone says for 90 s that it doesn't.
    assert_eq!((found.incomplete, found.valid), (None, Duration::from_secs(90)));
}

#[tokio::test]
async fn a_domain_without_records_has_nothing_and_is_not_asked_for_again() {
    let server = Zone::new(&["other.test A 127.0.0.1"]).serve().await;
    let finder = finder(&server);
    let found = find(&finder, "b1.test").await;
    assert_eq!(found.answer, Answer::Nothing);
    assert!(found.valid >= VALID_MIN);
    let asked = server.asked();
    let expected = [
        "A b1.test.",
        "AAAA b1.test.",
        "SRV _xmpp-server._quic.b1.test.",
        "SRV _xmpp-server._tcp.b1.test.",
        "SRV _xmppq-server._udp.b1.test.",
        "SRV _xmpps-server._tcp.b1.test.",
    ];
    assert_eq!(asked, expected);
    find(&finder, "b1.test").await;
    assert_eq!(server.asked(), asked);
}

#[tokio::test]
async fn answers_hold_for_their_ttl_and_no_longer() {
    let server = Zone::new(&["_xmpp-server._tcp.b1.test SRV 0 0 5269 t.test", "t.test A 127.0.0.4"]);
    let server = server.serve().await;
    let finder = finder(&server);
    // For 300 s the records, and for 90 s that there are no others.
    let asked = || {
        ["_xmpp-server", "_xmpps-server"]
            .map(|labels| server.asked_at(&format!("SRV {labels}._tcp.b1.test.")).len())
    };
    find(&finder, "b1.test").await;
    for (passes, expected) in [(80, [1, 1]), (11, [1, 2]), (80, [1, 2]), (130, [2, 3])] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(passes)).await;
        tokio::time::resume();
        assert_eq!(dialled(&find(&finder, "b1.test").await), ["starttls 127.0.0.4:5269"]);
        assert_eq!(asked(), expected);
    }
}

#[tokio::test]
async fn a_crowd_that_asks_for_one_domain_shares_one_round_of_look_ups() {
    let server = Zone::new(&["b1.test A 127.0.0.1"])
        .misbehave(
            "_xmpp-server._tcp.b1.test",
            RecordType::SRV,
            Misbehaviour::Slow(Duration::from_millis(100)),
        )
        .serve()
        .await;
    let finder = std::sync::Arc::new(finder(&server));
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let finder = std::sync::Arc::clone(&finder);
        crowd.spawn(async move { find(&finder, "b1.test").await });
    }
    for found in crowd.join_all().await {
        assert_eq!(dialled(&found), ["starttls 127.0.0.1:5269"]);
    }
    assert_eq!(server.asked().len(), 6, "{:?}", server.asked());
}

#[tokio::test]
async fn servfail_is_not_none() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp] {
        let server = Zone::new(&["b1.test A 127.0.0.1"])
            .misbehave("_xmpps-server._tcp.b1.test", RecordType::SRV, Misbehaviour::Code(code))
            .serve()
            .await;
        let finder = finder(&server);
        let found = find(&finder, "b1.test").await;
        assert_eq!(found.answer, Answer::Failed(Reason::DnsFailed), "{code}");
        let asked = server.asked();
        assert!(!asked.iter().any(|question| question.starts_with("A ")), "{asked:?}");
        find(&finder, "b1.test").await;
        assert_eq!(server.asked(), asked, "the failure stands for a moment");
    }
}

#[tokio::test]
async fn a_referral_instead_of_an_answer_is_not_none() {
    let server = Zone::new(&["b1.test A 127.0.0.1"])
        .misbehave("_xmpp-server._tcp.b1.test", RecordType::SRV, Misbehaviour::Referral)
        .serve()
        .await;
    assert_eq!(find(&finder(&server), "b1.test").await.answer, Answer::Failed(Reason::DnsFailed));
}

#[tokio::test]
async fn a_name_that_swallows_questions_delays_the_others_by_a_moment_only() {
    let zone = Zone::new(&["_xmpp-server._tcp.b1.test SRV 0 0 5269 t.test", "t.test A 127.0.0.4"]);
    let server = zone
        .misbehave("_xmpp-server._quic.b1.test", RecordType::SRV, Misbehaviour::Silent)
        .misbehave("t.test", RecordType::AAAA, Misbehaviour::Silent)
        .serve()
        .await;
    // A server's silence alone would take far longer than the moment.
    let patient = FinderSettings { bound: Duration::from_secs(30), ..settings(&server) };
    let start = Instant::now();
    let found = find(&Finder::new(patient).unwrap(), "b1.test").await;
    assert!(start.elapsed() < SRV_GRACE + ADDRESS_GRACE + SLACK, "{:?}", start.elapsed());
    assert_eq!(dialled(&found), ["starttls 127.0.0.4:5269"]);
    assert_eq!((found.incomplete, found.valid), (Some(Reason::DnsTimeout), VALID_MIN));
}

#[tokio::test]
async fn slow_answers_are_waited_for_within_the_bound() {
    let zone = Zone::new(&["_xmpp-server._tcp.b1.test SRV 0 0 5269 t.test", "t.test A 127.0.0.4"]);
    let slow = || Misbehaviour::Slow(Duration::from_millis(600));
    let server = zone
        .misbehave("_xmpp-server._tcp.b1.test", RecordType::SRV, slow())
        .misbehave("t.test", RecordType::A, slow())
        .serve()
        .await;
    assert_eq!(dialled(&find(&finder(&server), "b1.test").await), ["starttls 127.0.0.4:5269"]);
}

#[tokio::test]
async fn a_server_that_never_answers_costs_the_bound_and_not_more() {
    let mut zone = Zone::new(&[]);
    for labels in ["_xmpp-server._quic", "_xmppq-server._udp", "_xmpps-server._tcp", "_xmpp-server._tcp"] {
        zone = zone.misbehave(&format!("{labels}.b1.test"), RecordType::SRV, Misbehaviour::Silent);
    }
    let server = zone.serve().await;
    let start = Instant::now();
    let found = find(&finder(&server), "b1.test").await;
    assert_eq!(found.answer, Answer::Failed(Reason::DnsTimeout));
    assert!(start.elapsed() < BOUND + SLACK, "{:?}", start.elapsed());
    assert!(server.asked().len() <= 4 * 6, "no storm: {}", server.asked().len());
}

#[tokio::test]
async fn without_a_server_there_is_a_reason_within_the_bound() {
    let gone = Zone::new(&[]).serve().await;
    let settings = settings(&gone);
    drop(gone);
    let start = Instant::now();
    let found = find(&Finder::new(settings).unwrap(), "b1.test").await;
    assert!(
        matches!(found.answer, Answer::Failed(Reason::DnsFailed | Reason::DnsTimeout)),
        "{:?}",
        found.answer
    );
    assert!(start.elapsed() < BOUND + SLACK);
}

#[tokio::test]
async fn an_aliased_srv_name_is_followed() {
    let server = Zone::new(&[
        "_xmpp-server._tcp.b1.test CNAME _xmpp-server._tcp.hoster.test",
        "_xmpp-server._tcp.hoster.test SRV 0 0 5269 t.test",
        "t.test A 127.0.0.4",
    ])
    .serve()
    .await;
    assert_eq!(dialled(&find(&finder(&server), "b1.test").await), ["starttls 127.0.0.4:5269"]);
}

#[tokio::test]
async fn aliases_that_go_round_end_as_a_failure() {
    let lie = |texts: &[&str]| Misbehaviour::Lie(texts.iter().map(|text| record(text)).collect());
    let loops = [
        // In one answer, and over several.
        (lie(&["x.test CNAME y.test", "y.test CNAME x.test"]), lie(&[])),
        (lie(&["x.test CNAME x.test"]), lie(&[])),
        (lie(&["x.test CNAME y.test"]), lie(&["y.test CNAME x.test"])),
    ];
    for (x, y) in loops {
        let server = Zone::new(&["_xmpp-server._tcp.b1.test SRV 0 0 5269 x.test"])
            .misbehave("x.test", RecordType::A, x)
            .misbehave("y.test", RecordType::A, y)
            .serve()
            .await;
        let start = Instant::now();
        let found = find(&finder(&server), "b1.test").await;
        assert_eq!(found.answer, Answer::Failed(Reason::DnsFailed));
        assert!(start.elapsed() < BOUND);
        assert!(server.asked().len() < 12, "{:?}", server.asked());
    }
}

#[tokio::test]
async fn records_of_another_name_than_was_asked_for_do_not_count() {
    let lie = Misbehaviour::Lie(vec![record("_xmpp-server._tcp.other.test SRV 0 0 5269 evil.test")]);
    let server = Zone::new(&["evil.test A 127.0.0.6", "b1.test A 127.0.0.1"])
        .misbehave("_xmpp-server._tcp.b1.test", RecordType::SRV, lie)
        .serve()
        .await;
    assert_eq!(dialled(&find(&finder(&server), "b1.test").await), ["starttls 127.0.0.1:5269"]);
}

/// RFC 6761 section 6.3: whatever the server says of it.
#[tokio::test]
async fn localhost_is_this_machine_and_nobody_is_asked() {
    let mut zone = Zone::new(&[
        "_xmpps-server._tcp.x.test SRV 0 0 5270 localhost",
        "_xmpp-server._tcp.x.test SRV 0 0 5269 xmpp.LocalHost",
        "_xmpp-server._tcp.y.test SRV 0 0 5269 alias.test",
        "alias.test CNAME localhost",
    ]);
    for (name, how) in [
        ("localhost", Misbehaviour::Code(ResponseCode::ServFail)),
        ("xmpp.localhost", Misbehaviour::Lie(vec![record("xmpp.localhost A 127.0.0.66")])),
    ] {
        for kind in [RecordType::A, RecordType::AAAA] {
            zone = zone.misbehave(name, kind, how.clone());
        }
    }
    let server = zone.serve().await;
    let finder = finder(&server);
    let found = find(&finder, "x.test").await;
    assert_eq!(found.incomplete, None);
    let ways = [
        "direct-tls [::1]:5270",
        "direct-tls 127.0.0.1:5270",
        "starttls [::1]:5269",
        "starttls 127.0.0.1:5269",
    ];
    assert_eq!(dialled(&found), ways);
    assert_eq!(found.valid, Duration::from_secs(90), "the answers that were given decide for how long");
    assert_eq!(dialled(&find(&finder, "y.test").await), &ways[2..]);
    // As a domain it has no records of its own, and this machine is where it is.
    assert_eq!(dialled(&find(&finder, "localhost").await), &ways[2..]);
    assert!(server.asked().iter().all(|question| !question.ends_with("localhost.")), "{:?}", server.asked());
}

/// It is as private as any address of this machine, and says nothing against the other ways.
#[tokio::test]
async fn a_target_localhost_is_refused_by_itself_where_the_network_is_open() {
    let server = Zone::new(&[
        "_xmpps-server._tcp.x.com SRV 0 0 5270 localhost",
        "_xmpp-server._tcp.x.com SRV 0 0 5269 out.x.com",
        "out.x.com A 9.9.9.9",
        "_xmpp-server._tcp.y.com SRV 0 0 5269 localhost",
    ]);
    let server = server.serve().await;
    let finder = Finder::new(FinderSettings { allow_private: false, ..settings(&server) }).unwrap();
    let found = find(&finder, "x.com").await;
    assert_eq!(dialled(&found), ["starttls 9.9.9.9:5269"]);
    assert_eq!((found.refused.len(), found.incomplete), (2, None));
    assert_eq!(find(&finder, "y.com").await.answer, Answer::Failed(Reason::AddressNotPublic));
}

#[tokio::test]
async fn a_target_of_one_dot_means_that_there_is_no_service() {
    let server = Zone::new(&["_xmpp-server._tcp.b1.test SRV 0 0 0 .", "b1.test A 127.0.0.1"]).serve().await;
    let found = find(&finder(&server), "b1.test").await;
    assert_eq!(found.answer, Answer::Failed(Reason::ServiceNotOffered));

    let said = |texts: &[&str]| {
        let data = texts.iter().map(|text| record(text).data).collect();
        Said::Records(data, BOUND).into_srv(&mut BOUND.clone())
    };
    assert_eq!(said(&["x.test SRV 0 0 0 ."]), SrvAnswer::NotOffered);
    assert!(matches!(said(&["x.test SRV 0 0 0 .", "x.test SRV 0 0 1 t.test"]), SrvAnswer::Records(_)));
}

#[tokio::test]
async fn thirty_targets_are_read_over_tcp_and_looked_up_within_the_bounds() {
    let long = "a-name-that-makes-the-answer-longer-than-one-datagram-can-carry";
    let texts: Vec<String> = (0..30)
        .flat_map(|n| {
            let target = format!("t{n}.{long}.test");
            [format!("_xmpp-server._tcp.b1.test SRV {n} 0 5269 {target}"), format!("{target} A 127.0.1.{n}")]
        })
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let server = Zone::new(&texts).serve().await;
    let found = find(&finder(&server), "b1.test").await;
    let expected: Vec<String> = (0..8).map(|n| format!("starttls 127.0.1.{n}:5269")).collect();
    assert_eq!(dialled(&found), expected);
    let addresses = server.asked().iter().filter(|question| question.starts_with('A')).count();
    assert_eq!(addresses, 16);
}

#[tokio::test]
async fn addresses_that_point_inside_are_refused_and_special_names_not_even_asked_for() {
    let server = Zone::new(&[
        "_xmpp-server._tcp.evil.com SRV 0 0 5269 in.evil.com",
        "_xmpp-server._tcp.evil.com SRV 1 0 80 169.254.169.254",
        "in.evil.com A 127.0.0.1",
        "in.evil.com AAAA ::ffff:10.0.0.1",
    ])
    .serve()
    .await;
    let finder = Finder::new(FinderSettings { allow_private: false, ..settings(&server) }).unwrap();
    let found = find(&finder, "evil.com").await;
    assert_eq!(found.answer, Answer::Failed(Reason::AddressNotPublic));
    let mut refused: Vec<String> = found.refused.iter().map(|r| r.address.to_string()).collect();
    refused.sort();
    assert_eq!(refused, ["10.0.0.1:5269", "127.0.0.1:5269", "169.254.169.254:80"]);

    let before = server.asked().len();
    for domain in ["b1.test", "intranet", "printer.local"] {
        assert_eq!(find(&finder, domain).await.answer, Answer::Failed(Reason::DomainNotPublic), "{domain}");
    }
    assert_eq!(server.asked().len(), before);
}

#[tokio::test]
async fn the_relay_never_finds_itself() {
    let server = Zone::new(&["b1.test A 127.0.0.1"]).serve().await;
    let own: Vec<SocketAddr> = vec!["0.0.0.0:5269".parse().unwrap()];
    let finder = Finder::new(FinderSettings { own, ..settings(&server) }).unwrap();
    assert_eq!(find(&finder, "b1.test").await.answer, Answer::Failed(Reason::AddressOwn));
}

#[tokio::test]
async fn garbage_is_no_answer_and_harms_nobody() {
    let liar = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let settings = FinderSettings {
        servers: vec![liar.local_addr().unwrap()],
        allow_private: true,
        quic_443: false,
        own: Vec::new(),
        bound: Duration::from_millis(800),
        host_meta: None,
    };
    let lying = tokio::spawn(async move {
        let mut question = [0; 2048];
        for n in 0_usize.. {
            let (length, from) = liar.recv_from(&mut question).await.unwrap();
            // The right question, cut off, or with counts, flags and compressed names that make no sense.
            let mut answer = question[..length].to_vec();
            answer[2] |= 0x80;
            match n % 4 {
                0 => answer.truncate(12 + n % 16),
                1 => answer[6..8].copy_from_slice(&[0xff, 0xff]),
                2 => {
                    answer[7] = 1;
                    answer.extend([0xc0, u8::try_from(length & 0xff).unwrap(), 0, 33, 0, 1]);
                }
                _ => answer[3] |= 0x0f,
            }
            liar.send_to(&answer, from).await.unwrap();
        }
    });
    let start = Instant::now();
    let found = find(&Finder::new(settings).unwrap(), "b1.test").await;
    let reason = match found.answer {
        Answer::Failed(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert!(matches!(reason, Reason::DnsFailed | Reason::DnsTimeout), "{reason}");
    assert!(start.elapsed() < Duration::from_millis(800) + SLACK, "{:?}", start.elapsed());
    assert!(!lying.is_finished(), "the liar could always answer");
}

#[tokio::test]
async fn answers_of_many_domains_do_not_pile_up() {
    let server = Zone::new(&[]).serve().await;
    let finder = finder(&server);
    let domain = |n: usize| Domain::parse(&format!("d{n}.test")).unwrap();
    let busy = finder.slot(&domain(0));
    finder.slot(&domain(1)).lock().await.found =
        Some((Found::failed(Reason::DnsFailed).into(), tokio::time::Instant::now() + BOUND));
    for n in 2..KNOWN_MAX + 2 {
        finder.slot(&domain(n));
    }
    let is_known = |n| finder.known.lock().unwrap().contains_key(&domain(n));
    assert!(is_known(0), "somebody looks it up");
    assert!(is_known(1), "its answer holds");
    assert!(!is_known(2));
    for n in KNOWN_MAX..3 * KNOWN_MAX {
        let until = tokio::time::Instant::now() + BOUND * 60;
        finder.slot(&domain(n)).lock().await.found = Some((Found::failed(Reason::DnsFailed).into(), until));
        assert!(finder.known.lock().unwrap().len() <= KNOWN_MAX);
    }
    assert!(is_known(0) && is_known(3 * KNOWN_MAX - 1));
    drop(busy);
}
