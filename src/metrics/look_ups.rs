//! What finding peers comes to: look-ups by DNS, and questions for host-meta documents.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec};

use super::Maker;
use crate::reason::Reason;

/// How peers are looked for, by DNS and HTTPS.
#[derive(Debug)]
pub struct LookUps {
    /// `fedmux_look_up_duration_seconds{result="found"|"nothing"|"failed"}`: of all look-ups for one domain together, whose
    /// number is this histogram's.
    duration: HistogramVec,
    /// `fedmux_look_ups_failed_total{reason}`
    failed: IntCounterVec,
    /// `fedmux_addresses_refused_total{reason}`: that were found and must not be dialled.
    addresses_refused: IntCounterVec,
    /// `fedmux_host_meta_duration_seconds{result="found"|"nothing"|"failed"}`: of a question for a domain's host-meta document.
    host_meta: HistogramVec,
    /// `fedmux_host_meta_failed_total{reason}`
    host_meta_failed: IntCounterVec,
}

impl LookUps {
    pub(super) fn new(make: &Maker) -> Option<Self> {
        Some(Self {
            duration: make.histograms("fedmux_look_up_duration_seconds")?,
            failed: make.counters("fedmux_look_ups_failed_total")?,
            addresses_refused: make.counters("fedmux_addresses_refused_total")?,
            host_meta: make.histograms("fedmux_host_meta_duration_seconds")?,
            host_meta_failed: make.counters("fedmux_host_meta_failed_total")?,
        })
    }

    /// The peer of a domain was found, or the domain has no records (`nothing`), after this time.
    pub fn ended(&self, result: &str, took: Duration) {
        self.duration.with_label_values(&[result]).observe(took.as_secs_f64());
    }

    /// No way to a domain's peer was told, and this is why.
    pub fn failed(&self, reason: Reason, took: Duration) {
        self.ended("failed", took);
        self.failed.with_label_values(&[reason.as_str()]).inc();
    }

    /// A domain was asked for its host-meta document; it has one, or none (`nothing`), which took this time.
    pub fn host_meta_ended(&self, result: &str, took: Duration) {
        self.host_meta.with_label_values(&[result]).observe(took.as_secs_f64());
    }

    /// The same without a usable answer.
    pub fn host_meta_failed(&self, reason: Reason, took: Duration) {
        self.host_meta_ended("failed", took);
        self.host_meta_failed.with_label_values(&[reason.as_str()]).inc();
    }

    /// So many addresses were found that must not be dialled.
    pub fn addresses_refused(&self, reason: Reason, count: usize) {
        self.addresses_refused.with_label_values(&[reason.as_str()]).inc_by(count as u64);
    }
}
