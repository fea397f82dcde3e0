//! The server of a host, at its `deliver` addresses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use crate::reason::Reason;
use crate::relay::clock;
use crate::relay::hub::Hub;
use crate::relay::io::{of_io, resolve};
use crate::relay::settings::Endpoint;
use crate::xmpp::domain::Domain;

/// What the kernel holds for a server that doesn't read. It grows to megabytes by itself; what is in it when the server
/// dies is lost, and nobody can tell which stanzas it was.
pub(super) const SEND_BUFFER_BYTES: u32 = 128 * 1024;

/// So long that each address has its full time.
pub(super) const NO_HURRY: Duration = Duration::from_secs(3_600);

/// Connect to the server of `host`, the first of its addresses that answers. `within`: how long all of them together have; the first ones
/// leave the others their share of that.
pub(crate) async fn connect(
    hub: &Hub,
    host: &Domain,
    within: Duration,
) -> Result<(TcpStream, SocketAddr), Reason> {
    let live = hub.live();
    let entry = live.host(host).ok_or(Reason::HostUnknown)?;
    let mut last = Reason::ConnectionRefused;
    let until = clock::now() + within;
    for (at, endpoint) in entry.deliver.iter().enumerate() {
        let left = until.saturating_duration_since(clock::now());
        match connect_to(hub, endpoint, share(left, entry.deliver.len() - at)).await {
            Ok(connected) => return Ok(connected),
            Err(reason) => last = reason,
        }
    }
    Err(last)
}

/// Shortest share: the time that a server far away takes for a handshake.
const SHARE_MIN: Duration = Duration::from_secs(2);

/// What each of `count` may take of `time`. Of very many the last ones have none.
pub(crate) fn share(time: Duration, count: usize) -> Duration {
    (time / u32::try_from(count.max(1)).unwrap_or(u32::MAX)).max(SHARE_MIN.min(time))
}

async fn connect_to(
    hub: &Hub,
    endpoint: &Endpoint,
    within: Duration,
) -> Result<(TcpStream, SocketAddr), Reason> {
    let mut last = Reason::NameNotResolved;
    let until = clock::now() + within;
    let addresses = resolve(endpoint, hub.limits.look_up.min(within)).await?;
    for (at, address) in addresses.iter().copied().enumerate() {
        let left = until.saturating_duration_since(clock::now());
        let patience = share(left, addresses.len() - at).min(hub.limits.connect);
        match tokio::time::timeout(patience, open(address)).await {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_share_and_no_share_is_too_short_for_a_handshake() {
        let seconds = Duration::from_secs;
        assert_eq!(share(seconds(10), 1), seconds(10));
        assert_eq!(share(seconds(10), 2), seconds(5));
        assert_eq!(share(seconds(6), 24), SHARE_MIN);
        assert_eq!(share(seconds(1), 24), seconds(1));
    }
}
