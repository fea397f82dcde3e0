//! Every metric of the relay (floor 2). What there is, with what it means, stands in one place, [`catalogue`]; the files beside it
//! say what moves them. Names follow the conventions of Prometheus; no label is unbounded, and no remote domain is a label.

pub mod catalogue;
mod custody;
mod handshakes;
mod limits;
mod look_ups;
mod maker;
mod paths;
mod process;
mod reloads;
mod standing;

pub use custody::Custody;
pub use handshakes::{Certificates, Handshakes, HostProven};
use limits::LimitCounters;
pub use look_ups::LookUps;
use maker::Maker;
pub use paths::{PathFigures, Paths, SessionShown};
use process::Process;
pub use reloads::Reloads;
pub use standing::Standing;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use crate::proto::admission::Side;
use crate::proto::proof::DomainProof;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::stanza::StanzaKind;

/// The metrics, registered. Children of label sets that the data path uses are resolved once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `fedmux_connections{transport,direction}`: connections with peers; `quic`, `direct-tls` or `starttls`.
    connections: IntGaugeVec,
    /// `fedmux_connections_opened_total{transport,direction}`
    connections_opened: IntCounterVec,
    sessions: IntGaugeVec,
    sessions_ended: IntCounterVec,
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
    /// Of the configuration, or of renewed certificates alone.
    pub reloads: Reloads,
    /// Handshakes with peers.
    pub handshakes: Handshakes,
    /// Our certificates.
    pub certificates: Certificates,
    /// Where pairs and peers stand.
    pub standing: Standing,
    /// The paths of QUIC connections.
    pub paths: Paths,
    process: Process,
    host_stanzas: IntCounterVec,
    host_bytes: IntCounterVec,
    /// Tasks of the process that have not ended.
    pub tasks: IntGauge,
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
    /// Stanzas that passed our checks: messages, presence and IQs.
    accepted: [IntCounter; 3],
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
            ended: make.counters("fedmux_proofs_total")?,
            refused: make.counters("fedmux_proofs_refused_total")?,
            started: make.counters("fedmux_proofs_started_total")?,
            under_way: make.gauge("fedmux_proofs_under_way")?,
            requests_open: make.gauge("fedmux_proof_requests_open")?,
            duration: make.histograms("fedmux_proof_duration_seconds")?,
        })
    }
}

/// The kinds of stanzas, as a label has them.
const KINDS: [&str; 3] = ["message", "presence", "iq"];

impl SideCounters {
    /// What counts stanzas of `kind` that passed our checks.
    #[must_use]
    pub fn accepted(&self, kind: StanzaKind) -> &IntCounter {
        let [message, presence, iq] = &self.accepted;
        match kind {
            StanzaKind::Message => message,
            StanzaKind::Presence => presence,
            StanzaKind::Iq => iq,
        }
    }
}

impl DataPath {
    fn new(make: &Maker) -> Option<Self> {
        let accepted = make.counters("fedmux_stanzas_accepted_total")?;
        let delivered = make.counters("fedmux_stanzas_delivered_total")?;
        let bytes = make.counters("fedmux_stanza_bytes_total")?;
        let of = |side: Side| SideCounters {
            accepted: KINDS.map(|kind| accepted.with_label_values(&[side.as_str(), kind])),
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
    /// The word, as it stands in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Metrics {
    /// All metrics, at zero. `None` if one of them could not be registered, which is a defect of this file.
    #[must_use]
    pub fn new() -> Option<Self> {
        Self::checked().map(|(metrics, _)| metrics)
    }

    /// The same, and the names of what was made.
    fn checked() -> Option<(Self, Vec<&'static str>)> {
        let make = Maker::new();
        make.gauges("fedmux_build_info")?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            connections: make.gauges("fedmux_connections")?,
            connections_opened: make.counters("fedmux_connections_opened_total")?,
            sessions: make.gauges("fedmux_sessions")?,
            sessions_ended: make.counters("fedmux_sessions_ended_total")?,
            lanes: make.gauge("fedmux_lanes")?,
            quic_streams_opened: make.counters("fedmux_quic_streams_opened_total")?,
            local_streams: make.gauges("fedmux_local_streams")?,
            domain_pairs: make.gauge("fedmux_domain_pairs")?,
            proofs: Proofs::new(&make)?,
            bounced: make.counters("fedmux_stanzas_bounced_total")?,
            discarded: make.counters("fedmux_stanzas_discarded_total")?,
            custody: Custody::new(&make)?,
            queued_bytes: make.gauge("fedmux_queued_bytes")?,
            queued_stanzas: make.gauge("fedmux_queued_stanzas")?,
            refusals: make.counters("fedmux_refusals_total")?,
            dial_failures: make.counters("fedmux_dial_failures_total")?,
            look_ups: LookUps::new(&make)?,
            limits: LimitCounters::new(&make)?,
            hosts: make.gauge("fedmux_hosts")?,
            reloads: Reloads::new(&make)?,
            handshakes: Handshakes::new(&make)?,
            certificates: Certificates::new(&make)?,
            standing: Standing::new(&make)?,
            paths: Paths::new(&make)?,
            process: Process::new(&make)?,
            host_stanzas: make.counters("fedmux_host_stanzas_total")?,
            host_bytes: make.counters("fedmux_host_stanza_bytes_total")?,
            tasks: make.gauge("fedmux_tasks")?,
            tasks_failed: make.counter("fedmux_tasks_failed_total")?,
            data: DataPath::new(&make)?,
            registry: Registry::new(),
        };
        let (registry, made) = make.into_made();
        Some((Self { registry, ..metrics }, made))
    }

    /// The exposition text.
    #[must_use]
    pub fn text(&self) -> String {
        self.process.refresh();
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

    /// Sessions over `transport`, opened by `opened`.
    #[must_use]
    pub fn sessions(&self, transport: &str, opened: Opened) -> IntGauge {
        self.sessions.with_label_values(&[transport, opened.as_str()])
    }

    /// A session ended for `reason`.
    pub fn session_ended(&self, reason: Reason) {
        self.sessions_ended.with_label_values(&[reason.as_str()]).inc();
    }

    /// How many sessions ended for `reason`.
    #[must_use]
    pub fn sessions_ended_for(&self, reason: Reason) -> u64 {
        self.sessions_ended.with_label_values(&[reason.as_str()]).get()
    }

    /// What counts stanzas and octets from `host` (`sent`) or for it (`received`).
    #[must_use]
    pub fn of_host(&self, host: &Domain, direction: &str) -> [IntCounter; 2] {
        let labels = [host.as_str(), direction];
        [&self.host_stanzas, &self.host_bytes].map(|counters| counters.with_label_values(&labels))
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
        (counters.accepted.iter().map(IntCounter::get).sum(), counters.delivered.get())
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
        let named = |line: &str| line.starts_with("fedmux_") || line.starts_with("process_");
        assert!(text.lines().filter(|line| !line.starts_with('#')).all(named), "{text}");
        assert!(text.contains("# HELP process_open_fds Number of open file descriptors.\n"), "{text}");
    }

    #[test]
    fn what_is_declared_is_made_and_what_is_made_is_declared() {
        let (_, mut made) = Metrics::checked().expect("each is declared as it is made");
        let mut declared: Vec<_> = catalogue::METRICS.iter().map(|metric| metric.name).collect();
        made.sort_unstable();
        declared.sort_unstable();
        assert_eq!(made, declared);
    }
}
