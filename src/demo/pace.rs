//! When each stanza leaves: an open-loop schedule, made before the run and the same for whatever is compared.
//!
//! Open loop means that nobody waits for an answer before sending the next: a stalled stream does not slow its own
//! sender down, which would hide the stall. The time of sending that a stanza carries is the scheduled one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::rng::Rng;

/// One stanza that is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// Since the start of the schedule.
    pub at: Duration,
    /// Which flow (one direction of a domain pair) sends it.
    pub flow: usize,
}

/// Departures in the order of time: `per_second` stanzas for each of `flows`, `each` of them for every flow. Each
/// leaves at a random moment of its own interval, so that flows neither march in step nor follow one another always.
#[must_use]
pub fn steady(flows: usize, each: usize, per_second: f64, seed: u64) -> Vec<Departure> {
    let mut rng = Rng::new(seed);
    let interval = 1.0 / per_second;
    let mut departures: Vec<_> = (0..flows)
        .flat_map(|flow| (0..each).map(move |turn| (flow, turn)))
        .map(|(flow, turn)| {
            let at = Duration::from_secs_f64((turn as f64 + rng.unit()) * interval);
            Departure { at, flow }
        })
        .collect();
    departures.sort_by_key(|departure| departure.at);
    departures
}

/// Call `send` for each departure at its time, with that time; returns early once `stop` is set. Blocks: it is for a
/// thread of its own, as a sleeping thread wakes within a tenth of a millisecond and tokio's timer within one.
pub fn play(
    departures: &[Departure],
    start: Instant,
    stop: &AtomicBool,
    mut send: impl FnMut(usize, Instant),
) {
    for departure in departures {
        let due = start + departure.at;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            return;
        }
        send(departure.flow, due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flow_sends_once_in_each_of_its_intervals() {
        let departures = steady(7, 50, 20.0, 1);
        assert!(departures.is_sorted_by_key(|departure| departure.at));
        for flow in 0..7 {
            let turns: Vec<_> = departures
                .iter()
                .filter(|departure| departure.flow == flow)
                .map(|departure| departure.at.as_millis() / 50)
                .collect();
            assert_eq!(turns, (0..50).collect::<Vec<_>>());
        }
        assert_eq!(departures, steady(7, 50, 20.0, 1));
    }

    #[test]
    fn nothing_leaves_before_its_time_and_nothing_after_the_stop() {
        let departures = steady(3, 4, 200.0, 1);
        let (start, stop) = (Instant::now(), AtomicBool::new(false));
        let mut left = 0;
        play(&departures, start, &stop, |_, due| {
            assert!(Instant::now() >= due);
            left += 1;
            stop.store(left == 5, Ordering::Relaxed);
        });
        assert_eq!(left, 5);
    }
}
