//! Relays are killed under load and started again.
//!
//! The relays never acknowledge before the next hop here: what `ack_hold` and `unacked_max` let them acknowledge early is in
//! their memory alone, and lost if they are killed while the next hop is away.
//!
//! `FEDMUX_KILLS` is the number of kills, 4 by default; `FEDMUX_SEED` what they are drawn from.

use std::time::Duration;

use crate::relays::Plan;
use crate::scene::{BACK, Scene, THERE};
use crate::servers::PACE;
use crate::setting;

/// Pauses between kills and restarts, in milliseconds.
const PAUSE: std::ops::Range<u64> = 100..1500;

/// Numbers that repeat.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stanza_vanishes_when_relays_are_killed_and_the_order_is_kept() {
    let (kills, seed) = (setting("FEDMUX_KILLS", 4), setting("FEDMUX_SEED", 1));
    let mut scene = Scene::set(Plan::new("path_idle = \"3s\"\nack_hold = \"5m\"\nunacked_max = 1000"));
    for pair in THERE.into_iter().chain([BACK]) {
        scene.send(pair, PACE);
    }
    let (mut dice, mut uncertain) = (Dice(seed), 0.0);
    for kill in 0..kills {
        let pause = Duration::from_millis(PAUSE.start + dice.below(PAUSE.end - PAUSE.start));
        tokio::time::sleep(pause).await;
        let which = usize::try_from(dice.below(2)).unwrap();
        // What it has counted goes with it.
        uncertain += scene.relays.scrape().await[which].sum("fedmux_stanzas_uncertain_total", &[]);
        scene.relays.kill(which);
        tokio::time::sleep(Duration::from_millis(dice.below(500))).await;
        scene.relays.restart(which);
        println!("kill {kill}: relay {which} after {pause:?}");
    }
    let figures = scene.ends(uncertain).await;
    assert!(figures.delivered > figures.sent / 4, "enough of them arrive to show something");
}

/// Much longer than a relay takes to start, and than a test of a time-out would.
const LONG: &str = "path_idle = \"10m\"";

/// Whichever of the two had dialled: what is sent to a connection that the dead one had is answered with a stateless reset
/// (RFC 9000 section 10.3) by the one that came after it.
async fn learns_at_once_that_its_peer_was_killed(which: usize) {
    let plan = Plan { identity: "mux_key_file = \"KEY\"", ..Plan::new(LONG) };
    let mut scene = Scene::set(plan);
    scene.send(THERE[0], PACE);
    scene.flows(10).await;
    scene.send(BACK, PACE);
    scene.flows(10).await;
    assert_eq!(
        scene.relays.sum("fedmux_connections_opened_total", &[]).await,
        2.0,
        "one, seen from both ends"
    );
    scene.relays.kill(which);
    scene.relays.restart(which);
    // Both ways, within the patience of a test.
    scene.flows(10).await;
    scene.ends(0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_learns_at_once_that_the_one_that_dialled_it_was_killed() {
    learns_at_once_that_its_peer_was_killed(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_learns_at_once_that_the_one_that_it_dialled_was_killed() {
    learns_at_once_that_its_peer_was_killed(1).await;
}
