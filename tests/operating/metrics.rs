//! Metrics of whole relays, each against what was done. Those that belong to one part are held by its own suite.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use fedmux::metrics::catalogue::METRICS;
use fedmux::relay::settings::Placement;

use crate::support::certificates::Authority;
use crate::support::provider::{Plan, Provider};
use crate::support::until;

/// The value of the one series that begins so.
fn value(provider: &Provider, series: &str) -> f64 {
    let text = provider.relay.metrics_text();
    let found: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).collect();
    let [value] = found[..] else { panic!("{series}: {found:?} in\n{text}") };
    value.parse().unwrap()
}

/// Two relays, of which a names its hosts.
async fn relays(authority: &Authority) -> [Provider; 2] {
    let mut a = Plan::new(authority, &["a1.test", "a2.test"]).await;
    a.settings.admin_name_hosts = true;
    let (a, b) = (a.bind(), Plan::new(authority, &["b.test"]).await.bind());
    let (at_a, at_b) = (a.quic, b.quic);
    let a = a.peer(&["b.test"], at_b, Placement::default()).start().await;
    let b = b.peer(&["a1.test", "a2.test"], at_a, Placement::default()).start().await;
    [a, b]
}

/// Nobody is named unless it is asked for.
fn names_nobody(relay: &Provider) {
    let text = relay.relay.metrics_text();
    assert!(!text.contains("a1.test") && !text.contains("b.test"), "{text}");
}

#[tokio::test]
async fn a_scrape_shows_what_two_relays_did() {
    let authority = Authority::new();
    let [mut a, mut b] = relays(&authority).await;
    let (mut a1, mut a2, mut other) = (a.host("a1.test"), a.host("a2.test"), b.host("b.test"));
    a1.send("b.test", "1").await;
    a1.say("b.test", "<presence from='a1.test' to='b.test' id='2'/>").await;
    a2.send("b.test", "3").await;
    for _ in 0..3 {
        other.receive().await;
    }
    other.send("a1.test", "4").await;
    a1.receive().await;
    until("everything to be acknowledged", || value(&a, "fedmux_stanzas_in_custody") == 0.0).await;
    for (series, expected) in [
        ("fedmux_sessions{direction=\"outbound\",transport=\"quic\"}", 1.0),
        ("fedmux_domain_pairs", 2.0),
        ("fedmux_connections_saved", 1.0),
        ("fedmux_stanzas_accepted_total{kind=\"message\",side=\"local\"}", 2.0),
        ("fedmux_stanzas_accepted_total{kind=\"presence\",side=\"local\"}", 1.0),
        ("fedmux_stanzas_accepted_total{kind=\"iq\",side=\"local\"}", 0.0),
        ("fedmux_stanzas_accepted_total{kind=\"message\",side=\"remote\"}", 1.0),
        ("fedmux_host_stanzas_total{direction=\"sent\",host=\"a1.test\"}", 2.0),
        ("fedmux_host_stanzas_total{direction=\"received\",host=\"a1.test\"}", 1.0),
        ("fedmux_host_stanzas_total{direction=\"sent\",host=\"a2.test\"}", 1.0),
        (
            "fedmux_handshake_duration_seconds_count{direction=\"outbound\",result=\"done\",transport=\"quic\"}",
            1.0,
        ),
        ("fedmux_queues_waiting", 0.0),
        ("fedmux_queue_oldest_seconds", 0.0),
        ("fedmux_routes_waiting{for=\"back-off\"}", 0.0),
        ("fedmux_peers{state=\"idle\"}", 1.0),
        ("fedmux_hosts_without_certificate", 0.0),
        ("fedmux_certificates", 1.0),
        ("fedmux_reload_refused", 0.0),
        ("fedmux_quic_migrations_total", 0.0),
    ] {
        assert_eq!(value(&a, series), expected, "{series}");
    }
    assert_eq!(
        value(
            &b,
            "fedmux_handshake_duration_seconds_count{direction=\"inbound\",result=\"done\",transport=\"quic\"}"
        ),
        1.0
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    for series in [
        "fedmux_certificate_not_after_timestamp_seconds",
        "fedmux_host_certificate_not_after_timestamp_seconds{host=\"a2.test\"}",
    ] {
        assert!(value(&a, series) > now + 86_400.0, "{series}");
    }
    for series in [
        "fedmux_quic_packets_sent_total",
        "fedmux_quic_bytes_total{direction=\"received\"}",
        "fedmux_quic_rtt_seconds{statistic=\"middle\"}",
        "fedmux_quic_congestion_window_bytes{statistic=\"greatest\"}",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
    ] {
        assert!(value(&a, series) > 0.0, "{series}");
    }
    assert!((value(&a, "process_start_time_seconds") - now).abs() < 3_600.0);
    names_nobody(&b);
}

#[tokio::test]
async fn the_sessions_that_carry_most_are_shown_one_by_one_and_their_sums_go_on_without_them() {
    let authority = Authority::new();
    let [mut a, mut b] = relays(&authority).await;
    a.host("a1.test").send("b.test", "1").await;
    b.host("b.test").receive().await;
    until("the session to be shown", || a.relay.metrics_text().contains("\nfedmux_session_info{")).await;
    let text = a.relay.metrics_text();
    let line = text.lines().find(|line| line.starts_with("fedmux_session_info{")).unwrap();
    assert!(line.contains("direction=\"outbound\"") && line.contains("transport=\"quic\""), "{line}");
    let session = line.split("session=\"").nth(1).unwrap().split('"').next().unwrap();
    let of = |name: &str| value(&a, &format!("fedmux_session_{name}{{session=\"{session}\"}}"));
    assert!(
        of("lanes") >= 1.0
            && of("routes") >= 1.0
            && of("rtt_seconds") > 0.0
            && of("packets_sent_total") > 0.0
    );
    // Each scrape makes them anew: what is counted never doubles.
    let [first, second] = [of("packets_sent_total"), of("packets_sent_total")];
    assert!(second < 2.0 * first, "{first} and then {second}");
    let before = value(&a, "fedmux_quic_packets_sent_total");
    let _stopped = b.stop().await;
    until("the session to be gone", || !a.relay.metrics_text().contains("\nfedmux_session_info{")).await;
    assert!(value(&a, "fedmux_quic_packets_sent_total") >= before);
    let ended = a.metric("fedmux_sessions_ended_total", &[]);
    assert_eq!(ended, 1);
}

#[tokio::test]
async fn what_waits_and_what_fails_shows_in_gauges() {
    let authority = Authority::new();
    let hole = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let plan = Plan::new(&authority, &["a.test"]).await.limits(|limits| {
        limits.connect = Duration::from_millis(200);
        limits.retry_min = Duration::from_secs(50);
    });
    let mut a = plan.peer(&["b.test"], hole.local_addr().unwrap()).start().await;
    a.host("a.test").send("b.test", "1").await;
    until("a back-off", || value(&a, "fedmux_routes_waiting{for=\"back-off\"}") == 1.0).await;
    assert_eq!(value(&a, "fedmux_peers{state=\"back-off\"}"), 1.0);
    let given_up = "fedmux_handshake_duration_seconds_count{direction=\"outbound\",result=\"abandoned\",transport=\"quic\"}";
    assert_eq!(value(&a, given_up), 1.0);
    for series in ["fedmux_queues_waiting", "fedmux_queue_waiting_stanzas", "fedmux_stanzas_in_custody"] {
        assert_eq!(value(&a, series), 1.0, "{series}");
    }
    let oldest = value(&a, "fedmux_queue_oldest_seconds");
    until("it to grow older", || value(&a, "fedmux_queue_oldest_seconds") > oldest).await;
    assert!(value(&a, "fedmux_queue_longest_bytes") == value(&a, "fedmux_queue_waiting_bytes"));
    assert_eq!(value(&a, "fedmux_connections_saved"), 0.0);
}

/// Of the Prosody module, in whose configuration they stand.
const SETTINGS: [&str; 4] = ["fedmux_address", "fedmux_port", "fedmux_sources", "fedmux_unacked_max"];

/// A word in the documentation for which there is no metric leads people astray.
#[test]
fn whatever_the_documentation_names_is_declared() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let declared: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    for file in [
        "README.md",
        "CHANGELOG.md",
        "config/fedmux.toml",
        "config/systemd/README.md",
        "config/prosody/README.md",
        "config/ejabberd/README.md",
    ] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for word in words
            .filter(|word| word.starts_with("fedmux_") && !word.ends_with('_') && !SETTINGS.contains(word))
        {
            assert!(declared.contains(word), "{file} names {word}, which is no metric");
        }
    }
}
