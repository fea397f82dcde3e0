//! A session whose connection is one XML stream, TLS over TCP: its one lane is the session, and ends with it.
//!
//! Where mux was negotiated that stream carries every proven pair (XEP-0451 as written), else its own. What goes the other
//! way has a connection that we dial: whoever connects over TCP comes from a port that means nothing, so it isn't known
//! to be where the domain's own address leads, and whoever holds an old certificate must not receive its mail by
//! connecting (see [`crate::proto::router`]). We offer bidi all the same, and use it on what we opened.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::warn;

use super::guard::{LaneGuard, SessionGuard};
use super::halves;
use super::hub::{Command, Hub};
use super::lane::{Lane, LaneEnd, Machine};
use super::mailbox::{Close, Mailbox, lock};
use super::place::{Dialling, Place};
use super::session::{Opening, end_grants, grant_due, lifetime};
use super::shared::SessionShared;
use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::router::{LaneFailure, LaneId};
use crate::proto::stream::Outbox;
use crate::proto::stream::initiating::Initiating;
use crate::proto::stream::receiving::Receiving;
use crate::reason::Reason;
use crate::transport::tls::TlsStream;

/// Run the session of a connection until it ends. `first`: the lane that we dialled it for.
///
/// # Errors
/// Why its stream was never authenticated.
pub(crate) async fn run(
    hub: Arc<Hub>,
    session: Arc<SessionShared>,
    stream: TlsStream,
    first: Option<Opening>,
) -> Result<(), Reason> {
    let opened = if first.is_some() { Opened::Outbound } else { Opened::Inbound };
    let mut guard = SessionGuard::new(&hub, &session, opened);
    let (sender, commands) = mpsc::unbounded_channel();
    hub.register_session(&session, sender);
    let mut dialback = None;
    let (id, mailbox, machine) = match first {
        Some(Opening { lane, route, plain, mailbox, .. }) => {
            let mut out = Outbox::default();
            let mut wants = lock(&session.machine).wants_for(&route, plain);
            if hub.dials_back() {
                wants.dialback = Some(Arc::clone(&hub.live().keys));
                dialback = Some(Box::new(Dialling::new(route.clone())));
            }
            wants.manage = hub.manage(&route, &session);
            let machine = Machine::Initiating(Initiating::start(route, wants, &mut out));
            mailbox.post(out.octets);
            (lane, mailbox, machine)
        }
        None => {
            let (lane, mailbox) = hub.admit_lane();
            (lane, mailbox, Machine::Receiving(Receiving::default()))
        }
    };
    let lane_guard = LaneGuard::new(&hub, id, Side::Remote);
    hub.metrics.lanes.inc();
    let (receive, transmit) = halves::split(stream, &session);
    let place = Place::Session { session: Arc::clone(&session), first: true, dialback };
    let lane =
        Lane::new(&hub, id, Arc::clone(&mailbox), place, machine).run(receive, transmit, |ended| ended);
    let ended = attend(&hub, &session, (id, &mailbox), Box::pin(lane), commands).await;
    hub.metrics.lanes.dec();
    guard.reason = session.leaves().unwrap_or(ended.reason);
    if ended.established {
        lane_guard.down(ended.reason);
        return Ok(());
    }
    match opened {
        // Step by step it may work; a connection that is lost says nothing about that, nor does one that is used up.
        Opened::Outbound if ended.pipelined && !ended.broken_off && ended.reason != Reason::Reset => {
            lane_guard.failed(LaneFailure::PipeliningRefused);
        }
        Opened::Outbound => lane_guard.failed(LaneFailure::Other(ended.reason)),
        Opened::Inbound => lane_guard.down(ended.reason),
    }
    Err(ended.reason)
}

/// Let the lane run, and look after its session meanwhile.
async fn attend(
    hub: &Arc<Hub>,
    session: &SessionShared,
    (id, mailbox): (LaneId, &Mailbox),
    mut lane: std::pin::Pin<Box<impl Future<Output = LaneEnd>>>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> LaneEnd {
    let (retire, end) = lifetime(hub, session);
    tokio::pin!(retire, end);
    let (mut retired, mut over) = (false, false);
    loop {
        tokio::select! {
            biased;
            ended = &mut lane => return ended,
            Some(command) = commands.recv() => match command {
                Command::OpenLane { lane, route, .. } => {
                    warn!(parent: &session.span, pair = %route, "a second stream was asked for on a connection of one");
                    LaneGuard::new(hub, lane, Side::Remote).failed(LaneFailure::SingleStream);
                }
                Command::Close(reason) => mailbox.close(Close::AfterQueue, reason),
                Command::Leave => {
                    hub.control(|router, now| {
                        router.session_leaves(session.id, Reason::PeerChanged, now);
                        router.lane_closing(id);
                    });
                    mailbox.close(Close::AfterQueue, Reason::PeerChanged);
                }
                Command::Tell(asked) => session.tell(asked),
            },
            () = &mut retire, if !retired => {
                retired = true;
                hub.control(|router, now| {
                    router.session_retires(session.id, now);
                    router.lane_closing(id);
                });
                // The peer's stream too: it opens another, with the certificates of that day.
                mailbox.close(Close::AfterQueue, Reason::Idle);
            }
            () = grant_due(session) => end_grants(hub, session),
            () = &mut end, if !over => {
                over = true;
                session.cut();
            }
        }
    }
}
