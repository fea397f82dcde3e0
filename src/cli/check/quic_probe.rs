//! Whether somebody speaks QUIC at an address, without a handshake (RFC 9000 section 6): to a packet of a version that nobody
//! has, a server answers with the list of its own.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A version that is reserved for this (RFC 9000 section 15: 0x?a?a?a?a).
const UNKNOWN_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];
/// A server answers only to what is as long as a first packet has to be (RFC 9000 section 14.1).
const DATAGRAM_BYTES: usize = 1200;
/// The two connection ids. They mean nothing, and come back in turned order.
const IDS: [[u8; 8]; 2] = [*b"fedmux-c", *b"fedmux-s"];
/// Datagrams may be lost: it is asked this often.
const TRIES: u32 = 3;
/// The wait for one answer.
const TRY_WAIT: Duration = Duration::from_millis(900);

/// Wait for an answer.
///
/// # Errors
/// What the system says; [`io::ErrorKind::TimedOut`] if nobody answers.
pub(super) async fn answers(address: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected, so that a port that is closed is told.
    socket.connect(address).await?;
    let question = question();
    for _ in 0..TRIES {
        socket.send(&question).await?;
        let mut answer = [0; DATAGRAM_BYTES];
        if let Ok(received) = timeout(TRY_WAIT, socket.recv(&mut answer)).await
            && is_answer(&answer[..received?])
        {
            return Ok(());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// A packet with a long header (RFC 9000 section 17.2).
fn question() -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(UNKNOWN_VERSION);
    for id in IDS {
        packet.push(8);
        packet.extend(id);
    }
    packet.resize(DATAGRAM_BYTES, 0);
    packet
}

/// Version negotiation (RFC 9000 section 17.2.1): version 0, and our ids the other way round.
fn is_answer(packet: &[u8]) -> bool {
    let [destination, source] = IDS;
    let expected: Vec<u8> = [&[0, 0, 0, 0, 8][..], &source, &[8], &destination].concat();
    packet.first().is_some_and(|first| first & 0x80 != 0) && packet[1..].starts_with(&expected)
}
