//! What lies beside the relays goes away for a while: the path between them, or a server behind one of them.
//!
//! `FEDMUX_OUTAGE` is how long, in seconds: 5 by default, and the path is silent for longer than a session bears it. 300 by hand.

use std::time::Duration;

use crate::relays::Plan;
use crate::scene::{BACK, Scene, THERE};
use crate::servers::PACE;
use crate::setting;
use crate::support::path::Path;

/// Stanzas of each pair that arrive before and after.
const STANZAS: usize = 200;

/// How long a stream that breaks is expected to be resumed, by default.
const RESUME_WAIT: Duration = Duration::from_secs(20);

fn outage() -> Duration {
    Duration::from_secs(setting("FEDMUX_OUTAGE", 5))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stanza_vanishes_when_the_path_is_cut_and_the_order_is_kept() {
    let mut plan = Plan::new("path_idle = \"3s\"");
    let [a, b] = plan.quic;
    let path = Path::between(a, b, Duration::from_millis(5)).await;
    plan.peers = [path.far_as_seen, path.near_as_seen].map(|at| at.to_string());
    let mut scene = Scene::set(plan);
    for pair in THERE.into_iter().chain([BACK]) {
        scene.send(pair, PACE);
    }
    scene.flows(STANZAS).await;
    path.cut(true);
    tokio::time::sleep(outage()).await;
    assert_eq!(scene.relays.sum("fedmux_sessions", &[]).await, 0.0, "it is gone");
    path.cut(false);
    scene.flows(STANZAS).await;
    let resumed = scene.relays.sum("fedmux_streams_resumed_total", &[("result", "resumed")]).await;
    println!("the path was cut for {:?}; {resumed} streams were resumed", outage());
    let figures = scene.ends(0.0).await;
    if outage() < RESUME_WAIT {
        assert!(resumed > 0.0 && figures.twice == 0 && figures.uncertain == 0.0, "{figures}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stanza_vanishes_when_a_server_goes_away_and_the_order_is_kept() {
    let mut scene = Scene::set(Plan::new(""));
    for pair in THERE.into_iter().chain([BACK]) {
        scene.send(pair, PACE);
    }
    scene.flows(STANZAS).await;
    scene.stop_server(1);
    tokio::time::sleep(outage()).await;
    scene.start_server(1);
    scene.flows(STANZAS).await;
    println!("a server was away for {:?}", outage());
    scene.ends(0.0).await;
}
