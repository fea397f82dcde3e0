//! Other configurations, and renewed certificates.

use std::time::SystemTime;

use prometheus::{IntCounterVec, IntGauge};

use super::Maker;
use super::handshakes::seconds;

/// See the module.
#[derive(Debug)]
pub struct Reloads {
    total: IntCounterVec,
    refused: IntGauge,
    at: IntGauge,
}

impl Reloads {
    pub(super) fn new(make: &Maker) -> Option<Self> {
        let reloads = Self {
            total: make.counters("fedmux_reloads_total")?,
            refused: make.gauge("fedmux_reload_refused")?,
            at: make.gauge("fedmux_reload_timestamp_seconds")?,
        };
        reloads.at.set(seconds(SystemTime::now()));
        Some(reloads)
    }

    /// It was read again and taken.
    pub fn done(&self) {
        self.total.with_label_values(&["done"]).inc();
        self.at.set(seconds(SystemTime::now()));
    }

    /// It could not be taken: the former one is in use.
    pub fn refused(&self) {
        self.total.with_label_values(&["refused"]).inc();
    }

    /// Whether something was refused that hasn't been taken since.
    pub fn stands_refused(&self, refused: bool) {
        self.refused.set(i64::from(refused));
    }
}
