//! One address that takes more than its share (XEP-0205): it is refused before anything is done for it, over TCP and QUIC
//! alike, and everybody else gets in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use fedmux::proto::admission::Side;
use fedmux::proto::limits::Limits;
use fedmux::reason::Reason;
use fedmux::relay::settings::{Endpoint, Transport};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::certificates::Authority;
use crate::support::log::Log;
use crate::support::peer::Peer;
use crate::support::provider::{Plan, Provider};
use crate::support::tcp_peer::Dialler;
use crate::support::{soon, until};

const FLOODER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A relay for a1.test with one `[[peer]]`, at [`PEER`].
async fn relay(authority: &Authority, change: impl FnOnce(&mut Limits)) -> Provider {
    let plan = Plan::new(authority, &["a1.test"]).await;
    plan.peer(&["p.test"], SocketAddr::from((PEER, 5269))).limits(change).start().await
}

async fn connect(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    soon("a connection", socket.connect(to)).await.unwrap()
}

/// Whether the relay closes it without a word.
async fn is_closed(mut tcp: TcpStream) -> bool {
    let mut said = Vec::new();
    // It may be reset; it is gone in either case.
    let _gone = soon("the end", tcp.read_to_end(&mut said)).await;
    said.is_empty()
}

fn hits(relay: &Provider, limit: &str) -> u64 {
    relay.metric("fedmux_limit_hits_total", &[("limit", limit)])
}

/// Somebody at `source` gets in by every transport, and is authenticated.
async fn gets_in(authority: &Authority, source: Ipv4Addr, relay: &Provider) {
    let certificate = authority.certify(&["b1.test"]);
    let dialler = Dialler::with(Some(&certificate));
    let tcp = connect(source, relay.at(Transport::DirectTls)).await;
    dialler.secure(tcp, "a1.test").await.unwrap().authenticate("b1.test", "a1.test").await;
    let peer = Peer::at(IpAddr::V4(source), &certificate);
    peer.dial(relay.quic, "a1.test").await.unwrap().lane("b1.test", "a1.test").await;
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_refused_and_keeps_nobody_else_out() {
    let (authority, log) = (Authority::new(), Log::capture());
    let relay = relay(&authority, |limits| {
        limits.address_burst = 6;
        limits.address_every = Duration::from_secs(3_600);
    })
    .await;
    let listeners = [relay.at(Transport::DirectTls), relay.at(Transport::StartTls)];
    let mut open = Vec::new();
    for n in 0..6 {
        open.push(connect(FLOODER, listeners[n % 2]).await);
    }
    for n in 0..20 {
        assert!(is_closed(connect(FLOODER, listeners[n % 2]).await).await);
    }
    let flooder = Peer::at(IpAddr::V4(FLOODER), &authority.certify(&["b1.test"]));
    assert!(flooder.dial(relay.quic, "a1.test").await.is_err());
    assert_eq!(hits(&relay, "address_burst"), 21);
    assert_eq!(relay.refusals(Side::Remote, Reason::TooMany), 21);
    let said: Vec<_> = log.lines().into_iter().filter(|line| line.fields.contains_key("limit")).collect();
    assert_eq!(said.len(), 1, "once");
    assert_eq!((said[0].field("address"), said[0].field("limit")), ("127.0.0.2", "address_burst"));
    gets_in(&authority, Ipv4Addr::LOCALHOST, &relay).await;
    drop(open);
    relay.assert_unharmed();
}

#[tokio::test]
async fn a_peer_of_ours_that_is_named_by_its_host_is_not_counted_where_that_is() {
    let (authority, log) = (Authority::new(), Log::capture());
    let mut plan = Plan::new(&authority, &["a1.test"]).await;
    plan = plan.peer(&["p.test"], SocketAddr::from((PEER, 5269))).limits(|limits| {
        limits.address_burst = 2;
        limits.address_every = Duration::from_secs(3_600);
    });
    plan.settings.peers[0].address = Endpoint::Name { host: "localhost".to_owned(), port: 5269 };
    let relay = plan.start().await;
    let known =
        log.line("a peer's host name was looked up; these aren't counted in the limits of an address").await;
    assert!(known.field("addresses").contains("127.0.0.1"), "{known:?}");
    let direct = relay.at(Transport::DirectTls);
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(connect(Ipv4Addr::LOCALHOST, direct).await);
    }
    gets_in(&authority, Ipv4Addr::LOCALHOST, &relay).await;
    assert_eq!(hits(&relay, "address_burst"), 0);
    // Nobody else is meant.
    for _ in 0..2 {
        open.push(connect(PEER, direct).await);
    }
    assert!(is_closed(connect(PEER, direct).await).await);
    assert_eq!(hits(&relay, "address_burst"), 1);
    relay.assert_unharmed();
}

#[tokio::test]
async fn an_address_holds_so_many_connections_and_handshakes_and_a_peer_of_ours_any_number() {
    let authority = Authority::new();
    let relay = relay(&authority, |limits| {
        limits.address_connections = 3;
        limits.address_handshakes = 2;
    })
    .await;
    let dialler = Dialler::with(Some(&authority.certify(&["b1.test"])));
    let direct = relay.at(Transport::DirectTls);
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(connect(FLOODER, direct).await);
    }
    assert!(is_closed(connect(FLOODER, direct).await).await);
    assert_eq!(hits(&relay, "address_handshakes"), 1);
    let mut streams = Vec::new();
    for tcp in silent {
        let mut wire = dialler.secure(tcp, "a1.test").await.unwrap();
        wire.authenticate("b1.test", "a1.test").await;
        streams.push(wire);
    }
    let mut third = dialler.secure(connect(FLOODER, direct).await, "a1.test").await.unwrap();
    third.authenticate("b1.test", "a1.test").await;
    assert!(is_closed(connect(FLOODER, direct).await).await);
    let flooder = Peer::at(IpAddr::V4(FLOODER), &authority.certify(&["b1.test"]));
    assert!(flooder.dial(relay.quic, "a1.test").await.is_err());
    assert_eq!(hits(&relay, "address_connections"), 2);
    gets_in(&authority, Ipv4Addr::LOCALHOST, &relay).await;
    // Who has gone leaves room.
    third.close().await;
    drop(streams);
    until("the places to be free", || relay.metric("fedmux_connections", &[]) == 0).await;
    gets_in(&authority, FLOODER, &relay).await;
    let mut of_peer = Vec::new();
    for _ in 0..6 {
        of_peer.push(connect(PEER, direct).await);
    }
    gets_in(&authority, PEER, &relay).await;
    assert_eq!((hits(&relay, "address_connections"), hits(&relay, "address_handshakes")), (2, 1));
    relay.assert_unharmed();
}
