//! Records, and relays that know their peers by these alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine as _;
use fedmux::proto::limits::Limits;
use fedmux::relay::settings::Transport;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use crate::dns_server::{TestServer, Zone};
use crate::support::certificates::Authority;
use crate::support::provider::{Bound, Plan, Provider};

/// One attempt to connect, in these tests: long enough for a busy machine, and short enough to wait for.
pub(crate) const CONNECT: Duration = Duration::from_secs(4);

/// The records by which `domain` is reached over `transport` at `address`, by a host of its own for each.
pub(crate) fn way(domain: &str, transport: Transport, address: SocketAddr) -> Vec<String> {
    let labels = match transport {
        Transport::Quic => "_xmpp-server._quic",
        Transport::DirectTls => "_xmpps-server._tcp",
        Transport::StartTls => "_xmpp-server._tcp",
    };
    way_by(labels, domain, transport, address)
}

/// The same with an SRV name of these labels.
pub(crate) fn way_by(labels: &str, domain: &str, transport: Transport, address: SocketAddr) -> Vec<String> {
    let target = format!("{transport}.{domain}");
    let kind = if address.is_ipv4() { "A" } else { "AAAA" };
    vec![
        format!("{labels}.{domain} SRV 0 0 {} {target}", address.port()),
        format!("{target} {kind} {}", address.ip()),
    ]
}

pub(crate) fn zone(records: &[Vec<String>]) -> Zone {
    let records: Vec<&str> = records.iter().flatten().map(String::as_str).collect();
    Zone::new(&records)
}

/// A relay for these hosts whose limits are those of the tests here.
pub(crate) async fn plan(authority: &Authority, hosts: &[&str]) -> Plan {
    Plan::new(authority, hosts).await.limits(limits)
}

pub(crate) fn limits(limits: &mut Limits) {
    limits.connect = CONNECT;
    limits.look_up = Duration::from_secs(2);
}

/// Start both, and let them find each other, and everything else, by `zone`.
pub(crate) async fn start(zone: Zone, [a, b]: [Bound; 2]) -> (TestServer, Provider, Provider) {
    let dns = zone.serve().await;
    let (a, b) = (a.finding_by(dns.address), b.finding_by(dns.address));
    (dns, a.start().await, b.start().await)
}

/// A host-meta document (XEP-0487) with these links, by transport, address and the name for SNI, and with these pins.
pub(crate) fn document(links: &[(Transport, SocketAddr, &str)], pins: &[[u8; 32]]) -> String {
    let link = |(transport, address, sni): &(Transport, SocketAddr, &str)| {
        let kind = if transport.is_udp() { "quic" } else { "tls" };
        serde_json::json!({
            "rel": format!("urn:xmpp:alt-connections:s2s-{kind}"), "port": address.port(),
            "ips": [address.ip().to_string()], "priority": 0, "weight": 0, "sni": sni, "ech": "eG1wcA==",
        })
    };
    let links: Vec<_> = links.iter().map(link).collect();
    let pins: Vec<_> = pins.iter().map(|pin| base64::engine::general_purpose::STANDARD.encode(pin)).collect();
    serde_json::json!({ "xmpp": { "ttl": 300, "public-key-pins-sha-256": pins }, "links": links }).to_string()
}

/// A UDP port that swallows what comes.
pub(crate) async fn black_hole() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// A TCP port that swallows what comes: whoever connects there hears nothing at all.
pub(crate) struct DropsSyn {
    pub(crate) address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

/// One at this address of the machine. It listens, and its queue is full: Linux drops a SYN for which it has no room.
pub(crate) async fn drops_syn(ip: IpAddr) -> DropsSyn {
    const QUEUE_MAX: usize = 16;
    let connecting = async |address: SocketAddr| {
        tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
    };
    let socket = if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.bind((ip, 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(connected) = connecting(address).await {
        queued.push(connected.unwrap());
        assert!(queued.len() < QUEUE_MAX, "this system takes connections for which there is no room");
    }
    DropsSyn { address, _listener: listener, _queued: queued }
}

/// An IPv4 address of this machine that nobody else uses, for ports that can't be chosen.
pub(crate) fn own_loopback() -> IpAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let host = (std::process::id() << 6) | (COUNT.fetch_add(1, Ordering::Relaxed) & 0x3f);
    // The upper half of 127.0.0.0/8.
    Ipv4Addr::from(0x7f80_0000 | (host & 0x7f_ffff)).into()
}

/// What was bound to a port that can't be chosen. `None`, and a word about it: it is taken, or for root alone.
pub(crate) fn if_free<T>(bound: io::Result<T>, port: u16) -> Option<T> {
    let in_the_way = match bound {
        Ok(bound) => return Some(bound),
        Err(error) => error,
    };
    let may_be = [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied, io::ErrorKind::AddrNotAvailable];
    let told = std::env::var_os("CI").is_none() && may_be.contains(&in_the_way.kind());
    assert!(told, "port {port} can't be had: {in_the_way}");
    eprintln!("SKIPPED: port {port} can't be had here: {in_the_way}");
    None
}

/// The word for the reason in a stanza that came back.
pub(crate) fn said_reason(stanza: &Element) -> String {
    assert_eq!(stanza.attribute("type"), Some("error"), "{stanza:?}");
    let error = stanza.children().find(|child| child.name() == "error").unwrap();
    error.child("text", ns::STANZA_ERRORS).unwrap().text()
}

/// The list of hosts in the features after authentication.
pub(crate) fn listing(hosts: &[&str]) -> String {
    let list: String = hosts.iter().map(|host| format!("<host>{host}</host>")).collect();
    format!("<mux xmlns='{}'>{list}</mux>", ns::MUX)
}

/// Connections over `transport` that were opened, in this direction.
pub(crate) fn opened(provider: &Provider, transport: Transport, direction: &str) -> u64 {
    let labels = [("transport", transport.as_str()), ("direction", direction)];
    provider.metric("fedmux_connections_opened_total", &labels)
}

/// Connections that are up.
pub(crate) fn connections(provider: &Provider) -> u64 {
    provider.metric("fedmux_connections", &[])
}
