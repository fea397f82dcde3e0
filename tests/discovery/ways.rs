//! Some of the ways to a peer are dead, and some answers don't come: the first stanza takes the way that works, within the
//! bound of the race.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use fedmux::proto::race::ATTEMPT_DELAY;
use fedmux::relay::settings::Transport;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::RecordType;
use tokio::net::{TcpListener, UdpSocket};

use crate::dns_server::{Misbehaviour, Zone};
use crate::scene::{CONNECT, DropsSyn, black_hole, drops_syn, plan, way, zone};
use crate::support::certificates::{Authority, Certificate};
use crate::support::peer::Peer;
use crate::support::tcp_peer::{Listening, TRANSPORTS};
use crate::support::wire::Wire;

/// What all look-ups take together at most, as in [`crate::scene::limits`].
const LOOK_UP: Duration = Duration::from_secs(2);

/// A peer that is reached by Direct TLS; `records` leads to it, given its address.
async fn arrives(records: impl AsyncFnOnce(SocketAddr) -> Zone) {
    arrives_by(Transport::DirectTls, records).await;
}

async fn arrives_by(transport: Transport, records: impl AsyncFnOnce(SocketAddr) -> Zone) {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["x.test"])).await;
    let dns = records(peer.address).await.serve().await;
    let mut relay = plan(&authority, &["a1.test"]).await.finding_by(dns.address).start().await;
    let mut a1 = relay.host("a1.test");
    let began = Instant::now();
    a1.send("x.test", "first").await;
    let mut wire = peer.accept(transport).await.unwrap();
    let took = began.elapsed();
    wire.accept().await;
    assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"));
    assert!(took < LOOK_UP + CONNECT, "{took:?}");
    assert_eq!(relay.metric("fedmux_dial_failures_total", &[]), 0, "it was one race");
    relay.is_balanced().await;
    relay.assert_unharmed();
}

fn tls(address: SocketAddr) -> Vec<String> {
    way("x.test", Transport::DirectTls, address)
}

#[tokio::test]
async fn thirty_targets_that_swallow_everything_leave_time_for_the_one_that_answers() {
    let hole = black_hole().await;
    let port = hole.local_addr().unwrap().port();
    arrives(async |address| {
        let dead = (0..30).flat_map(|n| {
            [
                format!("_xmpp-server._quic.x.test SRV {n} 0 {port} q{n}.x.test"),
                format!("q{n}.x.test A 127.0.0.1"),
                format!("q{n}.x.test A 127.0.1.{}", n + 1),
            ]
        });
        let alive = tls(address).into_iter().map(|record| record.replace("SRV 0", "SRV 100"));
        zone(&[dead.collect(), alive.collect()])
    })
    .await;
}

/// A SYN gets no answer at all there, by IPv4 or IPv6; and of a server that has both addresses one may be dead.
#[tokio::test]
async fn addresses_that_drop_every_syn_cost_a_moment() {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    for transport in TRANSPORTS {
        for dead in [vec![v4], vec![v6], vec![v6, v4], vec![v4, v6, v4, v6, v4, v6]] {
            let mut holes = Vec::new();
            for ip in &dead {
                holes.push(drops_syn(*ip).await);
            }
            let records = holes.iter().enumerate().flat_map(|(n, hole)| {
                let records = way("x.test", transport, hole.address).into_iter();
                let name = format!("dead{n}.x.test");
                records.map(move |record| record.replace(&format!("{transport}.x.test"), &name))
            });
            let records: Vec<String> = records.collect();
            arrives_by(transport, async |address| {
                let alive = way("x.test", transport, address).into_iter();
                zone(&[records, alive.map(|record| record.replace("SRV 0", "SRV 9")).collect()])
            })
            .await;
        }
    }
}

/// What is at the two addresses of one server, by the same port: nothing at ::1, and a peer at 127.0.0.1.
enum HalfAlive {
    Quic(UdpSocket, Peer),
    Tcp(DropsSyn, Listening),
}

impl HalfAlive {
    async fn start(transport: Transport, certificate: &Certificate) -> Self {
        loop {
            // Another process may hold the port at 127.0.0.1.
            if transport == Transport::Quic {
                let hole = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
                let alive = SocketAddr::from((Ipv4Addr::LOCALHOST, hole.local_addr().unwrap().port()));
                if let Ok(peer) = Peer::bound(alive, certificate) {
                    return Self::Quic(hole, peer);
                }
            } else {
                let hole = drops_syn(Ipv6Addr::LOCALHOST.into()).await;
                let alive = SocketAddr::from((Ipv4Addr::LOCALHOST, hole.address.port()));
                if let Ok(peer) = Listening::at(alive, certificate).await {
                    return Self::Tcp(hole, peer);
                }
            }
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Quic(_, peer) => peer.address,
            Self::Tcp(hole, peer) => {
                assert_eq!(hole.address.port(), peer.address.port());
                peer.address
            }
        }
    }

    /// The relay's stream.
    async fn accept(&self, transport: Transport) -> Wire {
        match self {
            Self::Quic(_, peer) => peer.accept().await.accept().await,
            Self::Tcp(_, peer) => peer.accept(transport).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn a_server_whose_ipv6_address_is_a_black_hole_is_reached_by_ipv4() {
    let authority = Authority::new();
    let certificate = authority.certify(&["x.test"]);
    for transport in [Transport::Quic, Transport::DirectTls, Transport::StartTls] {
        let server = HalfAlive::start(transport, &certificate).await;
        let mut records = way("x.test", transport, server.address());
        records.push(format!("{transport}.x.test AAAA ::1"));
        let dns = zone(&[records]).serve().await;
        let mut plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
        plan.settings.remote_quic.push(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
        let mut relay = plan.start().await;
        let began = Instant::now();
        relay.host("a1.test").send("x.test", "first").await;
        let mut wire = server.accept(transport).await;
        let took = began.elapsed();
        wire.accept().await;
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"));
        assert!(took > ATTEMPT_DELAY && took < LOOK_UP + CONNECT, "{took:?}, and IPv6 comes first");
        if let HalfAlive::Quic(hole, _) = &server {
            assert!(hole.try_recv_from(&mut [0; 2048]).is_ok(), "IPv6 was tried");
        }
        assert_eq!(relay.metric("fedmux_dial_failures_total", &[]), 0, "it was one race");
        relay.is_balanced().await;
        relay.assert_unharmed();
    }
}

/// Whoever connects there is never spoken to.
#[tokio::test]
async fn an_ipv6_address_that_takes_connections_and_says_nothing_costs_a_moment() {
    // A machine without IPv6 refuses at once, which is no harder.
    let dead = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.ok();
    let port = dead.as_ref().map_or(1, |dead| dead.local_addr().unwrap().port());
    arrives(async |address| {
        zone(&[vec![
            format!("_xmpps-server._tcp.x.test SRV 0 0 {port} dead.x.test"),
            "dead.x.test AAAA ::1".to_owned(),
            format!("_xmpps-server._tcp.x.test SRV 0 0 {} both.x.test", address.port()),
            "both.x.test AAAA ::1".to_owned(),
            "both.x.test A 127.0.0.1".to_owned(),
        ]])
    })
    .await;
}

#[tokio::test]
async fn answers_that_come_late_come_in_time() {
    let late = Misbehaviour::Slow(Duration::from_millis(300));
    arrives(async |address| {
        zone(&[tls(address)]).misbehave("_xmpps-server._tcp.x.test", RecordType::SRV, late.clone()).misbehave(
            "direct-tls.x.test",
            RecordType::A,
            late,
        )
    })
    .await;
}

#[tokio::test]
async fn what_dns_does_not_say_of_one_way_leaves_the_others() {
    for how in [Misbehaviour::Silent, Misbehaviour::Code(ResponseCode::ServFail), Misbehaviour::Referral] {
        arrives(async |address| {
            zone(&[tls(address)])
                .misbehave("_xmpp-server._quic.x.test", RecordType::SRV, how.clone())
                .misbehave("_xmpp-server._tcp.x.test", RecordType::SRV, how.clone())
                .misbehave("direct-tls.x.test", RecordType::AAAA, how)
        })
        .await;
    }
}

/// The relay listens on IPv4 alone, so that it can't dial IPv6 over QUIC.
#[tokio::test]
async fn an_address_of_a_family_that_the_relay_does_not_have_is_passed_over() {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["x.test"]));
    let dns = zone(&[way("x.test", Transport::Quic, peer.address), vec!["quic.x.test AAAA ::1".to_owned()]]);
    let dns = dns.serve().await;
    let mut relay = plan(&authority, &["a1.test"]).await.finding_by(dns.address).start().await;
    relay.host("a1.test").send("x.test", "first").await;
    let connection = peer.accept().await;
    let mut lane = connection.accept().await;
    lane.accept().await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("first"));
    relay.assert_unharmed();
}
