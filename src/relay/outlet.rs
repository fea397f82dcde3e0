//! The queue of one route, shared by whoever feeds it and by the lane that it is attached to at the moment.
//!
//! Two bounds hold it: its own, and what waits in the whole relay, which an empty one may exceed by a little. A stanza
//! counts for both until its next hop has acknowledged it or its sender was told, on its way through a lane too.
//!
//! When a lane of the route broke and its stream can be resumed, what was sent on it and isn't acknowledged is kept here, or
//! by whoever waits for the peer: meanwhile nothing else of the route leaves.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use prometheus::IntCounter;
use tokio::sync::Notify;

use super::broken::{Broken, Kept};
use super::depth::Depth;
pub(crate) use super::depth::TotalQueued;
use super::inbound::{Inbound, Origin, Run, Waited};
use super::mailbox::{Mailbox, When, lock};
use crate::proto::addresses::Network;
use crate::proto::queue::{Hold, Mark, Queue};
use crate::xmpp::route::Route;

mod beginning;
mod choking;
mod lingering;

/// Octets that a lane takes from one queue before it is another one's turn.
pub(super) const TURN_BYTES: usize = 16 * 1024;

/// What an empty queue takes though the relay is full, one stanza at least: however many pairs are stalled and hold
/// everything that the relay may hold, the others still flow.
pub(super) const LITTLE_BYTES: usize = 4 * 1024;

/// How many times over its bound a queue takes what can't be refused. Whoever floods on and doesn't read the answers isn't listened
/// to any more.
pub(super) const OVERDRAFT: usize = 2;

/// Broken streams of one route: where both relays dial at once there may be two.
const BROKEN_MAX: usize = 8;

/// What became of stanzas that were pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// A lane takes them, or they wait for a stream to be resumed.
    Taken,
    /// They wait; the route has to be wanted.
    Wanted,
    /// No room, since then.
    Full(Instant),
    /// This outlet is out of use; look the route up again.
    Retired,
}

/// What an outlet without a lane is left with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing: it is out of use.
    Nothing,
    /// Stanzas that need a lane.
    Waiting,
    /// A stream that we resume, on a lane of its own.
    Broken,
    /// A stream that the peer may resume; nothing goes before that.
    Held,
    /// Nothing waits, but a lane that it left has not yet let go of what it took.
    UnderWay,
}

/// The queue of one route.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) route: Route,
    state: Mutex<OutletState>,
    depth: Depth,
    /// Told when the queue shrinks.
    room: Notify,
    total: Arc<TotalQueued>,
    limit: usize,
    /// Stanzas and octets, by the hosts between which they go, if the operator wants that.
    traffic: Vec<[IntCounter; 2]>,
}

#[derive(Debug)]
struct OutletState {
    queue: Queue<Arc<Inbound>>,
    /// Octets that a lane has taken and that are still ours.
    under_way: usize,
    /// Which lane took them last: no other takes anything before it has let go of them, so that the order is kept.
    taker: Option<Arc<Mailbox>>,
    /// Since when nothing left it while something found no room.
    full_since: Option<Instant>,
    lane: Option<Arc<Mailbox>>,
    scheduled: bool,
    retired: bool,
    /// Streams that we had opened for it and that broke: of one at most something isn't acknowledged.
    broken: Vec<Broken>,
    /// The peer may resume it.
    held: bool,
    /// It stands in the list of those that linger.
    listed: bool,
    /// Too many errors wait that answer its stanzas.
    choked: bool,
    /// The route whose errors are the too many that wait here.
    chokes: Option<Weak<Outlet>>,
    /// The peer that has begun its pair, if this direction of it says so.
    begun_by: Option<Arc<Network>>,
}

impl OutletState {
    fn is_empty(&self) -> bool {
        self.is_clear() && self.broken.is_empty() && !self.held
    }

    /// Whether what another lane than `lane` took is still under way.
    fn is_elsewhere(&self, lane: &Arc<Mailbox>) -> bool {
        self.under_way > 0 && self.taker.as_ref().is_some_and(|taker| !Arc::ptr_eq(taker, lane))
    }

    /// Whether nothing may leave: what was sent on a broken stream comes first.
    fn is_blocked(&self) -> bool {
        self.held || self.broken.iter().any(|broken| !broken.sent.is_empty())
    }

    /// Octets that wait, here or on their way.
    fn held(&self) -> usize {
        self.queue.len() + self.under_way
    }

    /// Whether nothing waits, here or on its way.
    fn is_clear(&self) -> bool {
        self.queue.is_empty() && self.under_way == 0
    }
}

impl Outlet {
    pub(crate) fn new(route: Route, limit: usize, total: Arc<TotalQueued>) -> Self {
        let state = OutletState {
            queue: Queue::new(usize::MAX),
            under_way: 0,
            taker: None,
            full_since: None,
            lane: None,
            scheduled: false,
            retired: false,
            broken: Vec::new(),
            held: false,
            listed: false,
            choked: false,
            chokes: None,
            begun_by: None,
        };
        Self {
            route,
            state: Mutex::new(state),
            depth: Depth::default(),
            room: Notify::new(),
            total,
            limit,
            traffic: Vec::new(),
        }
    }

    /// The same, with counters for what is accepted for it.
    pub(crate) fn counting(self, traffic: Vec<[IntCounter; 2]>) -> Self {
        Self { traffic, ..self }
    }

    /// So many stanzas were accepted for it.
    pub(crate) fn accepted(&self, stanzas: usize, octets: usize) {
        for [count, bytes] in &self.traffic {
            count.inc_by(stanzas as u64);
            bytes.inc_by(octets as u64);
        }
    }

    /// Append whole stanzas. `origin`: that of the first of them.
    pub(crate) fn push(
        self: &Arc<Self>,
        octets: &[u8],
        marks: &[Mark],
        origin: Origin,
        now: Instant,
    ) -> Pushed {
        let mut state = lock(&self.state);
        if state.retired {
            return Pushed::Retired;
        }
        // A little, one stanza at least, always finds room where nothing is.
        let little = state.is_clear() && (octets.len() <= LITTLE_BYTES || marks.len() == 1);
        let held = state.held() + octets.len();
        let has_room = held <= self.limit && self.total.has_room(octets.len(), held);
        if state.choked || !(little || has_room) || state.queue.push(octets, marks, origin, now).is_err() {
            if let Some(taker) = state.taker.as_ref().filter(|_| state.queue.is_empty()) {
                // Only what is acknowledged makes room.
                taker.request(When::AtOnce);
            }
            return Pushed::Full(*state.full_since.get_or_insert(now));
        }
        self.count(octets.len(), marks.iter().filter(|mark| !mark.ours).count());
        self.publish(&state);
        self.schedule(&mut state)
    }

    /// Append one stanza for which nobody can be told that there is no room: an error of ours that answers a stanza of `origin`,
    /// which is handled when the answer is; or one that may not be answered. If it takes the place of a stanza that was `held`
    /// by us, and so within the bounds, it finds room whatever these say, else up to [`OVERDRAFT`].
    pub(crate) fn push_anyway(
        self: &Arc<Self>,
        octets: &[u8],
        mark: Mark,
        origin: Origin,
        held: bool,
        now: Instant,
    ) -> Pushed {
        let mut state = lock(&self.state);
        if state.retired {
            return Pushed::Retired;
        }
        let overdrawn = state.held() + octets.len() > OVERDRAFT * self.limit || self.total.is_overdrawn();
        if overdrawn && !held || state.queue.push(octets, &[mark], origin, now).is_err() {
            return Pushed::Full(*state.full_since.get_or_insert(now));
        }
        self.count(octets.len(), usize::from(!mark.ours));
        self.publish(&state);
        self.schedule(&mut state)
    }

    fn schedule(self: &Arc<Self>, state: &mut OutletState) -> Pushed {
        match &state.lane {
            Some(_) if state.scheduled || state.is_blocked() || state.queue.is_empty() => Pushed::Taken,
            Some(lane) => {
                state.scheduled = true;
                lane.offer(Arc::clone(self));
                Pushed::Taken
            }
            None if state.held => Pushed::Taken,
            None => Pushed::Wanted,
        }
    }

    /// Resolves when the queue has shrunk since the call.
    pub(crate) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }

    /// Let `lane` take what waits, and what will come. It may be told again.
    pub(crate) fn attach(self: &Arc<Self>, lane: &Arc<Mailbox>) {
        let mut state = lock(&self.state);
        if state.lane.as_ref().is_some_and(|attached| Arc::ptr_eq(attached, lane)) {
            return;
        }
        state.lane = Some(Arc::clone(lane));
        state.scheduled = false;
        self.schedule(&mut state);
    }

    /// No lane takes anything any more. What is left; with nothing, the outlet is out of use.
    pub(crate) fn detach(&self) -> Left {
        let mut state = lock(&self.state);
        state.lane = None;
        state.scheduled = false;
        state.retired = state.is_empty() && !state.choked;
        match (state.retired, !state.broken.is_empty(), state.held) {
            (true, ..) => Left::Nothing,
            (_, true, _) => Left::Broken,
            (.., true) => Left::Held,
            _ if state.queue.is_empty() => Left::UnderWay,
            _ => Left::Waiting,
        }
    }

    /// `octets` that a lane took which is gone go on with `lane`, on which its stream was resumed. It takes more at once if nothing
    /// else is under way.
    pub(crate) fn taken_over(&self, lane: &Arc<Mailbox>, octets: usize) {
        let mut state = lock(&self.state);
        if state.under_way == octets && octets > 0 {
            state.taker = Some(Arc::clone(lane));
        }
    }

    /// Put the outlet out of use if nothing waits in it.
    pub(crate) fn retire_if_empty(&self) -> bool {
        let mut state = lock(&self.state);
        state.retired |= state.lane.is_none() && state.is_empty() && !state.choked;
        state.retired
    }

    /// What `lane` is to write next of it, and whether more waits; `None`: nothing, or another lane takes it now.
    pub(super) fn take(self: &Arc<Self>, lane: &Arc<Mailbox>) -> Option<(Run, bool)> {
        let mut state = lock(&self.state);
        if !state.lane.as_ref().is_some_and(|attached| Arc::ptr_eq(attached, lane)) {
            return None;
        }
        let blocked = state.is_blocked() || state.is_elsewhere(lane);
        let run = if blocked { None } else { state.queue.take(TURN_BYTES) };
        let Some(run) = run else {
            state.scheduled = false;
            return None;
        };
        state.under_way += run.octets.len();
        state.taker = Some(Arc::clone(lane));
        self.publish(&state);
        state.scheduled = !state.queue.is_empty();
        let more = state.scheduled;
        Some((run, more))
    }

    /// Put back what a lane took: it goes before whatever waits. The run taken last comes first. An outlet that was put out of
    /// use meanwhile gives it back.
    pub(crate) fn put_back(self: &Arc<Self>, run: Run) -> Option<Run> {
        let mut state = lock(&self.state);
        if state.retired {
            return Some(run);
        }
        state.under_way = state.under_way.saturating_sub(run.octets.len());
        state.queue.put_back(run);
        if state.under_way == 0 {
            state.taker = None;
        }
        self.publish(&state);
        // It may be attached to the next lane already.
        self.schedule(&mut state);
        None
    }

    /// What a lane took is nothing of ours any more: it was passed on, or its senders are told.
    pub(crate) fn release(self: &Arc<Self>, run: &Run) {
        self.left(run.octets.len());
        self.uncount(run.octets.len(), run.counted());
    }

    /// The same for a single stanza.
    pub(crate) fn release_one(self: &Arc<Self>, waited: &Waited) {
        self.left(waited.octets.len());
        self.uncount_one(waited);
    }

    /// So many octets of what a lane took are gone.
    fn left(self: &Arc<Self>, octets: usize) {
        let mut state = lock(&self.state);
        state.under_way = state.under_way.saturating_sub(octets);
        self.publish(&state);
        let waited_for = state.full_since.take().is_some();
        self.let_go(&mut state);
        let relieved = self.relieved(&mut state);
        drop(state);
        relieved.iter().for_each(|route| route.breathe());
        if waited_for {
            self.room.notify_waiters();
        }
    }

    /// Some of what a lane took is under way no longer: if it was the last, another lane may go on.
    fn let_go(self: &Arc<Self>, state: &mut OutletState) {
        if state.under_way == 0 && state.taker.take().is_some() {
            self.schedule(state);
        }
    }

    /// A stanza that a lane took has grown by `octets`.
    pub(crate) fn grown(&self, octets: usize) {
        let mut state = lock(&self.state);
        state.under_way += octets;
        self.publish(&state);
        drop(state);
        self.count(octets, 0);
    }

    /// A stream that we had opened for the route broke; a lane that is opened for the route resumes it.
    pub(crate) fn keep(&self, broken: Broken) -> Kept {
        let mut state = lock(&self.state);
        match state.broken.len() {
            _ if state.retired => return Kept::Retired(broken),
            BROKEN_MAX.. => return Kept::Full(broken),
            _ => state.broken.push(broken),
        }
        Kept::Here
    }

    /// Look at the broken streams that may be resumed, at each until there is an answer.
    pub(crate) fn look_at_broken<T>(&self, look: impl FnMut(&mut Broken) -> Option<T>) -> Option<T> {
        lock(&self.state).broken.iter_mut().find_map(look)
    }

    /// The stream `id` is resumed, or gone.
    pub(crate) fn take_broken(self: &Arc<Self>, id: &str) -> Option<Broken> {
        let mut state = lock(&self.state);
        let at = state.broken.iter().position(|broken| *broken.id == *id)?;
        let broken = state.broken.remove(at);
        self.schedule(&mut state);
        Some(broken)
    }

    /// Nothing leaves until the peer has resumed the stream, or its time is over.
    pub(crate) fn hold(self: &Arc<Self>, held: bool) {
        let mut state = lock(&self.state);
        state.held = held;
        if held {
            state.retired = false;
        } else {
            self.schedule(&mut state);
        }
    }

    /// Whether it is on a lane though a broken stream comes first, which that lane then isn't for.
    pub(crate) fn is_elsewhere(&self) -> bool {
        let state = lock(&self.state);
        let open = state.lane.as_ref().is_some_and(|lane| lane.is_open());
        open && state.broken.iter().any(|broken| !broken.asked)
    }

    /// Whether stanzas wait.
    pub(crate) fn has_waiting(&self) -> bool {
        !lock(&self.state).queue.is_empty()
    }

    /// Take out what has waited too long, and say when the next will have.
    pub(crate) fn expire(&self, hold: Hold, now: Instant) -> (Vec<Waited>, Option<Instant>) {
        let mut state = lock(&self.state);
        let (expired, next) = state.queue.expire(hold, now);
        if !expired.is_empty() {
            state.full_since = None;
        }
        let relieved = self.relieved(&mut state);
        self.publish(&state);
        drop(state);
        relieved.iter().for_each(|route| route.breathe());
        self.uncount_all(&expired);
        self.room.notify_waiters();
        (expired, next)
    }

    /// Take out everything that waits.
    pub(crate) fn drain(&self) -> Vec<Waited> {
        let mut state = lock(&self.state);
        state.full_since = None;
        let drained = state.queue.drain();
        let relieved = self.relieved(&mut state);
        self.publish(&state);
        drop(state);
        relieved.iter().for_each(|route| route.breathe());
        self.uncount_all(&drained);
        self.room.notify_waiters();
        drained
    }

    /// Take out everything that waits but what `keeps` says.
    pub(crate) fn drain_all_but(&self, keeps: impl Fn(Mark) -> bool) -> Vec<Waited> {
        let mut state = lock(&self.state);
        let (kept, others): (Vec<_>, Vec<_>) =
            state.queue.drain().into_iter().partition(|stanza| keeps(stanza.mark));
        state.full_since = None;
        if !kept.is_empty() {
            state.queue.put_back(Run::of(kept));
        }
        let relieved = self.relieved(&mut state);
        self.publish(&state);
        drop(state);
        relieved.iter().for_each(|route| route.breathe());
        self.uncount_all(&others);
        self.room.notify_waiters();
        others
    }

    /// How full it is, as it was at the end of the last change: without the lock that lanes take.
    pub(crate) fn depth(&self) -> &Depth {
        &self.depth
    }

    fn publish(&self, state: &OutletState) {
        self.depth.set(&state.queue, state.under_way);
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        lock(&self.state).queue.len()
    }

    fn count(&self, bytes: usize, stanzas: usize) {
        self.total.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.total.stanzas.fetch_add(stanzas, Ordering::Relaxed);
    }

    fn uncount_all(&self, waited: &[Waited]) {
        waited.iter().for_each(|stanza| self.uncount_one(stanza));
    }

    fn uncount_one(&self, waited: &Waited) {
        self.uncount(waited.octets.len(), usize::from(!waited.mark.ours));
    }

    fn uncount(&self, bytes: usize, stanzas: usize) {
        self.total.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.total.stanzas.fetch_sub(stanzas, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
