//! Acknowledgements (XEP-0198), and what became of streams that broke.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::Maker;

/// See the module.
#[derive(Debug)]
pub struct Custody {
    /// `fedmux_custody_acknowledged_early_total`: stanzas acknowledged before their next hop had.
    pub acknowledged_early: IntCounter,
    /// `fedmux_stanzas_uncertain_total{outcome="resent"|"bounced"}`: sent on a stream that ended without a word on them.
    uncertain: IntCounterVec,
    /// `fedmux_streams_resumed_total{result="resumed"|"lost"|"refused"}`
    streams_resumed: IntCounterVec,
    /// `fedmux_streams_resumable`: broken streams that a peer may resume.
    pub streams_resumable: IntGauge,
    /// `fedmux_stanzas_passed_over_total`: that a peer sent again on a resumed stream, and that were here.
    pub passed_over: IntCounter,
}

impl Custody {
    pub(super) fn new(make: &Maker) -> Option<Self> {
        Some(Self {
            acknowledged_early: make.counter("fedmux_custody_acknowledged_early_total")?,
            uncertain: make.counters("fedmux_stanzas_uncertain_total")?,
            streams_resumed: make.counters("fedmux_streams_resumed_total")?,
            streams_resumable: make.gauge("fedmux_streams_resumable")?,
            passed_over: make.counter("fedmux_stanzas_passed_over_total")?,
        })
    }

    /// A stanza that may have been handled or not was sent again (`resent`), or came back (`bounced`).
    pub fn uncertain(&self, outcome: &str) {
        self.uncertain.with_label_values(&[outcome]).inc();
    }

    /// How many broken streams were resumed.
    #[must_use]
    pub fn resumed(&self) -> u64 {
        self.streams_resumed.with_label_values(&["resumed"]).get()
    }

    /// How many were not.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.streams_resumed.with_label_values(&["lost"]).get()
    }

    /// A broken stream was resumed, or not in time.
    pub fn stream_resumed(&self, resumed: bool) {
        let result = if resumed { "resumed" } else { "lost" };
        self.streams_resumed.with_label_values(&[result]).inc();
    }

    /// A stream was to be resumed that there isn't, or that isn't of whom asked.
    pub fn resumption_refused(&self) {
        self.streams_resumed.with_label_values(&["refused"]).inc();
    }
}
