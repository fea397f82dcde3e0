//! Where a lane stands: in a session of the remote side, or between us and one of our own servers. What differs between
//! them when a stream is authenticated is here; everything else about a lane is the same.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tracing::{Span, debug, info};

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
use crate::proto::stream::receiving::{Authority, DialbackOffer, Offers};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::header::StreamHeader;
use crate::xmpp::route::Route;

/// Where a lane stands.
#[derive(Debug)]
pub(crate) enum Place {
    /// In a session; `first`: it is the connection's first stream. `dialback`: we may have to prove ourselves by it.
    Session { session: Arc<SessionShared>, first: bool, dialback: Option<Box<Dialling>> },
    /// One of our servers opened it, from this address; boxed, because most of very many lanes are in sessions.
    FromServer { source: Box<SocketAddr> },
    /// We opened it to the server of `route.to`.
    ToServer { server: Box<SocketAddr>, dialback: Box<Dialling> },
}

/// A stream that we open and on which we may send a dialback key.
#[derive(Debug)]
pub(crate) struct Dialling {
    route: Route,
    key: Option<OpenKey>,
}

impl Dialling {
    pub(crate) fn new(route: Route) -> Self {
        Self { route, key: None }
    }

    /// The other end gave the stream this id.
    fn opened(&mut self, hub: &Arc<Hub>, id: &str) {
        let key = (self.route.clone(), id.to_owned());
        hub.open_key(key.0.clone(), key.1.clone());
        self.key = Some(OpenKey { hub: Arc::clone(hub), key });
    }
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
            Self::Session { session, first, .. } => {
                let machine = lock(&session.machine);
                let stream = StreamAuthority { session: &machine, first: *first };
                ask(&SessionAuthority { hub, stream, span: &session.span })
            }
            Self::FromServer { source } => {
                ask(&LocalAuthority { hub, live: &hub.live(), source: source.ip() })
            }
            Self::ToServer { server, .. } => {
                ask(&LocalAuthority { hub, live: &hub.live(), source: server.ip() })
            }
        }
    }

    /// The other end's header came. Its id is what a dialback key is made for, until the stream is established. In a session
    /// it may say that a host of ours was granted.
    pub(crate) fn header_came(&mut self, hub: &Arc<Hub>, header: &StreamHeader, established: bool) {
        if let (Self::Session { session, .. }, Some(to)) = (&*self, &header.to)
            && hub.live().hosts.serves(to)
            && !lock(&session.machine).ours_proven(to)
        {
            hub.control(|router, now| router.host_called(session.id, to, now));
        }
        let dialling = match self {
            Self::ToServer { dialback, .. } => Some(&mut **dialback),
            Self::Session { dialback, .. } => dialback.as_deref_mut(),
            Self::FromServer { .. } => None,
        };
        if let (Some(dialling), Some(id), false) = (dialling, &header.id, established) {
            dialling.opened(hub, id);
        }
    }

    /// Tell the router that the other end is believed, and say what may pass on the stream from now on.
    pub(crate) fn proven(&mut self, hub: &Arc<Hub>, proof: &Proof<'_>) -> Scope {
        let dialling = match self {
            Self::ToServer { dialback, .. } => Some(&mut **dialback),
            Self::Session { dialback, .. } => dialback.as_deref_mut(),
            Self::FromServer { .. } => None,
        };
        if let Some(dialling) = dialling {
            // Who believes us on it has asked by now, if at all (XEP-0220 section 2.1).
            dialling.key = None;
        }
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
    /// What the log says of the session; of a stream with our own servers nothing.
    pub(crate) fn span(&self) -> Span {
        self.session().map_or_else(Span::none, |session| session.span.clone())
    }

    pub(crate) fn session(&self) -> Option<Arc<SessionShared>> {
        match self {
            Self::Session { session, .. } => Some(Arc::clone(session)),
            Self::FromServer { .. } | Self::ToServer { .. } => None,
        }
    }
}

/// The authority for one stream that the peer opened in a session: what the session says, and whose keys are ours.
#[derive(Debug)]
struct SessionAuthority<'a> {
    hub: &'a Hub,
    stream: StreamAuthority<'a>,
    span: &'a Span,
}

impl Authority for SessionAuthority<'_> {
    fn offers(&self, route: &Route) -> Result<Offers, Reason> {
        self.stream.offers(route)
    }

    fn host_list(&self) -> Vec<Domain> {
        self.stream.host_list()
    }

    fn dialback(&self, stream: &Route, route: &Route) -> Result<DialbackOffer, Reason> {
        let offer = self.stream.dialback(stream, route);
        if let Err(reason) = offer {
            self.hub.metrics.refused(Side::Remote, reason);
            debug!(parent: self.span, pair = %route, %reason, advice = reason.advice(), "dialback refused");
        }
        offer
    }

    /// Whoever asks: a key is known to nobody but the server that we sent it to, and is good for one open stream.
    fn made_key(&self, route: &Route, stream_id: &str, key: &str) -> bool {
        let live = self.hub.live();
        live.hosts.serves(&route.from)
            && !live.hosts.serves(&route.to)
            && self.hub.has_open_key(route, stream_id)
            && live.made_key(route, stream_id, key)
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
    let (scope, multiplexed, more, kind) = {
        let mut machine = lock(&session.machine);
        // Where the certificate proves the domain, dialback only says so once more (XEP-0344 section 3).
        let certified = machine.theirs_proven(if initiating { &route.to } else { &route.from });
        let kind = if certified { DomainProof::Certificate } else { DomainProof::Dialback };
        let before = machine.is_multiplexed();
        machine.learn(proof.learned.clone());
        let multiplexed = machine.is_multiplexed();
        (machine.scope(route, initiating), multiplexed, multiplexed != before, kind)
    };
    if proof.known.is_some() {
        // It is believed already, and asked again by dialback.
        return scope;
    }
    hub.metrics.proof(kind, Ok(()));
    let first = session.comes_up(&hub.limits);
    // What comes later belongs to no attempt.
    if let Some(trace) = session.trace.as_ref().filter(|_| first) {
        let mux = if multiplexed { "multiplexed" } else { "not multiplexed" };
        trace
            .step("established", format!("{route} in session {}, by {}, {mux}", session.id.0, kind.as_str()));
        trace.end(Ok(()));
    }
    if first {
        session.name_peer(if initiating { &route.to } else { &route.from });
        info!(
            parent: &session.span,
            pair = %route,
            multiplexed,
            domains = lock(&session.machine).facts().theirs.listed().count(),
            "session up"
        );
        hub.metrics.sessions(session.connection.transport().as_str(), session.opened).inc();
    }
    hub.control(|router, now| {
        if first || more {
            let (ours, theirs) = if initiating { (&route.from, &route.to) } else { (&route.to, &route.from) };
            let stream_id = proof.learned.stream_id.clone();
            let facts = SessionFacts {
                pinned: session.pinned.clone(),
                place: session.place.clone(),
                exporter: session.exporter,
                mux_exporter: session.mux_exporter,
                anchor: Anchor { ours: ours.clone(), theirs: theirs.clone(), stream_id, bidi },
            };
            let machine = lock(&session.machine).clone();
            router.session_up(session.id, machine, facts, now);
        } else if !proof.learned.listed.is_empty() {
            router.list_came(session.id, proof.learned);
        }
        if initiating {
            router.lane_established(lane, now);
        } else {
            router.peer_lane_up(session.id, lane, &route.reversed(), bidi, now);
        }
        if let Some(reason) = session.leaves() {
            router.session_leaves(session.id, reason, now);
        }
    });
    if kind == DomainProof::Dialback {
        hub.dialback_proven(session, if initiating { &route.to } else { &route.from });
    }
    scope
}
