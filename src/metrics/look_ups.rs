//! What finding peers comes to: look-ups by DNS, and questions for host-meta documents.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec};

use super::Maker;
use crate::reason::Reason;

/// All look-ups of one domain end within `limits.look_up`, 5 s by default; what is remembered takes no time.
const LOOK_UP_SECONDS: [f64; 9] = [0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

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
            duration: make.histograms(
                "look_up_duration_seconds",
                "Time that finding a domain's peer took, by what came of it.",
                &["result"],
                &LOOK_UP_SECONDS,
            )?,
            failed: make.counters(
                "look_ups_failed_total",
                "Domains for which DNS told no way, by reason.",
                &["reason"],
            )?,
            addresses_refused: make.counters(
                "addresses_refused_total",
                "Addresses that were found and that must not be dialled, by reason.",
                &["reason"],
            )?,
            host_meta: make.histograms(
                "host_meta_duration_seconds",
                "Time that asking a domain's web server for its host-meta document took, by what came of it.",
                &["result"],
                &LOOK_UP_SECONDS,
            )?,
            host_meta_failed: make.counters(
                "host_meta_failed_total",
                "Questions for host-meta documents without a usable answer, by reason.",
                &["reason"],
            )?,
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

    /// An address was found that must not be dialled.
    pub fn address_refused(&self, reason: Reason) {
        self.addresses_refused.with_label_values(&[reason.as_str()]).inc();
    }
}
