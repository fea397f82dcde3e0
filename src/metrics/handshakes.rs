//! Handshakes with peers, and the certificates of ours that they show.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Maker, Opened};
use crate::reason::Reason;

/// See the module.
#[derive(Debug)]
pub struct Handshakes {
    duration: HistogramVec,
    failures: IntCounterVec,
}

impl Handshakes {
    pub(super) fn new(make: &Maker) -> Option<Self> {
        Some(Self {
            duration: make.histograms("fedmux_handshake_duration_seconds")?,
            failures: make.counters("fedmux_handshake_failures_total")?,
        })
    }

    /// One of ours was given up after this time: another address of the peer was quicker, or the time for all was over.
    pub fn abandoned(&self, transport: &str, took: Duration) {
        let labels = [transport, Opened::Outbound.as_str(), "abandoned"];
        self.duration.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// A handshake over `transport` ended so, after this time.
    pub fn ended(&self, transport: &str, opened: Opened, outcome: Result<(), Reason>, took: Duration) {
        let result = if outcome.is_ok() { "done" } else { "failed" };
        let direction = opened.as_str();
        self.duration.with_label_values(&[transport, direction, result]).observe(took.as_secs_f64());
        if let Err(reason) = outcome {
            self.failures.with_label_values(&[transport, direction, reason.as_str()]).inc();
        }
    }
}

/// Our certificates.
#[derive(Debug)]
pub struct Certificates {
    /// `fedmux_certificates`
    pub good: IntGauge,
    without: IntGauge,
    first: IntGauge,
    hosts: IntGaugeVec,
}

/// Until when a host is proven; `None`: no certificate proves it.
#[derive(Debug, Clone)]
pub struct HostProven {
    /// The host.
    pub host: String,
    /// When its certificate ends.
    pub until: Option<SystemTime>,
}

impl Certificates {
    pub(super) fn new(make: &Maker) -> Option<Self> {
        Some(Self {
            good: make.gauge("fedmux_certificates")?,
            without: make.gauge("fedmux_hosts_without_certificate")?,
            first: make.gauge("fedmux_certificate_not_after_timestamp_seconds")?,
            hosts: make.gauges("fedmux_host_certificate_not_after_timestamp_seconds")?,
        })
    }

    /// How the hosts are proven at `now`; each is only named if `name_them`.
    pub fn set(&self, hosts: &[HostProven], name_them: bool, now: SystemTime) {
        let standing = |proven: &HostProven| proven.until.filter(|until| *until > now);
        let without = hosts.iter().filter(|proven| standing(proven).is_none()).count();
        self.without.set(i64::try_from(without).unwrap_or(i64::MAX));
        let first = hosts.iter().filter_map(|proven| proven.until).min();
        self.first.set(first.map_or(0, seconds));
        self.hosts.reset();
        for HostProven { host, until } in hosts.iter().filter(|_| name_them) {
            self.hosts.with_label_values(&[host]).set(until.map_or(0, seconds));
        }
    }
}

/// Seconds since 1970.
pub(super) fn seconds(at: SystemTime) -> i64 {
    i64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}
