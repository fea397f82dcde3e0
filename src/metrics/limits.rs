//! The limits of `[limits]`: how often each was hit, and how long lanes waited for it.

use std::time::Duration;

use prometheus::{CounterVec, IntCounterVec};

use super::Maker;

/// See the module.
#[derive(Debug)]
pub(super) struct LimitCounters {
    /// `fedmux_limit_hits_total{limit}`
    hits: IntCounterVec,
    /// `fedmux_limit_wait_seconds_total{limit}`: that lanes were not read.
    wait: CounterVec,
}

impl LimitCounters {
    pub(super) fn new(make: &Maker) -> Option<Self> {
        Some(Self {
            hits: make.counters("limit_hits_total", "How often a limit was hit.", &["limit"])?,
            wait: make.times(
                "limit_wait_seconds_total",
                "How long lanes were not read because what they brought was over a rate, all of them together.",
                &["limit"],
            )?,
        })
    }

    pub(super) fn hit(&self, limit: &str) {
        self.hits.with_label_values(&[limit]).inc();
    }

    pub(super) fn waited(&self, limit: &str, time: Duration) {
        self.wait.with_label_values(&[limit]).inc_by(time.as_secs_f64());
    }
}
