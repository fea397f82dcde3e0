//! Records that point inside, or at the relay itself: nothing is dialled, and the sender and the operator hear why.

use fedmux::proto::policy::{DomainPolicy, Lists};
use fedmux::reason::Reason;
use fedmux::relay::settings::Transport;
use fedmux::xmpp::domain::DomainPattern;
use tokio::net::TcpListener;

use crate::dns_server::Zone;
use crate::scene::{plan, said_reason, way, zone};
use crate::support::certificates::Authority;
use crate::support::log::Log;
use crate::support::peer::Peer;
use crate::support::tcp_peer::Listening;

#[tokio::test]
async fn addresses_inside_are_not_dialled_and_the_log_names_them() {
    let authority = Authority::new();
    let log = Log::capture();
    let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = inside.local_addr().unwrap().port();
    let mut targets = vec!["127.0.0.1".to_owned(), "[::1]".to_owned(), "10.0.0.9".to_owned()];
    targets.extend((1..=40).map(|n| format!("169.254.169.{n}")));
    let mut records: Vec<String> = Vec::new();
    for (n, target) in targets.iter().enumerate() {
        let target = target.trim_matches(['[', ']']);
        let kind = if target.contains(':') { "AAAA" } else { "A" };
        let n = n.min(3);
        records.push(format!("_xmpps-server._tcp.evil.com SRV {n} 0 {port} t{n}.evil.com"));
        records.push(format!("t{n}.evil.com {kind} {target}"));
    }
    let dns = zone(&[records]).serve().await;
    let mut plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
    plan.settings.dns.as_mut().unwrap().allow_private = false;
    let mut relay = plan.start().await;
    let mut a1 = relay.host("a1.test");
    a1.send("evil.com", "x").await;
    assert_eq!(said_reason(&a1.receive().await), Reason::AddressNotPublic.as_str());
    let lines = log.lines();
    let refused: Vec<_> = lines.iter().filter(|line| line.message == "addresses not dialled").collect();
    assert_eq!(refused.len(), 1, "it may be any number");
    let line = refused[0];
    let named: Vec<String> = line.field("addresses").split(", ").map(str::to_owned).collect();
    assert_eq!(named[..3], targets[..3].iter().map(|target| format!("{target}:{port}")).collect::<Vec<_>>());
    assert_eq!((named.len(), line.field("count")), (8, "43"));
    assert_eq!(line.field("reason"), Reason::AddressNotPublic.as_str());
    assert_eq!((line.field("domain"), line.field("host")), ("evil.com", "t0.evil.com"));
    assert!(!line.field("advice").is_empty());
    let reason = ("reason", Reason::AddressNotPublic.as_str());
    assert_eq!(relay.metric("fedmux_addresses_refused_total", &[reason]), 43);
    assert_eq!(relay.metric("fedmux_look_ups_failed_total", &[reason]), 1);
    assert!(is_quiet(&inside));
    relay.is_balanced().await;
}

fn is_quiet(listener: &TcpListener) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    listener.poll_accept(&mut context).is_pending()
}

#[tokio::test]
async fn a_special_name_is_not_asked_for() {
    let authority = Authority::new();
    let dns = Zone::new(&["localhost A 127.0.0.1"]).serve().await;
    let mut plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
    plan.settings.dns.as_mut().unwrap().allow_private = false;
    let mut relay = plan.start().await;
    let mut a1 = relay.host("a1.test");
    for name in ["localhost", "intranet", "printer.local", "x.test"] {
        a1.send(name, "x").await;
        assert_eq!(said_reason(&a1.receive().await), Reason::DomainNotPublic.as_str(), "{name}");
    }
    assert!(dns.asked().is_empty(), "{:?}", dns.asked());
}

/// Not even asked for, whoever denies it and whether or not it may come in.
#[tokio::test]
async fn whom_the_operator_or_the_host_denies_is_not_looked_up() {
    let denying = || Lists { deny: vec![DomainPattern::parse("*.evil.test").unwrap()], ..Lists::default() };
    for (by_host, only_out) in [(false, false), (false, true), (true, false), (true, true)] {
        let authority = Authority::new();
        let dns = Zone::new(&["x.evil.test A 127.0.0.1"]).serve().await;
        let mut plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
        let policy = match only_out {
            true => DomainPolicy { outbound: denying(), ..DomainPolicy::default() },
            false => DomainPolicy { both: denying(), ..DomainPolicy::default() },
        };
        *(if by_host { &mut plan.settings.hosts[0].policy } else { &mut plan.settings.policy.domains }) =
            policy;
        let mut relay = plan.start().await;
        let mut a1 = relay.host("a1.test");
        a1.send("x.evil.test", "x").await;
        assert!(said_reason(&a1.receive().await).contains(Reason::PolicyDenied.as_str()));
        assert!(dns.asked().is_empty(), "{:?}", dns.asked());
        a1.send("evil.test", "y").await;
        assert_ne!(said_reason(&a1.receive().await), Reason::PolicyDenied.as_str(), "what is above it");
        assert!(dns.asked().iter().all(|question| !question.contains("x.evil")), "{:?}", dns.asked());
    }
}

#[tokio::test]
async fn the_relay_does_not_dial_itself() {
    let authority = Authority::new();
    for transport in [Transport::Quic, Transport::DirectTls, Transport::StartTls] {
        let bound = plan(&authority, &["a1.test"]).await.bind();
        let dns = zone(&[way("x.test", transport, bound.at(transport))]).serve().await;
        let mut relay = bound.finding_by(dns.address).start().await;
        let mut a1 = relay.host("a1.test");
        a1.send("x.test", "x").await;
        assert_eq!(said_reason(&a1.receive().await), Reason::AddressOwn.as_str(), "{transport}");
        assert_eq!(relay.metric("fedmux_connections_opened_total", &[]), 0);
    }
}

/// Whoever answers for DNS sends us to a server of its own, which has no certificate for the domain.
#[tokio::test]
async fn somebody_elses_server_gets_nothing() {
    let authority = Authority::new();
    let stranger = Peer::start(&authority.certify(&["stranger.test"]));
    let owner = Listening::with(&authority.certify(&["x.test"])).await;
    let dns = zone(&[
        way("x.test", Transport::Quic, stranger.address),
        way("x.test", Transport::DirectTls, owner.address),
        way("y.test", Transport::Quic, stranger.address),
    ]);
    let dns = dns.serve().await;
    let mut relay = plan(&authority, &["a1.test"]).await.finding_by(dns.address).start().await;
    let mut a1 = relay.host("a1.test");
    a1.send("y.test", "for y").await;
    let (refused, bounced) = tokio::join!(stranger.try_accept(), a1.receive());
    assert_eq!(said_reason(&bounced), Reason::CertificateWrongName.as_str());
    // It may believe that the handshake is complete, and then hears that it is not.
    if let Ok(connection) = refused {
        connection.closed().await;
    }
    a1.send("x.test", "for x").await;
    let (refused, wire) = tokio::join!(stranger.try_accept(), owner.direct());
    let mut wire = wire.unwrap();
    wire.accept().await;
    assert_eq!(wire.ear.stanza().await.attribute("id"), Some("for x"), "the other way is not the stranger's");
    if let Ok(connection) = refused {
        connection.closed().await;
    }
    relay.is_balanced().await;
    relay.assert_unharmed();
}
