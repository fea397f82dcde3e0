//! Connections with peers: those we dial, and those we accept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, warn};

use super::hub::Hub;
use super::io::resolve;
use super::session::Opening;
use super::settings::{Endpoint, Peer, Placement};
use super::shared::{GrantChanges, SessionShared};
use crate::identity::certificate::Role;
use crate::identity::verdict::Verdict;
use crate::proto::admission::Side;
use crate::proto::proof::{CertifiedNames, DomainProof};
use crate::proto::router::{LaneId, PeerId, SessionId};
use crate::proto::session::{Facts, Lanes, Session};
use crate::reason::Reason;
use crate::transport::quic;

/// Label of the exporter value by which two relays agree which of two sessions takes new lanes.
const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL fedmux session";
/// Label of the exporter value that mux secrets are bound to.
const MUX_EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL fedmux mux 1";

/// Tells the router that an attempt failed, whatever ended its task.
struct DialGuard {
    hub: Arc<Hub>,
    session: SessionId,
    lane: LaneId,
    failed: Option<Reason>,
}

impl Drop for DialGuard {
    fn drop(&mut self) {
        if let Some(reason) = self.failed {
            self.hub.forget_lane(self.lane);
            self.hub.control(|router, now| router.dial_failed(self.session, reason, now));
        }
    }
}

/// Connect to `peer` for `route`, and run the session that comes of it to its end.
pub(crate) async fn dial(hub: Arc<Hub>, peer: PeerId, session: SessionId, opening: Opening) {
    let failed = Some(Reason::InternalServerError);
    let mut guard = DialGuard { hub: Arc::clone(&hub), session, lane: opening.lane, failed };
    let route = opening.route.clone();
    let outcome = match connect(&hub, peer, session, &opening).await {
        Ok(session) => {
            guard.failed = None;
            // Over TLS 1.3 what the peer thinks of our certificate shows only now.
            super::session::run(Arc::clone(&hub), session, Some(opening)).await
        }
        Err(reason) => {
            guard.failed = Some(reason);
            Err(reason)
        }
    };
    if let Err(reason) = outcome {
        let live = hub.live();
        let address =
            live.settings.peers.get(peer.0).map(|peer| peer.address.to_string()).unwrap_or_default();
        hub.metrics.dial_failed(Side::Remote, reason);
        let clock = clock_for(reason);
        warn!(pair = %route, %address, %reason, clock, advice = reason.advice(), "peer not reached");
    }
}

/// Connect to `peer` and verify that its certificate covers `route.to`.
async fn connect(
    hub: &Arc<Hub>,
    peer: PeerId,
    id: SessionId,
    opening: &Opening,
) -> Result<Arc<SessionShared>, Reason> {
    let route = &opening.route;
    let origin = if opening.second { Origin::Second } else { Origin::Dialled };
    let live = hub.live();
    let config = live.settings.peers.get(peer.0).ok_or(Reason::NoRoute)?;
    let certificate =
        live.certificates.choose(&route.from, Role::Initiating, std::time::SystemTime::now())?;
    let addresses = resolve(&config.address).await?;
    let mut last = Reason::ConnectionTimeout;
    for address in addresses {
        let (tls, verdict) = live.tls.client(&certificate, &route.to);
        let client = quic::client_config(tls, &hub.transport)?;
        let found = hub
            .endpoints
            .iter()
            .find_map(|endpoint| Some((endpoint, quic::reachable(endpoint.local_addr().ok()?, address)?)));
        let Some((endpoint, reachable)) = found else { continue };
        let connecting = endpoint
            .connect_with(client, reachable, &route.to.to_ascii())
            .map_err(|_| Reason::HandshakeFailed)?;
        match tokio::time::timeout(hub.limits.connect, connecting).await {
            Ok(Ok(connection)) => {
                let pinned = pinned(hub, address, None).await;
                let pinned = if pinned.contains(&peer) { pinned } else { vec![peer] };
                return session(hub, id, connection, &verdict, pinned, origin, config);
            }
            Ok(Err(error)) => last = refusal(&verdict, &error),
            Err(_) => last = Reason::ConnectionTimeout,
        }
    }
    Err(last)
}

/// What our clock says, where that decides whether a certificate is good: a clock that is off then shows at once.
fn clock_for(reason: Reason) -> Option<String> {
    let of_time = matches!(reason, Reason::CertificateExpired | Reason::CertificateNotYetValid);
    of_time.then(|| OffsetDateTime::now_utc().replace_nanosecond(0).ok()?.format(&Rfc3339).ok()).flatten()
}

/// How a connection came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The peer opened it.
    Accepted,
    /// We opened it, to carry.
    Dialled,
    /// We opened it as the second connection of a proof.
    Second,
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

fn session(
    hub: &Arc<Hub>,
    id: SessionId,
    connection: quinn::Connection,
    verdict: &Verdict,
    pinned: Vec<PeerId>,
    origin: Origin,
    config: &Peer,
) -> Result<Arc<SessionShared>, Reason> {
    let theirs = verdict.peer().ok_or(Reason::CertificateMissing)?;
    // A server that doesn't ask for our certificate can't believe us.
    let ours = verdict.shown().ok_or(Reason::UnsupportedFeature)?;
    let facts = Facts {
        hosts: Arc::clone(&hub.live().hosts),
        theirs: Arc::new(theirs.names.clone()),
        ours: Arc::new(ours.names.clone()),
        dialled: origin != Origin::Accepted,
        lanes: match config.placement {
            Placement::StreamPerPair => Lanes::PerPair,
            Placement::OneStream => Lanes::Shared,
        },
        announce_all: config.announce_all,
        second: origin == Origin::Second,
    };
    Ok(Arc::new(SessionShared {
        id,
        machine: Mutex::new(Session::new(facts).with_grants_max(hub.limits.grants)),
        up: AtomicBool::new(false),
        pinned,
        grants: GrantChanges::default(),
        exporter: quic::exporter(&connection, EXPORTER_LABEL).ok_or(Reason::HandshakeFailed)?,
        mux_exporter: quic::exporter(&connection, MUX_EXPORTER_LABEL).ok_or(Reason::HandshakeFailed)?,
        peer: quic::canonical(connection.remote_address()).to_string(),
        connection,
        verdict: verdict.clone(),
    }))
}

/// The `[[peer]]` entries whose address is `address`. `names`: only those that could carry one of these names.
async fn pinned(hub: &Hub, address: SocketAddr, names: Option<&CertifiedNames>) -> Vec<PeerId> {
    let address = quic::canonical(address);
    let mut found = Vec::new();
    for (index, peer) in hub.live().settings.peers.iter().enumerate() {
        let concerned = names.is_none_or(|names| {
            !names.wildcard.is_empty()
                || names.listed().any(|name| peer.domains.iter().any(|rule| rule.matches(name)))
        });
        let leads_here = match &peer.address {
            Endpoint::Address(configured) => quic::canonical(*configured) == address,
            Endpoint::Name { .. } if concerned => resolve(&peer.address)
                .await
                .is_ok_and(|resolved| resolved.iter().any(|found| quic::canonical(*found) == address)),
            Endpoint::Name { .. } => false,
        };
        if leads_here {
            found.push(PeerId(index));
        }
    }
    found
}

/// Accept connections until the endpoint closes.
pub(crate) async fn accept(hub: Arc<Hub>, endpoint: quinn::Endpoint, places: Arc<Semaphore>) {
    while let Some(incoming) = endpoint.accept().await {
        if hub.is_draining() {
            incoming.refuse();
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            hub.metrics.limit_hit("remote_connections");
            hub.metrics.refused(Side::Remote, Reason::TooMany);
            incoming.refuse();
            continue;
        };
        // When half the places are taken, only who can receive at its address gets one (RFC 9000 section 8.1.2).
        let crowded = places.available_permits() < hub.limits.remote_connections / 2;
        if crowded && incoming.may_retry() {
            if incoming.retry().is_err() {
                debug!("a retry was not due");
            }
            continue;
        }
        hub.tasks.spawn(accepted(Arc::clone(&hub), incoming, place));
    }
}

async fn accepted(hub: Arc<Hub>, incoming: quinn::Incoming, place: OwnedSemaphorePermit) {
    let peer = quic::canonical(incoming.remote_address());
    match shake_hands(&hub, incoming).await {
        Ok(session) => {
            // What its streams were refused for was said stream by stream.
            let _said = super::session::run(Arc::clone(&hub), session, None).await;
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

async fn shake_hands(hub: &Arc<Hub>, incoming: quinn::Incoming) -> Result<Arc<SessionShared>, Reason> {
    let live = hub.live();
    let (tls, verdict) = live.tls.server(&live.certificates);
    let config = quic::server_config(tls, &hub.transport)?;
    let connecting = incoming.accept_with(config).map_err(|error| refusal(&verdict, &error))?;
    let connection = tokio::time::timeout(hub.limits.handshake, connecting)
        .await
        .map_err(|_| Reason::NegotiationTimeout)?
        .map_err(|error| refusal(&verdict, &error))?;
    let address = connection.remote_address();
    let theirs = verdict.peer().ok_or(Reason::CertificateMissing)?;
    let pinned = pinned(hub, address, Some(&theirs.names)).await;
    let config = pinned.first().and_then(|peer| live.settings.peers.get(peer.0));
    let unknown = Peer {
        domains: Vec::new(),
        address: Endpoint::Address(address),
        transport: super::settings::Transport::Quic,
        trust: None,
        announce_all: false,
        placement: Placement::StreamPerPair,
        proofs: hub.limits.proofs(),
    };
    let config = config.unwrap_or(&unknown);
    session(hub, hub.fresh_session(), connection, &verdict, pinned.clone(), Origin::Accepted, config)
}
