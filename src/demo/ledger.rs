//! What arrived in one direction of a domain pair: each stanza once, in order, and how long each took.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::histogram::Histogram;

/// The account of one flow, kept by whoever receives it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The lowest number that has not been passed.
    next: u64,
    /// Numbers below `next` that have not arrived: bounded by what was sent.
    missing: BTreeSet<u64>,
    counts: Counts,
    /// What takes longer counts as late, once the loss-free delay is known.
    late_after: Option<Duration>,
    timing: Timing,
}

/// Counted for one flow, or summed over many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Left its sender.
    pub(super) sent: u64,
    /// Arrived, each counted once.
    pub(super) delivered: u64,
    /// Sent and never arrived.
    pub(super) lost: u64,
    /// Arrived again.
    pub(super) duplicated: u64,
    /// Arrived behind a later one of its flow.
    pub(super) reordered: u64,
    /// Arrived otherwise than it was sent, or in another flow.
    pub(super) altered: u64,
    /// Came back as an error.
    pub(super) bounced: u64,
}

/// How long stanzas took, since the last [`Ledger::restart_clock`].
#[derive(Debug, Clone, Default)]
pub(super) struct Timing {
    /// Every latency.
    pub(super) latencies: Histogram,
    /// How many stanzas were timed.
    pub(super) timed: u64,
    /// How many of them were late.
    pub(super) late: u64,
    /// When the last one arrived.
    pub(super) last: Option<Instant>,
}

impl Ledger {
    /// A stanza with this number arrived now, sent so long ago.
    pub(super) fn delivered(&mut self, number: u64, took: Duration, now: Instant) {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            self.counts.reordered += 1;
        } else {
            self.counts.duplicated += 1;
            return;
        }
        self.counts.delivered += 1;
        self.timing.timed += 1;
        self.timing.late += u64::from(self.late_after.is_some_and(|bound| took > bound));
        self.timing.latencies.record(took);
        self.timing.last = Some(now);
    }

    /// Something arrived that was not sent so.
    pub(super) fn altered(&mut self) {
        self.counts.altered += 1;
    }

    /// A stanza came back as an error.
    pub(super) fn bounced(&mut self) {
        self.counts.bounced += 1;
    }

    /// The account, given how many were sent.
    pub(super) fn counts(&self, sent: u64) -> Counts {
        let behind = sent.saturating_sub(self.next);
        Counts { sent, lost: self.missing.len() as u64 + behind, ..self.counts }
    }

    /// Forget the latencies so far and count as late what takes longer than this from now on.
    pub(super) fn restart_clock(&mut self, late_after: Option<Duration>) {
        self.late_after = late_after;
        self.timing = Timing::default();
    }

    /// How long stanzas took.
    pub(super) fn timing(&self) -> &Timing {
        &self.timing
    }
}

impl Counts {
    /// How many stanzas something happened to that must not: nothing, if each arrived once, in order and unchanged.
    pub(super) fn wrong(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.altered + self.bounced
    }

    /// Add another flow's counts.
    pub(super) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.altered += other.altered;
        self.bounced += other.bounced;
    }
}

impl Timing {
    /// Add another flow's timing.
    pub(super) fn add(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.timed += other.timed;
        self.late += other.late;
        self.last = self.last.max(other.last);
    }

    /// The share (0 to 1) of stanzas that were late.
    pub(super) fn late_share(&self) -> f64 {
        if self.timed == 0 { 0.0 } else { self.late as f64 / self.timed as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The account of `sent` stanzas of which these arrived, in this order.
    fn account(sent: u64, arrived: &[u64]) -> Counts {
        let mut ledger = Ledger::default();
        for number in arrived {
            ledger.delivered(*number, Duration::from_millis(1), Instant::now());
        }
        ledger.counts(sent)
    }

    #[test]
    fn once_and_in_order_is_perfect() {
        assert_eq!(account(0, &[]), Counts::default());
        let counts = account(4, &[0, 1, 2, 3]);
        assert_eq!(counts, Counts { sent: 4, delivered: 4, ..Counts::default() });
        assert_eq!(counts.wrong(), 0);
    }

    #[test]
    fn what_never_arrives_is_lost_at_the_start_in_the_middle_and_at_the_end() {
        let counts = account(6, &[1, 2, 4]);
        assert_eq!((counts.lost, counts.delivered, counts.wrong()), (3, 3, 3));
    }

    #[test]
    fn what_arrives_behind_a_later_one_is_reordered_and_not_lost() {
        let counts = account(4, &[0, 2, 3, 1]);
        assert_eq!((counts.lost, counts.delivered, counts.reordered, counts.duplicated), (0, 4, 1, 0));
        assert_eq!(counts.wrong(), 1);
    }

    #[test]
    fn what_arrives_again_is_a_duplicate_and_not_delivered_twice() {
        let counts = account(3, &[0, 1, 1, 2, 0]);
        assert_eq!((counts.lost, counts.delivered, counts.duplicated, counts.reordered), (0, 3, 2, 0));
        assert_eq!(counts.wrong(), 2);
        // A late arrival that comes a second time was not missing any more.
        assert_eq!(account(3, &[1, 0, 0, 2]).duplicated, 1);
    }

    #[test]
    fn lateness_counts_from_the_moment_the_bound_is_known() {
        let mut ledger = Ledger::default();
        let now = Instant::now();
        ledger.delivered(0, Duration::from_secs(9), now);
        ledger.restart_clock(Some(Duration::from_millis(75)));
        ledger.delivered(1, Duration::from_millis(75), now);
        ledger.delivered(2, Duration::from_millis(76), now);
        assert_eq!((ledger.timing().timed, ledger.timing().late), (2, 1));
        assert!(ledger.timing().latencies.quantile(1.0) < Duration::from_millis(80));
        assert_eq!(ledger.counts(3).wrong(), 0);
    }
}
