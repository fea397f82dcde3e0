//! The server of a host, at its `deliver` addresses.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};

use crate::reason::Reason;
use crate::relay::hub::Hub;
use crate::relay::io::{of_io, resolve};
use crate::relay::settings::Endpoint;
use crate::xmpp::domain::Domain;

/// What the kernel holds for a server that doesn't read. It grows to megabytes by itself; what is in it when the server
/// dies is lost, and nobody can tell which stanzas it was.
pub(super) const SEND_BUFFER_BYTES: u32 = 128 * 1024;

/// Connect to the server of `host`, the first of its addresses that answers.
pub(crate) async fn connect(hub: &Hub, host: &Domain) -> Result<(TcpStream, SocketAddr), Reason> {
    let live = hub.live();
    let entry = live.host(host).ok_or(Reason::HostUnknown)?;
    let mut last = Reason::ConnectionRefused;
    for endpoint in &entry.deliver {
        match connect_to(hub, endpoint).await {
            Ok(connected) => return Ok(connected),
            Err(reason) => last = reason,
        }
    }
    Err(last)
}

async fn connect_to(hub: &Hub, endpoint: &Endpoint) -> Result<(TcpStream, SocketAddr), Reason> {
    let mut last = Reason::NameNotResolved;
    for address in resolve(endpoint, hub.limits.look_up).await? {
        match tokio::time::timeout(hub.limits.connect, open(address)).await {
            Ok(Ok(connection)) => {
                // Stanzas are small and somebody waits for each.
                let _best_effort = connection.set_nodelay(true);
                return Ok((connection, address));
            }
            Ok(Err(error)) => last = of_io(&error),
            Err(_) => last = Reason::ConnectionTimeout,
        }
    }
    Err(last)
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.connect(address).await
}
