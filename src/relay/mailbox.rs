//! What one lane's task is to send: octets of the negotiation first, then the stanzas of the queues attached to it.
//!
//! [`Outlet`] is the queue of one route, shared by whoever feeds it and by the lane that it is attached to at the moment.
//! A lane with many outlets (one stream for all pairs) takes from each in turn, so that a busy pair can't starve a
//! quiet one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::proto::queue::{Hold, Mark, Queue, Run, Waited};
use crate::reason::Reason;
use crate::xmpp::route::Route;

/// Octets that a lane takes from one queue before it is another one's turn.
const TURN_BYTES: usize = 16 * 1024;

/// Lock a mutex whose state is consistent after every statement: a panic elsewhere doesn't spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of stanzas that were pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// A lane takes them.
    Taken,
    /// They wait; the route has to be wanted.
    Wanted,
    /// No room.
    Full,
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
}

impl Outlet {
    pub(crate) fn new(route: Route, limit: usize, total: Arc<TotalQueued>) -> Self {
        let state = OutletState { queue: Queue::new(limit), lane: None, scheduled: false, retired: false };
        Self { route, state: Mutex::new(state), room: Notify::new(), total }
    }

    /// Append whole stanzas.
    pub(crate) fn push(self: &Arc<Self>, octets: &[u8], marks: &[Mark], now: Instant) -> Pushed {
        let mut state = lock(&self.state);
        if state.retired {
            return Pushed::Retired;
        }
        if self.total.bytes() + octets.len() > self.total.limit
            || state.queue.push(octets, marks, now).is_err()
        {
            return Pushed::Full;
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
            return Pushed::Full;
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

    fn take(self: &Arc<Self>, lane: &Arc<Mailbox>) -> Option<(Run, bool)> {
        let mut state = lock(&self.state);
        if !state.lane.as_ref().is_some_and(|attached| Arc::ptr_eq(attached, lane)) {
            return None;
        }
        let Some(run) = state.queue.take(TURN_BYTES) else {
            state.scheduled = false;
            return None;
        };
        state.scheduled = !state.queue.is_empty();
        let more = state.scheduled;
        drop(state);
        self.uncount(run.octets.len(), run.counted());
        self.room.notify_waiters();
        Some((run, more))
    }

    /// Put back what a lane took and certainly did not pass on.
    pub(crate) fn put_back(&self, runs: &[Run]) {
        let mut state = lock(&self.state);
        state.queue.put_back(runs);
        // A route that is put back can't be out of use: it was attached until now.
        state.retired = false;
        for run in runs {
            self.count(run.octets.len(), run.counted());
        }
    }

    /// Take out what has waited too long, and say when the next will have.
    pub(crate) fn expire(&self, hold: Hold, now: Instant) -> (Vec<Waited>, Option<Instant>) {
        let (expired, next) = lock(&self.state).queue.expire(hold, now);
        self.uncount_all(&expired);
        (expired, next)
    }

    /// Take out everything.
    pub(crate) fn drain(&self) -> Vec<Waited> {
        let drained = lock(&self.state).queue.drain();
        self.uncount_all(&drained);
        self.room.notify_waiters();
        drained
    }

    fn waiting_bytes(&self) -> usize {
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

/// What a lane's writer does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Write these octets of the negotiation.
    Octets(String),
    /// Write these stanzas.
    Stanzas(Run, Arc<Outlet>),
    /// Finish the stream: everything was written, the closing tag included.
    Finish,
    /// Wait to be woken.
    Wait,
}

/// How a lane is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// What is queued at this moment is still sent.
    AfterQueue,
    /// No further stanza is sent.
    Now,
}

#[derive(Debug, Default)]
struct MailboxState {
    octets: String,
    ready: VecDeque<Arc<Outlet>>,
    /// Stanzas may be sent.
    open: bool,
    closing: Option<(Close, Reason)>,
    /// Octets that may still be taken from queues before the closing tag.
    budget: usize,
    /// The closing tag was handed over, by the machine or by this.
    closed: bool,
    finished: bool,
}

/// The sending half of one lane, seen from outside its task.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<MailboxState>,
    wake: Notify,
}

impl Mailbox {
    /// Stanzas may be sent from now on.
    pub(crate) fn open(&self) {
        lock(&self.state).open = true;
        self.wake.notify_one();
    }

    /// Octets of the negotiation; they go before any stanza that isn't being written yet.
    pub(crate) fn post(&self, octets: &str) {
        if !octets.is_empty() {
            let mut state = lock(&self.state);
            if !state.closed {
                state.octets.push_str(octets);
            }
            drop(state);
            self.wake.notify_one();
        }
    }

    fn offer(&self, outlet: Arc<Outlet>) {
        lock(&self.state).ready.push_back(outlet);
        self.wake.notify_one();
    }

    /// End the lane with a closing tag. The first call counts.
    pub(crate) fn close(&self, how: Close, reason: Reason) {
        let mut state = lock(&self.state);
        if state.closing.is_none() {
            let ready: Vec<_> =
                if how == Close::AfterQueue { state.ready.iter().cloned().collect() } else { Vec::new() };
            state.closing = Some((how, reason));
            // Lock order is outlet, then mailbox: look into the queues without holding the mailbox.
            drop(state);
            let budget = ready.iter().map(|outlet| outlet.waiting_bytes()).sum();
            lock(&self.state).budget = budget;
        }
        self.wake.notify_one();
    }

    /// End the lane with what the machine wrote for it, its closing tag included.
    pub(crate) fn refuse(&self, octets: &str, reason: Reason) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.octets.push_str(octets);
            state.closed = true;
        }
        state.closing = Some((Close::Now, reason));
        state.budget = 0;
        drop(state);
        self.wake.notify_one();
    }

    /// Whether, and why, the lane is ending.
    pub(crate) fn closing(&self) -> Option<Reason> {
        lock(&self.state).closing.map(|(_, reason)| reason)
    }

    /// What to write next.
    pub(crate) fn next(self: &Arc<Self>) -> Next {
        loop {
            let mut state = lock(&self.state);
            if !state.octets.is_empty() {
                return Next::Octets(std::mem::take(&mut state.octets));
            }
            if state.finished {
                return Next::Wait;
            }
            let take = match state.closing {
                None => state.open,
                Some((Close::AfterQueue, _)) => state.open && state.budget > 0,
                Some((Close::Now, _)) => false,
            };
            if matches!(state.closing, Some((Close::AfterQueue, _))) && !state.open && state.budget > 0 {
                // Its negotiation still has its time; what is queued may yet leave.
                return Next::Wait;
            }
            let outlet = if take { state.ready.pop_front() } else { None };
            let Some(outlet) = outlet else {
                if state.closing.is_none() {
                    return Next::Wait;
                }
                if state.closed {
                    state.finished = true;
                    return Next::Finish;
                }
                state.closed = true;
                return Next::Octets(crate::xmpp::header::STREAM_END.to_owned());
            };
            drop(state);
            if let Some((run, more)) = outlet.take(self) {
                let mut state = lock(&self.state);
                state.budget = state.budget.saturating_sub(run.octets.len());
                if more {
                    state.ready.push_back(Arc::clone(&outlet));
                }
                return Next::Stanzas(run, outlet);
            }
        }
    }

    /// Resolves when there may be something to write.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::domain::Domain;

    fn outlet(name: &str) -> Arc<Outlet> {
        let route = Route::new(Domain::parse(name).unwrap(), Domain::parse("b.test").unwrap());
        Arc::new(Outlet::new(route, 1 << 20, Arc::new(TotalQueued::new(1 << 20))))
    }

    fn push(outlet: &Arc<Outlet>, stanza: &[u8]) -> Pushed {
        outlet.push(stanza, &[Mark { len: stanza.len(), iq: false, ours: false }], Instant::now())
    }

    fn written(mailbox: &Arc<Mailbox>) -> String {
        let mut text = String::new();
        loop {
            match mailbox.next() {
                Next::Octets(octets) => text.push_str(&octets),
                Next::Stanzas(run, _) => text.push_str(std::str::from_utf8(&run.octets).unwrap()),
                Next::Finish => return text + "|",
                Next::Wait => return text,
            }
        }
    }

    #[test]
    fn negotiation_goes_first_and_stanzas_wait_until_the_lane_is_open() {
        let (mailbox, outlet) = (Arc::new(Mailbox::default()), outlet("a.test"));
        assert_eq!(push(&outlet, b"1"), Pushed::Wanted);
        outlet.attach(&mailbox);
        assert_eq!(push(&outlet, b"2"), Pushed::Taken);
        mailbox.post("<h>");
        assert_eq!(written(&mailbox), "<h>");
        mailbox.open();
        assert_eq!(written(&mailbox), "12");
        assert_eq!(push(&outlet, b"3"), Pushed::Taken);
        assert_eq!(written(&mailbox), "3");
    }

    #[test]
    fn a_lane_takes_from_its_outlets_in_turn() {
        let (mailbox, busy, quiet) = (Arc::new(Mailbox::default()), outlet("a.test"), outlet("c.test"));
        busy.attach(&mailbox);
        quiet.attach(&mailbox);
        let large = vec![b'x'; TURN_BYTES];
        for _ in 0..3 {
            push(&busy, &large);
        }
        push(&quiet, b"q");
        mailbox.open();
        let turns: Vec<usize> = std::iter::from_fn(|| match mailbox.next() {
            Next::Stanzas(run, _) => Some(run.octets.len()),
            _ => None,
        })
        .collect();
        assert_eq!(turns, [TURN_BYTES, 1, TURN_BYTES, TURN_BYTES]);
    }

    #[test]
    fn a_lane_that_closes_after_its_queue_sends_what_was_there_and_no_more() {
        let (mailbox, outlet) = (Arc::new(Mailbox::default()), outlet("a.test"));
        outlet.attach(&mailbox);
        mailbox.open();
        push(&outlet, b"1");
        mailbox.close(Close::AfterQueue, Reason::Draining);
        assert_eq!(written(&mailbox), "1</stream:stream>|");
        push(&outlet, b"2");
        assert_eq!(written(&mailbox), "");
        assert!(outlet.detach(), "it waits for another lane");
    }

    #[test]
    fn a_lane_that_closes_during_its_negotiation_waits_for_what_is_queued() {
        let (mailbox, outlet) = (Arc::new(Mailbox::default()), outlet("a.test"));
        outlet.attach(&mailbox);
        push(&outlet, b"1");
        mailbox.close(Close::AfterQueue, Reason::Draining);
        assert_eq!(written(&mailbox), "");
        mailbox.open();
        assert_eq!(written(&mailbox), "1</stream:stream>|");
    }

    #[test]
    fn an_empty_outlet_without_a_lane_is_out_of_use() {
        let outlet = outlet("a.test");
        outlet.attach(&Arc::new(Mailbox::default()));
        assert!(!outlet.detach());
        assert_eq!(push(&outlet, b"1"), Pushed::Retired);
    }
}
