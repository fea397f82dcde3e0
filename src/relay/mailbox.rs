//! What one lane's task is to send: octets of the negotiation first, then the stanzas of the queues attached to it
//! ([`super::outlet`]). A lane with many of them (one stream for all pairs) takes from each in turn, so that a busy pair
//! can't starve a quiet one.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::inbound::Run;
use super::outlet::Outlet;
use crate::proto::stream;
use crate::reason::Reason;
use crate::xmpp::header::STREAM_END;

/// Lock a mutex whose state is consistent after every statement: a panic elsewhere doesn't spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a lane's writer does next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Write these octets of the negotiation.
    Octets(String),
    /// Write this stanza of our own: it counts, and belongs to no queue.
    Own(String),
    /// Write these stanzas once more: the stream on which they were sent is resumed here.
    Again(Bytes),
    /// Say how many stanzas are handled.
    Acknowledge,
    /// Ask how many are, if it is time for that, or at once.
    Request(When),
    /// Everything was written; before the end, wait for what isn't acknowledged.
    Settle,
    /// Write the end of the stream: this, behind the last acknowledgement.
    Close(String),
    /// Write these stanzas.
    Stanzas(Run, Arc<Outlet>),
    /// Finish the stream: everything was written, the closing tag included.
    Finish,
    /// Wait to be woken.
    Wait,
}

/// Octets of the negotiation beyond which nothing more is said until some have left: the other end makes us say ever more, and takes
/// none of it. The longest of what waits isn't counted: stream features with all our hosts are longer than that, and the other end may
/// have sent everything up to its first stanzas before it reads any of them.
const UNSAID_BYTES_MAX: usize = 64 * 1024;

/// Octets of stanzas of our own making beyond which the same is so: of proofs for all hosts at once, and of answers to them.
const OWN_BYTES_MAX: usize = 256 * 1024;

/// When to ask for an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum When {
    /// If enough time has passed.
    Due,
    /// Something finds no room before there is an answer.
    AtOnce,
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
    /// How long the longest piece of `octets` is.
    longest: u32,
    /// Boxed, and there only while there is any: there are very many lanes.
    rare: Option<Box<Rare>>,
    acknowledge: bool,
    request: Option<When>,
    ready: VecDeque<Arc<Outlet>>,
    /// Stanzas may be sent.
    open: bool,
    /// Not even those of our own: a stream is being resumed, and they would be counted there and not here.
    resuming: bool,
    closing: Option<(Close, Reason)>,
    /// Octets that may still be taken from queues before the closing tag.
    budget: usize,
    /// The closing tag was handed over, by the machine or by this.
    closed: bool,
    finished: bool,
    /// What isn't acknowledged is waited for no longer.
    unsettled: bool,
    /// It ends here and now.
    broken_off: Option<Reason>,
    /// Told when there may be something to write.
    wake: Signal,
    /// Told with `broken_off`.
    broken: Signal,
}

/// What few lanes ever have to say.
#[derive(Debug, Default)]
struct Rare {
    /// Stanzas of our own making.
    own: VecDeque<String>,
    /// Their octets.
    own_octets: usize,
    /// Stanzas of a stream that is resumed.
    again: VecDeque<Bytes>,
}

impl Rare {
    fn next_own(&mut self) -> Option<String> {
        let own = self.own.pop_front()?;
        self.own_octets = self.own_octets.saturating_sub(own.len());
        Some(own)
    }
}

/// What the one task of a lane waits for: told once, it is told to whoever waits, or comes to wait.
#[derive(Debug, Default)]
struct Signal {
    told: bool,
    waits: Option<Waker>,
}

impl Signal {
    fn tell(&mut self) -> Option<Waker> {
        self.told = true;
        self.waits.take()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.told) {
            return Poll::Ready(());
        }
        if !self.waits.as_ref().is_some_and(|waits| waits.will_wake(context.waker())) {
            self.waits = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl MailboxState {
    fn post(&mut self, octets: String) {
        self.longest = self.longest.max(u32::try_from(octets.len()).unwrap_or(u32::MAX));
        if self.octets.is_empty() {
            self.octets = octets;
        } else {
            self.octets.push_str(&octets);
        }
    }

    /// Take something out of what is rare.
    fn rare<T>(&mut self, take: impl FnOnce(&mut Rare) -> Option<T>) -> Option<T> {
        let rare = self.rare.as_mut()?;
        let taken = take(rare);
        if rare.own.is_empty() && rare.again.is_empty() {
            self.rare = None;
        }
        taken
    }

    /// Whether nothing but stanzas of the queues is next.
    fn carries(&self) -> bool {
        let nothing_before = self.octets.is_empty() && self.rare.is_none();
        let says_nothing = !self.acknowledge && self.request.is_none();
        nothing_before
            && says_nothing
            && self.open
            && !self.resuming
            && !self.closed
            && self.closing.is_none()
    }

    /// What goes before the stanzas of the queues.
    fn before_stanzas(&mut self) -> Option<Next> {
        if !self.octets.is_empty() {
            self.longest = 0;
            return Some(Next::Octets(std::mem::take(&mut self.octets)));
        }
        if self.finished {
            return Some(Next::Wait);
        }
        if self.closed {
            return None;
        }
        if std::mem::take(&mut self.acknowledge) {
            return Some(Next::Acknowledge);
        }
        if let Some(again) = self.rare(|rare| rare.again.pop_front()) {
            return Some(Next::Again(again));
        }
        if self.resuming {
            return None;
        }
        if let Some(own) = self.rare(Rare::next_own) {
            return Some(Next::Own(own));
        }
        self.request.take().map(Next::Request)
    }
}

/// The sending half of one lane, seen from outside its task.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<MailboxState>,
}

impl Mailbox {
    /// Stanzas may be sent from now on.
    pub(crate) fn open(&self) {
        let mut state = lock(&self.state);
        state.open = true;
        state.resuming = false;
        wake(state);
    }

    /// A stream is to be resumed: no stanza is sent before [`Mailbox::open`], not even one of our own.
    pub(crate) fn resumes(&self) {
        lock(&self.state).resuming = true;
    }

    /// Octets of the negotiation; they go before any stanza that isn't being written yet.
    pub(crate) fn post(&self, octets: String) {
        if !octets.is_empty() {
            let mut state = lock(&self.state);
            if state.octets.len() > UNSAID_BYTES_MAX + state.longest as usize {
                drop(state);
                return self.break_off(Reason::TooMany);
            }
            if !state.closed {
                state.post(octets);
            }
            wake(state);
        }
    }

    /// What the router wants said: a stanza of our own making counts as one (XEP-0198), anything else is negotiation.
    pub(crate) fn post_own(&self, octets: String) {
        if !octets.starts_with("<iq") {
            return self.post(octets);
        }
        let mut state = lock(&self.state);
        if !state.closed {
            let rare = state.rare.get_or_insert_default();
            if rare.own_octets > OWN_BYTES_MAX {
                drop(state);
                return self.break_off(Reason::TooMany);
            }
            rare.own_octets += octets.len();
            rare.own.push_back(octets);
        }
        wake(state);
    }

    /// Stanzas that were sent on the stream that is resumed here: they go before all others.
    pub(crate) fn send_again(&self, runs: impl Iterator<Item = Bytes>) {
        let mut state = lock(&self.state);
        let mut runs = runs.peekable();
        if runs.peek().is_some() {
            state.rare.get_or_insert_default().again.extend(runs);
        }
        wake(state);
    }

    /// Say how many stanzas are handled, with the next octets.
    pub(crate) fn acknowledge(&self) {
        let mut state = lock(&self.state);
        state.acknowledge = true;
        wake(state);
    }

    /// Ask how many stanzas are handled, with the next octets.
    pub(crate) fn request(&self, when: When) {
        let mut state = lock(&self.state);
        state.request = state.request.max(Some(when));
        wake(state);
    }

    /// Whether stanzas may be sent.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.state).open
    }

    /// Let the writer look again: something was acknowledged.
    pub(crate) fn settled(&self) {
        wake(lock(&self.state));
    }

    /// What isn't acknowledged by now isn't waited for.
    pub(crate) fn close_unsettled(&self) {
        lock(&self.state).unsettled = true;
    }

    /// The lane ends here and now: with [`Reason::Conflict`] because the other end resumes its stream on another connection, with
    /// [`Reason::Stalled`] because it takes nothing, with [`Reason::TooMany`] because it takes nothing and asks for ever more, with another
    /// reason without a word.
    pub(crate) fn break_off(&self, reason: Reason) {
        let mut state = lock(&self.state);
        state.broken_off = Some(reason);
        let waker = state.broken.tell();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Resolves when [`Mailbox::break_off`] was called.
    pub(crate) fn broken_off(&self) -> impl Future<Output = Reason> + Send {
        poll_fn(|context| {
            let mut state = lock(&self.state);
            match state.broken_off {
                Some(reason) => Poll::Ready(reason),
                None => state.broken.poll(context).map(|()| Reason::ConnectionLost),
            }
        })
    }

    /// Resolves when [`Mailbox::break_off`] is called once more; it may do so once before that.
    pub(crate) fn broken_off_anew(&self) -> impl Future<Output = ()> + Send {
        poll_fn(|context| lock(&self.state).broken.poll(context))
    }

    pub(super) fn offer(&self, outlet: Arc<Outlet>) {
        let mut state = lock(&self.state);
        state.ready.push_back(outlet);
        wake(state);
    }

    /// End the lane with a closing tag. The first call counts.
    pub(crate) fn close(&self, how: Close, reason: Reason) {
        let ready: Vec<_> = match how {
            Close::AfterQueue => lock(&self.state).ready.iter().cloned().collect(),
            Close::Now => Vec::new(),
        };
        // Lock order is outlet, then mailbox: look into the queues without holding the mailbox.
        let budget = ready.iter().map(|outlet| outlet.waiting_bytes()).sum();
        let mut state = lock(&self.state);
        if state.closing.is_none() {
            state.closing = Some((how, reason));
            state.budget = budget;
        }
        wake(state);
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
        wake(state);
    }

    /// Whether the closing tag was said, or is just being said.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Whether, and why, the lane is ending.
    pub(crate) fn closing(&self) -> Option<Reason> {
        lock(&self.state).closing.map(|(_, reason)| reason)
    }

    /// What to write next. `settled` is asked before the end: nothing waits for an acknowledgement.
    pub(crate) fn next(self: &Arc<Self>, settled: impl Fn() -> bool) -> Next {
        loop {
            let mut state = lock(&self.state);
            if let Some(next) = state.before_stanzas() {
                return next;
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
                let orderly = matches!(state.closing, Some((Close::AfterQueue, _)));
                let reason = state.closing.map(|(_, reason)| reason);
                if orderly && !state.unsettled {
                    // Whoever answers that locks in another order.
                    drop(state);
                    if !settled() {
                        return Next::Settle;
                    }
                    state = lock(&self.state);
                }
                state.closed = true;
                return Next::Close(last_words(reason));
            };
            drop(state);
            if let Some(run) = self.take(&outlet) {
                return Next::Stanzas(run, outlet);
            }
        }
    }

    /// The stanzas that are next, if nothing else is: they may go along with those before them.
    pub(crate) fn next_stanzas(self: &Arc<Self>) -> Option<(Run, Arc<Outlet>)> {
        loop {
            let mut state = lock(&self.state);
            let outlet = if state.carries() { state.ready.pop_front() } else { None }?;
            drop(state);
            if let Some(run) = self.take(&outlet) {
                return Some((run, outlet));
            }
        }
    }

    /// Take what is next of `outlet`, which was ready.
    fn take(self: &Arc<Self>, outlet: &Arc<Outlet>) -> Option<Run> {
        // Lock order is outlet, then mailbox.
        let (run, more) = outlet.take(self)?;
        let mut state = lock(&self.state);
        state.budget = state.budget.saturating_sub(run.octets.len());
        if more {
            state.ready.push_back(Arc::clone(outlet));
        }
        Some(run)
    }

    /// Resolves when there may be something to write.
    pub(crate) fn woken(&self) -> impl Future<Output = ()> + Send {
        poll_fn(|context| lock(&self.state).wake.poll(context))
    }

    /// The lane has ended: nobody waits any more.
    pub(super) fn parts(&self) {
        let mut state = lock(&self.state);
        let waits = (state.wake.waits.take(), state.broken.waits.take());
        drop(state);
        drop(waits);
    }
}

/// There may be something to write.
fn wake(mut state: MutexGuard<'_, MailboxState>) {
    let waker = state.wake.tell();
    drop(state);
    waker.into_iter().for_each(Waker::wake);
}

/// The closing tag, behind an error where the other end has to know (RFC 6120 section 4.9.3.5).
fn last_words(reason: Option<Reason>) -> String {
    let mut octets = String::new();
    match reason {
        Some(reason @ Reason::HostGone) => stream::refuse(&mut octets, reason.into(), None),
        _ => octets.push_str(STREAM_END),
    }
    octets
}

#[cfg(test)]
mod tests;
