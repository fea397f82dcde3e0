//! The status of a relay: each fact is held against what was done.

use std::time::{Duration, Instant};

use fedmux::proto::limits::Limits;
use fedmux::relay::status::{PairStatus, Status};

use crate::support::certificates::Authority;
use crate::support::provider::{Plan, Provider};
use crate::support::{PATIENCE, nobody, soon};

async fn status(provider: &Provider) -> Status {
    soon("a status", provider.relay.view().status()).await
}

/// The status, once `holds`.
async fn once(provider: &Provider, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    let (begun, mut last) = (Instant::now(), None);
    while begun.elapsed() < PATIENCE {
        let status = status(provider).await;
        if holds(&status) {
            return status;
        }
        last = Some(status);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited for {what}: {last:#?}");
}

fn pair<'a>(status: &'a Status, from: &str, to: &str) -> &'a PairStatus {
    status.pairs.iter().find(|pair| pair.from == from && pair.to == to).unwrap()
}

#[tokio::test]
async fn sessions_say_how_each_domain_is_proven_and_what_they_save() {
    let authority = Authority::new();
    let hosts = [["a1.test", "a2.test"], ["b1.test", "b2.test"]];
    let hasty = |limits: &mut Limits| limits.session_idle = Duration::from_millis(200);
    let a = Plan::without_certificate(&authority, &hosts[0]).await.limits(hasty);
    // One certificate for each host of a: its second host joins by a mux secret.
    a.add_certificate(&authority.certify(&["a1.test"]), "a1");
    a.add_certificate(&authority.certify(&["a2.test"]), "a2");
    let (a, b) = (a.bind(), Plan::new(&authority, &hosts[1]).await.limits(hasty).bind());
    let (at_a, at_b) = (a.quic, b.quic);
    let placement = fedmux::relay::settings::Placement::default();
    let mut a = a.peer(&hosts[1], at_b, placement).announcing().start().await;
    let mut b = b.peer(&hosts[0], at_a, placement).announcing().start().await;
    let (mut a1, mut a2) = (a.host("a1.test"), a.host("a2.test"));
    let mut theirs = [b.host("b1.test"), b.host("b2.test")];
    for to in &mut theirs {
        a1.send(&to.name, "1").await;
        to.receive().await;
        a2.send(&to.name, "2").await;
        to.receive().await;
    }
    // The connection of the proof carried the host's first pair.
    once(&a, "one connection", |status| status.sessions.len() == 1).await;
    a2.send("b1.test", "3").await;
    theirs[0].receive().await;
    let told = once(&a, "one connection for four pairs", |status| {
        status.saved.domain_pairs == 4 && status.sessions.len() == 1 && status.stanzas.in_custody == 0
    })
    .await;
    assert_eq!((told.saved.connections, told.saved.connections_saved), (1, 3));
    // What proves a host is accepted too, and goes no further.
    assert_eq!((told.hosts, told.stanzas.delivered, told.stanzas.bounced), (2, 5, 0));
    assert_eq!(told.stanzas.accepted, 5 + told.stanzas.discarded);
    assert!(told.pairs.iter().filter(|pair| pair.session.is_some()).all(|pair| pair.waits_for.is_none()));
    let [session] = &told.sessions[..] else { panic!("{:?}", told.sessions) };
    let facts = session.told.as_ref().unwrap();
    assert!(facts.opened_by_us && facts.authenticated && facts.multiplexed);
    assert!(session.lanes >= 4 && session.peer == at_b.to_string(), "{session:?}");
    assert!(facts.path.unwrap().packets_sent > 0);
    let proven = |domains: &[fedmux::relay::status::ProvenDomain]| {
        let mut all: Vec<_> = domains.iter().map(|one| (one.domain.clone(), one.by.clone())).collect();
        all.sort();
        all
    };
    let of = |domain: &str, by: &str| (domain.to_owned(), by.to_owned());
    assert_eq!(proven(&facts.ours), [of("a1.test", "certificate"), of("a2.test", "mux-secret")]);
    assert_eq!(proven(&facts.theirs), [of("b1.test", "certificate"), of("b2.test", "certificate")]);
    assert!(facts.ours.iter().all(|one| one.until > told.at && one.until.ends_with('Z')), "{:?}", facts.ours);
    let other = status(&b).await;
    let joined = &other.sessions[0].told.as_ref().unwrap().theirs;
    assert!(joined.iter().any(|one| one.domain == "a2.test" && one.by == "mux-secret"), "{joined:?}");
}

#[tokio::test]
async fn what_waits_is_shown_with_what_it_waits_for_and_why() {
    let authority = Authority::new();
    // It swallows what comes.
    let hole = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let plan = Plan::new(&authority, &["a.test"]).await.limits(|limits| {
        limits.connect = Duration::from_millis(300);
        limits.retry_min = Duration::from_secs(50);
    });
    let mut a = plan.peer(&["b.test"], hole.local_addr().unwrap()).start().await;
    let mut host = a.host("a.test");
    host.send("b.test", "1").await;
    let dialling = once(&a, "a connection that is being made", |status| {
        status.pairs.iter().any(|pair| pair.waits_for.as_deref() == Some("connection"))
    })
    .await;
    let waiting = pair(&dialling, "a.test", "b.test");
    assert_eq!((waiting.queued.stanzas, waiting.reason.as_deref()), (1, None));
    assert!(waiting.queued.oldest_seconds.is_some() && waiting.queued.bytes > 0, "{waiting:?}");
    assert_eq!(dialling.peers[0].state, "dialling");
    let down = once(&a, "a back-off", |status| status.peers[0].state == "back-off").await;
    let peer = &down.peers[0];
    assert_eq!(peer.reason.as_deref(), Some("connection-timeout"));
    assert!(peer.configured && peer.peer.starts_with("b.test at 127.0.0.1:"), "{peer:?}");
    assert!((20..=50).contains(&peer.retry_seconds.unwrap()), "{peer:?}");
    let waiting = pair(&down, "a.test", "b.test");
    assert_eq!((waiting.waits_for.as_deref(), peer.waiting), (Some("back-off"), 1));
    assert_eq!(waiting.reason.as_deref(), Some("connection-timeout"));
    assert_eq!((down.stanzas.in_custody, down.queued.stanzas), (1, 1));
}

#[tokio::test]
async fn a_server_of_ours_that_is_away_is_in_trouble() {
    let authority = Authority::new();
    let (_kept, nobody) = nobody();
    let b = Plan::new(&authority, &["b.test"]).await.bind();
    let mut plan = Plan::new(&authority, &["a.test"]).await;
    plan.settings.hosts[0].deliver = vec![fedmux::relay::settings::Endpoint::Address(nobody)];
    let a = plan.bind();
    let at_a = a.quic;
    let a = a.peer(&["b.test"], b.quic, fedmux::relay::settings::Placement::default()).start().await;
    let mut b = b.peer(&["a.test"], at_a, fedmux::relay::settings::Placement::default()).start().await;
    b.host("b.test").send("a.test", "1").await;
    let told = once(&a, "a server that is down", |status| {
        status.local.iter().any(|server| server.state == "down" && server.waiting == 1)
    })
    .await;
    let server = &told.local[0];
    assert_eq!(
        (server.server.clone(), server.reason.as_deref()),
        (nobody.to_string(), Some("connection-refused"))
    );
    assert_eq!(pair(&told, "b.test", "a.test").waits_for.as_deref(), Some("server"));
}
