//! A status of thousands of pairs on a terminal.

use super::columns::{cut, number, octets, short_time, some, time};
use super::table;
use crate::relay::status::{
    Ledger, LocalStatus, PairStatus, PathStatus, PeerStatus, ProvenDomain, Queued, Reloaded, Saved,
    SessionFacts, SessionStatus, Status,
};

fn proven(domain: String, by: &str) -> ProvenDomain {
    ProvenDomain { domain, by: by.to_owned(), until: "2027-02-01T00:00:00Z".to_owned() }
}

fn session(session: u64, oldest_seconds: Option<f64>, answers: bool) -> SessionStatus {
    let theirs = (0..100).map(|n| proven(format!("rooms-{n}.a-customer-of-the-peer.example"), "certificate"));
    let joined = proven("muc.b.example".to_owned(), "mux-secret");
    let told = SessionFacts {
        opened_by_us: true,
        up_seconds: 7,
        authenticated: true,
        multiplexed: true,
        theirs: theirs.chain([joined]).collect(),
        ours: vec![proven("a.example".to_owned(), "certificate")],
        path: Some(PathStatus {
            rtt_seconds: 0.0123,
            congestion_window: 65_536,
            packets_sent: 12_345,
            packets_lost: 6,
            congestion_events: 1,
        }),
    };
    SessionStatus {
        session,
        peer: "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:5269".to_owned(),
        transport: "direct-tls".to_owned(),
        told: answers.then_some(told),
        lanes: 5_000,
        routes: 5_000,
        retiring: false,
        queued: Queued { stanzas: 3, bytes: 3_000, sent_bytes: 0, oldest_seconds },
    }
}

fn pair(n: usize) -> PairStatus {
    PairStatus {
        from: format!("host-{n}.a-customer-with-a-long-name.example"),
        to: format!("rooms.peer-{n}.example"),
        session: n.is_multiple_of(2).then_some(7),
        waits_for: (n % 2 == 1).then(|| "back-off".to_owned()),
        reason: Some("certificate-unknown-issuer".to_owned()),
        queued: Queued { stanzas: n, bytes: n, sent_bytes: n, oldest_seconds: Some(0.5) },
    }
}

fn status() -> Status {
    let peer = |n: usize| PeerStatus {
        peer: format!("peer-{n}.example"),
        configured: false,
        state: "back-off".to_owned(),
        waiting: n,
        reason: Some("connection-timeout".to_owned()),
        down_seconds: Some(n as u64),
        retry_seconds: Some(3),
        refused: 0,
        single_stream: false,
    };
    Status {
        version: "0.1.0".to_owned(),
        at: "2026-11-28T20:15:00Z".to_owned(),
        up_seconds: 100_000,
        draining: false,
        hosts: 100,
        saved: Saved { domain_pairs: 5_000, connections: 12, connections_saved: 4_988 },
        stanzas: Ledger {
            accepted: 9_999_999,
            delivered: 9_999_990,
            bounced: 3,
            discarded: 1,
            in_custody: 5,
        },
        queued: Queued { stanzas: 5, bytes: 2_000_000, sent_bytes: 10, oldest_seconds: Some(90.0) },
        reload: Some(Reloaded {
            at: "2026-11-28T20:15:00Z".to_owned(),
            refused: Some("limits.lanes is 0: f.toml:13: write a whole number from 1 to 1000000".to_owned()),
            changed: Vec::new(),
            needs_restart: Vec::new(),
        }),
        sessions: (0..12).map(|n| session(n, (n == 5).then_some(42.0), n != 11)).collect(),
        peers: (0..3_000).map(peer).collect(),
        local: vec![LocalStatus {
            server: "127.0.0.2:5269".to_owned(),
            state: "down".to_owned(),
            waiting: 2,
            reason: Some("connection-refused".to_owned()),
            down_seconds: Some(61),
        }],
        pairs: (0..5_000).map(pair).collect(),
    }
}

#[test]
fn thousands_of_pairs_fit_a_terminal_with_the_worst_first() {
    let text = table::render(&status());
    let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    assert!(text.lines().count() < 120, "{} lines", text.lines().count());
    for expected in [
        "fedmux 0.1.0, running for 1 d 3 h, 100 hosts; 2026-11-28T20:15:00Z\n",
        "  pairs    5,000 on 12 connections with peers: 4,988 connections saved\n",
        "  stanzas  9,999,999 accepted: 9,999,990 delivered, 3 bounced,\n           1 discarded, 5 in custody\n",
        "  queued   5 stanzas (1.9 MiB), the oldest for 1 min\n           10 B sent and not acknowledged\n",
        "  reload   not reloaded at",
        "\nSessions (12, the worst 10 of which)\n",
        "  5: peer by certificate until 2027-02-01: ",
        "  5: peer by mux-secret until 2027-02-01: muc.b.example\n",
        "  5: round trip 12.3 ms, 6 of 12,345 packets lost, window 64.0 KiB\n",
        "\nPeers: 3,000 known, 3,000 in trouble or being reached\n",
        "  and 2,990 more; --json shows all\n",
        "\nWaiting (2,500, the worst 10 of which)\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word:?} is not in\n{text}"));
    assert!(at("no answer") < at("\n  5  "), "who doesn't answer comes first\n{text}");
    assert!(at("\n  5  ") < at("\n  0  "), "then who is late\n{text}");
    assert!(at("peer-2999.example") < at("peer-2998.example"), "{text}");
}

#[test]
fn a_quiet_relay_says_little() {
    let quiet = Status {
        sessions: Vec::new(),
        peers: Vec::new(),
        local: Vec::new(),
        pairs: Vec::new(),
        reload: None,
        queued: Queued::default(),
        ..status()
    };
    let text = table::render(&quiet);
    assert!(text.contains("  queued   nothing\n") && text.lines().count() < 15, "{text}");
}

#[test]
fn figures_are_read_at_a_glance() {
    assert_eq!(
        [number(0), number(999), number(1_000), number(-12_345_678)],
        ["0", "999", "1,000", "-12,345,678"]
    );
    assert_eq!(
        [octets(1023), octets(1536), octets(3 << 20), octets(5 << 40)],
        ["1023 B", "1.5 KiB", "3.0 MiB", "5120.0 GiB"]
    );
    assert_eq!([time(59), time(61), time(7_260), time(90_000)], ["59 s", "1 min", "2 h 1 min", "1 d 1 h"]);
    assert_eq!([short_time(0.04), short_time(9.99), short_time(61.0)], ["0.0 s", "10.0 s", "1 min"]);
    assert_eq!(cut("rooms.long.example", 10), "room..mple");
    assert_eq!(some(&["a.test", "b.test"], 60), "a.test, b.test");
    assert_eq!(some(&["a.test", "b.test", "c.test"], 33), "a.test, b.test and 1 more");
}
