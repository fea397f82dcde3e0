//! What the tests of a whole relay are made of: a real [`fedmux::relay::Relay`] in this process, over real QUIC and TCP
//! on loopback and with real certificates, between two scripts.
//!
//! - [`provider`]: a relay and the XMPP server behind it; [`server`]: that server, host by host
//! - [`peer`]: whoever is at the other end of QUIC, with any certificate or none
//! - [`tcp_peer`]: whoever is at the other end of TLS over TCP
//! - [`wire`]: one XML stream of either, which sends any octets and says what it hears
//! - [`path`]: between two relays, slower than loopback, or cut; [`tcp_path`]: the same for TCP
//! - [`companion`]: a pair that behaves, and notices if anything disturbs it
//! - [`component`]: a component that connects to it
//! - [`running`]: `fedmux` as it is typed, and a relay that is a process of its own
//! - [`scrape`]: the metrics of a relay that is a process of its own; [`process`]: what that holds of the machine
//! - [`web`]: a web server, for what domains publish there
//! - [`certificates`]: an authority to issue what is needed; [`log`]: what the relay logged
//!
//! Nothing here waits for a fixed time: every wait is for something to happen, and fails after [`PATIENCE`].

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

pub(crate) mod certificates;
pub(crate) mod companion;
pub(crate) mod component;
pub(crate) mod log;
pub(crate) mod path;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod provider;
pub(crate) mod running;
pub(crate) mod scrape;
pub(crate) mod server;
pub(crate) mod tcp_path;
pub(crate) mod tcp_peer;
pub(crate) mod web;
pub(crate) mod wire;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpSocket;

/// How long anything that must happen may take before the test fails. Long: a busy machine is no failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An address at which nobody listens, nor will anybody as long as the socket is kept: other tests take any port that is free.
pub(crate) fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Wait for what must happen; `what` names it if it doesn't.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, happens).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s for {what}", PATIENCE.as_secs()),
    }
}

/// Wait until `holds`, for what nobody announces: a gauge, a counter.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
