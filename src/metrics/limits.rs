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
            hits: make.counters("fedmux_limit_hits_total")?,
            wait: make.sums("fedmux_limit_wait_seconds_total")?,
        })
    }

    pub(super) fn hit(&self, limit: &str) {
        self.hits.with_label_values(&[limit]).inc();
    }

    pub(super) fn waited(&self, limit: &str, time: Duration) {
        self.wait.with_label_values(&[limit]).inc_by(time.as_secs_f64());
    }
}
