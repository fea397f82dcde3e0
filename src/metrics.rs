//! Every metric of the relay, in one place (floor 2). Names follow the conventions of Prometheus; no label is unbounded,
//! and no remote domain is a label.

mod custody;
mod limits;
mod look_ups;

pub use custody::Custody;
use limits::LimitCounters;
pub use look_ups::LookUps;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::proto::admission::Side;
use crate::proto::proof::DomainProof;
use crate::reason::Reason;

/// A proof takes a handshake and three round trips; it ends after 20 s at most, or is tried again for longer.
const PROOF_SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0];

/// The metrics, registered. Children of label sets that the data path uses are resolved once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `fedmux_connections{transport,direction}`: connections with peers; `quic`, `direct-tls` or `starttls`.
    connections: IntGaugeVec,
    /// `fedmux_connections_opened_total{transport,direction}`
    connections_opened: IntCounterVec,
    /// `fedmux_sessions`: connections whose peer is authenticated.
    pub sessions: IntGauge,
    /// `fedmux_lanes`: XML streams that carry domain pairs in sessions.
    pub lanes: IntGauge,
    /// `fedmux_quic_streams_opened_total{direction}`
    quic_streams_opened: IntCounterVec,
    /// `fedmux_local_streams{direction}`: XML streams with our own servers.
    local_streams: IntGaugeVec,
    /// `fedmux_domain_pairs`: pairs of a host of ours and a remote domain that are placed on a lane or stream.
    pub domain_pairs: IntGauge,
    /// Domains that are proven.
    pub proofs: Proofs,
    /// `fedmux_stanzas_bounced_total{reason}`
    bounced: IntCounterVec,
    /// `fedmux_stanzas_discarded_total{reason}`
    discarded: IntCounterVec,
    /// Acknowledgements, and what became of streams that broke.
    pub custody: Custody,
    /// `fedmux_queued_bytes`
    pub queued_bytes: IntGauge,
    /// `fedmux_queued_stanzas`
    pub queued_stanzas: IntGauge,
    /// `fedmux_refusals_total{side,reason}`: streams, lanes and connections that were refused or ended by a violation.
    refusals: IntCounterVec,
    /// `fedmux_dial_failures_total{side,reason}`
    dial_failures: IntCounterVec,
    /// Peers looked for.
    pub look_ups: LookUps,
    /// Limits that are hit.
    limits: LimitCounters,
    /// `fedmux_hosts`
    pub hosts: IntGauge,
    /// `fedmux_reloads_total{result="done"|"refused"}`: of the configuration, or of renewed certificates alone.
    reloads: IntCounterVec,
    /// `fedmux_tasks_failed_total`
    pub tasks_failed: IntCounter,
    /// Data path: accepted from and delivered to each side.
    pub data: DataPath,
}

/// The counters that every stanza moves.
#[derive(Debug)]
pub struct DataPath {
    local: SideCounters,
    remote: SideCounters,
}

/// The counters of one side.
#[derive(Debug, Clone)]
pub struct SideCounters {
    /// Stanzas that passed our checks.
    pub accepted: IntCounter,
    /// Their octets.
    pub bytes: IntCounter,
    /// Stanzas handed to the next hop.
    pub delivered: IntCounter,
}

/// How domains are proven, and by mux secrets in particular.
#[derive(Debug)]
pub struct Proofs {
    /// `fedmux_proofs_total{proof,result}`
    ended: IntCounterVec,
    /// `fedmux_proofs_refused_total{proof,reason}`
    refused: IntCounterVec,
    /// `fedmux_proofs_started_total{role}`: of hosts that are to join a session by a mux secret.
    started: IntCounterVec,
    /// `fedmux_proofs_under_way`: of the same.
    pub under_way: IntGauge,
    /// `fedmux_proof_requests_open`: mux secrets that we handed out and that are not back yet.
    pub requests_open: IntGauge,
    /// `fedmux_proof_duration_seconds{role}`: from the stanza or the request that began it to the grant.
    duration: HistogramVec,
}

impl Proofs {
    fn new(make: &Maker) -> Option<Self> {
        Some(Self {
            ended: make.counters(
                "proofs_total",
                "Domains proven or refused, by the kind of proof.",
                &["proof", "result"],
            )?,
            refused: make.counters(
                "proofs_refused_total",
                "Domains that were not proven, by the kind of proof and reason.",
                &["proof", "reason"],
            )?,
            started: make.counters(
                "proofs_started_total",
                "Proofs of further hosts by mux secrets that began, by our role.",
                &["role"],
            )?,
            under_way: make
                .gauge("proofs_under_way", "Proofs of further hosts by mux secrets that are going on.")?,
            requests_open: make.gauge(
                "proof_requests_open",
                "Mux secrets that were handed out and have not come back yet.",
            )?,
            duration: make.histograms(
                "proof_duration_seconds",
                "Time from the wish for a proof by mux secret to its grant, by our role.",
                &["role"],
                &PROOF_SECONDS,
            )?,
        })
    }
}

impl DataPath {
    fn new(make: &Maker) -> Option<Self> {
        let side = ["side"];
        let accepted = make.counters(
            "stanzas_accepted_total",
            "Stanzas that passed our checks, by the side they came from.",
            &side,
        )?;
        let delivered = make.counters(
            "stanzas_delivered_total",
            "Stanzas handed to the next hop, by the side they went to.",
            &side,
        )?;
        let bytes = make.counters(
            "stanza_bytes_total",
            "Octets of accepted stanzas, by the side they came from.",
            &side,
        )?;
        let of = |side: Side| SideCounters {
            accepted: accepted.with_label_values(&[side.as_str()]),
            bytes: bytes.with_label_values(&[side.as_str()]),
            delivered: delivered.with_label_values(&[side.as_str()]),
        };
        Some(Self { local: of(Side::Local), remote: of(Side::Remote) })
    }

    /// The counters of `side`.
    #[must_use]
    pub fn side(&self, side: Side) -> &SideCounters {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }
}

/// Who opened a connection or a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// The other end.
    Inbound,
    /// We.
    Outbound,
}

impl Opened {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Makes and registers. A name that is invalid or used twice is a defect of this file, which a test would show; the
/// metric then simply isn't exported.
struct Maker(Registry);

impl Maker {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Option<IntCounterVec> {
        let metric = IntCounterVec::new(Opts::new(name, help).namespace("fedmux"), labels).ok()?;
        self.0.register(Box::new(metric.clone())).ok()?;
        Some(metric)
    }

    fn times(&self, name: &str, help: &str, labels: &[&str]) -> Option<CounterVec> {
        let metric = CounterVec::new(Opts::new(name, help).namespace("fedmux"), labels).ok()?;
        self.0.register(Box::new(metric.clone())).ok()?;
        Some(metric)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Option<IntGaugeVec> {
        let metric = IntGaugeVec::new(Opts::new(name, help).namespace("fedmux"), labels).ok()?;
        self.0.register(Box::new(metric.clone())).ok()?;
        Some(metric)
    }

    fn gauge(&self, name: &str, help: &str) -> Option<IntGauge> {
        let metric = IntGauge::with_opts(Opts::new(name, help).namespace("fedmux")).ok()?;
        self.0.register(Box::new(metric.clone())).ok()?;
        Some(metric)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Option<HistogramVec> {
        let options = HistogramOpts::new(name, help).namespace("fedmux").buckets(buckets.to_vec());
        let metric = HistogramVec::new(options, labels).ok()?;
        self.0.register(Box::new(metric.clone())).ok()?;
        Some(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Option<IntCounter> {
        let metric = IntCounter::with_opts(Opts::new(name, help).namespace("fedmux")).ok()?;
        self.0.register(Box::new(metric.clone())).ok()?;
        Some(metric)
    }
}

impl Metrics {
    /// All metrics, at zero. `None` if one of them could not be registered, which is a defect of this file.
    #[must_use]
    pub fn new() -> Option<Self> {
        let make = Maker(Registry::new());
        make.gauges("build_info", "Always 1; the version is in the label.", &["version"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let direction = ["transport", "direction"];
        Some(Self {
            connections: make.gauges("connections", "Connections with peers.", &direction)?,
            connections_opened: make.counters(
                "connections_opened_total",
                "Connections with peers since the start.",
                &direction,
            )?,
            sessions: make.gauge("sessions", "Connections whose peer is authenticated.")?,
            lanes: make.gauge("lanes", "XML streams open in sessions.")?,
            quic_streams_opened: make.counters(
                "quic_streams_opened_total",
                "QUIC streams opened for lanes since the start.",
                &["direction"],
            )?,
            local_streams: make.gauges(
                "local_streams",
                "XML streams with our own servers.",
                &["direction"],
            )?,
            domain_pairs: make
                .gauge("domain_pairs", "Domain pairs that are placed on a lane or a local stream.")?,
            proofs: Proofs::new(&make)?,
            bounced: make.counters(
                "stanzas_bounced_total",
                "Stanzas answered with an error, by reason.",
                &["reason"],
            )?,
            discarded: make.counters(
                "stanzas_discarded_total",
                "Stanzas dropped because they may not be answered, by reason.",
                &["reason"],
            )?,
            custody: Custody::new(&make)?,
            queued_bytes: make.gauge(
                "queued_bytes",
                "Octets of stanzas in our custody: waiting, or sent and not acknowledged.",
            )?,
            queued_stanzas: make
                .gauge("queued_stanzas", "Stanzas in our custody: waiting, or sent and not acknowledged.")?,
            refusals: make.counters(
                "refusals_total",
                "Connections and streams refused or ended for a violation, by side and reason.",
                &["side", "reason"],
            )?,
            dial_failures: make.counters(
                "dial_failures_total",
                "Attempts to reach a next hop that failed, by side and reason.",
                &["side", "reason"],
            )?,
            look_ups: LookUps::new(&make)?,
            limits: LimitCounters::new(&make)?,
            hosts: make.gauge("hosts", "Hosts served behind this relay.")?,
            reloads: make.counters(
                "reloads_total",
                "Changes of the configuration or the certificates while running, by what became of them.",
                &["result"],
            )?,
            tasks_failed: make
                .counter("tasks_failed_total", "Tasks that ended by a panic: always a defect.")?,
            data: DataPath::new(&make)?,
            registry: make.0,
        })
    }

    /// The exposition text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// What counts stanzas that were dropped for `reason`.
    #[must_use]
    pub fn discarded_for(&self, reason: Reason) -> IntCounter {
        self.discarded.with_label_values(&[reason.as_str()])
    }

    /// Connections with peers over `transport`, opened by `opened`.
    #[must_use]
    pub fn connections(&self, transport: &str, opened: Opened) -> IntGauge {
        self.connections.with_label_values(&[transport, opened.as_str()])
    }

    /// Connections with peers, whatever they run over and whoever opened them.
    #[must_use]
    pub fn connections_held(&self) -> i64 {
        let families = Collector::collect(&self.connections);
        let gauges = families.iter().flat_map(|family| family.get_metric());
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole numbers far below 2^53, which the library shows as f64"
        )]
        gauges.map(|metric| metric.get_gauge().get_value() as i64).sum()
    }

    /// A connection with a peer came up.
    pub fn connection_opened(&self, transport: &str, opened: Opened) {
        self.connections_opened.with_label_values(&[transport, opened.as_str()]).inc();
    }

    /// QUIC streams opened for lanes.
    #[must_use]
    pub fn quic_streams(&self, opened: Opened) -> IntCounter {
        self.quic_streams_opened.with_label_values(&[opened.as_str()])
    }

    /// Streams with our own servers.
    #[must_use]
    pub fn local_streams(&self, opened: Opened) -> IntGauge {
        self.local_streams.with_label_values(&[opened.as_str()])
    }

    /// A domain was proven, or not.
    pub fn proof(&self, proof: DomainProof, result: Result<(), Reason>) {
        if let Err(reason) = result {
            self.proofs.refused.with_label_values(&[proof.as_str(), reason.as_str()]).inc();
        }
        let result = if result.is_ok() { "granted" } else { "refused" };
        self.proofs.ended.with_label_values(&[proof.as_str(), result]).inc();
    }

    /// A proof by mux secret began, in this role of ours.
    pub fn proof_started(&self, role: &str) {
        self.proofs.started.with_label_values(&[role]).inc();
    }

    /// A proof by mux secret was granted after this time, in this role of ours.
    pub fn proof_took(&self, role: &str, took: Duration) {
        self.proofs.duration.with_label_values(&[role]).observe(took.as_secs_f64());
    }

    /// How many domains were proven by `proof`.
    #[must_use]
    pub fn proven(&self, proof: DomainProof) -> u64 {
        self.proofs.ended.with_label_values(&[proof.as_str(), "granted"]).get()
    }

    /// A stanza was answered with an error.
    pub fn bounced(&self, reason: Reason) {
        self.bounced.with_label_values(&[reason.as_str()]).inc();
    }

    /// A stanza was dropped because it may not be answered.
    pub fn discarded(&self, reason: Reason) {
        self.discarded.with_label_values(&[reason.as_str()]).inc();
    }

    /// A connection or stream was refused, or ended for a violation.
    pub fn refused(&self, side: Side, reason: Reason) {
        self.refusals.with_label_values(&[side.as_str(), reason.as_str()]).inc();
    }

    /// How often connections or streams of `side` were refused for `reason`.
    #[must_use]
    pub fn refusals(&self, side: Side, reason: Reason) -> u64 {
        self.refusals.with_label_values(&[side.as_str(), reason.as_str()]).get()
    }

    /// An attempt to reach a next hop failed.
    pub fn dial_failed(&self, side: Side, reason: Reason) {
        self.dial_failures.with_label_values(&[side.as_str(), reason.as_str()]).inc();
    }

    /// Changes of the configuration that were `done` or `refused`.
    #[must_use]
    pub fn reloads(&self, result: &str) -> IntCounter {
        self.reloads.with_label_values(&[result])
    }

    /// A limit of `[limits]` was hit.
    pub fn limit_hit(&self, limit: &str) {
        self.limits.hit(limit);
    }

    /// A lane wasn't read for this time because of a limit of `[limits]`.
    pub fn held_for(&self, limit: &str, time: Duration) {
        self.limits.waited(limit, time);
    }

    /// What became of all stanzas so far: accepted, delivered, answered with an error, dropped. What is missing from the first
    /// is in custody.
    #[must_use]
    pub fn ledger(&self) -> [u64; 4] {
        let (from_local, to_local) = self.stanzas(Side::Local);
        let (from_remote, to_remote) = self.stanzas(Side::Remote);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole numbers far below 2^53, which the library shows as f64"
        )]
        let sum = |counters: &IntCounterVec| {
            let families = Collector::collect(counters);
            let counts = families.iter().flat_map(|family| family.get_metric());
            counts.map(|metric| metric.get_counter().get_value() as u64).sum()
        };
        [from_local + from_remote, to_local + to_remote, sum(&self.bounced), sum(&self.discarded)]
    }

    /// Stanzas accepted from, and delivered to, `side`.
    #[must_use]
    pub fn stanzas(&self, side: Side) -> (u64, u64) {
        let counters = self.data.side(side);
        (counters.accepted.get(), counters.delivered.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_and_is_exported_under_the_prefix() {
        let metrics = Metrics::new().unwrap();
        metrics.refused(Side::Remote, Reason::CertificateExpired);
        let text = metrics.text();
        assert!(text.contains("fedmux_refusals_total{reason=\"certificate-expired\",side=\"remote\"} 1"));
        assert!(text.lines().filter(|line| !line.starts_with('#')).all(|line| line.starts_with("fedmux_")));
    }
}
