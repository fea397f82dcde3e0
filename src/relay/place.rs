//! Where a lane stands: in a session of the remote side, or between us and one of our own servers. What differs between
//! them when a stream is authenticated is here; everything else about a lane is the same.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::info;

use super::hub::Hub;
use super::local::authority::LocalAuthority;
use super::mailbox::lock;
use super::settings::LocalAuth;
use super::shared::SessionShared;
use crate::proto::admission::{Proven, Scope, Side};
use crate::proto::mux::authorize::Authorization;
use crate::proto::mux::iq::ID_PREFIX;
use crate::proto::proof::DomainProof;
use crate::proto::router::proofs::Anchor;
use crate::proto::router::{LaneId, SessionFacts};
use crate::proto::session::StreamAuthority;
use crate::proto::stream::Learned;
use crate::proto::stream::receiving::Authority;
use crate::xmpp::header::StreamHeader;
use crate::xmpp::route::Route;

/// Where a lane stands.
#[derive(Debug)]
pub(crate) enum Place {
    /// In a session; `first`: it is the connection's first stream.
    Session { session: Arc<SessionShared>, first: bool },
    /// One of our servers opened it, from this address.
    FromServer { source: SocketAddr },
    /// We opened it to the server of `route.to`.
    ToServer { route: Route, server: SocketAddr, key: Option<OpenKey> },
}

/// A dialback key that stands for an answer as long as its stream is open.
#[derive(Debug)]
pub(crate) struct OpenKey {
    hub: Arc<Hub>,
    key: (Route, String),
}

impl Drop for OpenKey {
    fn drop(&mut self) {
        self.hub.close_key(&self.key);
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session { session, .. } => session.peer.fmt(f),
            Self::FromServer { source } => source.fmt(f),
            Self::ToServer { server, .. } => server.fmt(f),
        }
    }
}

impl Place {
    pub(crate) fn side(&self) -> Side {
        match self {
            Self::Session { .. } => Side::Remote,
            Self::FromServer { .. } | Self::ToServer { .. } => Side::Local,
        }
    }

    /// Ask the authority for streams that the other end opens here.
    pub(crate) fn with_authority<T>(&self, hub: &Hub, ask: impl FnOnce(&dyn Authority) -> T) -> T {
        match self {
            Self::Session { session, first } => {
                let machine = lock(&session.machine);
                ask(&StreamAuthority { session: &machine, first: *first })
            }
            Self::FromServer { source } => {
                ask(&LocalAuthority { hub, live: &hub.live(), source: source.ip() })
            }
            Self::ToServer { server, .. } => {
                ask(&LocalAuthority { hub, live: &hub.live(), source: server.ip() })
            }
        }
    }

    /// The other end's header came. On a stream to one of our servers its id is what a dialback key is made for, until
    /// the stream is established. In a session it may say that a host of ours was granted.
    pub(crate) fn header_came(&mut self, hub: &Arc<Hub>, header: &StreamHeader, established: bool) {
        if let (Self::Session { session, .. }, Some(to)) = (&*self, &header.to)
            && hub.live().hosts.serves(to)
            && !lock(&session.machine).ours_proven(to)
        {
            hub.control(|router, now| router.host_called(session.id, to, now));
        }
        if let (Self::ToServer { route, key, .. }, Some(id), false) = (self, &header.id, established) {
            hub.open_key(route.clone(), id.clone());
            *key = Some(OpenKey { hub: Arc::clone(hub), key: (route.clone(), id.clone()) });
        }
    }

    /// Tell the router that the other end is believed, and say what may pass on the stream from now on.
    pub(crate) fn proven(&self, hub: &Arc<Hub>, proof: &Proof<'_>) -> Scope {
        match self {
            Self::Session { session, .. } => proven_in_session(hub, session, proof),
            Self::FromServer { .. } => proven_by_server(hub, proof),
            Self::ToServer { .. } => {
                hub.control(|router, now| router.local_lane_established(proof.lane, now));
                // It answers at the address that the operator gave for the host: that is who it is.
                let theirs = Proven::only(proof.route.to.clone());
                Scope { side: Side::Local, theirs, ours: Proven::Any, pair: None }
            }
        }
    }
}

impl Place {
    /// An element of connection authorization came on the stream `lane`, which is the second connection of a proof.
    pub(crate) fn authorization(&self, hub: &Arc<Hub>, lane: LaneId, route: &Route, said: &Authorization) {
        let Self::Session { session, .. } = self else { return };
        let Some(bits) = super::random::identifier() else { return };
        hub.control(|router, now| match said {
            Authorization::Request { prover, stream_id } => {
                router.secret_requested(session.id, lane, route, prover, stream_id, now);
            }
            Authorization::Secret { prover, secret } => {
                let id = format!("{ID_PREFIX}{bits}");
                router.secret_received(session.id, route, prover, secret, id, now);
            }
            Authorization::Refused(refused) => router.secret_refused(session.id, *refused, now),
        });
    }

    /// The session in which the stream stands, if it is in one.
    pub(crate) fn session(&self) -> Option<Arc<SessionShared>> {
        match self {
            Self::Session { session, .. } => Some(Arc::clone(session)),
            Self::FromServer { .. } | Self::ToServer { .. } => None,
        }
    }
}

/// What became known when the other end of a stream was believed.
#[derive(Debug)]
pub(crate) struct Proof<'a> {
    pub(crate) lane: LaneId,
    /// The pair, in the initiating entity's direction.
    pub(crate) route: &'a Route,
    pub(crate) bidi: bool,
    /// We opened the stream.
    pub(crate) initiating: bool,
    pub(crate) learned: &'a Learned,
    /// What might pass on the stream until now.
    pub(crate) known: Option<&'a Scope>,
}

fn proven_by_server(hub: &Arc<Hub>, proof: &Proof<'_>) -> Scope {
    let live = hub.live();
    let kind = match live.host(&proof.route.from) {
        Some(host) if host.local_auth == LocalAuth::Dialback => DomainProof::Dialback,
        _ => DomainProof::Trusted,
    };
    hub.metrics.proof(kind, Ok(()));
    hub.control(|router, now| router.local_lane_up(proof.lane, &proof.route.reversed(), proof.bidi, now));
    let mut domains = match proof.known {
        Some(Scope { theirs: Proven::Domains(domains), .. }) => domains.clone(),
        _ => BTreeSet::new(),
    };
    domains.insert(proof.route.from.clone());
    Scope { side: Side::Local, theirs: Proven::Domains(domains), ours: Proven::Any, pair: None }
}

fn proven_in_session(hub: &Arc<Hub>, session: &Arc<SessionShared>, proof: &Proof<'_>) -> Scope {
    let Proof { lane, route, bidi, initiating, .. } = *proof;
    let (scope, machine, more) = {
        let mut machine = lock(&session.machine);
        let multiplexed = machine.is_multiplexed();
        machine.learn(proof.learned.clone());
        (machine.scope(route, initiating), machine.clone(), machine.is_multiplexed() != multiplexed)
    };
    hub.metrics.proof(DomainProof::Certificate, Ok(()));
    let first = !session.up.swap(true, Ordering::AcqRel);
    if first {
        info!(
            session = session.id.0,
            peer = %session.peer,
            pair = %route,
            multiplexed = machine.is_multiplexed(),
            domains = machine.facts().theirs.listed().count(),
            "session up"
        );
        hub.metrics.sessions.inc();
        session.connection.set_max_concurrent_bi_streams(quinn::VarInt::from_u32(hub.limits.lanes));
    }
    hub.control(|router, now| {
        if first || more {
            let (ours, theirs) = if initiating { (&route.from, &route.to) } else { (&route.to, &route.from) };
            let stream_id = proof.learned.stream_id.clone();
            let facts = SessionFacts {
                pinned: session.pinned.clone(),
                exporter: session.exporter,
                mux_exporter: session.mux_exporter,
                anchor: Anchor { ours: ours.clone(), theirs: theirs.clone(), stream_id },
            };
            router.session_up(session.id, machine, facts, now);
        } else if !proof.learned.listed.is_empty() {
            router.list_came(session.id, proof.learned);
        }
        if initiating {
            router.lane_established(lane, now);
        } else {
            router.peer_lane_up(session.id, lane, &route.reversed(), bidi, now);
        }
    });
    scope
}
