//! Connections with peers over QUIC: those we dial, and those we accept.

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
    let mut endpoints = hub.endpoints.iter();
    let found = endpoints
        .find_map(|endpoint| Some((endpoint, quic::reachable(endpoint.local_addr().ok()?, target.address)?)));
    let (endpoint, reachable) = found.ok_or(Reason::ConnectionTimeout)?;
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
