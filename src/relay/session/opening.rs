//! A lane of a session that we open: its turn, its stream, its negotiation, and what it means if it did not come to be.

use std::sync::Arc;

use tracing::{debug, warn};

use super::openings::Turn;
use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::router::{LaneFailure, LaneId};
use crate::proto::stream::Outbox;
use crate::proto::stream::initiating::Initiating;
use crate::reason::Reason;
use crate::relay::attempts::Kind;
use crate::relay::clock;
use crate::relay::guard::LaneGuard;
use crate::relay::hub::Hub;
use crate::relay::lane::{Lane, LaneEnd, Machine};
use crate::relay::mailbox::{Mailbox, lock};
use crate::relay::place::Place;
use crate::relay::shared::SessionShared;
use crate::relay::streams::Streams;
use crate::xmpp::route::Route;

/// A lane that we are to open.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) lane: LaneId,
    pub(crate) route: Route,
    pub(crate) plain: bool,
    /// Its session is the second connection of a proof.
    pub(crate) second: bool,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// A lane of ours. Why it did not come to be, if it didn't.
#[allow(
    clippy::manual_async_fn,
    reason = "an async fn keeps all that is handed to it twice (rust-lang/rust#62958), in each lane"
)]
pub(super) fn open<S: Streams>(
    hub: Arc<Hub>,
    session: Arc<SessionShared>,
    connection: S,
    opening: Opening,
    first: bool,
) -> impl Future<Output = Option<Reason>> + Send {
    async move {
        let guard = LaneGuard::new(&hub, opening.lane, Side::Remote);
        hub.asks_alone(&opening.route).await;
        let (turn, (send, receive)) = match stream(&hub, &session, &connection, first).await {
            Ok(opened) => opened,
            Err(LaneFailure::Other(reason)) => {
                guard.down(reason);
                return Some(reason);
            }
            Err(failure) => {
                guard.failed(failure);
                return Some(Reason::NotMultiplexed);
            }
        };
        // What another lane asked for while this one waited for its turn.
        hub.asks_alone(&opening.route).await;
        let heard = connection.heard();
        let run =
            begin(&hub, &session, &opening, (first, heard)).in_turn(turn).run(receive, send, |ended| ended);
        let ended = run.await;
        hub.metrics.lanes.dec();
        let route = &opening.route;
        // The peer proved this host by a secret and doesn't know it: our grant was lost with the lane that carried it. As long as we went
        // by it, the host would have no other way and no other proof.
        let forgets = ended.reason == Reason::HostUnknown && lock(&session.machine).theirs_granted(&route.to);
        if ended.reason == Reason::HostGone || forgets {
            hub.host_is_gone(&session, &route.to);
        }
        if ended.established {
            guard.down(ended.reason);
            return None;
        }
        let failure = match failure(&connection, ended, first) {
            LaneFailure::Other(Reason::HostUnknown) if forgets => LaneFailure::Other(Reason::MuxRefused),
            failure => failure,
        };
        let reason = if let LaneFailure::Other(reason) = failure { reason } else { ended.reason };
        // The end of the first one is the end of the attempt, which the dialler tells.
        if failure == LaneFailure::Elsewhere {
            debug!(parent: &session.span, pair = %route, "the peer takes no new lane in the session");
        } else if !first {
            let detail = || format!("a stream for {route} in session {}", session.id.0);
            hub.attempts.note(
                Kind::Connection,
                &route.to,
                Some(&route.from),
                ("stream", detail),
                Err(reason),
            );
            warn!(parent: &session.span, pair = %route, %reason, ?failure, "lane not established");
        }
        guard.failed(failure);
        Some(reason)
    }
}

/// Open a stream for a lane, when it is its turn and the peer gives credit.
async fn stream<S: Streams>(
    hub: &Hub,
    session: &SessionShared,
    connection: &S,
    first: bool,
) -> Result<(Option<Turn>, (S::Transmit, S::Receive)), LaneFailure> {
    let asked = clock::now();
    let turn = if first { None } else { session.openings.turn().await };
    if turn.is_none() && !first {
        return Err(LaneFailure::Other(connection.closed().unwrap_or(Reason::Draining)));
    }
    let wait = hub.limits.credit_wait;
    let patience = match first {
        // For the handshake's end.
        true => wait.max(hub.limits.handshake),
        false => session.openings.patience(wait, asked, clock::now()),
    };
    let opened = tokio::time::timeout(patience, connection.open()).await;
    session.openings.credited(opened.is_ok());
    match opened {
        Ok(opened) => Ok((turn, opened.map_err(LaneFailure::Other)?)),
        Err(_) => {
            hub.metrics.limit_hit("credit_wait");
            Err(LaneFailure::SingleStream)
        }
    }
}

/// A lane of ours that has a stream. `heard`: what has come from the peer so far.
fn begin(
    hub: &Arc<Hub>,
    session: &Arc<SessionShared>,
    opening: &Opening,
    (first, heard): (bool, u64),
) -> Lane {
    let Opening { lane: id, route, plain, mailbox, .. } = opening;
    hub.metrics.quic_streams(Opened::Outbound).inc();
    let machine = Machine::Initiating(start(hub, session, route, *plain, mailbox));
    hub.metrics.lanes.inc();
    let place = Place::Session { session: Arc::clone(session), first, dialback: None };
    Lane::new(hub, *id, Arc::clone(mailbox), place, machine).having_heard(heard)
}

/// Begin the negotiation of a lane of ours.
fn start(hub: &Hub, session: &SessionShared, route: &Route, plain: bool, mailbox: &Mailbox) -> Initiating {
    let mut wants = lock(&session.machine).wants_for(route, plain);
    wants.manage = hub.manage(route, session);
    let mut out = Outbox::default();
    let machine = Initiating::start(route.clone(), wants, &mut out);
    mailbox.post(out.octets);
    if machine.may_send() {
        mailbox.open();
    }
    machine
}

/// What it means that a lane did not come to be.
fn failure(connection: &impl Streams, ended: LaneEnd, first: bool) -> LaneFailure {
    if let Some(reason) = connection.closed() {
        return LaneFailure::Other(reason);
    }
    if ended.reason == Reason::Reset {
        // A connection that takes none from the beginning is an attempt that failed.
        return if first { LaneFailure::Other(ended.reason) } else { LaneFailure::Elsewhere };
    }
    if ended.pipelined && ended.answered {
        return LaneFailure::PipeliningRefused;
    }
    if !ended.answered && ended.closed && !first {
        return LaneFailure::Closed(ended.reason);
    }
    if !ended.answered && !first {
        // Over a path that is dead nobody answers anything, which says nothing about the peer.
        return if connection.heard() > ended.heard {
            LaneFailure::SingleStream
        } else {
            LaneFailure::Unheard
        };
    }
    LaneFailure::Other(ended.reason)
}
