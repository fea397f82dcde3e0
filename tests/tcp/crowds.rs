//! Who connects and is slow, and who are many.

use std::net::Ipv4Addr;
use std::time::Duration;

use fedmux::proto::admission::Side;
use fedmux::reason::Reason;
use fedmux::relay::settings::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::TLS_1_1_CLIENT_HELLO;
use crate::support::certificates::Authority;
use crate::support::provider::Plan;
use crate::support::tcp_peer::{Dialler, upgrade};
use crate::support::wire::header;
use crate::support::{PATIENCE, soon, until};

#[tokio::test]
async fn whoever_trickles_is_gone_after_the_time_for_a_handshake_wherever_it_stopped() {
    let authority = Authority::new();
    let plan = Plan::new(&authority, &["a1.test"]).await;
    let provider = plan.limits(|limits| limits.handshake = Duration::from_millis(800)).start().await;
    let (direct, starttls) = (provider.at(Transport::DirectTls), provider.at(Transport::StartTls));
    let header = header("b1.test", "a1.test");
    let mut slow = Vec::new();
    for (at, said) in [
        (direct, &b""[..]),
        (direct, &TLS_1_1_CLIENT_HELLO[..20]),
        (starttls, &b""[..]),
        (starttls, &header.as_bytes()[..40]),
        (starttls, header.as_bytes()),
    ] {
        let mut tcp = TcpStream::connect(at).await.unwrap();
        tcp.write_all(said).await.unwrap();
        slow.push(tcp);
    }
    slow.push(upgrade(TcpStream::connect(starttls).await.unwrap(), "b1.test", "a1.test").await);
    let count = slow.len() as u64;
    for mut tcp in slow {
        // It may be reset; it is gone in either case.
        let _gone = soon("the end", tcp.read_to_end(&mut Vec::new())).await;
    }
    until("the refusals", || provider.refusals(Side::Remote, Reason::NegotiationTimeout) == count).await;
    // Behind a handshake too.
    let dialler = Dialler::with(Some(&authority.certify(&["b1.test"])));
    let mut wire = dialler.direct(direct, "a1.test").await.unwrap();
    assert_eq!(wire.expect_error("connection-timeout").await, Reason::NegotiationTimeout.as_str());
    assert_eq!(provider.refusals(Side::Remote, Reason::NegotiationTimeout), count + 1);
    provider.assert_unharmed();
}

#[tokio::test]
async fn who_trickles_octet_by_octet_gains_no_time() {
    let authority = Authority::new();
    let plan = Plan::new(&authority, &["a1.test"]).await;
    let provider = plan.limits(|limits| limits.handshake = Duration::from_millis(800)).start().await;
    let mut tcp = TcpStream::connect(provider.at(Transport::StartTls)).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    soon("the end", async {
        // A header that never ends.
        while tcp.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    until("the refusal", || provider.refusals(Side::Remote, Reason::NegotiationTimeout) == 1).await;
}

#[tokio::test]
async fn over_the_limit_of_connections_nobody_is_taken_until_one_has_gone() {
    let authority = Authority::new();
    let plan = Plan::new(&authority, &["a1.test"]).await;
    let provider = plan.limits(|limits| limits.remote_connections = 1).start().await;
    let dialler = Dialler::with(Some(&authority.certify(&["b1.test"])));
    let mut first = dialler.direct(provider.at(Transport::DirectTls), "a1.test").await.unwrap();
    first.authenticate("b1.test", "a1.test").await;
    let mut second = TcpStream::connect(provider.at(Transport::StartTls)).await.unwrap();
    let _reset = soon("the end", second.read_to_end(&mut Vec::new())).await;
    assert_eq!(provider.refusals(Side::Remote, Reason::TooMany), 1);
    assert_eq!(provider.metric("fedmux_limit_hits_total", &[("limit", "remote_connections")]), 1);
    first.close().await;
    until("the place to be free", || provider.metric("fedmux_connections", &[]) == 0).await;
    let mut third = dialler.starttls(provider.at(Transport::StartTls), "b1.test", "a1.test").await.unwrap();
    third.authenticate("b1.test", "a1.test").await;
}

#[tokio::test]
async fn strangers_leave_places_to_the_peers_that_the_operator_knows() {
    let authority = Authority::new();
    let plan = Plan::new(&authority, &["a1.test"]).await.limits(|limits| {
        limits.remote_connections = 16;
        limits.handshake = PATIENCE;
    });
    let known = ([127, 0, 0, 1], 9).into();
    let provider = plan.peer_by(Transport::DirectTls, &["b1.test"], known).start().await;
    let at = provider.at(Transport::DirectTls);
    let mut inside = Vec::new();
    for _ in 0..16 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
        inside.push(soon("a connection", socket.connect(at)).await.unwrap());
    }
    // An eighth of the places isn't theirs.
    let refused = || provider.refusals(Side::Remote, Reason::TooMany);
    until("the refusals", || refused() == 2).await;
    assert_eq!(provider.metric("fedmux_limit_hits_total", &[("limit", "remote_connections")]), 2);
    let dialler = Dialler::with(Some(&authority.certify(&["b1.test"])));
    let mut wires = Vec::new();
    for _ in 0..2 {
        let mut wire = dialler.direct(at, "a1.test").await.unwrap();
        wire.authenticate("b1.test", "a1.test").await;
        wires.push(wire);
    }
    inside.push(TcpStream::connect(at).await.unwrap());
    until("all places to be taken", || refused() == 3).await;
}
