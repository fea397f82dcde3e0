//! Two relays with a certificate for each host.

use std::collections::BTreeSet;
use std::time::Duration;

use fedmux::proto::limits::Limits;
use fedmux::relay::settings::Endpoint;

use crate::scene::proofs;
use crate::support::certificates::Authority;
use crate::support::provider::{Plan, Provider};
use crate::support::server::Host;
use crate::support::soon;

pub(crate) fn names(letter: char, hosts: usize) -> Vec<String> {
    (1..=hosts).map(|n| format!("{letter}{n}.test")).collect()
}

/// A relay with a certificate for each of these hosts, for a peer that may see them all.
pub(crate) async fn plan(authority: &Authority, hosts: &[String]) -> Plan {
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let plan = Plan::without_certificate(authority, &hosts).await;
    for host in hosts {
        plan.add_certificate(&authority.certify(&[host]), host);
    }
    plan.peer(&["*"], ([127, 0, 0, 1], 1).into()).announcing().limits(|limits: &mut Limits| {
        limits.lane_idle = Duration::from_millis(1_500);
        limits.session_idle = Duration::from_millis(500);
    })
}

/// Both relays with so many hosts each, which reach each other.
async fn relays(authority: &Authority, hosts: usize) -> [Provider; 2] {
    start([plan(authority, &names('a', hosts)).await, plan(authority, &names('b', hosts)).await]).await
}

/// Start two relays that reach each other.
pub(crate) async fn start([mut a, mut b]: [Plan; 2]) -> [Provider; 2] {
    let (at_a, at_b) = (a.listeners(), b.listeners());
    a.settings.peers[0].address = Endpoint::Address(at_b.remote_quic()[0]);
    b.settings.peers[0].address = Endpoint::Address(at_a.remote_quic()[0]);
    [a.start_on(at_a).await, b.start_on(at_b).await]
}

/// Everything that `others` sent has come to `host`, once.
async fn hears_all(host: &mut Host, others: &[String], round: usize) {
    let mut heard = BTreeSet::new();
    while heard.len() < others.len() {
        let stanza = host.receive().await;
        assert_eq!(stanza.attribute("type"), Some("chat"), "{stanza:?}");
        let from = stanza.attribute("from").unwrap().to_owned();
        assert_eq!(stanza.attribute("id"), Some(&*format!("{round}")), "{stanza:?}");
        assert!(heard.insert(from), "twice: {stanza:?}");
    }
}

/// Every host sends to every other, on both sides at once; everything arrives.
async fn everybody_talks(a: &mut [Host], b: &mut [Host], round: usize) {
    let (to_b, to_a) = (names('b', b.len()), names('a', a.len()));
    for n in 0..a.len() {
        for other in 0..b.len() {
            a[n].send(&to_b[other], &round.to_string()).await;
            b[n].send(&to_a[other], &round.to_string()).await;
        }
    }
    for host in &mut *a {
        hears_all(host, &to_b, round).await;
    }
    for host in &mut *b {
        hears_all(host, &to_a, round).await;
    }
    assert!(a.iter_mut().chain(b).all(|host| host.received().is_none()));
}

fn connections(relay: &Provider) -> u64 {
    relay.metric("fedmux_connections", &[("transport", "quic")])
}

/// Two relays and what speaks behind them.
struct Scene {
    a: Provider,
    b: Provider,
    a_hosts: Vec<Host>,
    b_hosts: Vec<Host>,
}

impl Scene {
    async fn set(authority: &Authority, hosts: usize) -> Self {
        let [mut a, mut b] = relays(authority, hosts).await;
        let a_hosts = names('a', hosts).iter().map(|name| a.host(name)).collect();
        let b_hosts = names('b', hosts).iter().map(|name| b.host(name)).collect();
        Self { a, b, a_hosts, b_hosts }
    }

    /// Every pair talks; when it is quiet one connection remains, and every pair talks on it. How many proofs each made.
    async fn converges(&mut self) -> [usize; 2] {
        let Self { a, b, a_hosts, b_hosts } = self;
        everybody_talks(a_hosts, b_hosts, 0).await;
        soon("one connection to remain", async {
            while connections(a) > 1 || connections(b) > 1 {
                // One pair goes on, so that there is something to remain for.
                a_hosts[1].send("b2.test", "0").await;
                assert_eq!(b_hosts[1].receive().await.attribute("from"), Some("a2.test"));
            }
        })
        .await;
        everybody_talks(a_hosts, b_hosts, 1).await;
        [&*a, &*b].map(|relay| {
            assert_eq!(connections(relay), 1);
            assert_eq!(relay.metric("fedmux_stanzas_bounced_total", &[]), 0);
            relay.assert_unharmed();
            usize::try_from(proofs(relay, "granted")).unwrap()
        })
    }
}

#[tokio::test]
async fn every_pair_talks_and_one_connection_remains_with_a_proof_for_each_further_host() {
    const HOSTS: usize = 6;
    let mut scene = Scene::set(&Authority::new(), HOSTS).await;
    // Both begin at once, so that both dial: what is on the second session stays there until it falls silent. Which of the
    // two a host joins is decided when its second connection is up, by when the other session is up too.
    assert_eq!(scene.converges().await, [2 * (HOSTS - 1); 2]);
}

/// One end speaks first, so that there is one first session: as many proofs as there are hosts that its certificates
/// don't name, and not as there are pairs.
#[tokio::test]
async fn four_hundred_pairs_take_a_proof_for_each_host() {
    const HOSTS: usize = 20;
    let mut scene = Scene::set(&Authority::new(), HOSTS).await;
    scene.a_hosts[0].send("b1.test", "first").await;
    assert_eq!(scene.b_hosts[0].receive().await.attribute("id"), Some("first"));
    assert_eq!(scene.converges().await, [2 * (HOSTS - 1); 2]);
    for relay in [&scene.a, &scene.b] {
        assert_eq!(proofs(relay, "refused"), 0);
    }
}
