//! Which session carries a domain that was found: one that its own records lead to, or one that it joins by a mux secret.
//! A certificate alone doesn't attract it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fedmux::proto::proof::DomainProof;
use fedmux::relay::settings::Transport;

use crate::scene::{connections, limits, listing, plan, start, way, zone};
use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::provider::{Bound, Plan, Provider};
use crate::support::server::Host;
use crate::support::soon;
use crate::support::wire::message;

const A: [&str; 2] = ["a1.test", "a2.test"];
const B: [&str; 2] = ["b1.test", "b2.test"];

/// A relay with a certificate for each of its hosts, which tells everybody of them.
async fn apart(authority: &Authority, hosts: &[&str]) -> Plan {
    let mut plan = Plan::without_certificate(authority, hosts).await.limits(limits).limits(|limits| {
        limits.lane_idle = Duration::from_millis(1_500);
        limits.session_idle = Duration::from_millis(500);
    });
    plan.settings.hosts[0].announce = true;
    for host in hosts {
        plan.add_certificate(&authority.certify(&[host]), host);
    }
    plan
}

/// Everybody sends to everybody on the other side, and all of it arrives.
async fn everybody_talks(at_a: &mut [Host], at_b: &mut [Host]) {
    for one in &mut *at_a {
        for other in &mut *at_b {
            one.send(&other.name, "there").await;
            other.send(&one.name, "back").await;
        }
    }
    for host in at_a.iter_mut().chain(&mut *at_b) {
        for _ in 0..2 {
            let heard = host.receive().await;
            assert_ne!(heard.attribute("type"), Some("error"), "{heard:?}");
        }
    }
}

/// Every pair talks, and when it is quiet one connection is left, on which every pair talks.
async fn converges([a, b]: [&mut Provider; 2]) {
    let (mut at_a, mut at_b) = (A.map(|name| a.host(name)), B.map(|name| b.host(name)));
    at_a[0].send("b1.test", "first").await;
    at_b[0].receive().await;
    everybody_talks(&mut at_a, &mut at_b).await;
    soon("one connection to remain", async {
        while connections(a) > 1 || connections(b) > 1 {
            at_a[0].send("b1.test", "on").await;
            at_b[0].receive().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let opened = |relay: &Provider| relay.metric("fedmux_connections_opened_total", &[]);
    let before = (opened(a), opened(b));
    everybody_talks(&mut at_a, &mut at_b).await;
    assert_eq!((opened(a), opened(b)), before);
    for relay in [a, b] {
        assert_eq!(connections(relay), 1);
        // One of the other end's hosts; each end may have tried for both sessions where both dialled.
        assert!((1..=2).contains(&relay.relay.metrics().proven(DomainProof::MuxSecret)));
        assert_eq!(relay.metric("fedmux_stanzas_bounced_total", &[]), 0);
        relay.is_balanced().await;
        relay.assert_unharmed();
    }
}

fn at(hosts: [&str; 2], addresses: [SocketAddr; 2]) -> Vec<Vec<String>> {
    let each = hosts.iter().zip(addresses);
    each.map(|(host, address)| way(host, Transport::Quic, address)).collect()
}

async fn relays(authority: &Authority, change: impl Fn(&mut Plan)) -> [Bound; 2] {
    let (mut a, mut b) = (apart(authority, &A).await, apart(authority, &B).await);
    change(&mut a);
    change(&mut b);
    [a.bind(), b.bind()]
}

#[tokio::test]
async fn hosts_with_certificates_of_their_own_whose_records_lead_to_one_place_share_a_connection() {
    let authority = Authority::new();
    let [a, b] = relays(&authority, |_| ()).await;
    let zone = zone(&[at(A, [a.quic; 2]), at(B, [b.quic; 2])].concat());
    let (_dns, mut a, mut b) = start(zone, [a, b]).await;
    converges([&mut a, &mut b]).await;
}

/// Each host is at an address of its own, and the relay says that it speaks for both.
#[tokio::test]
async fn hosts_whose_records_lead_elsewhere_share_a_connection_if_those_there_say_so() {
    let authority = Authority::new();
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let [a, b] = relays(&authority, |plan| plan.settings.remote_quic = vec![any_port; 2]).await;
    let all = |bound: &Bound| <[SocketAddr; 2]>::try_from(bound.all_quic()).unwrap();
    let zone = zone(&[at(A, all(&a)), at(B, all(&b))].concat());
    let (_dns, mut a, mut b) = start(zone, [a, b]).await;
    converges([&mut a, &mut b]).await;
}

#[tokio::test]
async fn a_certificate_for_a_domain_does_not_attract_it() {
    let authority = Authority::new();
    let thief = Peer::start(&authority.certify(&["thief.test", "x.test"]));
    let owner = Peer::start(&authority.certify(&["x.test"]));
    let dns = zone(&[
        way("thief.test", Transport::Quic, thief.address),
        way("x.test", Transport::Quic, owner.address),
    ]);
    let dns = dns.serve().await;
    let mut relay = plan(&authority, &["a1.test", "a2.test"]).await.finding_by(dns.address).start().await;
    let (mut a1, mut a2) = (relay.host("a1.test"), relay.host("a2.test"));
    a1.send("thief.test", "to the thief").await;
    let session = thief.accept().await;
    let mut lane = session.accept().await;
    lane.accept_with(&listing(&["thief.test", "x.test"])).await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("to the thief"));
    // It has the certificate, so that it may send.
    let mut stolen = session.lane("x.test", "a1.test").await;
    stolen.say(message("x.test", "a1.test", "from the thief")).await;
    assert_eq!(a1.receive().await.attribute("id"), Some("from the thief"));
    for host in [&mut a1, &mut a2] {
        host.send("x.test", "to the owner").await;
    }
    let found = owner.accept().await;
    for _ in 0..2 {
        let mut lane = found.accept().await;
        lane.accept().await;
        assert_eq!(lane.ear.stanza().await.attribute("id"), Some("to the owner"));
    }
    a1.send("thief.test", "next").await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("next"));
    relay.is_balanced().await;
    relay.assert_unharmed();
}
