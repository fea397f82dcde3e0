//! One QUIC connection with a peer as a task: it accepts the peer's lanes, opens ours, and ends with the connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::clock;
use super::guard::{LaneGuard, SessionGuard};
use super::hub::{Command, Hub};
use super::io::{Receive as _, Transmit as _};
use super::lane::{Lane, Machine};
use super::mailbox::lock;
use super::place::Place;
use super::shared::SessionShared;
use super::streams::Streams;
use super::tasks::observe;
use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::stream::receiving::Receiving;
use crate::reason::Reason;
use crate::transport::quic::Code;

mod opening;
pub(crate) mod openings;

pub(crate) use opening::Opening;
use opening::open;

/// Longest time before a certificate's end at which a session hands over to a new one.
const HANDOVER_MAX: Duration = Duration::from_secs(86_400);

/// Lanes that are accepted before it is everybody else's turn: however many come at once, none that stands waits behind all
/// of them.
const ACCEPTED_AT_ONCE: u32 = 16;

/// Longest sleep towards the end of a grant.
const CLOCK_CHECK: Duration = Duration::from_secs(60);

/// Run the session of a connection until it ends. `first`: the lane that we dialled it for.
///
/// # Errors
/// Why no stream of it was ever authenticated.
pub(crate) async fn run<S: Streams>(
    hub: Arc<Hub>,
    session: Arc<SessionShared>,
    connection: S,
    first: Option<Opening>,
) -> Result<(), Reason> {
    let opened = if first.is_some() { Opened::Outbound } else { Opened::Inbound };
    let mut guard = SessionGuard::new(&hub, &session, opened);
    let (sender, commands) = mpsc::unbounded_channel();
    hub.register_session(&session, sender);
    let mut lanes = JoinSet::new();
    if let Some(opening) = first {
        lanes.spawn(open(Arc::clone(&hub), Arc::clone(&session), connection.clone(), opening, true));
    }
    guard.reason = tokio::select! {
        biased;
        reason = serve(&hub, (&session, &connection), &mut lanes, commands, opened) => reason,
        never = watch_path(&hub, &session, &connection) => match never {},
    };
    session.openings.close();
    // Lanes see the closed connection by themselves, and end in good order.
    while let Some(ended) = lanes.join_next().await {
        observe(&hub.metrics, ended);
    }
    if session.is_up() { Ok(()) } else { Err(guard.reason) }
}

async fn serve<S: Streams>(
    hub: &Arc<Hub>,
    (session, connection): (&Arc<SessionShared>, &S),
    lanes: &mut JoinSet<Option<Reason>>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    opened: Opened,
) -> Reason {
    let (retire, end) = lifetime(hub, session);
    let silence = tokio::time::sleep(hub.limits.handshake);
    tokio::pin!(retire, end, silence);
    let mut overdue = false;
    let mut closing = None;
    let mut gone_by = None;
    let mut turn = 0;
    let mut first = opened == Opened::Inbound;
    loop {
        if overdue && lanes.is_empty() && !session.is_up() {
            return refuse(hub, session, connection, Reason::NegotiationTimeout);
        }
        // The peer may just have opened a lane; what is said on it is not thrown away. At its age a session isn't closed before its
        // time: whoever dialled it closes it when a lane of theirs was refused, and has nothing under way then.
        let leaves = session.leaves().filter(|reason| *reason != Reason::Reset);
        let closed = closing.filter(|(at, _)| *at <= clock::now()).map(|(_, reason)| reason);
        if let Some(reason) = closed.or(leaves)
            && lanes.is_empty()
        {
            connection.close(Code::Done);
            return reason;
        }
        tokio::select! {
            biased;
            Some(ended) = lanes.join_next() => {
                let refused = observe(&hub.metrics, ended).flatten();
                if lanes.is_empty() && opened == Opened::Outbound && !session.is_up() {
                    // The one lane that it was dialled for was refused: nothing else would ever be opened on it.
                    connection.close(Code::Done);
                    return refused.unwrap_or(Reason::ExternalRefused);
                }
            }
            command = commands.recv() => match command {
                Some(Command::OpenLane { lane, route, plain, mailbox }) => {
                    let opening = Opening { lane, route, plain, second: false, mailbox };
                    lanes.spawn(open(Arc::clone(hub), Arc::clone(session), connection.clone(), opening, false));
                }
                Some(Command::Close(reason)) => {
                    closing.get_or_insert_with(|| (close(hub, session), reason));
                }
                Some(Command::Leave) => gone_by = Some(leave(hub, session, Reason::PeerChanged)),
                Some(Command::Tell(asked)) => session.tell(asked),
                None => return Reason::Draining,
            },
            accepted = connection.accept() => match accepted {
                Ok((mut send, mut receive)) if overdue && !session.is_up() => {
                    send.reset(Code::Refused);
                    receive.stop(Code::Refused, Duration::ZERO).await;
                }
                Ok(stream) => {
                    hub.metrics.quic_streams(Opened::Inbound).inc();
                    session.lane_opened(&hub.limits);
                    let (first, standing) = (std::mem::take(&mut first), connection.clone());
                    lanes.spawn(accept(Arc::clone(hub), Arc::clone(session), first, standing, stream));
                    turn = (turn + 1) % ACCEPTED_AT_ONCE;
                    if turn == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Err(reason) => return reason,
            },
            // A lane that is under way still has its time, and its last words.
            () = &mut silence, if !overdue && opened == Opened::Inbound => overdue = true,
            () = &mut retire, if gone_by.is_none() => gone_by = grow_old(hub, session, retire.as_mut()),
            () = grant_due(session) => end_grants(hub, session),
            () = at(closing), if lanes.is_empty() => {}
            reason = over(end.as_mut(), gone_by) => {
                connection.close(Code::Done);
                return reason;
            }
        }
    }
}

/// The session is to be closed because nothing goes on in it. When that may be: the peer may be opening a lane just now, which is refused,
/// so that it goes elsewhere at once. With the connection it would be lost, and nobody would know what of it was handled.
fn close(hub: &Hub, session: &SessionShared) -> Instant {
    let patience = if session.retire() { hub.limits.ack_wait } else { Duration::ZERO };
    clock::now() + patience
}

/// Resolves when a session that is `closing` may be closed.
async fn at(closing: Option<(Instant, Reason)>) {
    match closing {
        Some((at, _)) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The session has come to its age: it takes no new lane, and ours move. After a while it leaves: whoever opened what still stands may
/// go by another age. When it is gone then, and why.
fn grow_old(
    hub: &Arc<Hub>,
    session: &SessionShared,
    retire: Pin<&mut tokio::time::Sleep>,
) -> Option<(Instant, Reason)> {
    if !session.retire() {
        return Some(leave(hub, session, *session.leaving.get_or_init(|| Reason::Reset)));
    }
    hub.control(|router, now| router.session_retires(session.id, now));
    retire.reset((clock::now() + time_to_leave(hub)).into());
    None
}

/// The session leaves. When it is gone at the latest, and why: a peer that opens lane after lane doesn't hold it.
fn leave(hub: &Arc<Hub>, session: &SessionShared, reason: Reason) -> (Instant, Reason) {
    hub.control(|router, now| router.session_leaves(session.id, reason, now));
    (clock::now() + time_to_leave(hub), reason)
}

/// How long what is under way on the lanes of a session may take to finish.
fn time_to_leave(hub: &Hub) -> Duration {
    hub.limits.ack_wait + hub.limits.drain
}

/// Resolves when the time of a session is over: what its certificates prove ends, or it has had the time to leave. Why.
async fn over(end: Pin<&mut tokio::time::Sleep>, gone_by: Option<(Instant, Reason)>) -> Reason {
    let gone = async {
        let Some((at, reason)) = gone_by else { return std::future::pending().await };
        tokio::time::sleep_until(at.into()).await;
        reason
    };
    tokio::select! {
        biased;
        () = end => Reason::CertificateExpired,
        reason = gone => reason,
    }
}

/// Say where the peer is whenever that changes; the streams go on.
async fn watch_path(hub: &Hub, session: &SessionShared, connection: &impl Streams) -> Infallible {
    let mut known = session.place.address;
    loop {
        known = connection.moved(known).await;
        hub.metrics.paths.migrations.inc();
        info!(parent: &session.span, now = %known, "the peer has another address");
    }
}

/// Close a connection that never became a session.
fn refuse(hub: &Hub, session: &SessionShared, connection: &impl Streams, reason: Reason) -> Reason {
    hub.metrics.refused(Side::Remote, reason);
    warn!(parent: &session.span, %reason, advice = reason.advice(), "connection refused");
    connection.close(Code::Refused);
    reason
}

/// When the session takes no new lane any more, and when what its certificates prove ends.
pub(crate) fn lifetime(hub: &Hub, session: &SessionShared) -> (tokio::time::Sleep, tokio::time::Sleep) {
    let left = lock(&session.machine).not_after().duration_since(clock::wall()).unwrap_or_default();
    let margin = (left / 10).min(HANDOVER_MAX);
    (tokio::time::sleep((left - margin).min(hub.limits.session_age)), tokio::time::sleep(left))
}

/// Wait until a grant may have ended.
pub(crate) async fn grant_due(session: &SessionShared) {
    loop {
        let next = lock(&session.machine).next_grant_end();
        let left = next.map(|end| end.duration_since(clock::wall()).unwrap_or_default());
        tokio::select! {
            biased;
            () = session.grants.changed() => {}
            // Certificates end by the system's clock, which may be set while we sleep.
            () = tokio::time::sleep(left.unwrap_or(CLOCK_CHECK).min(CLOCK_CHECK)), if left.is_some() => return,
        }
    }
}

/// Take back what has ended: the pairs concerned find another way, and the others stay.
pub(crate) fn end_grants(hub: &Arc<Hub>, session: &SessionShared) {
    let now = clock::wall();
    let ended = lock(&session.machine).end_grants(now);
    if !ended.is_empty() {
        session.grants.tell();
    }
    for host in &ended {
        info!(parent: &session.span, %host, "host left the session: its certificate has ended");
    }
    if !ended.is_empty() {
        hub.control(|router, monotonic| router.grants_end(session.id, now, monotonic));
    }
}

/// A lane that the peer opened. Whether it came to be decides nothing about the session.
fn accept<S: Streams>(
    hub: Arc<Hub>,
    session: Arc<SessionShared>,
    first: bool,
    connection: S,
    (send, receive): (S::Transmit, S::Receive),
) -> impl Future<Output = Option<Reason>> + Send {
    let (id, mailbox) = hub.admit_lane();
    let guard = LaneGuard::new(&hub, id, Side::Remote);
    hub.metrics.lanes.inc();
    let place = Place::Session { session: Arc::clone(&session), first, dialback: None };
    let lane = Lane::new(&hub, id, mailbox, place, Machine::Receiving(Receiving::default()));
    lane.run(receive, send, move |ended| {
        hub.metrics.lanes.dec();
        session.credit.closed();
        guard.down(ended.reason);
        if ended.broken_off {
            broken_off(&hub, &session, &connection);
        }
        None
    })
}

/// The peer broke a lane off while the connection stood. Too many of them at once end the session: each has cost us a lane,
/// and the peer next to nothing (CVE-2023-44487 is this in HTTP/2).
fn broken_off(hub: &Hub, session: &SessionShared, connection: &impl Streams) {
    let limits = &hub.live().settings.limits;
    let (every, burst) = (limits.session_resets_every, limits.session_resets_every * limits.session_resets);
    // Several lanes may end at once; it is said for one of them.
    let mut resets = lock(&session.strain.resets);
    if connection.closed().is_some() || resets.spend(every, burst, clock::now()).is_none() {
        return;
    }
    let (reason, limit) = (Reason::TooMany, "session_resets");
    hub.metrics.limit_hit(limit);
    hub.metrics.refused(Side::Remote, reason);
    warn!(parent: &session.span, limit, %reason, advice = reason.advice(), "session refused");
    session.strain.over_limit.store(true, Ordering::Release);
    connection.close(Code::Limit);
}

#[cfg(test)]
mod tests {
    use super::super::streams::QuicStreams;
    use super::*;

    /// The size of what a function makes of its arguments, in octets.
    const fn size<A, B, C, D, E, F>(_: &impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// The task of a lane is the largest part of what a quiet pair costs, and grows unseen: whatever is kept across an `.await` on
    /// the way to where a lane waits is in it, for each lane. What is needed only now and then is boxed there.
    #[test]
    fn a_quiet_lane_takes_little_room() {
        let (opened, accepted) = (size(&open::<QuicStreams>), size(&accept::<QuicStreams>));
        assert!(opened <= 1_296 && accepted <= 1_248, "{opened} and {accepted} octets a lane");
    }
}
