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
            acknowledged_early: make.counter(
                "custody_acknowledged_early_total",
                "Stanzas acknowledged to their sender before their next hop had acknowledged them.",
            )?,
            uncertain: make.counters(
                "stanzas_uncertain_total",
                "Stanzas sent on a stream that ended without a word on whether they were handled, by what became of them.",
                &["outcome"],
            )?,
            streams_resumed: make.counters(
                "streams_resumed_total",
                "Broken streams that were resumed or not in time, and requests for streams that aren't known to whom asks.",
                &["result"],
            )?,
            streams_resumable: make.gauge("streams_resumable", "Broken streams that a peer may resume.")?,
            passed_over: make.counter(
                "stanzas_passed_over_total",
                "Stanzas that a peer sent again on a resumed stream and that had arrived before.",
            )?,
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
