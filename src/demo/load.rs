//! The traffic of a run, in phases; each ends when everything that was sent has arrived, or when waiting is pointless.
//!
//! 1. [`open`]: the first stanza of each pair, and its answer. Afterwards every pair has its stream.
//! 2. [`paced`]: an open-loop schedule, for latencies.
//! 3. [`flood`]: as fast as a window for each flow allows, for throughput.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::flow::{Flow, Flows, Order};
use super::ledger::Timing;
use super::pace::{self, Departure};
use super::progress::Progress;

/// How long the last stanzas of a phase may take: a lossy path needs a few round trips and probes.
const SETTLE_MAX: Duration = Duration::from_secs(8);
/// How long the pairs may take to open.
const OPEN_MAX: Duration = Duration::from_secs(15);
/// A flood ends by itself after this, whatever is left of it.
const FLOOD_MAX: Duration = Duration::from_secs(15);
/// What is on its way then may take so long.
const DRAIN_MAX: Duration = Duration::from_secs(60);
/// How often the account is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The outcome of a phase.
#[derive(Debug, Clone, Default)]
pub(super) struct Phase {
    /// The latencies of its stanzas.
    pub(super) timing: Timing,
    /// Stanzas that arrived in it.
    pub(super) delivered: u64,
    /// From the first order to the last arrival.
    pub(super) took: Duration,
}

/// Send the first stanza of each pair from the domains behind A, and when all have arrived, the first ones back: so
/// the answers find the way that the questions have opened. False if some didn't arrive.
pub(super) async fn open(flows: &Flows, progress: &mut Progress) -> bool {
    progress.begin("opening the domain pairs", 2 * flows.forth.len() as u64);
    for direction in [&flows.forth, &flows.back] {
        let now = Instant::now();
        direction.iter().for_each(|flow| flow.order(Order::One(now)));
        if !settle(flows, 0, now + OPEN_MAX, progress).await {
            return false;
        }
    }
    true
}

/// Send by a schedule, whose flows are numbered as [`Flows::all`] gives them; what takes longer than `late_after`
/// counts as late.
pub(super) async fn paced(
    flows: &Flows,
    departures: Arc<[Departure]>,
    late_after: Option<Duration>,
    progress: &mut Progress,
    label: &str,
) -> Phase {
    if departures.is_empty() {
        return Phase::default();
    }
    flows.restart_clock(late_after);
    let before = flows.delivered();
    progress.begin(label, departures.len() as u64);
    let start = Instant::now();
    let last = departures.last().map_or(Duration::ZERO, |departure| departure.at);
    let stop = StopOnDrop::default();
    let player = {
        let senders: Vec<Arc<Flow>> = flows.all().cloned().collect();
        let stop = Arc::clone(&stop.0);
        tokio::task::spawn_blocking(move || {
            pace::play(&departures, start, &stop, |flow, due| {
                if let Some(sender) = senders.get(flow) {
                    sender.order(Order::One(due));
                }
            });
        })
    };
    while !player.is_finished() {
        progress.at(flows.delivered() - before);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    settle(flows, before, start + last + SETTLE_MAX, progress).await;
    outcome(flows, before, start)
}

/// Send `each` stanzas in every flow, as fast as the window allows.
pub(super) async fn flood(flows: &Flows, each: u64, progress: &mut Progress) -> Phase {
    if each == 0 {
        return Phase::default();
    }
    flows.restart_clock(None);
    let before = flows.delivered();
    progress.begin("full speed", each * flows.all().count() as u64);
    let start = Instant::now();
    flows.all().for_each(|flow| flow.order(Order::Flood(each)));
    if !settle(flows, before, start + FLOOD_MAX, progress).await {
        flows.shared.end_flood();
        // Whoever waits for its window has not sent the rest of its flood, and won't.
        flows.all().for_each(|flow| flow.wake());
        // What is on its way when a flood of many pairs ends takes longer, and arrives as long as something does.
        let end = Instant::now() + DRAIN_MAX;
        let mut seen = u64::MAX;
        while seen != flows.delivered() && Instant::now() < end {
            seen = flows.delivered();
            settle(flows, before, Instant::now() + SETTLE_MAX, progress).await;
        }
    }
    outcome(flows, before, start)
}

fn outcome(flows: &Flows, before: u64, start: Instant) -> Phase {
    let timing = flows.timing();
    let took = timing.last.map_or(Duration::ZERO, |last| last.saturating_duration_since(start));
    Phase { delivered: flows.delivered() - before, took, timing }
}

/// Wait until everything that was sent has arrived; false if the deadline came first.
async fn settle(flows: &Flows, before: u64, deadline: Instant, progress: &mut Progress) -> bool {
    loop {
        let delivered = flows.delivered();
        progress.at(delivered - before);
        if delivered >= flows.sent() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Ends the schedule's thread when the phase is abandoned.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::demo::endpoint::Endpoint;
    use crate::xmpp::domain::Domain;

    fn domains(side: char, count: usize) -> Vec<Domain> {
        (1..=count).map(|n| Domain::parse(&format!("{side}{n}.test")).unwrap()).collect()
    }

    /// Endpoints that talk to each other, with no relay between them: the same protocol on both sides of a relay.
    async fn endpoints(hosts: usize) -> (Arc<Flows>, Endpoint, Endpoint) {
        let flows = Flows::between(&domains('a', hosts), &domains('b', hosts));
        let [a, b] = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let address = b.local_addr().unwrap();
        let a = Endpoint::serve(a, Arc::clone(&flows));
        let b = Endpoint::serve(b, Arc::clone(&flows));
        a.open(address, &flows.forth).await.unwrap();
        (flows, a, b)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_sent_in_every_phase_arrives_once_and_in_order() {
        let (flows, _a, _b) = endpoints(3).await;
        let mut progress = Progress::silent();
        assert!(open(&flows, &mut progress).await);
        assert_eq!(flows.counts().delivered, 18);

        let departures = pace::steady(18, 10, 50.0, 1);
        let paced = paced(&flows, departures.into(), None, &mut progress, "").await;
        assert_eq!((paced.delivered, paced.timing.timed), (180, 180));
        assert!(paced.took >= Duration::from_millis(180), "{:?}", paced.took);

        let flood = flood(&flows, 200, &mut progress).await;
        assert_eq!((flood.delivered, flood.timing.timed), (3_600, 3_600));
        let counts = flows.counts();
        assert!(counts.wrong() == 0 && counts.delivered == 3_798, "{counts:?} {:?}", flows.shared.troubles());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_dead_stream_can_not_carry_is_missed() {
        let (flows, a, b) = endpoints(1).await;
        let mut progress = Progress::silent();
        assert!(open(&flows, &mut progress).await);
        a.end_streams().await;
        flows.forth[0].order(Order::One(Instant::now()));
        assert!(!settle(&flows, 0, Instant::now() + Duration::from_millis(50), &mut progress).await);
        assert_eq!((flows.counts().lost, flows.counts().wrong()), (1, 1));
        drop(b);
    }
}
