//! DNS that fails, and peers that do: within the configured time the sender is told why, and nothing is tried more often
//! than its back-off says.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use fedmux::reason::Reason;
use fedmux::relay::settings::Transport;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::RecordType;

use crate::dns_server::{Misbehaviour, TestServer, Zone};
use crate::scene::{black_hole, drops_syn, plan, said_reason, way, zone};
use crate::support::certificates::Authority;
use crate::support::log::Log;
use crate::support::provider::Provider;
use crate::support::tcp_peer::Listening;

/// How long a stanza waits for a way, and what a busy machine may add.
const HOLD: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(10);
const RETRY_MIN: Duration = Duration::from_millis(200);
/// All that is asked for a domain in one round.
const NAMES: [&str; 4] =
    ["_xmpp-server._quic", "_xmppq-server._udp", "_xmpps-server._tcp", "_xmpp-server._tcp"];

async fn relay(authority: &Authority, dns: &TestServer) -> Provider {
    let plan = plan(authority, &["a1.test"]).await.finding_by(dns.address);
    let plan = plan.limits(|limits| {
        limits.hold = HOLD;
        limits.hold_iq = HOLD;
        limits.look_up = Duration::from_millis(800);
        limits.retry_min = RETRY_MIN;
    });
    plan.start().await
}

/// The same for all names of x.test.
fn everything(how: &Misbehaviour) -> Zone {
    let mut zone = Zone::new(&[]);
    for labels in NAMES {
        zone = zone.misbehave(&format!("{labels}.x.test"), RecordType::SRV, how.clone());
    }
    let own = |zone: Zone, kind| zone.misbehave("x.test", kind, how.clone());
    own(own(zone, RecordType::A), RecordType::AAAA)
}

/// Twenty stanzas come back for `reason` in time. How far apart the rounds of look-ups were.
async fn come_back(dns: &TestServer, reason: Reason) -> Vec<Duration> {
    const STANZAS: u64 = 20;
    let mut relay = relay(&Authority::new(), dns).await;
    let mut a1 = relay.host("a1.test");
    let began = Instant::now();
    for n in 0..STANZAS {
        a1.send("x.test", &n.to_string()).await;
    }
    for _ in 0..STANZAS {
        assert_eq!(said_reason(&a1.receive().await), reason.as_str());
    }
    assert!(began.elapsed() < HOLD + SLACK, "{:?}", began.elapsed());
    assert_eq!(relay.metric("fedmux_stanzas_bounced_total", &[("reason", reason.as_str())]), STANZAS);
    let look_ups = relay.metric("fedmux_look_up_duration_seconds_count", &[]);
    assert!((1..8).contains(&look_ups), "{look_ups} look-ups");
    if reason != Reason::NoRecords {
        let failed = relay.metric("fedmux_look_ups_failed_total", &[("reason", reason.as_str())]);
        assert_eq!(failed, look_ups);
    }
    relay.is_balanced().await;
    relay.assert_unharmed();
    // A question may be asked again over TCP, within its round.
    let mut rounds = dns.asked_at("SRV _xmpp-server._tcp.x.test.");
    assert!(!rounds.is_empty());
    rounds.dedup_by(|later, earlier| later.duration_since(*earlier) < Duration::from_millis(800));
    rounds.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Failures stand for two seconds, for everybody who asks.
fn are_apart(gaps: &[Duration]) {
    assert!(gaps.iter().all(|gap| *gap >= Duration::from_millis(1_900)), "{gaps:?}");
    assert!(gaps.len() <= 4, "{gaps:?}");
}

#[tokio::test]
async fn a_server_that_fails_is_asked_again_with_back_off_and_the_sender_is_told() {
    let dns = everything(&Misbehaviour::Code(ResponseCode::ServFail)).serve().await;
    are_apart(&come_back(&dns, Reason::DnsFailed).await);
}

#[tokio::test]
async fn a_server_that_is_silent_is_asked_again_with_back_off_and_the_sender_is_told() {
    let dns = everything(&Misbehaviour::Silent).serve().await;
    are_apart(&come_back(&dns, Reason::DnsTimeout).await);
}

#[tokio::test]
async fn names_that_lead_in_a_circle_end_and_the_sender_is_told() {
    let circle: Vec<String> = NAMES
        .iter()
        .flat_map(|labels| {
            [
                format!("{labels}.x.test CNAME {labels}.y.test"),
                format!("{labels}.y.test CNAME {labels}.x.test"),
            ]
        })
        .collect();
    let dns = zone(&[circle]).serve().await;
    are_apart(&come_back(&dns, Reason::DnsFailed).await);
}

#[tokio::test]
async fn what_dns_says_for_good_is_told_at_once() {
    for (record, reason) in [
        ("other.test A 127.0.0.1", Reason::NoRecords),
        ("_xmpp-server._tcp.x.test SRV 0 0 0 .", Reason::ServiceNotOffered),
    ] {
        let dns = Zone::new(&[record]).serve().await;
        assert!(come_back(&dns, reason).await.is_empty(), "asked once");
    }
}

/// The peer takes each connection and closes it.
#[tokio::test]
async fn a_peer_that_fails_is_dialled_again_with_back_off_and_the_sender_is_told() {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["x.test"])).await;
    let dns = zone(&[way("x.test", Transport::DirectTls, peer.address)]).serve().await;
    let mut relay = relay(&authority, &dns).await;
    let mut a1 = relay.host("a1.test");
    for n in 0..20 {
        a1.send("x.test", &n.to_string()).await;
    }
    let mut dialled = Vec::new();
    let bounced = loop {
        tokio::select! {
            tcp = peer.tcp() => {
                dialled.push(Instant::now());
                drop(tcp);
            }
            bounced = a1.receive() => break bounced,
        }
    };
    assert_eq!(said_reason(&bounced), Reason::ConnectionLost.as_str());
    let gaps: Vec<Duration> = dialled.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.len() >= 2, "it does try again: {gaps:?}");
    for (n, gap) in gaps.iter().enumerate() {
        // Between half of the back-off and all of it; what the two ends see of an attempt is a moment apart.
        let least = RETRY_MIN.mul_f64(0.5 * f64::from(1 << n)) - Duration::from_millis(50);
        assert!(*gap >= least, "{gaps:?}");
    }
    assert_eq!(dns.asked_at("SRV _xmpps-server._tcp.x.test.").len(), 1, "its records hold");
}

#[tokio::test]
async fn where_every_way_swallows_everything_the_sender_is_told_in_time() {
    let authority = Authority::new();
    let log = Log::capture();
    let (udp, tcp) = (black_hole().await, drops_syn(Ipv4Addr::LOCALHOST.into()).await);
    let tcp6 = drops_syn(Ipv6Addr::LOCALHOST.into()).await;
    let port = udp.local_addr().unwrap().port();
    let dns = zone(&[
        way("x.test", Transport::Quic, udp.local_addr().unwrap()),
        way("x.test", Transport::DirectTls, tcp.address),
        way("x.test", Transport::StartTls, tcp6.address),
    ]);
    let dns = dns.serve().await;
    let mut relay = relay(&authority, &dns).await;
    let mut a1 = relay.host("a1.test");
    let began = Instant::now();
    a1.send("x.test", "x").await;
    assert_eq!(said_reason(&a1.receive().await), Reason::ConnectionTimeout.as_str());
    assert!(began.elapsed() < HOLD + SLACK, "{:?}", began.elapsed());
    let line = log.line("peer not reached").await;
    let tried = format!(
        "quic.x.test:{port} by quic, direct-tls.x.test:{} by direct-tls, starttls.x.test:{} by starttls",
        tcp.address.port(),
        tcp6.address.port()
    );
    assert_eq!((line.field("tried"), line.field("reason")), (&*tried, Reason::ConnectionTimeout.as_str()));
    assert!(relay.metric("fedmux_dial_failures_total", &[]) <= 2, "each takes the time of a whole race");
    relay.is_balanced().await;
}
