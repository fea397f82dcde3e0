//! The server of a host, at its `deliver` addresses.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::reason::Reason;
use crate::relay::hub::Hub;
use crate::relay::io::{of_io, resolve};
use crate::relay::settings::Endpoint;
use crate::xmpp::domain::Domain;

/// Connect to the server of `host`, the first of its addresses that answers.
pub(crate) async fn connect(hub: &Hub, host: &Domain) -> Result<(TcpStream, SocketAddr), Reason> {
    let entry = hub
        .hosts
        .facts(host)
        .and_then(|facts| hub.settings.hosts.get(facts.entry))
        .ok_or(Reason::HostUnknown)?;
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
    for address in resolve(endpoint).await? {
        match tokio::time::timeout(hub.limits.connect, TcpStream::connect(address)).await {
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
