//! What the demo found: one JSON object for programs, and one verdict. The table for people is in `table.rs`.

use serde::Serialize;

use super::ledger::Timing;
use super::table::grouped;

/// The result of a demo. Field names are those of `--json`; durations are in the unit that ends their name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Domains behind each relay.
    pub hosts: usize,
    /// Domain pairs: each domain behind A with each behind B.
    pub pairs: usize,
    /// QUIC connections between the relays, as the relays' metrics tell.
    pub connections: u64,
    /// QUIC streams on them, as the relays' metrics tell.
    pub quic_streams: u64,
    /// Hosts of both sides that were proven by a mux secret, where each has a certificate of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proofs: Option<u64>,
    /// Stanzas sent, in both directions of all pairs.
    pub stanzas_sent: u64,
    /// Stanzas that arrived, each counted once.
    pub stanzas_delivered: u64,
    /// Stanzas that never arrived.
    pub lost: u64,
    /// Stanzas that arrived again.
    pub duplicated: u64,
    /// Stanzas that arrived behind a later one of their pair and direction.
    pub reordered: u64,
    /// Stanzas that arrived changed, or in the wrong pair.
    pub altered: u64,
    /// Stanzas that came back as an error.
    pub bounced: u64,
    /// From the first to the last stanza, without the time that the pairs took to open.
    pub seconds: f64,
    /// Latency at a steady pace: half of the stanzas arrived within this time.
    pub p50_ms: f64,
    /// 95 of 100 did.
    pub p95_ms: f64,
    /// 99 of 100 did.
    pub p99_ms: f64,
    /// The steady pace, for each pair and direction.
    pub paced_per_second: f64,
    /// Everything sent as fast as it goes; not on an impaired path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_speed: Option<FullSpeed>,
    /// The path, if it was impaired.
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    pub comparison: Option<Comparison>,
}

/// Throughput, and what it costs in latency.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FullSpeed {
    /// Delivered stanzas in a second, both directions together, with the endpoints on the same machine.
    pub stanzas_per_second: f64,
    /// Median latency with 32 stanzas of every flow on their way.
    pub p50_ms: f64,
    /// 99th percentile of it.
    pub p99_ms: f64,
}

/// The same traffic on the same impaired path, twice. The figures above are those of `stream_per_pair`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Share of datagrams lost each way.
    pub loss_percent: f64,
    /// Round trip of the path.
    pub rtt_ms: u64,
    /// All pairs on one QUIC stream.
    pub one_stream: Side,
    /// A QUIC stream for each pair.
    pub stream_per_pair: Side,
}

/// One side of the comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// QUIC connections between the relays.
    pub connections: u64,
    /// QUIC streams on them.
    pub quic_streams: u64,
    /// Stanzas sent while datagrams were lost.
    pub stanzas_timed: u64,
    /// Datagrams that the path lost.
    pub datagrams_lost: u64,
    /// Datagrams that it carried.
    pub datagrams_forwarded: u64,
    /// Stanzas lost, duplicated, reordered, altered or bounced: none, or the relay is broken.
    pub wrong: u64,
    /// Median latency before any datagram was lost.
    pub loss_free_ms: f64,
    /// Median latency.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Stanzas that took more than 1.5 times `loss_free_ms`.
    pub late_percent: f64,
    /// Those that no relay could have delivered in time, since a packet of their own pair was lost.
    pub floor_percent: f64,
}

impl Report {
    /// What is wrong with the result, for people; empty if nothing is.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |count: u64, text: &str| {
            if count > 0 {
                faults.push(format!("{} {text}", grouped(count)));
            }
        };
        fault(self.lost, "stanzas lost");
        fault(self.duplicated, "stanzas duplicated");
        fault(self.reordered, "stanzas reordered");
        fault(self.altered, "stanzas altered");
        fault(self.bounced, "stanzas bounced");
        fault(
            self.comparison.as_ref().map_or(0, |c| c.one_stream.wrong),
            "stanzas went wrong on one stream for all",
        );
        if self.connections != 1 {
            faults.push(format!("{} QUIC connections instead of 1", self.connections));
        }
        if self.quic_streams != self.pairs as u64 {
            faults.push(format!("{} QUIC streams for {} domain pairs", self.quic_streams, self.pairs));
        }
        faults
    }

    /// As one JSON object, on one line.
    ///
    /// # Errors
    /// If a figure is not a number, which the demo never computes.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// The share of latencies in milliseconds, to a microsecond.
pub(super) fn quantile_ms(timing: &Timing, share: f64) -> f64 {
    rounded(timing.latencies.quantile(share).as_secs_f64() * 1e3)
}

/// To three places: what is measured here deserves no more.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn side(late_percent: f64) -> Side {
        Side {
            connections: 1,
            quic_streams: 1,
            stanzas_timed: 16_000,
            datagrams_lost: 123,
            datagrams_forwarded: 20_000,
            wrong: 0,
            loss_free_ms: 50.4,
            p50_ms: 50.6,
            p95_ms: 1_120.0,
            p99_ms: 1_190.5,
            late_percent,
            floor_percent: 2.1,
        }
    }

    /// A good result, with figures as wide as they get.
    pub(in crate::demo) fn report(impaired: bool) -> Report {
        Report {
            hosts: 30,
            pairs: 900,
            connections: 1,
            quic_streams: 900,
            proofs: None,
            stanzas_sent: 12_345_678,
            stanzas_delivered: 12_345_678,
            lost: 0,
            duplicated: 0,
            reordered: 0,
            altered: 0,
            bounced: 0,
            seconds: 4.5,
            p50_ms: 0.21,
            p95_ms: 0.4,
            p99_ms: 1.2,
            paced_per_second: 20.0,
            full_speed: (!impaired).then_some(FullSpeed {
                stanzas_per_second: 123_456.0,
                p50_ms: 5.0,
                p99_ms: 12.5,
            }),
            comparison: impaired.then(|| Comparison {
                loss_percent: 0.5,
                rtt_ms: 100,
                one_stream: side(33.0),
                stream_per_pair: side(2.2),
            }),
        }
    }

    #[test]
    fn json_has_what_programs_look_for() {
        let json: serde_json::Value = serde_json::from_str(&report(true).to_json().unwrap()).unwrap();
        for field in [
            "hosts",
            "pairs",
            "connections",
            "quic_streams",
            "stanzas_sent",
            "stanzas_delivered",
            "lost",
            "duplicated",
            "reordered",
            "seconds",
            "p50_ms",
            "p95_ms",
            "p99_ms",
        ] {
            assert!(json[field].is_number(), "{field} in {json}");
        }
        for placement in ["one_stream", "stream_per_pair"] {
            for field in ["p50_ms", "p95_ms", "p99_ms", "late_percent", "floor_percent"] {
                assert!(json[placement][field].is_number(), "{placement}.{field} in {json}");
            }
        }
        assert!(!report(false).to_json().unwrap().contains("one_stream"));
    }

    #[test]
    fn every_fault_is_named_and_a_good_run_has_none() {
        assert_eq!(report(true).faults(), Vec::<String>::new());
        let bad = Report { lost: 1, duplicated: 2, reordered: 3, altered: 4, bounced: 5, ..report(false) };
        assert_eq!(bad.faults().len(), 5);
        assert_eq!(Report { connections: 2, ..report(false) }.faults(), ["2 QUIC connections instead of 1"]);
        assert_eq!(
            Report { quic_streams: 899, ..report(false) }.faults(),
            ["899 QUIC streams for 900 domain pairs"]
        );
        let mut broken = report(true);
        broken.comparison.as_mut().unwrap().one_stream.wrong = 7;
        assert_eq!(broken.faults(), ["7 stanzas went wrong on one stream for all"]);
    }
}
