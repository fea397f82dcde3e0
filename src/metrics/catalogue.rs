//! Every metric that there is: its name, what kind it is, its labels, its unit, and what it says. Whatever is exported stands
//! here, and whatever stands here is exported; a test holds it to that.
//!
//! Labels are words of ours, with these exceptions, each of which is bounded: `host`, the hosts of the configuration, only with
//! `[admin] name_hosts`; `session`, the numbers of the `limits.sessions_shown` sessions that carry most; `version`. No remote domain
//! is a label.

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// It only grows, until the relay is started again.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counters of what was at most so much.
    Histogram(&'static [f64]),
}

/// What it counts or measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things, as the name says.
    Count,
    /// Octets.
    Bytes,
    /// Seconds.
    Seconds,
    /// Seconds since 1970.
    Timestamp,
    /// 1 for yes, 0 for no.
    Flag,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// A proof takes a handshake and three round trips; it ends after 20 s at most, or is tried again for longer.
const PROOF_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0];
/// All look-ups of one domain end within `limits.look_up`, 5 s by default; what is remembered takes no time.
const LOOK_UP_SECONDS: &[f64] = &[0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// A handshake takes one or two round trips, and `limits.handshake` at most.
const HANDSHAKE_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Declared {
    Declared { name, kind: Kind::Counter, unit: Unit::Count, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Declared {
    Declared { name, kind: Kind::Gauge, unit: Unit::Count, labels, help }
}

const fn seconds(
    name: &'static str,
    labels: &'static [&'static str],
    buckets: &'static [f64],
    help: &'static str,
) -> Declared {
    Declared { name, kind: Kind::Histogram(buckets), unit: Unit::Seconds, labels, help }
}

impl Declared {
    const fn of(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }
}

/// All of them.
pub const METRICS: &[Declared] = &[
    // --- the relay itself ---
    gauge("fedmux_build_info", &["version"], "Always 1; the version is in the label.").of(Unit::Flag),
    gauge("fedmux_hosts", &[], "Hosts served behind this relay."),
    gauge("fedmux_draining", &[], "Whether the relay takes nothing new, and ends.").of(Unit::Flag),
    counter("fedmux_reloads_total", &["result"], "Changes of the configuration or the certificates while running, by what became of them."),
    gauge("fedmux_reload_refused", &[], "Whether the last change of the configuration or the certificates was refused: the former ones are in use.").of(Unit::Flag),
    gauge("fedmux_reload_timestamp_seconds", &[], "When the configuration or the certificates were last read again and taken; the start, if never.").of(Unit::Timestamp),
    gauge("fedmux_tasks", &[], "Tasks of the process that have not ended."),
    counter("fedmux_tasks_failed_total", &[], "Tasks that ended by a panic: always a defect."),
    // --- sessions ---
    gauge("fedmux_connections", &["transport", "direction"], "Connections with peers."),
    counter("fedmux_connections_opened_total", &["transport", "direction"], "Connections with peers since the start."),
    gauge("fedmux_connections_saved", &[], "Domain pairs carried, less the connections with peers that are held."),
    gauge("fedmux_sessions", &["transport", "direction"], "Connections whose peer is authenticated."),
    counter("fedmux_sessions_ended_total", &["reason"], "Sessions that ended, by reason."),
    gauge("fedmux_lanes", &[], "XML streams open in sessions."),
    counter("fedmux_quic_streams_opened_total", &["direction"], "QUIC streams opened for lanes since the start."),
    gauge("fedmux_local_streams", &["direction"], "XML streams with our own servers."),
    gauge("fedmux_domain_pairs", &[], "Domain pairs that are placed on a lane or a local stream."),
    gauge("fedmux_routes_waiting", &["for"], "Directions of domain pairs without a lane that is up, by what they wait for."),
    gauge("fedmux_peers", &["state"], "Peers that something is known of, by what is going on."),
    gauge("fedmux_servers_down", &[], "Our own servers whose last attempt failed."),
    gauge("fedmux_components_connected", &[], "Components that are connected."),
    // --- handshakes and certificates ---
    seconds("fedmux_handshake_duration_seconds", &["transport", "direction", "result"], HANDSHAKE_SECONDS, "Time of handshakes with peers, connecting and STARTTLS included, by what came of them."),
    counter("fedmux_handshake_failures_total", &["transport", "direction", "reason"], "Handshakes with peers that failed, connecting and STARTTLS included, by reason."),
    gauge("fedmux_certificates", &[], "Certificates of ours that are good now."),
    gauge("fedmux_hosts_without_certificate", &[], "Hosts that no certificate of ours proves now: nobody can reach them."),
    gauge("fedmux_certificate_not_after_timestamp_seconds", &[], "When the first certificate ends that a host is proven by; 0 if there is none.").of(Unit::Timestamp),
    gauge("fedmux_host_certificate_not_after_timestamp_seconds", &["host"], "When the certificate ends that the host is proven by; only with [admin] name_hosts.").of(Unit::Timestamp),
    // --- proofs ---
    counter("fedmux_proofs_total", &["proof", "result"], "Domains proven or refused, by the kind of proof."),
    counter("fedmux_proofs_refused_total", &["proof", "reason"], "Domains that were not proven, by the kind of proof and reason."),
    counter("fedmux_proofs_started_total", &["role"], "Proofs of further hosts by mux secrets that began, by our role."),
    gauge("fedmux_proofs_under_way", &[], "Proofs of further hosts by mux secrets that are going on."),
    gauge("fedmux_proof_requests_open", &[], "Mux secrets that were handed out and have not come back yet."),
    seconds("fedmux_proof_duration_seconds", &["role"], PROOF_SECONDS, "Time from the wish for a proof by mux secret to its grant, by our role."),
    // --- stanzas ---
    counter("fedmux_stanzas_accepted_total", &["side", "kind"], "Stanzas that passed our checks, by the side they came from."),
    counter("fedmux_stanzas_delivered_total", &["side"], "Stanzas handed to the next hop, by the side they went to."),
    counter("fedmux_stanza_bytes_total", &["side"], "Octets of accepted stanzas, by the side they came from.").of(Unit::Bytes),
    counter("fedmux_host_stanzas_total", &["host", "direction"], "Stanzas accepted from a host (sent) and for it (received); only with [admin] name_hosts."),
    counter("fedmux_host_stanza_bytes_total", &["host", "direction"], "Octets of those; only with [admin] name_hosts.").of(Unit::Bytes),
    counter("fedmux_stanzas_bounced_total", &["reason"], "Stanzas answered with an error, by reason."),
    counter("fedmux_stanzas_discarded_total", &["reason"], "Stanzas dropped because they may not be answered, by reason."),
    gauge("fedmux_stanzas_in_custody", &[], "Stanzas accepted, less those that were delivered, bounced or discarded."),
    counter("fedmux_custody_acknowledged_early_total", &[], "Stanzas acknowledged to their sender before their next hop had acknowledged them."),
    counter("fedmux_stanzas_uncertain_total", &["outcome"], "Stanzas sent on a stream that ended without a word on whether they were handled, by what became of them."),
    counter("fedmux_streams_resumed_total", &["result"], "Broken streams that were resumed or not in time, and requests for streams that aren't known to whom asks."),
    gauge("fedmux_streams_resumable", &[], "Broken streams that a peer may resume."),
    counter("fedmux_stanzas_passed_over_total", &[], "Stanzas that a peer sent again on a resumed stream and that had arrived before."),
    // --- queues ---
    gauge("fedmux_queued_bytes", &[], "Octets of stanzas in our custody: waiting, or sent and not acknowledged.").of(Unit::Bytes),
    gauge("fedmux_queued_stanzas", &[], "Stanzas in our custody: waiting, or sent and not acknowledged."),
    gauge("fedmux_queues_waiting", &[], "Queues, each of one direction of a domain pair, in which something waits for a lane to take it."),
    gauge("fedmux_queue_waiting_stanzas", &[], "Stanzas that wait for a lane to take them."),
    gauge("fedmux_queue_waiting_bytes", &[], "Octets of those.").of(Unit::Bytes),
    gauge("fedmux_queue_longest_bytes", &[], "Octets that wait in the longest queue.").of(Unit::Bytes),
    gauge("fedmux_queue_oldest_seconds", &[], "How long the oldest of the stanzas that wait has waited; 0 if none does.").of(Unit::Seconds),
    // --- refusals and limits ---
    counter("fedmux_refusals_total", &["side", "reason"], "Connections and streams refused or ended for a violation, by side and reason."),
    counter("fedmux_dial_failures_total", &["side", "reason"], "Attempts to reach a next hop that failed, by side and reason."),
    counter("fedmux_limit_hits_total", &["limit"], "How often a limit was hit."),
    counter("fedmux_limit_wait_seconds_total", &["limit"], "How long lanes were not read because what they brought was over a rate, all of them together.").of(Unit::Seconds),
    gauge("fedmux_domains_remembered", &[], "Domains whose last attempts are remembered for `fedmux explain`."),
    // --- finding peers ---
    seconds("fedmux_look_up_duration_seconds", &["result"], LOOK_UP_SECONDS, "Time that finding a domain's peer took, by what came of it."),
    counter("fedmux_look_ups_failed_total", &["reason"], "Domains for which DNS told no way, by reason."),
    counter("fedmux_addresses_refused_total", &["reason"], "Addresses that were found and that must not be dialled, by reason."),
    seconds("fedmux_host_meta_duration_seconds", &["result"], LOOK_UP_SECONDS, "Time that asking a domain's web server for its host-meta document took, by what came of it."),
    counter("fedmux_host_meta_failed_total", &["reason"], "Questions for host-meta documents without a usable answer, by reason."),
    // --- QUIC, all sessions together ---
    gauge("fedmux_quic_rtt_seconds", &["statistic"], "Round-trip times of QUIC connections: the least, the middle and the greatest.").of(Unit::Seconds),
    gauge("fedmux_quic_congestion_window_bytes", &["statistic"], "Congestion windows of QUIC connections: the least, the middle and the greatest.").of(Unit::Bytes),
    counter("fedmux_quic_packets_sent_total", &[], "Packets sent on QUIC connections."),
    counter("fedmux_quic_packets_lost_total", &[], "Packets sent on QUIC connections and taken for lost."),
    counter("fedmux_quic_congestion_events_total", &[], "How often congestion controllers slowed a QUIC connection down."),
    counter("fedmux_quic_bytes_total", &["direction"], "Octets in UDP datagrams of QUIC connections.").of(Unit::Bytes),
    counter("fedmux_quic_migrations_total", &[], "How often a QUIC connection was seen to have another address of its peer."),
    // --- QUIC, of the sessions that carry most ---
    gauge("fedmux_session_info", &["session", "transport", "direction"], "Always 1, for the sessions that carry most (limits.sessions_shown); `fedmux status` says whose they are.").of(Unit::Flag),
    gauge("fedmux_session_age_seconds", &["session"], "How long it has stood.").of(Unit::Seconds),
    gauge("fedmux_session_lanes", &["session"], "Its XML streams."),
    gauge("fedmux_session_routes", &["session"], "Directions of domain pairs that are placed on it."),
    gauge("fedmux_session_hosts_proven", &["session", "end"], "Hosts that joined it by mux secrets, the peer's and ours."),
    gauge("fedmux_session_rtt_seconds", &["session"], "Its round-trip time, over QUIC.").of(Unit::Seconds),
    gauge("fedmux_session_congestion_window_bytes", &["session"], "Its congestion window, over QUIC.").of(Unit::Bytes),
    counter("fedmux_session_packets_sent_total", &["session"], "Packets sent on it, over QUIC."),
    counter("fedmux_session_packets_lost_total", &["session"], "Of those, the ones taken for lost."),
    counter("fedmux_session_congestion_events_total", &["session"], "How often its congestion controller slowed down, over QUIC."),
    counter("fedmux_session_bytes_total", &["session", "direction"], "Octets in UDP datagrams of it, over QUIC.").of(Unit::Bytes),
    // --- the process, named as everywhere ---
    counter("process_cpu_seconds_total", &[], "Total user and system CPU time spent in seconds.").of(Unit::Seconds),
    gauge("process_resident_memory_bytes", &[], "Resident memory size in bytes.").of(Unit::Bytes),
    gauge("process_virtual_memory_bytes", &[], "Virtual memory size in bytes.").of(Unit::Bytes),
    gauge("process_open_fds", &[], "Number of open file descriptors."),
    gauge("process_max_fds", &[], "Maximum number of open file descriptors."),
    gauge("process_threads", &[], "Number of OS threads in the process."),
    gauge("process_start_time_seconds", &[], "Start time of the process since unix epoch in seconds.").of(Unit::Timestamp),
];

/// The declaration of `name`.
pub(super) fn declared(name: &str) -> Option<&'static Declared> {
    METRICS.iter().find(|metric| metric.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_unit_and_the_kind_as_prometheus_asks() {
        for Declared { name, kind, unit, labels, help } in METRICS {
            let named = METRICS.iter().filter(|other| other.name == *name).count();
            assert_eq!(named, 1, "{name} stands here twice");
            let base = name.trim_end_matches("_total");
            assert_eq!(
                base != *name,
                *kind == Kind::Counter,
                "{name}: counters end in _total, and nothing else does"
            );
            let suffix = match unit {
                Unit::Seconds => "_seconds",
                Unit::Bytes => "_bytes",
                Unit::Timestamp if name.starts_with("process_") => "_time_seconds",
                Unit::Timestamp => "_timestamp_seconds",
                Unit::Count | Unit::Flag => "",
            };
            assert!(base.ends_with(suffix), "{name}: its unit is not in its name");
            assert!(help.ends_with('.') && help.len() > 8, "{name}: {help}");
            let bad = ["domain", "remote", "peer", "le", "quantile", "job", "instance"];
            assert!(labels.iter().all(|label| !bad.contains(label)), "{name}: {labels:?}");
        }
    }
}
