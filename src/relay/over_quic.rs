//! Connections with peers over QUIC: those we dial, and those we accept.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use tracing::{debug, error, warn};

use super::attempts::certificate_text;
use super::clock;
use super::connector::{
    self, Attempt, Connected, Established, Origin, Target, clock_for, exporters, session,
};
use super::door::{Door, Place};
use super::hub::Hub;
use super::listeners::Listening;
use super::settings::Transport;
use super::shared::Connection;
use crate::identity::verdict::Verdict;
use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::discovery::refusal::refuse_address;
use crate::proto::proof::DomainProof;
use crate::reason::Reason;
use crate::transport::quic;

/// Connect to `target`, and verify that its certificate covers `attempt.route.to`.
///
/// # Errors
/// Why there is no connection.
pub(crate) async fn connect(
    hub: &Arc<Hub>,
    target: Target,
    attempt: Attempt<'_>,
) -> Result<Connected, Reason> {
    let to = &attempt.route.to;
    let (tls, verdict) = hub.live().tls(Transport::Quic).client(attempt.certificate, to, attempt.asked.pins);
    let client = quic::client_config(tls, &hub.transport)?;
    let locals: Vec<_> = hub.endpoints.iter().map(|endpoint| endpoint.local_addr().ok()).collect();
    let (index, reachable) = best(&locals, target.address).ok_or(Reason::ConnectionTimeout)?;
    let endpoint = hub.endpoints.get(index).ok_or(Reason::ConnectionTimeout)?;
    let connecting = endpoint
        .connect_with(client, reachable, &attempt.asked.name(to))
        .map_err(|_| Reason::HandshakeFailed)?;
    let shaken = tokio::time::timeout(hub.limits.connect, connecting).await;
    attempt.trace.step("tls", certificate_text(&verdict, "TLS 1.3 over QUIC"));
    match shaken {
        Ok(Ok(connection)) => connected(hub, connection, verdict, Origin::Dialled(attempt)).await,
        Ok(Err(error)) => Err(refusal(&verdict, &error)),
        Err(_) => Err(Reason::ConnectionTimeout),
    }
}

/// From which of our sockets `target` is dialled: the first of those that suit best. And its address as that one reaches it.
fn best(locals: &[Option<SocketAddr>], target: SocketAddr) -> Option<(usize, SocketAddr)> {
    let may = |(index, local): (usize, &Option<SocketAddr>)| {
        let local = (*local)?;
        Some((index, local, quic::reachable(local, target)?))
    };
    let mut found: Vec<_> = locals.iter().enumerate().filter_map(may).collect();
    if found.len() > 1 {
        found.sort_by_cached_key(|(_, local, reachable)| unsuited(*local, *reachable));
    }
    found.first().map(|(index, _, reachable)| (*index, *reachable))
}

/// How little `local` suits to reach `target`: no route leads there from it, or it is an address of the inside and `target` isn't.
fn unsuited(local: SocketAddr, target: SocketAddr) -> (bool, bool) {
    // To connect a UDP socket sends nothing.
    let mut any_port = local;
    any_port.set_port(0);
    let route = UdpSocket::bind(any_port).and_then(|socket| socket.connect(target));
    // Linux finds a route for ::1 wherever it is to lead.
    let strays = local.ip().is_loopback() && !target.ip().to_canonical().is_loopback();
    let inside = |address: SocketAddr| refuse_address(address, false, &[]).is_err();
    (route.is_err() || strays, !local.ip().is_unspecified() && inside(local) && !inside(target))
}

/// Watch over an endpoint on which nobody is awaited.
pub(crate) async fn watch(hub: Arc<Hub>, endpoint: quinn::Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        incoming.ignore();
    }
    if !hub.is_draining() {
        error!(
            "remote.quic: the socket from which peers are dialled failed, and the relay ends; the service manager is to start it \
             again. If that happens again, look at quinn's line above"
        );
        hub.lose("remote.quic: the socket from which peers are dialled has ended".to_owned());
    }
}

async fn connected(
    hub: &Arc<Hub>,
    connection: quinn::Connection,
    verdict: Verdict,
    origin: Origin<'_>,
) -> Result<Connected, Reason> {
    let exporters = exporters(|label| quic::exporter(&connection, label))?;
    let address = connection.remote_address();
    let shared = Connection::Quic(connection.clone());
    let established = Established { connection: shared, address, exporters, verdict };
    Ok(Connected::Quic(session(hub, established, origin).await?, connection))
}

/// Why a connection did not come to be: our own verdict before the other end's alert before the transport.
fn refusal(verdict: &Verdict, error: &quinn::ConnectionError) -> Reason {
    match (verdict.refused(), quic::alert(error), error) {
        (Some(reason), ..) => reason,
        (None, Some(alert), _) => verdict.reason(Some(alert)),
        (None, None, quinn::ConnectionError::TimedOut) => Reason::ConnectionTimeout,
        (None, None, error) => quic::reason(error),
    }
}

/// Accept connections until the endpoint closes: when the relay has drained, or when its socket failed. Then it takes its
/// connections with it and can't be opened again, and the relay ends.
pub(crate) async fn accept(hub: Arc<Hub>, endpoint: Listening<quinn::Endpoint>, door: Arc<Door>) {
    let address = endpoint.socket.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
    while let Some(incoming) = endpoint.socket.accept().await {
        if hub.is_draining() {
            match endpoint.inherited {
                // It tries again, and the next relay answers.
                true => incoming.ignore(),
                false => incoming.refuse(),
            }
            continue;
        }
        let address = incoming.remote_address();
        // A retry costs nothing and holds nothing.
        if incoming.may_retry() && door.is_crowded(address) {
            if incoming.retry().is_err() {
                debug!("a retry was not due");
            }
            continue;
        }
        let Some(place) = door.enter(address) else {
            incoming.refuse();
            continue;
        };
        hub.tasks.spawn(accepted(Arc::clone(&hub), incoming, place));
    }
    if !hub.is_draining() {
        error!(
            address,
            "remote.quic: the socket failed, and the relay ends; the service manager is to start it again. \
             If that happens again, look at quinn's line above and at the network interface of this address"
        );
        hub.lose(format!("remote.quic: the listener at {address} has ended"));
    }
}

async fn accepted(hub: Arc<Hub>, incoming: quinn::Incoming, mut place: Place) {
    let peer = quic::canonical(incoming.remote_address());
    let began = clock::now();
    let shaken = shake_hands(&hub, incoming).await;
    connector::shaken(&hub, Transport::Quic, Opened::Inbound, shaken.as_ref().err().copied(), began);
    match shaken {
        Ok(connected) => {
            place.shaken();
            // What its streams were refused for was said stream by stream.
            let _said = connected.run(Arc::clone(&hub), None).await;
        }
        Err(reason) => {
            hub.metrics.refused(Side::Remote, reason);
            hub.metrics.proof(DomainProof::Certificate, Err(reason));
            let clock = clock_for(reason);
            warn!(%peer, %reason, clock, advice = reason.advice(), "connection refused");
        }
    }
    drop(place);
}

async fn shake_hands(hub: &Arc<Hub>, incoming: quinn::Incoming) -> Result<Connected, Reason> {
    let live = hub.live();
    let (tls, verdict) = live.tls(Transport::Quic).server(&live.certificates, None);
    let config = quic::server_config(tls, &hub.transport)?;
    let connecting = incoming.accept_with(config).map_err(|error| refusal(&verdict, &error))?;
    let connection = tokio::time::timeout(hub.limits.handshake, connecting)
        .await
        .map_err(|_| Reason::NegotiationTimeout)?
        .map_err(|error| refusal(&verdict, &error))?;
    connected(hub, connection, verdict, Origin::Accepted).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(locals: &[&str], target: &str) -> Option<usize> {
        let locals: Vec<_> = locals.iter().map(|local| Some(local.parse().unwrap())).collect();
        best(&locals, target.parse().unwrap()).map(|(index, _)| index)
    }

    #[test]
    fn a_peer_is_dialled_from_where_a_route_leads_to_it() {
        assert_eq!(from(&["127.0.0.1:1", "0.0.0.0:1"], "9.9.9.9:9"), Some(1), "loopback leads nowhere else");
        assert_eq!(from(&["127.0.0.1:1", "0.0.0.0:1"], "127.0.0.1:9"), Some(0), "the first of equals");
        assert_eq!(
            from(&["192.0.2.1:1", "127.0.0.1:1"], "127.0.0.1:9"),
            Some(1),
            "this machine hasn't got that one"
        );
        assert_eq!(from(&["[::1]:1", "[::]:1"], "[fd00::1]:9"), Some(1), "by IPv6 neither");
        assert_eq!(from(&["[::1]:1"], "127.0.0.1:9"), None);
        assert_eq!(from(&["[::1]:1", "[::]:1"], "127.0.0.1:9"), Some(1), "by mapped addresses");
    }
}
