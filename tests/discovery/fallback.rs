//! No SRV record speaks of a way: a domain's own addresses are tried, by TCP with port 5269, and by QUIC with 443 if the
//! operator wants it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use fedmux::reason::Reason;
use fedmux::relay::settings::Transport;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::RecordType;
use tokio::net::UdpSocket;

use crate::dns_server::{Misbehaviour, Zone};
use crate::scene::{black_hole, if_free, opened, own_loopback, plan, said_reason, way, zone};
use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::provider::Provider;
use crate::support::tcp_peer::Listening;

const S2S: u16 = 5269;
const HTTPS: u16 = 443;

/// A server of x.test at port 5269 of an address.
async fn at_5269(authority: &Authority, ip: IpAddr) -> Option<Listening> {
    let address = SocketAddr::new(ip, S2S);
    let certificate = authority.certify(&["x.test"]);
    // There is one ::1, and another test may hold its port for a moment.
    for _ in 0..100 {
        match Listening::at(address, &certificate).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            bound => return if_free(bound, S2S),
        }
    }
    if_free(Listening::at(address, &certificate).await, S2S)
}

/// A relay that knows `zone`, and has something for x.test.
async fn sending(authority: &Authority, zone: Zone, quic_443: bool) -> (Provider, impl Sized) {
    let dns = zone.serve().await;
    let mut plan = plan(authority, &["a1.test"]).await.finding_by(dns.address);
    plan.settings.dns.as_mut().unwrap().quic_443 = quic_443;
    let mut relay = plan.start().await;
    relay.host("a1.test").send("x.test", "first").await;
    (relay, dns)
}

#[tokio::test]
async fn a_domain_without_srv_records_is_reached_at_its_own_addresses_and_port_5269() {
    let authority = Authority::new();
    let hole = black_hole().await;
    let v4 = own_loopback();
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    let a = format!("x.test A {v4}");
    for (ip, records) in [
        (v4, vec![a.clone()]),
        (v6, vec!["x.test AAAA ::1".to_owned()]),
        // QUIC alone says nothing about TCP, and nor does that it isn't offered.
        (v4, [way("x.test", Transport::Quic, hole.local_addr().unwrap()), vec![a.clone()]].concat()),
        (v4, vec!["_xmpp-server._quic.x.test SRV 0 0 0 .".to_owned(), a.clone()]),
        (v4, vec!["x.test CNAME alias.test".to_owned(), format!("alias.test A {v4}")]),
    ] {
        let Some(peer) = at_5269(&authority, ip).await else { continue };
        let (relay, _dns) = sending(&authority, zone(&[records]), false).await;
        let mut wire = peer.starttls().await.unwrap();
        wire.accept().await;
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"));
        assert_eq!(opened(&relay, Transport::StartTls, "outbound"), 1);
        relay.is_balanced().await;
        relay.assert_unharmed();
    }
}

/// Whoever can make a look-up fail could else choose where we connect.
#[tokio::test]
async fn port_5269_is_not_tried_where_an_srv_name_exists_or_its_look_up_failed() {
    let authority = Authority::new();
    let ip = own_loopback();
    let Some(peer) = at_5269(&authority, ip).await else { return };
    let own = format!("x.test A {ip}");
    let fails = |labels: &str| {
        let code = Misbehaviour::Code(ResponseCode::ServFail);
        Zone::new(&[&own]).misbehave(&format!("{labels}.x.test"), RecordType::SRV, code)
    };
    for (zone, reason) in [
        (Zone::new(&[&own, "_xmpp-server._tcp.x.test SRV 0 0 0 ."]), Reason::ServiceNotOffered),
        (Zone::new(&[&own, "_xmpps-server._tcp.x.test SRV 0 0 0 ."]), Reason::ServiceNotOffered),
        (Zone::new(&[&own, "_xmpps-server._tcp.x.test SRV 0 0 5270 nowhere.test"]), Reason::NameNotResolved),
        (fails("_xmpp-server._tcp"), Reason::DnsFailed),
        (fails("_xmpps-server._tcp"), Reason::DnsFailed),
    ] {
        let dns = zone.serve().await;
        let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
        let plan = plan.limits(|limits| limits.hold = Duration::from_secs(1));
        let mut relay = plan.start().await;
        let mut a1 = relay.host("a1.test");
        a1.send("x.test", "first").await;
        assert_eq!(said_reason(&a1.receive().await), reason.as_str());
        assert!(peer.another().is_none(), "{reason}");
        relay.is_balanced().await;
    }
}

#[tokio::test]
async fn udp_443_is_tried_where_the_operator_wants_it_and_no_record_speaks_of_quic() {
    let authority = Authority::new();
    let address = SocketAddr::new(own_loopback(), HTTPS);
    let peer = Peer::bound(address, &authority.certify(&["x.test"]));
    let Some(peer) = if_free(peer, HTTPS) else { return };
    let (relay, _dns) = sending(&authority, Zone::new(&[&format!("x.test A {}", address.ip())]), true).await;
    let connection = peer.accept().await;
    let mut lane = connection.accept().await;
    lane.accept().await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("first"));
    assert_eq!(opened(&relay, Transport::Quic, "outbound"), 1);
    relay.is_balanced().await;
    relay.assert_unharmed();
}

#[tokio::test]
async fn udp_443_is_left_alone_without_a_word_of_the_operator_and_where_a_record_speaks_of_quic() {
    let authority = Authority::new();
    let ip = own_loopback();
    let Some(https) = if_free(UdpSocket::bind((ip, HTTPS)).await, HTTPS) else { return };
    let Some(peer) = at_5269(&authority, ip).await else { return };
    let own = format!("x.test A {ip}");
    for (quic_443, zone) in
        [(false, Zone::new(&[&own])), (true, Zone::new(&[&own, "_xmppq-server._udp.x.test SRV 0 0 0 ."]))]
    {
        let (relay, _dns) = sending(&authority, zone, quic_443).await;
        let mut wire = peer.starttls().await.unwrap();
        wire.accept().await;
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"));
        assert!(https.try_recv_from(&mut [0; 2048]).is_err());
        relay.assert_unharmed();
    }
}

/// A network that swallows it costs a moment, and then TCP is used.
#[tokio::test]
async fn where_udp_443_swallows_everything_port_5269_takes_the_first_stanza() {
    let authority = Authority::new();
    let ip = own_loopback();
    let Some(https) = if_free(UdpSocket::bind((ip, HTTPS)).await, HTTPS) else { return };
    let Some(peer) = at_5269(&authority, ip).await else { return };
    let (relay, _dns) = sending(&authority, Zone::new(&[&format!("x.test A {ip}")]), true).await;
    let mut wire = peer.starttls().await.unwrap();
    wire.accept().await;
    assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"));
    assert!(https.try_recv_from(&mut [0; 2048]).is_ok(), "it was tried first");
    assert_eq!(relay.metric("fedmux_dial_failures_total", &[]), 0, "it was one race");
    relay.assert_unharmed();
}
