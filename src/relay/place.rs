//! Where a lane stands: in a session of the remote side, or between us and one of our own servers. What differs between
//! them when a stream is authenticated is here; everything else about a lane is the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::info;

use super::carry::Carry;
use super::hub::Hub;
use super::lane::{Lane, Machine};
use super::local::authority::LocalAuthority;
use super::mailbox::lock;
use super::session::SessionShared;
use crate::proto::admission::{Proven, Scope, Side};
use crate::proto::proof::DomainProof;
use crate::proto::session::StreamAuthority;
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
            Self::FromServer { source } => ask(&LocalAuthority { hub, source: source.ip() }),
            Self::ToServer { server, .. } => ask(&LocalAuthority { hub, source: server.ip() }),
        }
    }

    /// The other end's header came. On a stream to one of our servers its id is what a dialback key is made for.
    pub(crate) fn header_came(&mut self, hub: &Arc<Hub>, machine: &Machine, header: &StreamHeader) {
        if let (Self::ToServer { route, key, .. }, Machine::Initiating(machine)) = (self, machine)
            && let (Some(id), false) = (&header.id, machine.is_established())
        {
            hub.open_key(route.clone(), id.clone());
            *key = Some(OpenKey { hub: Arc::clone(hub), key: (route.clone(), id.clone()) });
        }
    }
}

/// The other end is believed for `route`, in the initiating entity's direction: stanzas may flow.
pub(crate) fn proven(lane: &mut Lane, route: &Route, bidi: bool) {
    let hub = Arc::clone(&lane.hub);
    let initiating = matches!(lane.machine, Machine::Initiating(_));
    let mut scope = match &lane.place {
        Place::Session { session, .. } => proven_in_session(lane, session, route, bidi, initiating),
        Place::FromServer { .. } => {
            let proof =
                match hub.hosts.facts(&route.from).and_then(|facts| hub.settings.hosts.get(facts.entry)) {
                    Some(host) if host.local_auth == super::settings::LocalAuth::Dialback => {
                        DomainProof::Dialback
                    }
                    _ => DomainProof::Trusted,
                };
            hub.metrics.proof(proof, Ok(()));
            hub.control(|router, now| router.local_lane_up(lane.id, &route.reversed(), bidi, now));
            let mut domains = match lane.carry.as_ref().map(Carry::scope) {
                Some(Scope { theirs: Proven::Domains(domains), .. }) => domains.clone(),
                _ => Default::default(),
            };
            domains.insert(route.from.clone());
            Scope { side: Side::Local, theirs: Proven::Domains(domains), ours: Proven::Any, pair: None }
        }
        Place::ToServer { .. } => {
            hub.control(|router, now| router.local_lane_established(lane.id, now));
            // It answers at the address that the operator gave for the host: that is who it is.
            Scope { side: Side::Local, theirs: Proven::only(route.to.clone()), ours: Proven::Any, pair: None }
        }
    };
    if initiating && !bidi {
        // Without bidi nothing may come back on a stream that we opened (RFC 6120 section 4.5).
        scope.theirs = Proven::nothing();
    }
    match &mut lane.carry {
        Some(carry) => carry.rescope(scope),
        None => lane.carry = Some(Carry::new(&hub, scope)),
    }
    if initiating || bidi {
        lane.mailbox.open();
    }
}

fn proven_in_session(
    lane: &Lane,
    session: &Arc<SessionShared>,
    route: &Route,
    bidi: bool,
    initiating: bool,
) -> Scope {
    let hub = &lane.hub;
    let (scope, machine, more) = {
        let mut machine = lock(&session.machine);
        let multiplexed = machine.is_multiplexed();
        machine.learn(lane.learned.clone().unwrap_or_default());
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
            router.session_up(session.id, machine, &session.pinned, session.exporter, now);
        }
        if initiating {
            router.lane_established(lane.id, now);
        } else {
            router.peer_lane_up(session.id, lane.id, &route.reversed(), bidi, now);
        }
    });
    scope
}
