//! Connections with peers, whatever they run over: what is dialled for whom, and which session comes of it.
//!
//! [`super::over_quic`] and [`super::over_tls`] make the connections; each hands a [`Connected`] over, whose peer's
//! certificate is verified and on which no stream was opened yet.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::warn;

use super::attempts::{Kind, Trace};
use super::clock;
use super::credit::Credit;
use super::gauges::PathSeen;
use super::hub::Hub;
use super::reach::{Goal, reach};
use super::row::Row;
use super::session::Opening;
use super::session::openings::Openings;
use super::settings::{Endpoint, Peer, Placement, Transport};
use super::shared::{Connection, GrantChanges, SessionShared, Strain};
use super::streams::QuicStreams;
use super::{over_quic, over_tls, session, shared, single};
use crate::identity::certificate::Certificate;
use crate::identity::verdict::Verdict;
use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::discovery::pins::Pins;
use crate::proto::proof::CertifiedNames;
use crate::proto::router::{LaneId, PeerId, PeerPlace, SessionId};
use crate::proto::session::{Facts, Lanes, Session};
use crate::reason::Reason;
use crate::transport::quic;
use crate::transport::tls::TlsStream;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// Label of the exporter value by which two relays agree which of two sessions takes new lanes.
const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL fedmux session";
/// Label of the exporter value that mux secrets are bound to.
const MUX_EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL fedmux mux 1";

/// Where a peer is, and how it is spoken to there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
}

/// What a connection is dialled for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) session: SessionId,
    pub(crate) route: &'a Route,
    /// Ours, for `route.from`.
    pub(crate) certificate: &'a Arc<Certificate>,
    pub(crate) peer: PeerId,
    /// The SRV target that led here, if one did.
    pub(crate) srv: Option<&'a str>,
    pub(crate) asked: Asked<'a>,
    /// It is the second connection of a proof.
    pub(crate) second: bool,
    pub(crate) trace: &'a Trace,
}

/// What the domain asks of a TLS handshake with it, besides a certificate that carries it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The name to send in SNI; `None`: the domain's own.
    pub(crate) sni: Option<&'a str>,
    /// The keys that its servers have.
    pub(crate) pins: &'a Pins,
}

impl Asked<'_> {
    /// What is sent in SNI to the server of `domain`.
    pub(crate) fn name(&self, domain: &Domain) -> String {
        self.sni.map_or_else(|| domain.to_ascii(), str::to_owned)
    }
}

/// A connection on which no stream was opened yet; its peer's certificate is verified.
pub(crate) enum Connected {
    Quic(Arc<SessionShared>, quinn::Connection),
    Tls(Arc<SessionShared>, Box<TlsStream>),
}

impl Connected {
    /// Run the session to its end. `first`: the lane that we dialled it for.
    ///
    /// # Errors
    /// Why no stream of it was ever authenticated.
    pub(crate) async fn run(self, hub: Arc<Hub>, first: Option<Opening>) -> Result<(), Reason> {
        match self {
            Self::Quic(session, connection) => {
                let streams = QuicStreams::new(connection, &session);
                session::run(hub, session, streams, first).await
            }
            Self::Tls(session, stream) => single::run(hub, session, *stream, first).await,
        }
    }
}

/// Tells the router that an attempt failed, whatever ended its task.
pub(super) struct DialGuard {
    hub: Arc<Hub>,
    session: SessionId,
    lane: LaneId,
    pub(super) failed: Option<Reason>,
}

impl DialGuard {
    pub(super) fn new(hub: &Arc<Hub>, session: SessionId, opening: &Opening) -> Self {
        let failed = Some(Reason::InternalServerError);
        Self { hub: Arc::clone(hub), session, lane: opening.lane, failed }
    }
}

impl Drop for DialGuard {
    fn drop(&mut self) {
        if let Some(reason) = self.failed {
            self.hub.forget_lane(self.lane);
            self.hub.control(|router, now| router.dial_failed(self.session, reason, now));
        }
    }
}

/// Connect to a peer for `opening`, and run the session that comes of it to its end.
pub(crate) async fn dial(hub: Arc<Hub>, goal: Goal, session: SessionId, opening: Opening) {
    let mut guard = DialGuard::new(&hub, session, &opening);
    let route = opening.route.clone();
    let trace = hub.attempts.begin(Kind::Connection, &route.to, Some(&route.from));
    let outcome = match reach(&hub, &goal, session, &opening, &trace).await {
        Ok(connected) => {
            guard.failed = None;
            // Over TLS 1.3 what the peer thinks of our certificate shows only now.
            connected.run(Arc::clone(&hub), Some(opening)).await
        }
        Err(reason) => {
            guard.failed = Some(reason);
            Err(reason)
        }
    };
    trace.end(outcome);
    if let Err(reason) = outcome {
        let live = hub.live();
        let config = live.peers.get(goal.peer);
        let address = config.map(|peer| peer.address.to_string());
        let tried = goal.tried();
        let transport = config.map(|peer| peer.transport.as_str());
        hub.metrics.dial_failed(Side::Remote, reason);
        let clock = clock_for(reason);
        warn!(pair = %route, address, transport, tried, %reason, clock, advice = reason.advice(), "peer not reached");
    }
}

/// What our clock says, where that decides whether a certificate is good: a clock that is off then shows at once.
pub(crate) fn clock_for(reason: Reason) -> Option<String> {
    let of_time = matches!(reason, Reason::CertificateExpired | Reason::CertificateNotYetValid);
    of_time.then(|| OffsetDateTime::now_utc().replace_nanosecond(0).ok()?.format(&Rfc3339).ok()).flatten()
}

/// Connect to `target`, and verify that its certificate covers `attempt.route.to`.
///
/// # Errors
/// Why there is no connection. Nothing is left of it.
pub(crate) async fn connect(
    hub: &Arc<Hub>,
    target: Target,
    attempt: Attempt<'_>,
) -> Result<Connected, Reason> {
    let mut shaking =
        Shaking { hub: Arc::clone(hub), transport: target.transport, began: clock::now(), done: false };
    let connected = match target.transport {
        Transport::Quic => over_quic::connect(hub, target, attempt).await,
        Transport::DirectTls | Transport::StartTls => over_tls::connect(hub, target, attempt).await,
    };
    shaking.done = true;
    shaken(hub, target.transport, Opened::Outbound, connected.as_ref().err().copied(), shaking.began);
    connected
}

/// A handshake of ours: if it is dropped before its end, it was given up.
struct Shaking {
    hub: Arc<Hub>,
    transport: Transport,
    began: Instant,
    done: bool,
}

impl Drop for Shaking {
    fn drop(&mut self) {
        if !self.done {
            let took = clock::now().saturating_duration_since(self.began);
            self.hub.metrics.handshakes.abandoned(self.transport.as_str(), took);
        }
    }
}

/// A handshake that began then has ended; `failed`: why it came to nothing.
pub(crate) fn shaken(
    hub: &Hub,
    transport: Transport,
    opened: Opened,
    failed: Option<Reason>,
    began: Instant,
) {
    let took = clock::now().saturating_duration_since(began);
    hub.metrics.handshakes.ended(transport.as_str(), opened, failed.map_or(Ok(()), Err), took);
}

/// How a connection came to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// The peer opened it.
    Accepted,
    /// We opened it.
    Dialled(Attempt<'a>),
}

/// A connection whose handshake is complete.
pub(crate) struct Established {
    pub(crate) connection: Connection,
    pub(crate) address: SocketAddr,
    /// The values for [`EXPORTER_LABEL`] and [`MUX_EXPORTER_LABEL`].
    pub(crate) exporters: [[u8; 32]; 2],
    pub(crate) verdict: Verdict,
}

/// The exporter values that a session needs.
///
/// # Errors
/// [`Reason::HandshakeFailed`] if TLS has none.
pub(crate) fn exporters(value: impl Fn(&[u8]) -> Option<[u8; 32]>) -> Result<[[u8; 32]; 2], Reason> {
    let value = |label| value(label).ok_or(Reason::HandshakeFailed);
    Ok([value(EXPORTER_LABEL)?, value(MUX_EXPORTER_LABEL)?])
}

/// The session of a connection; it isn't up before one of its streams is authenticated.
///
/// # Errors
/// [`Reason::CertificateMissing`] if the peer has shown none, [`Reason::UnsupportedFeature`] if it didn't ask for ours.
pub(crate) async fn session(
    hub: &Arc<Hub>,
    established: Established,
    origin: Origin<'_>,
) -> Result<Arc<SessionShared>, Reason> {
    let live = hub.live();
    let Established { connection, address, exporters: [exporter, mux_exporter], verdict } = established;
    let single = connection.transport() != Transport::Quic;
    let dialback = single && hub.dials_back();
    let identity = verdict.peer();
    let keys = identity.as_ref().map_or_else(|| Arc::from([]), |peer| Arc::clone(&peer.keys));
    let theirs = identity.map(|peer| peer.names.clone());
    let ours = verdict.shown().map(|certificate| certificate.names.clone());
    let (theirs, ours) = match (theirs, ours) {
        (Some(theirs), Some(ours)) => (theirs, ours),
        // Whoever showed nothing may still be proven by dialback, pair by pair.
        (None, Some(ours)) if dialback => (CertifiedNames::none(ours.not_after), ours),
        (Some(theirs), None) if dialback => {
            let none = CertifiedNames::none(theirs.not_after);
            (theirs, none)
        }
        (None, _) => return Err(Reason::CertificateMissing),
        // A server that doesn't ask for our certificate can't believe us.
        (_, None) => return Err(Reason::UnsupportedFeature),
    };
    let target = Target { transport: connection.transport(), address };
    let (id, second, pinned, entry) = made_for(hub, target, origin, &theirs).await;
    let config = entry.and_then(|peer| live.peers.get(peer));
    let (srv, trace) = led_here(origin);
    let one_stream = single || config.is_some_and(|config| config.placement == Placement::OneStream);
    let facts = Facts {
        hosts: Arc::clone(&live.hosts),
        theirs: Arc::new(theirs),
        ours: Arc::new(ours),
        dialled: matches!(origin, Origin::Dialled(_)),
        lanes: if one_stream { Lanes::Shared } else { Lanes::PerPair },
        single,
        dialback,
        announce_all: config.is_some_and(|config| config.announce_all),
        second,
    };
    let peer = quic::canonical(address).to_string();
    let opened = if matches!(origin, Origin::Dialled(_)) { Opened::Outbound } else { Opened::Inbound };
    Ok(Arc::new(SessionShared {
        id,
        span: shared::span(id, &peer, target.transport, opened),
        machine: Mutex::new(Session::new(facts).with_grants_max(hub.limits.grants)),
        up: AtomicBool::new(false),
        pinned,
        entry,
        retired: AtomicBool::new(false),
        leaving: OnceLock::new(),
        grants: GrantChanges::default(),
        exporter,
        mux_exporter,
        place: PeerPlace {
            transport: target.transport,
            address: quic::canonical(address),
            target: srv,
            keys,
        },
        peer,
        connection,
        verdict,
        strain: Strain::default(),
        credit: Credit::default(),
        openings: Openings::default(),
        row: Row::default(),
        began: clock::now(),
        opened,
        path_seen: PathSeen::default(),
        trace,
    }))
}

/// The number of a session, whether it is the second one of a proof, the peers whose address it leads to, and the one by whose
/// rules it is made.
async fn made_for(
    hub: &Hub,
    target: Target,
    origin: Origin<'_>,
    theirs: &CertifiedNames,
) -> (SessionId, bool, Vec<PeerId>, Option<PeerId>) {
    match origin {
        Origin::Accepted => {
            // Who comes right after we have started belongs to an entry as well.
            let _late = tokio::time::timeout(hub.limits.look_up, introduced(hub, theirs)).await;
            let pinned = pinned(hub, target, Some(theirs));
            let known = if target.transport == Transport::Quic {
                pinned.first().copied()
            } else {
                at_home(hub, target, theirs)
            };
            (hub.fresh_session(), false, pinned, known)
        }
        Origin::Dialled(Attempt { session, second, peer, .. }) => {
            let pinned = pinned(hub, target, None);
            let pinned = if pinned.contains(&peer) { pinned } else { vec![peer] };
            (session, second, pinned, Some(peer))
        }
    }
}

/// Wait until the `[[peer]]` entries that could carry one of `names` were looked up once.
async fn introduced(hub: &Hub, names: &CertifiedNames) {
    for (_, peer) in hub.live().peers.iter().filter(|(_, peer)| may_carry(peer, names)) {
        hub.acquaintances.looked_up(&peer.address).await;
    }
}

/// The SRV target that led here, and what writes the attempt down, if we dialled.
fn led_here(origin: Origin<'_>) -> (Option<String>, Option<Trace>) {
    match origin {
        Origin::Dialled(Attempt { srv, trace, .. }) => (srv.map(str::to_owned), Some(trace.clone())),
        Origin::Accepted => (None, None),
    }
}

/// The `[[peer]]` entry of whoever connected over TCP, where no port tells who it is: it comes from the peer's host, and its
/// certificate carries a domain of the entry. That is enough to be shown what the peer may see; it pins nothing.
fn at_home(hub: &Hub, target: Target, names: &CertifiedNames) -> Option<PeerId> {
    let (live, ip) = (hub.live(), target.address.ip().to_canonical());
    let mut at_home = live.peers.iter().filter(|(_, peer)| {
        peer.transport != Transport::Quic && lists(names, peer) && hub.acquaintances.is_at(&peer.address, ip)
    });
    at_home.next().map(|(id, _)| id)
}

/// The `[[peer]]` entries that name this address and transport. `names`: only those that could carry one of these names.
fn pinned(hub: &Hub, target: Target, names: Option<&CertifiedNames>) -> Vec<PeerId> {
    let (live, ip) = (hub.live(), target.address.ip().to_canonical());
    let leads_here = |peer: &Peer| {
        peer.transport == target.transport
            && peer.address.port() == target.address.port()
            && match peer.address {
                Endpoint::Name { .. } if names.is_some_and(|names| !may_carry(peer, names)) => false,
                _ => hub.acquaintances.is_at(&peer.address, ip),
            }
    };
    live.peers.iter().filter(|(_, peer)| leads_here(peer)).map(|(id, _)| id).collect()
}

/// Whether `peer` could carry one of the domains of a certificate.
fn may_carry(peer: &Peer, names: &CertifiedNames) -> bool {
    !names.wildcard.is_empty() || lists(names, peer)
}

/// Whether a certificate names a domain of `peer`.
fn lists(names: &CertifiedNames, peer: &Peer) -> bool {
    names.listed().any(|name| peer.domains.iter().any(|rule| rule.matches(name)))
}
