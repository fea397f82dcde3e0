//! How many lanes a session's two ends give each other.

use std::time::Duration;

use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::provider::Plan;
use crate::support::server::Host;
use crate::support::wire::header;

/// More than a peer is given at once.
const LANES: u32 = 600;
/// No credit comes for so long: no more will.
const QUIET: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_peer_that_is_given_few_lanes_at_a_time_may_open_as_many_as_the_limit_says() {
    let authority = Authority::new();
    let provider =
        Plan::new(&authority, &["a1.test"]).await.limits(|limits| limits.lanes = LANES).start().await;
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    let connection = peer.dial(provider.quic, "a1.test").await.unwrap();
    let mut lanes = vec![connection.lane("b1.test", "a1.test").await];
    for _ in 1..LANES {
        let mut lane = connection.open().await;
        lane.say(header("b1.test", "a1.test")).await;
        lanes.push(lane);
    }
    let steps = connection.0.stats().frame_rx.max_streams_bidi;
    assert!(steps >= 3, "it was given them in {steps} steps");
    assert!(tokio::time::timeout(QUIET, connection.0.open_bi()).await.is_err(), "beyond the limit");
    provider.assert_unharmed();
}

#[tokio::test]
async fn a_peer_that_gives_credit_late_gets_every_lane_on_the_same_connection() {
    const NAMES: [&str; 8] =
        ["a1.test", "a2.test", "a3.test", "a4.test", "a5.test", "a6.test", "a7.test", "a8.test"];
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    peer.takes_streams(2);
    let plan = Plan::new(&authority, &NAMES).await.peer(&["b1.test"], peer.address);
    let mut provider = plan.start().await;
    let mut hosts: Vec<Host> = NAMES.iter().map(|name| provider.host(name)).collect();
    for host in &mut hosts {
        host.send("b1.test", "1").await;
    }
    let connection = peer.accept().await;
    let mut lanes = Vec::new();
    for given in 1..=NAMES.len() {
        let mut lane = connection.accept().await;
        lane.accept().await;
        assert_eq!(lane.ear.stanza().await.attribute("id"), Some("1"));
        // Much later than an answer takes, and still in time.
        tokio::time::sleep(Duration::from_millis(150)).await;
        connection.0.set_max_concurrent_bi_streams(u32::try_from(given + 2).unwrap().into());
        lanes.push(lane);
    }
    provider.is_balanced().await;
    provider.assert_unharmed();
}
