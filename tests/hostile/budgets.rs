//! What comes too fast: the lane that brings it waits, nothing is lost, and the rest goes on.

use std::time::Instant;

use fedmux::reason::Reason;

use crate::scene::{Attacker, EVIL, EVIL_TOO, OURS, OURS_TOO, Scene, becomes, refused};
use crate::support::wire::Wire;

/// Stanzas in a second, and how many may come at once.
const RATE: usize = 400;
const BURST: usize = 200;
/// Stanzas of a flood.
const FLOOD: usize = 600;

fn request(from: &str, to: &str, n: usize) -> String {
    format!("<iq type='get' from='{from}' to='{to}' id='{from}-{n}'><ping xmlns='urn:xmpp:ping'/></iq>")
}

/// Send a flood of requests on `lane`, and count it in.
async fn flood(attacker: &mut Attacker, lane: &mut Wire, from: &str) {
    let flood: String = (0..FLOOD).map(|n| request(from, OURS, n)).collect();
    lane.say(flood).await;
    for n in 0..FLOOD {
        let heard = attacker.ours.receive().await;
        assert_eq!(
            heard.attribute("id"),
            Some(&*format!("{from}-{n}")),
            "nothing is lost, and the order kept"
        );
    }
}

/// A flood at this rate of `level` takes its time, and nobody else's.
async fn takes_its_time(level: &str) {
    let key = format!("{level}_stanzas_rate");
    let limits = format!("{key} = {RATE}\nrate_burst = \"500ms\"\n");
    let mut scene = Scene::with_limits(&limits).await;
    let mut lane = scene.attacker.session.lane(EVIL, OURS).await;
    let begun = Instant::now();
    let counted = scene
        .withstands(&format!("a flood over the rate of a {level}"), async |attacker| {
            flood(attacker, &mut lane, EVIL).await;
        })
        .await;
    let came = scene.attacker.moves * FLOOD;
    let allowed = (BURST + FLOOD) as f64 + begun.elapsed().as_secs_f64() * RATE as f64;
    assert!(came as f64 <= allowed, "{came} stanzas came, of {allowed}");
    let limit = [("limit", &*key)];
    assert!(counted.grown("fedmux_limit_hits_total", &limit) > 0.0);
    assert!(counted.grown("fedmux_limit_wait_seconds_total", &limit) > 0.0);
    assert_eq!(counted.grown("fedmux_stanzas_bounced_total", &[]), 0.0);
    drop(lane);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_over_its_rate_waits() {
    takes_its_time("pair").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_over_its_rate_makes_those_wait_who_speak_to_it() {
    takes_its_time("host").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_changed_while_the_relay_runs() {
    let mut scene = Scene::with_limits("pair_bytes_rate = 0\nrate_burst = \"100ms\"\n").await;
    let attacker = &mut scene.attacker;
    let mut lane = attacker.session.lane(EVIL, OURS).await;
    flood(attacker, &mut lane, EVIL).await;
    let limit = [("limit", "pair_bytes_rate")];
    assert_eq!(attacker.relay.scrape().await.sum("fedmux_limit_hits_total", &limit), 0.0);
    attacker.relay.reload("pair_bytes_rate = 0", "pair_bytes_rate = 65536");
    becomes(&attacker.relay, "the reload", |scrape| {
        scrape.sum("fedmux_reloads_total", &[("result", "done")]) == 1.0
    })
    .await;
    assert_eq!(attacker.relay.logged(&["[limits]", "needs a restart"]), 0);
    flood(attacker, &mut lane, EVIL).await;
    assert!(attacker.relay.scrape().await.sum("fedmux_limit_hits_total", &limit) > 0.0);
    drop(lane);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_over_its_rate_waits_with_all_its_lanes() {
    // Both of its lanes together have the rate, and each is at most one flood ahead of it; the pair that behaves in their session
    // has its turn each time.
    let limits = format!("peer_stanzas_rate = {RATE}\nrate_burst = \"500ms\"\n");
    let mut scene = Scene::with_limits(&limits).await;
    let attacker = &mut scene.attacker;
    let mut lanes = [attacker.session.lane(EVIL, OURS).await, attacker.session.lane(EVIL_TOO, OURS).await];
    let begun = Instant::now();
    for which in [0, 1, 0, 1] {
        flood(attacker, &mut lanes[which], [EVIL, EVIL_TOO][which]).await;
    }
    let least = (4 * FLOOD - BURST - lanes.len() * FLOOD) as f64 / RATE as f64;
    assert!(begun.elapsed().as_secs_f64() >= least, "{:?} is less than {least} s", begun.elapsed());
    let limit = [("limit", "peer_stanzas_rate")];
    assert!(attacker.relay.scrape().await.sum("fedmux_limit_hits_total", &limit) > 0.0);
    drop(lanes);
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_wait_leave_half_of_the_sessions_window_to_the_others() {
    // Two lanes that aren't read could fill half of it. A stanza takes most of a second at this rate.
    let windows = "lane_window = 131072\nsession_window = 524288\n";
    let limits =
        format!("pair_bytes_rate = 131072\nrate_burst = \"100ms\"\nread_pause = \"200ms\"\n{windows}");
    let mut scene = Scene::with_limits(&limits).await;
    let body = "x".repeat(120_000);
    let counted = scene
        .withstands("lanes that wait for their rates", async |attacker| {
            let pairs = [(EVIL, OURS), (EVIL_TOO, OURS), (EVIL, OURS_TOO), (EVIL_TOO, OURS_TOO)];
            // In a session of its own, whose end those see at once that wait.
            let session = attacker.peer.dial(attacker.relay.quic, OURS).await.unwrap();
            let mut lanes = Vec::new();
            for (from, to) in pairs {
                let mut lane = session.lane(from, to).await;
                lane.say(format!(
                    "<message from='{from}' to='{to}' id='large'><body>{body}</body></message>"
                ))
                .await;
                // None of them is lost, that of a lane which ends behind it neither.
                let host = if to == OURS { &mut attacker.ours } else { &mut attacker.ours_too };
                assert_eq!(host.receive().await.attribute("id"), Some("large"));
                lanes.push(lane);
            }
            for lane in lanes.drain(2..) {
                attacker.is_refused(lane, "resource-constraint", Reason::TooMany).await;
            }
            session.0.close(0_u32.into(), b"");
        })
        .await;
    let moves = scene.attacker.moves as f64;
    assert_eq!(counted.grown("fedmux_limit_hits_total", &[("limit", "session_window")]), 2.0 * moves);
    assert_eq!(counted.grown("fedmux_refusals_total", &refused(Reason::TooMany)), 2.0 * moves);
    scene.ends().await;
}
