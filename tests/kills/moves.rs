//! A relay is seen at another port from one moment to the next, as behind a NAT that has forgotten it (RFC 9000 section 9).

use std::time::Duration;

use crate::relays::Plan;
use crate::scene::{BACK, Scene, THERE};
use crate::servers::PACE;
use crate::support::path::Path;

const MOVES: usize = 5;
/// Stanzas of each pair that arrive in between.
const STANZAS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_when_its_peer_is_seen_at_another_port() {
    let mut plan = Plan::new("");
    let [a, b] = plan.quic;
    let mut path = Path::between(a, b, Duration::from_millis(5)).await;
    plan.peers = [path.far_as_seen, path.near_as_seen].map(|at| at.to_string());
    let mut scene = Scene::set(plan);
    // Whoever moves has dialled: nobody reaches it from outside.
    for pair in THERE {
        scene.send(pair, PACE);
    }
    scene.flows(1).await;
    scene.send(BACK, PACE);
    scene.flows(STANZAS).await;
    for _ in 0..MOVES {
        path.rebind().await;
        scene.flows(STANZAS).await;
    }
    let of_both = async |name| scene.relays.sum(name, &[]).await;
    let seen = async || of_both("fedmux_quic_migrations_total").await;
    let counted = async {
        while seen().await == 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    crate::support::soon("a move to be counted", counted).await;
    println!("the peer moved {MOVES} times, and {} moves were seen", seen().await);
    assert_eq!(of_both("fedmux_connections_opened_total").await, 2.0, "one connection, counted at both ends");
    assert_eq!(of_both("fedmux_streams_resumed_total").await, 0.0, "the streams stand");
    let figures = scene.ends(0.0).await;
    assert_eq!(figures.delivered, figures.sent);
    assert_eq!((figures.twice, figures.uncertain), (0, 0.0));
}
