//! Nothing happens, for long: what a relay holds stays what it was.
//!
//! `FEDMUX_SOAK` is how long, in seconds: 20 by default, which shows only that it runs; hours by hand. Figures are printed as it
//! goes. Most pairs rest in between, so that lanes, streams and sessions end and begin.

use std::time::{Duration, Instant};

use crate::relays::{OURS, Plan, THEIRS};
use crate::scene::{BACK, Scene, THERE};
use crate::setting;

/// A stanza of each pair in this time.
const PACE: Duration = Duration::from_millis(50);
/// Lanes and streams with nothing to carry end early, and sessions are replaced, so that all of it happens often.
const LIMITS: &str = "lane_idle = \"2s\"\nsession_idle = \"5s\"\nsession_age = \"60s\"";
/// Looks at what the relays hold, over the whole time.
const LOOKS: u32 = 30;
/// What memory may grow by from the first third of the time to its end, for each relay.
const GROWTH_MAX: u64 = 4 << 20;
/// And descriptors and tasks: what is just being opened or closed.
const SPREAD_MAX: f64 = 24.0;

/// What one relay holds.
#[derive(Debug, Clone, Copy)]
struct Look {
    resident: u64,
    descriptors: usize,
    tasks: f64,
}

async fn look(scene: &Scene) -> [Look; 2] {
    let (scrapes, held) = (scene.relays.scrape().await, scene.relays.hold());
    [0, 1].map(|which| Look {
        resident: held[which].resident,
        descriptors: held[which].descriptors,
        tasks: scrapes[which].sum("fedmux_tasks", &[]),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_descriptors_and_tasks_stay_what_they_were() {
    let time = Duration::from_secs(setting("FEDMUX_SOAK", 20));
    let mut scene = Scene::set(Plan::new(LIMITS));
    for pair in THERE.into_iter().chain([BACK]) {
        scene.send(pair, PACE);
    }
    // One that rests more than it speaks.
    scene.send((THEIRS[1], OURS), Duration::from_secs(7));
    scene.flows(3).await;
    let (begun, mut looks) = (Instant::now(), Vec::new());
    for at in 1..=LOOKS {
        tokio::time::sleep((time / LOOKS * at).saturating_sub(begun.elapsed())).await;
        let look = look(&scene).await;
        let arrived: usize = scene.ledger.arrived().values().sum();
        let [a, b] = look.map(|look| {
            format!("{} kB, {} descriptors, {} tasks", look.resident >> 10, look.descriptors, look.tasks)
        });
        println!("{:>6.0} s, {arrived} stanzas: {a}; {b}", begun.elapsed().as_secs_f64());
        looks.push(look);
    }
    let opened = scene.relays.sum("fedmux_connections_opened_total", &[]).await;
    let streams = scene.relays.sum("fedmux_quic_streams_opened_total", &[]).await;
    println!("{opened} connections and {streams} QUIC streams were opened, counted at both ends");
    // By then everything has been used once.
    let settled = &looks[looks.len() / 3..];
    for which in 0..2 {
        let of = |what: fn(&Look) -> f64| settled.iter().map(|look| what(&look[which])).collect::<Vec<_>>();
        let resident: Vec<u64> = settled.iter().map(|look| look[which].resident).collect();
        let (first, last) = (resident[0], resident[resident.len() - 1]);
        assert!(last.saturating_sub(first) <= GROWTH_MAX, "relay {which} grew from {first} to {last}");
        for held in [of(|look| look.descriptors as f64), of(|look| look.tasks)] {
            let (low, high) = held.iter().fold((f64::MAX, 0.0_f64), |(l, h), n| (l.min(*n), h.max(*n)));
            assert!(high - low <= SPREAD_MAX, "relay {which} held {low} to {high}");
        }
    }
    let figures = scene.ends(0.0).await;
    assert_eq!((figures.delivered, figures.twice, figures.uncertain), (figures.sent, 0, 0.0));
}
