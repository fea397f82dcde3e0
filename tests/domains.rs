//! Who may speak for which domain, held against a whole relay: over real QUIC, with real certificates.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod support;

use support::certificates::Authority;
use support::companion::Companion;
use support::peer::Peer;
use support::provider::Plan;

#[tokio::test]
async fn a_pair_exchanges_stanzas_through_the_relay() {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    let mut provider =
        Plan::new(&authority, &["a1.test"]).await.peer(&["b1.test"], peer.address).start().await;
    let connection = peer.dial(provider.quic, "a1.test").await.unwrap();
    let lane = connection.lane("b1.test", "a1.test").await;
    let mut pair = Companion::start(lane, "b1.test", provider.host("a1.test"));
    pair.goes_on().await;
    provider.assert_unharmed();
}
