//! The queue of one route, shared by whoever feeds it and by the lane that it is attached to at the moment.
//!
//! Two bounds hold it: its own, and what waits in the whole relay, which an empty queue may exceed by a little. A stanza
//! counts until it was handed to the next hop or its sender was told, on its way through a lane too.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::Notify;

use super::mailbox::{Mailbox, lock};
use crate::proto::queue::{Hold, Mark, Queue, Run, Waited};
use crate::xmpp::route::Route;

/// Octets that a lane takes from one queue before it is another one's turn.
pub(super) const TURN_BYTES: usize = 16 * 1024;

/// What an empty queue takes though the relay is full, one stanza at least: however many pairs are stalled and hold
/// everything that the relay may hold, the others still flow.
pub(super) const LITTLE_BYTES: usize = 4 * 1024;

/// What became of stanzas that were pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// A lane takes them.
    Taken,
    /// They wait; the route has to be wanted.
    Wanted,
    /// No room, since then.
    Full(Instant),
    /// This outlet is out of use; look the route up again.
    Retired,
}

/// The queue of one route.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) route: Route,
    state: Mutex<OutletState>,
    /// Told when the queue shrinks.
    room: Notify,
    total: Arc<TotalQueued>,
}

#[derive(Debug)]
struct OutletState {
    queue: Queue,
    /// Since when nothing left it while something found no room.
    full_since: Option<Instant>,
    lane: Option<Arc<Mailbox>>,
    scheduled: bool,
    retired: bool,
}

/// What waits in the whole relay.
#[derive(Debug)]
pub(crate) struct TotalQueued {
    bytes: AtomicUsize,
    stanzas: AtomicUsize,
    limit: usize,
}

impl TotalQueued {
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), stanzas: AtomicUsize::new(0), limit }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn stanzas(&self) -> usize {
        self.stanzas.load(Ordering::Relaxed)
    }

    fn has_room(&self, octets: usize) -> bool {
        self.bytes() + octets <= self.limit
    }
}

impl Outlet {
    pub(crate) fn new(route: Route, limit: usize, total: Arc<TotalQueued>) -> Self {
        let state = OutletState {
            queue: Queue::new(limit),
            full_since: None,
            lane: None,
            scheduled: false,
            retired: false,
        };
        Self { route, state: Mutex::new(state), room: Notify::new(), total }
    }

    /// Append whole stanzas.
    pub(crate) fn push(self: &Arc<Self>, octets: &[u8], marks: &[Mark], now: Instant) -> Pushed {
        let mut state = lock(&self.state);
        if state.retired {
            return Pushed::Retired;
        }
        let little = state.queue.is_empty() && (octets.len() <= LITTLE_BYTES || marks.len() == 1);
        if !(little || self.total.has_room(octets.len())) || state.queue.push(octets, marks, now).is_err() {
            return Pushed::Full(*state.full_since.get_or_insert(now));
        }
        self.count(octets.len(), marks.iter().filter(|mark| !mark.ours).count());
        self.schedule(&mut state)
    }

    /// Append one small stanza of our own making whatever the bounds say: an error that answers a stanza which was
    /// itself within them.
    pub(crate) fn push_answer(self: &Arc<Self>, octets: &[u8], now: Instant) -> Pushed {
        let mut state = lock(&self.state);
        if state.retired {
            return Pushed::Retired;
        }
        let mark = Mark { len: octets.len(), iq: false, ours: true };
        if state.queue.push(octets, &[mark], now).is_err() {
            return Pushed::Full(*state.full_since.get_or_insert(now));
        }
        self.count(octets.len(), 0);
        self.schedule(&mut state)
    }

    fn schedule(self: &Arc<Self>, state: &mut OutletState) -> Pushed {
        match &state.lane {
            Some(_) if state.scheduled => Pushed::Taken,
            Some(lane) => {
                state.scheduled = true;
                lane.offer(Arc::clone(self));
                Pushed::Taken
            }
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
        state.scheduled = !state.queue.is_empty();
        if state.scheduled {
            lane.offer(Arc::clone(self));
        }
    }

    /// No lane takes anything any more. Whether stanzas wait; if none do, the outlet is out of use.
    pub(crate) fn detach(&self) -> bool {
        let mut state = lock(&self.state);
        state.lane = None;
        state.scheduled = false;
        state.retired = state.queue.is_empty();
        !state.retired
    }

    /// Put the outlet out of use if nothing waits in it.
    pub(crate) fn retire_if_empty(&self) -> bool {
        let mut state = lock(&self.state);
        state.retired |= state.lane.is_none() && state.queue.is_empty();
        state.retired
    }

    /// What `lane` is to write next of it, and whether more waits; `None`: nothing, or another lane takes it now.
    pub(super) fn take(self: &Arc<Self>, lane: &Arc<Mailbox>) -> Option<(Run, bool)> {
        let mut state = lock(&self.state);
        if !state.lane.as_ref().is_some_and(|attached| Arc::ptr_eq(attached, lane)) {
            return None;
        }
        let Some(run) = state.queue.take(TURN_BYTES) else {
            state.scheduled = false;
            return None;
        };
        state.full_since = None;
        state.scheduled = !state.queue.is_empty();
        let more = state.scheduled;
        drop(state);
        self.room.notify_waiters();
        Some((run, more))
    }

    /// Put back what a lane took and certainly did not pass on. The run taken last comes first.
    pub(crate) fn put_back(&self, run: &Run) {
        let mut state = lock(&self.state);
        state.queue.put_back(run);
        // A route that is put back can't be out of use: it was attached until now.
        state.retired = false;
    }

    /// What a lane took is nothing of ours any more: it was passed on, or its senders are told.
    pub(crate) fn release(&self, run: &Run) {
        self.uncount(run.octets.len(), run.counted());
    }

    /// Take out what has waited too long, and say when the next will have.
    pub(crate) fn expire(&self, hold: Hold, now: Instant) -> (Vec<Waited>, Option<Instant>) {
        let mut state = lock(&self.state);
        let (expired, next) = state.queue.expire(hold, now);
        if !expired.is_empty() {
            state.full_since = None;
        }
        drop(state);
        self.uncount_all(&expired);
        self.room.notify_waiters();
        (expired, next)
    }

    /// Take out everything.
    pub(crate) fn drain(&self) -> Vec<Waited> {
        let mut state = lock(&self.state);
        state.full_since = None;
        let drained = state.queue.drain();
        drop(state);
        self.uncount_all(&drained);
        self.room.notify_waiters();
        drained
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        lock(&self.state).queue.len()
    }

    fn count(&self, bytes: usize, stanzas: usize) {
        self.total.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.total.stanzas.fetch_add(stanzas, Ordering::Relaxed);
    }

    fn uncount_all(&self, waited: &[Waited]) {
        let bytes = waited.iter().map(|stanza| stanza.octets.len()).sum();
        self.uncount(bytes, waited.iter().filter(|stanza| !stanza.ours).count());
    }

    fn uncount(&self, bytes: usize, stanzas: usize) {
        self.total.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.total.stanzas.fetch_sub(stanzas, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::domain::Domain;

    const LIMIT: usize = 1 << 20;

    fn outlet(total: &Arc<TotalQueued>, name: &str) -> Arc<Outlet> {
        let route = Route::new(Domain::parse(name).unwrap(), Domain::parse("b.test").unwrap());
        Arc::new(Outlet::new(route, LIMIT, Arc::clone(total)))
    }

    fn push(outlet: &Arc<Outlet>, len: usize) -> Pushed {
        outlet.push(&vec![b'x'; len], &[Mark { len, iq: false, ours: false }], Instant::now())
    }

    #[test]
    fn an_empty_outlet_without_a_lane_is_out_of_use() {
        let outlet = outlet(&Arc::new(TotalQueued::new(LIMIT)), "a.test");
        outlet.attach(&Arc::new(Mailbox::default()));
        assert!(!outlet.detach());
        assert_eq!(push(&outlet, 1), Pushed::Retired);
    }

    #[test]
    fn a_stanza_counts_until_it_was_passed_on() {
        let total = Arc::new(TotalQueued::new(LIMIT));
        let (outlet, lane) = (outlet(&total, "a.test"), Arc::new(Mailbox::default()));
        outlet.attach(&lane);
        push(&outlet, 10);
        let (run, _) = outlet.take(&lane).unwrap();
        assert_eq!((total.bytes(), total.stanzas()), (10, 1));
        outlet.put_back(&run);
        let (run, _) = outlet.take(&lane).unwrap();
        outlet.release(&run);
        assert_eq!((total.bytes(), total.stanzas()), (0, 0));
    }

    #[test]
    fn pairs_that_are_stalled_leave_room_for_those_that_flow() {
        let total = Arc::new(TotalQueued::new(LIMIT));
        let stalled = outlet(&total, "a.test");
        while matches!(push(&stalled, 1024), Pushed::Wanted) {}
        assert_eq!(total.bytes(), LIMIT);
        let (flowing, lane) = (outlet(&total, "c.test"), Arc::new(Mailbox::default()));
        flowing.attach(&lane);
        for len in [LITTLE_BYTES, 100, 10 * LITTLE_BYTES] {
            assert_eq!(push(&flowing, len), Pushed::Taken);
            assert!(matches!(push(&flowing, 1), Pushed::Full(_)), "but no more than that");
            let (run, _) = flowing.take(&lane).unwrap();
            flowing.release(&run);
        }
        let marks = [Mark { len: LITTLE_BYTES, iq: false, ours: false }; 2];
        let run = vec![b'x'; 2 * LITTLE_BYTES];
        assert!(
            matches!(flowing.push(&run, &marks, Instant::now()), Pushed::Full(_)),
            "and not many at once"
        );
    }

    #[test]
    fn a_full_queue_says_since_when_until_something_leaves_it() {
        let total = Arc::new(TotalQueued::new(8 * LIMIT));
        let (outlet, lane) = (outlet(&total, "a.test"), Arc::new(Mailbox::default()));
        outlet.attach(&lane);
        push(&outlet, LIMIT);
        let Pushed::Full(since) = push(&outlet, 1) else { panic!("it is full") };
        assert_eq!(push(&outlet, 1), Pushed::Full(since));
        assert!(outlet.take(&lane).is_some());
        push(&outlet, LIMIT);
        let Pushed::Full(again) = push(&outlet, 1) else { panic!("it is full again") };
        assert!(again > since);
    }
}
