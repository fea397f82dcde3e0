//! Two relays that reach each other over TCP.

use fedmux::relay::settings::Transport;

use crate::support::certificates::Authority;
use crate::support::provider::{Plan, Provider};
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
