//! What the router tells its shell to do.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::preference::Place;
use super::proofs::Role;
use super::{LaneId, PeerId, SessionId};
use crate::proto::discovery::Transport;
use crate::proto::discovery::found::Found;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask for the records of a domain; [`super::Router::found`] is told the answer.
    Find {
        /// The peer that they make known.
        peer: PeerId,
        /// The domain.
        domain: Domain,
    },
    /// Connect to a peer and open `lane` for `route` as the session's first stream.
    Dial {
        /// Where.
        peer: PeerId,
        /// Where its domain's records lead; `None` for a `[[peer]]`, whose address is configured.
        found: Option<Arc<Found>>,
        /// Over what it was reached a while ago: to be tried first.
        prefer: Option<Transport>,
        /// Where it was reached a while ago, and no stream came of it: to be tried last, the last place at the end.
        in_vain: Vec<Place>,
        /// The session that comes of it.
        session: SessionId,
        /// Its first lane.
        lane: LaneId,
        /// The pair that it is for: certificates and TLS names follow from it.
        route: Route,
        /// It is the second connection of a proof: mux isn't negotiated on it.
        second: bool,
        /// Don't pipeline: a pipelined attempt was refused.
        plain: bool,
    },
    /// Open a stream for `route` in a session.
    OpenLane {
        /// The session.
        session: SessionId,
        /// The new lane.
        lane: LaneId,
        /// The pair.
        route: Route,
        /// Don't pipeline: a pipelined attempt was refused.
        plain: bool,
    },
    /// Connect to the server of `route.to`, a host of ours.
    OpenLocal {
        /// The new lane.
        lane: LaneId,
        /// The pair.
        route: Route,
    },
    /// From now on `lane` takes the stanzas of `route`, as soon as it is established.
    Attach {
        /// The route.
        route: Route,
        /// Its lane.
        lane: LaneId,
    },
    /// The lane of `route` is gone. If stanzas wait, the route is wanted again.
    Detach {
        /// The route.
        route: Route,
    },
    /// Bounce what has waited for its full time in the queue of `route`, then [`super::Router::rearm`].
    Expire {
        /// The route.
        route: Route,
        /// Why they waited.
        reason: Reason,
    },
    /// Bounce everything in the queue of `route`.
    Bounce {
        /// The route.
        route: Route,
        /// Why.
        reason: Reason,
    },
    /// Bounce what is in the queue of `route`, but for errors and results, our own and others': nobody can be told that these didn't
    /// arrive, so they go on waiting. If there are none, [`super::Router::unwanted`].
    BounceAllButAnswers {
        /// The route.
        route: Route,
        /// Why.
        reason: Reason,
    },
    /// Finish a lane in good order.
    CloseLane {
        /// The lane.
        lane: LaneId,
        /// Why.
        reason: Reason,
    },
    /// Give a fresh nonce and the time to [`super::Router::make_secret`].
    MakeSecret {
        /// The session that the host is to join.
        first: SessionId,
        /// The host.
        host: Domain,
    },
    /// Write octets to a lane: of connection authorization, or to see whether it lives.
    Post {
        /// The lane.
        lane: LaneId,
        /// A whole element or stanza, or white space.
        octets: String,
    },
    /// A host was granted to a session: tell its other holders.
    Granted {
        /// The session.
        session: SessionId,
        /// The host.
        host: Domain,
        /// When its own certificate ends.
        until: SystemTime,
        /// It is a host of ours that the peer accepted, not one of the peer's.
        ours: bool,
        /// Since it was wished for, or asked for by the peer; `None`: the peer wished for it.
        took: Option<Duration>,
    },
    /// A proof began, in this role of ours.
    ProofStarted {
        /// Our role.
        role: Role,
    },
    /// A limit of `[limits]` was hit.
    LimitHit {
        /// Its key.
        limit: &'static str,
    },
    /// A proof came to nothing. Nothing else is changed by that.
    ProofRefused {
        /// The session that the host was to join, where it is known.
        session: Option<SessionId>,
        /// The host.
        host: Option<Domain>,
        /// Why.
        reason: Reason,
    },
    /// The wall clock of this relay was set while a secret was out, by so many seconds; forwards is positive.
    ClockStepped {
        /// By how much.
        seconds: i64,
    },
    /// Close a session that has no lane.
    CloseSession {
        /// The session.
        session: SessionId,
        /// Why.
        reason: Reason,
    },
}
