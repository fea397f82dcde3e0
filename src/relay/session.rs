//! One connection with a peer as a task: it accepts the peer's lanes, opens ours, and ends with the connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::guard::LaneGuard;
use super::hub::{Command, Hub};
use super::lane::{Lane, LaneEnd, Machine, Shared};
use super::mailbox::{Mailbox, lock};
use super::place::Place;
use super::tasks::observe;
use crate::identity::verdict::Verdict;
use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::router::{LaneFailure, LaneId, PeerId, SessionId};
use crate::proto::session::Session;
use crate::proto::stream::Outbox;
use crate::proto::stream::initiating::Initiating;
use crate::proto::stream::receiving::Receiving;
use crate::reason::Reason;
use crate::transport::quic::{self, Code};
use crate::xmpp::framer::Framer;
use crate::xmpp::route::Route;

/// Longest time before a certificate's end at which a session hands over to a new one.
const HANDOVER_MAX: Duration = Duration::from_secs(86_400);

/// What the tasks of one session share.
#[derive(Debug)]
pub(crate) struct SessionShared {
    pub(crate) id: SessionId,
    pub(crate) machine: Mutex<Session>,
    /// Its first stream is authenticated.
    pub(crate) up: AtomicBool,
    /// The `[[peer]]` entries whose address it leads to.
    pub(crate) pinned: Vec<PeerId>,
    pub(crate) exporter: [u8; 32],
    pub(crate) connection: quinn::Connection,
    /// The peer's address, for logs.
    pub(crate) peer: String,
    pub(crate) verdict: Verdict,
}

/// A lane that we are to open.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) lane: LaneId,
    pub(crate) route: Route,
    pub(crate) plain: bool,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// Tells the router that a session is gone, whatever ended its task.
struct SessionGuard {
    hub: Arc<Hub>,
    session: Arc<SessionShared>,
    opened: Opened,
    reason: Reason,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let Self { hub, session, opened, reason } = self;
        hub.forget_session(session.id);
        hub.metrics.connections("quic", *opened).dec();
        if session.up.load(Ordering::Acquire) {
            hub.metrics.sessions.dec();
            info!(session = session.id.0, peer = %session.peer, %reason, "session down");
        }
        hub.control(|router, now| router.session_down(session.id, *reason, now));
    }
}

/// Run the session of a connection until it ends. `first`: the lane that we dialled it for.
pub(crate) async fn run(hub: Arc<Hub>, session: Arc<SessionShared>, first: Option<Opening>) {
    let opened = if first.is_some() { Opened::Outbound } else { Opened::Inbound };
    hub.metrics.connections("quic", opened).inc();
    hub.metrics.connection_opened("quic", opened);
    let mut guard = SessionGuard {
        hub: Arc::clone(&hub),
        session: Arc::clone(&session),
        opened,
        reason: Reason::InternalServerError,
    };
    let (sender, commands) = mpsc::unbounded_channel();
    hub.register_session(session.id, sender);
    let mut lanes = JoinSet::new();
    if let Some(opening) = first {
        lanes.spawn(open(Arc::clone(&hub), Arc::clone(&session), opening, true));
    }
    guard.reason = serve(&hub, &session, &mut lanes, commands, opened).await;
    // Lanes see the closed connection by themselves, and end in good order.
    while let Some(ended) = lanes.join_next().await {
        observe(&hub.metrics, ended);
    }
}

async fn serve(
    hub: &Arc<Hub>,
    session: &Arc<SessionShared>,
    lanes: &mut JoinSet<()>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    opened: Opened,
) -> Reason {
    let connection = &session.connection;
    let (retire, end) = lifetime(hub, session);
    tokio::pin!(retire, end);
    let mut retired = false;
    let mut first = opened == Opened::Inbound;
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => match accepted {
                Ok((send, receive)) => {
                    hub.metrics.quic_streams(Opened::Inbound).inc();
                    lanes.spawn(accept(Arc::clone(hub), Arc::clone(session), std::mem::take(&mut first), send, receive));
                }
                Err(error) => return session.reason(&error),
            },
            command = commands.recv() => match command {
                Some(Command::OpenLane { lane, route, plain, mailbox }) => {
                    let opening = Opening { lane, route, plain, mailbox };
                    lanes.spawn(open(Arc::clone(hub), Arc::clone(session), opening, false));
                }
                Some(Command::Close(reason)) => {
                    connection.close(Code::Done.into(), b"");
                    return reason;
                }
                None => return Reason::Draining,
            },
            Some(ended) = lanes.join_next() => {
                observe(&hub.metrics, ended);
                if lanes.is_empty() && opened == Opened::Outbound && !session.up.load(Ordering::Acquire) {
                    // The one lane that it was dialled for was refused; what the peer said comes with the close.
                    let closed = tokio::time::timeout(Duration::from_millis(200), connection.closed()).await;
                    connection.close(Code::Done.into(), b"");
                    return closed.map_or(Reason::ExternalRefused, |error| session.reason(&error));
                }
            }
            () = &mut retire, if !retired => {
                retired = true;
                hub.control(|router, now| router.session_retires(session.id, now));
            }
            () = &mut end => {
                connection.close(Code::Done.into(), b"");
                return Reason::CertificateExpired;
            }
        }
    }
}

/// When the session takes no new lane any more, and when what its certificates prove ends.
fn lifetime(hub: &Hub, session: &SessionShared) -> (tokio::time::Sleep, tokio::time::Sleep) {
    let left = lock(&session.machine).not_after().duration_since(SystemTime::now()).unwrap_or_default();
    let margin = (left / 10).min(HANDOVER_MAX);
    (tokio::time::sleep((left - margin).min(hub.limits.session_age)), tokio::time::sleep(left))
}

impl SessionShared {
    /// Why the connection ended, in our own words where we know better than the transport.
    pub(crate) fn reason(&self, error: &quinn::ConnectionError) -> Reason {
        match quic::alert(error) {
            Some(alert) => self.verdict.reason(Some(alert)),
            None => quic::reason(error),
        }
    }
}

/// A lane that the peer opened.
async fn accept(
    hub: Arc<Hub>,
    session: Arc<SessionShared>,
    first: bool,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
) {
    let (id, mailbox) = hub.admit_lane();
    let guard = LaneGuard::new(&hub, id, Side::Remote);
    hub.metrics.lanes.inc();
    let place = Place::Session { session, first };
    let lane = new_lane(&hub, id, mailbox, place, Machine::Receiving(Receiving::default()), false);
    let ended = lane.run(receive, send).await;
    hub.metrics.lanes.dec();
    guard.down(ended.reason);
}

/// A lane of ours.
async fn open(hub: Arc<Hub>, session: Arc<SessionShared>, opening: Opening, first: bool) {
    let Opening { lane: id, route, plain, mailbox } = opening;
    let guard = LaneGuard::new(&hub, id, Side::Remote);
    let opened = tokio::time::timeout(
        hub.limits.credit_wait.max(credit_patience(first, &hub)),
        session.connection.open_bi(),
    );
    let (send, receive) = match opened.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return guard.down(session.reason(&error)),
        Err(_) => {
            hub.metrics.limit_hit("credit_wait");
            return guard.failed(LaneFailure::SingleStream);
        }
    };
    hub.metrics.quic_streams(Opened::Outbound).inc();
    let mut wants = lock(&session.machine).wants();
    wants.pipelined &= !plain;
    let pipelined = wants.pipelined;
    let mut out = Outbox::default();
    let machine = Machine::Initiating(Initiating::start(route.clone(), wants, &mut out));
    mailbox.post(&out.octets);
    if pipelined {
        mailbox.open();
    }
    hub.metrics.lanes.inc();
    let place = Place::Session { session: Arc::clone(&session), first };
    let lane = new_lane(&hub, id, mailbox, place, machine, pipelined);
    let ended = lane.run(receive, send).await;
    hub.metrics.lanes.dec();
    if ended.established {
        return guard.down(ended.reason);
    }
    let failure = failure(&session, ended, pipelined, first);
    warn!(session = session.id.0, peer = %session.peer, pair = %route, reason = %ended.reason, ?failure, "lane not established");
    guard.failed(failure);
}

/// The first lane waits for the handshake's end; later ones learn in `credit_wait` that the peer gives no credit.
fn credit_patience(first: bool, hub: &Hub) -> Duration {
    if first { hub.limits.handshake } else { Duration::ZERO }
}

fn failure(session: &SessionShared, ended: LaneEnd, pipelined: bool, first: bool) -> LaneFailure {
    if let Some(error) = session.connection.close_reason() {
        return LaneFailure::Other(session.reason(&error));
    }
    if pipelined && ended.answered {
        return LaneFailure::PipeliningRefused;
    }
    if !ended.answered && !first {
        return LaneFailure::SingleStream;
    }
    LaneFailure::Other(ended.reason)
}

pub(crate) fn new_lane(
    hub: &Arc<Hub>,
    id: LaneId,
    mailbox: Arc<Mailbox>,
    place: Place,
    machine: Machine,
    pipelined: bool,
) -> Lane {
    Lane {
        hub: Arc::clone(hub),
        id,
        mailbox,
        place,
        machine,
        framer: Framer::new(hub.xml_limits()),
        shared: Shared::new(pipelined),
        learned: None,
        carry: None,
        answered: false,
        verified: mpsc::unbounded_channel(),
        started: std::time::Instant::now(),
    }
}
