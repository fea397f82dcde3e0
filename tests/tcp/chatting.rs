//! Two relays that reach each other over TCP.

use std::time::Duration;

use fedmux::proto::proof::DomainProof;
use fedmux::relay::settings::Transport;

use crate::support::certificates::Authority;
use crate::support::provider::{Plan, Provider};
use crate::support::soon;
use crate::support::tcp_peer::TRANSPORTS;

const A: [&str; 2] = ["a1.test", "a2.test"];
const B: [&str; 2] = ["b1.test", "b2.test"];

/// Two relays that pin each other.
async fn relays(authority: &Authority, transport: Transport) -> (Provider, Provider) {
    let a = Plan::new(authority, &A).await.bind();
    let b = Plan::new(authority, &B).await.bind();
    let (a_at, b_at) = (a.at(transport), b.at(transport));
    let a = a.peer_by(transport, &B, b_at).start().await;
    let b = b.peer_by(transport, &A, a_at).start().await;
    (a, b)
}

#[tokio::test]
async fn two_relays_chat_both_ways_over_one_stream_for_all_pairs_each_way() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let (mut a, mut b) = relays(&authority, transport).await;
        let mut at_a = A.map(|name| a.host(name));
        let mut at_b = B.map(|name| b.host(name));
        for round in 0..3 {
            for from in &mut at_a {
                for to in &mut at_b {
                    from.send(&to.name, &round.to_string()).await;
                    let stanza = to.receive().await;
                    assert_eq!(stanza.attribute("from"), Some(from.name.as_str()));
                    to.send(&from.name, "back").await;
                    assert_eq!(from.receive().await.attribute("id"), Some("back"));
                }
            }
        }
        let opened = |provider: &Provider, direction| {
            let labels = [("transport", transport.as_str()), ("direction", direction)];
            provider.metric("fedmux_connections_opened_total", &labels)
        };
        for provider in [&a, &b] {
            // A connection from an ephemeral port isn't known to be the peer that we would dial.
            assert_eq!((opened(provider, "outbound"), opened(provider, "inbound")), (1, 1), "{transport:?}");
            assert_eq!(provider.metric("fedmux_sessions", &[]), 2);
            assert_eq!(provider.metric("fedmux_lanes", &[]), 2);
            assert_eq!(provider.metric("fedmux_refusals_total", &[]), 0);
            provider.is_balanced().await;
            provider.assert_unharmed();
        }
    }
}

#[tokio::test]
async fn hosts_with_certificates_of_their_own_join_the_stream_by_mux_secrets() {
    let authority = Authority::new();
    let plan = async |hosts: &[&str]| {
        let plan = Plan::without_certificate(&authority, hosts).await;
        for host in hosts {
            plan.add_certificate(&authority.certify(&[host]), host);
        }
        plan.limits(|limits| limits.lane_idle = Duration::from_millis(1500))
    };
    let transport = Transport::StartTls;
    let (mut a, mut b) = (plan(&A).await.bind(), plan(&B).await.bind());
    let (a_at, b_at) = (a.at(transport), b.at(transport));
    a = a.peer_by(transport, &B, b_at).announcing();
    b = b.peer_by(transport, &A, a_at).announcing();
    let (mut a, mut b) = (a.start().await, b.start().await);
    let ([mut a1, mut a2], [mut b1, mut b2]) = (A.map(|name| a.host(name)), B.map(|name| b.host(name)));
    for (from, to) in [(&mut a1, &mut b1), (&mut a2, &mut b2)] {
        from.send(&to.name, "there").await;
        to.receive().await;
        to.send(&from.name, "back").await;
        from.receive().await;
    }
    // While one pair goes on, the second connections have done their part and close.
    let connections = |provider: &Provider| provider.metric("fedmux_connections", &[]);
    soon("a connection each way to remain", async {
        while connections(&a) + connections(&b) > 4 {
            a1.send("b1.test", "on").await;
            b1.receive().await;
            b1.send("a1.test", "on").await;
            a1.receive().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    a2.send("b2.test", "joined").await;
    assert_eq!(b2.receive().await.attribute("id"), Some("joined"));
    b2.send("a2.test", "joined").await;
    assert_eq!(a2.receive().await.attribute("id"), Some("joined"));
    assert_eq!(connections(&a) + connections(&b), 4, "over the streams that are there");
    for provider in [&a, &b] {
        assert!(provider.relay.metrics().proven(DomainProof::MuxSecret) >= 2);
        provider.is_balanced().await;
        provider.assert_unharmed();
    }
}
