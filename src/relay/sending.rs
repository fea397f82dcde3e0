//! The writing half of a lane: what its mailbox holds goes out, and each stanza is kept until it is known to be off our
//! hands. When that is depends on what was agreed with the other end:
//!
//! - with stream management, when the other end has acknowledged it;
//! - without it, when it was written: nobody will ever say more;
//! - behind a pipelined negotiation, not before that has succeeded, because behind a refusal nothing was read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use prometheus::IntCounter;

use super::acknowledging::Acknowledger;
use super::clock;
use super::inbound::{self, Inbound, Run};
use super::io::Transmit;
use super::mailbox::{Mailbox, When, lock};
use super::outlet::Outlet;
use super::row::MUCH_BYTES;
use super::turns::Rank;
use crate::proto::admission::Side;
use crate::proto::queue::{Mark, Wait, Waited};
use crate::proto::stream_management::element::{REQUEST, write_answer};
use crate::proto::stream_management::sent::{Sent, TooHigh};
use crate::reason::Reason;

mod writing;

use writing::To;

/// Where nothing more is sent along with which an acknowledgement could be asked for, it is asked for alone after so many times the
/// time between two questions: on a path that loses packets each of them may hold up the stanzas behind it.
const ALONE: f64 = 1.5;

/// What several queues have for a stream is copied as long as it is less, in octets, so that it goes in one call: another one costs more.
const JOINED_BYTES: usize = 8 * 1024;

/// Stanzas of a lane that aren't acknowledged, and the queues that they came from; `None`: they are the relay's own.
pub(crate) type Unacknowledged = Sent<Option<Arc<Outlet>>, Arc<Inbound>>;

/// Stanzas that were sent, and the queue that they came from.
pub(crate) type SentRun = (Run, Option<Arc<Outlet>>);

/// What a lane has sent, as far as somebody may still ask.
#[derive(Debug)]
pub(crate) struct Sending {
    state: Mutex<State>,
    delivered: IntCounter,
    acknowledger: Arc<Acknowledger>,
    side: Side,
    /// What came the other way: the writer says how much of it is handled.
    inbound: Mutex<Option<Arc<Inbound>>>,
    /// When something was last written, in milliseconds since the relay began.
    written: AtomicU64,
    /// Something is being written.
    cut: AtomicBool,
}

#[derive(Debug)]
struct State {
    sent: Unacknowledged,
    /// Stanzas of `sent` that were written in full, modulo 2^32 as `h` is.
    written: u32,
    /// The negotiation is done.
    confirmed: bool,
    /// Stream management was asked for, or is on.
    managed: bool,
    /// Stanzas sent since we last asked for an acknowledgement, and their octets.
    unasked: (u32, usize),
    /// When that was.
    asked: Option<Instant>,
    /// When the lane is woken to ask for what was sent since, unless it has asked by then.
    asks_at: Option<Instant>,
    /// When it is woken to ask again if there is no answer.
    again_at: Option<Instant>,
    /// Since when nothing of `sent` was acknowledged.
    waits: Option<Instant>,
}

impl State {
    /// In which order what the lane writes leaves.
    fn rank(&self) -> Rank {
        let waited = self.waits.map(|since| clock::now().saturating_duration_since(since));
        Rank::of(self.sent.octets(), waited.unwrap_or_default())
    }
}

/// What is left of the sending half when its lane has ended.
#[derive(Debug)]
pub(crate) enum Remainder {
    /// Nothing was read of it: the negotiation was refused. It goes back to its queues, the run sent last first.
    PutBack(Vec<SentRun>),
    /// It may have been handled or not.
    Unknown(Unacknowledged),
}

impl Sending {
    /// `delivered` counts what is off our hands. `pipelined`: nothing is before the negotiation is confirmed; `managed`:
    /// stream management was asked for with it.
    pub(crate) fn new(
        delivered: IntCounter,
        acknowledger: &Arc<Acknowledger>,
        side: Side,
        pipelined: bool,
        managed: bool,
    ) -> Arc<Self> {
        let state = State {
            sent: Unacknowledged::default(),
            written: 0,
            confirmed: !pipelined,
            managed,
            unasked: (0, 0),
            asked: None,
            asks_at: None,
            again_at: None,
            waits: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            delivered,
            acknowledger: Arc::clone(acknowledger),
            side,
            inbound: Mutex::default(),
            written: AtomicU64::new(acknowledger.elapsed()),
            cut: AtomicBool::new(false),
        })
    }

    /// Whether the lane can't have filled its own window: what isn't acknowledged is known, and little.
    fn stands_in_row(&self) -> bool {
        let state = lock(&self.state);
        (state.managed || !state.confirmed) && state.sent.octets() <= MUCH_BYTES
    }

    /// Write `run` of `outlet`, and with it what other queues have for the stream. How many stanzas that are.
    async fn write_run<T: Transmit>(
        &self,
        to: &mut To<'_, T>,
        run: Run,
        outlet: Option<Arc<Outlet>>,
        mailbox: &Arc<Mailbox>,
    ) -> Result<u32, Reason> {
        let (first, mut count) = (run.octets.clone(), run.len());
        let mut rank = self.sends(run, outlet);
        let mut joined = BytesMut::new();
        while first.len().max(joined.len()) < JOINED_BYTES
            && let Some((run, outlet)) = mailbox.next_stanzas()
        {
            let run = self.acknowledger.wanted(&outlet, run);
            if run.is_empty() {
                continue;
            }
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&run.octets);
            count += run.len();
            rank = self.sends(run, Some(outlet));
        }
        let octets = if joined.is_empty() { first } else { joined.freeze() };
        to.takes_turn(rank);
        let ask = self.asks(count, octets.len());
        if matches!(ask, Ask::Now) && self.requests(mailbox) {
            self.put_both(to, octets, Bytes::from_static(REQUEST.as_bytes())).await?;
        } else {
            self.put(to, octets).await?;
        }
        self.wrote(count);
        if let Ask::At(due) = ask {
            self.acknowledger.ask_at(due, mailbox);
        }
        Ok(count)
    }

    /// `run` of `outlet` is about to be written. In which order it leaves.
    fn sends(&self, run: Run, outlet: Option<Arc<Outlet>>) -> Rank {
        let mut state = lock(&self.state);
        if state.sent.is_empty() {
            state.waits = Some(clock::now());
        }
        state.sent.push(run, outlet);
        state.rank()
    }

    /// `count` stanzas of so many octets are about to be written. Whether to ask for their acknowledgement: along with the first that
    /// follow when it is time, and alone where none do.
    fn asks(&self, count: u32, octets: usize) -> Ask {
        let mut state = lock(&self.state);
        if !state.managed {
            return Ask::Not;
        }
        state.unasked.0 += count;
        state.unasked.1 += octets;
        let Acknowledger { ack_request_every, ack_request_octets, .. } = &*self.acknowledger;
        if state.unasked.0 >= *ack_request_every || state.unasked.1 >= *ack_request_octets {
            return Ask::Now;
        }
        match state.asked {
            Some(asked) if asked + self.asks_within() > clock::now() => self.asks_later(&mut state, asked),
            _ => Ask::Now,
        }
    }

    /// How long we may wait before we ask again.
    fn asks_within(&self) -> Duration {
        self.acknowledger.asks_within(self.side)
    }

    fn asks_alone_within(&self) -> Duration {
        self.asks_within().mul_f64(ALONE)
    }

    /// We asked at `asked`, and not for everything. When the lane has to be woken to ask alone, unless it is already.
    fn asks_later(&self, state: &mut State, asked: Instant) -> Ask {
        if state.asks_at.is_some() {
            return Ask::Not;
        }
        let at = asked + self.asks_alone_within();
        state.asks_at = Some(at);
        Ask::At(at)
    }

    /// `count` stanzas were written.
    fn wrote(&self, count: u32) {
        self.written.store(self.acknowledger.elapsed(), Ordering::Relaxed);
        let mut state = lock(&self.state);
        state.written = state.written.wrapping_add(count);
        if state.confirmed && !state.managed {
            self.settle_written(&mut state);
        }
    }

    async fn request<T: Transmit>(&self, to: &mut To<'_, T>, mailbox: &Arc<Mailbox>) -> Result<(), Reason> {
        if self.requests(mailbox) {
            self.put(to, Bytes::from_static(REQUEST.as_bytes())).await?;
        }
        Ok(())
    }

    /// Whether an acknowledgement is to be asked for now, if anything waits for one.
    fn requests(&self, mailbox: &Arc<Mailbox>) -> bool {
        let now = clock::now();
        let mut state = lock(&self.state);
        state.unasked = (0, 0);
        state.asked = Some(now);
        if !state.managed || state.sent.is_empty() {
            return false;
        }
        if state.waits.is_some_and(|waits| waits + self.acknowledger.stall <= now) {
            drop(state);
            mailbox.break_off(Reason::Stalled);
            return false;
        }
        self.ask_again(&mut state, now, mailbox);
        true
    }

    /// Whoever gives no answer in time from `since` on is asked again, as long as something isn't acknowledged.
    fn ask_again(&self, state: &mut State, since: Instant, mailbox: &Arc<Mailbox>) {
        if state.again_at.is_none() {
            let at = since + self.acknowledger.ask_again;
            state.again_at = Some(at);
            self.acknowledger.ask_at(at, mailbox);
        }
    }

    /// The lane was woken to ask. Whether it still has to: it may have asked along with stanzas, and have had its answers.
    fn requests_still(&self, when: When, mailbox: &Arc<Mailbox>) -> bool {
        let now = clock::now();
        let mut state = lock(&self.state);
        state.asks_at = state.asks_at.filter(|at| *at > now);
        let unasked = state.unasked.0 > 0;
        let asked = state.asked.filter(|asked| *asked + self.asks_alone_within() > now);
        let mut asks = unasked && (asked.is_none() || when == When::AtOnce);
        if state.again_at.is_some_and(|at| at <= now) {
            state.again_at = None;
            let since = state.waits.max(state.asked).unwrap_or(now);
            if since + self.acknowledger.ask_again <= now {
                asks = true;
            } else if !state.sent.is_empty() {
                self.ask_again(&mut state, since, mailbox);
            }
        }
        if !asks
            && unasked
            && let Some(asked) = asked
            && let Ask::At(at) = self.asks_later(&mut state, asked)
        {
            self.acknowledger.ask_at(at, mailbox);
        }
        drop(state);
        asks && self.requests(mailbox)
    }

    /// The acknowledgement of what came the other way.
    fn answer(&self, tell: impl FnOnce(&Inbound) -> Option<u32>) -> Option<String> {
        let mut answer = String::new();
        write_answer(&mut answer, tell(lock(&self.inbound).as_deref()?)?);
        Some(answer)
    }

    /// What stands before the end of the stream: the last acknowledgement. Whoever reads one just there knows that nothing beyond
    /// it is handled, so where we don't know that ourselves a question stands there instead.
    fn last_answer(&self) -> String {
        let managed = lock(&self.inbound).is_some();
        let unknown = || if managed { REQUEST.to_owned() } else { String::new() };
        self.answer(Inbound::tell_finally).unwrap_or_else(unknown)
    }

    fn settle_written(&self, state: &mut State) {
        let written = state.written;
        // No more than was sent was written.
        let settled = state.sent.acknowledge(written).unwrap_or_default();
        self.delivered(&settled);
    }

    fn delivered(&self, settled: &[SentRun]) {
        for (run, outlet) in settled {
            self.delivered.inc_by(run.counted() as u64);
            if let Some(outlet) = outlet {
                outlet.release(run);
            }
            inbound::settle(run);
        }
    }

    /// Before the end of the stream: whether what was sent is acknowledged, and what came is handled. What comes from now on
    /// isn't.
    fn is_settled(&self) -> bool {
        let handled = lock(&self.inbound).as_ref().is_none_or(|inbound| inbound.shut());
        let state = lock(&self.state);
        handled && (!state.managed || state.sent.is_empty())
    }

    /// Whether the lane was dropped while it wrote something, of which the transport may have taken a part.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// When a stanza was last written.
    pub(crate) fn last_written(&self) -> Instant {
        self.acknowledger.at(self.written.load(Ordering::Relaxed))
    }

    /// Stanzas that aren't acknowledged.
    pub(crate) fn unacknowledged(&self) -> u32 {
        lock(&self.state).sent.unacknowledged()
    }

    /// The rest of the negotiation has left ahead of its answers, before any stanza has: what follows isn't off our hands before it
    /// is confirmed. `managed`: stream management was asked for with it.
    pub(crate) fn go_ahead(&self, managed: bool) {
        let mut state = lock(&self.state);
        (state.confirmed, state.managed) = (false, managed);
    }

    /// The negotiation is over: what was sent behind it was read.
    pub(crate) fn confirm(&self) {
        let mut state = lock(&self.state);
        state.confirmed = true;
        if !state.managed {
            self.settle_written(&mut state);
        }
    }

    /// Stream management is asked for, or on: what is sent from here on is acknowledged. Where the other end turns it on
    /// late, nobody covers what was sent before, which includes what is just being written.
    pub(crate) fn manage(&self) {
        let mut state = lock(&self.state);
        if !state.managed {
            state.managed = true;
            let before = state.sent.begin();
            self.delivered(&before);
            (state.written, state.waits) = (0, None);
        }
    }

    /// There is none: what was sent is off our hands as far as anybody can tell.
    pub(crate) fn unmanage(&self) {
        let mut state = lock(&self.state);
        state.managed = false;
        self.settle_written(&mut state);
    }

    /// What comes the other way is acknowledged from now on.
    pub(crate) fn answer_for(&self, inbound: &Arc<Inbound>) {
        *lock(&self.inbound) = Some(Arc::clone(inbound));
    }

    /// The other end has handled `h` stanzas.
    ///
    /// # Errors
    /// [`Reason::HandledTooHigh`] if that can't be.
    pub(crate) fn acknowledged(&self, h: u32, mailbox: &Mailbox) -> Result<(), Reason> {
        let mut state = lock(&self.state);
        let settled = state.sent.acknowledge(h).map_err(|TooHigh { .. }| Reason::HandledTooHigh)?;
        let all = state.sent.is_empty();
        if !settled.is_empty() {
            state.waits = (!all).then(clock::now);
        }
        drop(state);
        self.delivered(&settled);
        if all {
            mailbox.settled();
        }
        Ok(())
    }

    /// The stream on which `sent` was sent goes on here; the other end has handled `h` stanzas of it. The rest is sent
    /// again.
    ///
    /// # Errors
    /// [`Reason::HandledTooHigh`] if that can't be; `sent` is left as it was.
    pub(crate) fn resume(
        &self,
        mut sent: Unacknowledged,
        h: u32,
        mailbox: &Mailbox,
    ) -> Result<(), (Unacknowledged, Reason)> {
        let settled = match sent.acknowledge(h) {
            Ok(settled) => settled,
            Err(TooHigh { .. }) => return Err((sent, Reason::HandledTooHigh)),
        };
        self.delivered(&settled);
        let mut state = lock(&self.state);
        mailbox.send_again(sent.runs().map(|run| run.octets.clone()));
        state.written = h.wrapping_add(sent.unacknowledged());
        state.waits = (!sent.is_empty()).then(clock::now);
        (state.unasked, state.asked) = ((sent.unacknowledged(), sent.octets()), None);
        state.sent = sent;
        state.managed = true;
        drop(state);
        mailbox.request(When::Due);
        Ok(())
    }

    /// The queues of what isn't acknowledged, and how many octets of each that is.
    pub(crate) fn under_way(&self) -> Vec<(Arc<Outlet>, usize)> {
        let mut all: Vec<(Arc<Outlet>, usize)> = Vec::new();
        for (run, outlet) in lock(&self.state).sent.queues() {
            let Some(outlet) = outlet else { continue };
            match all.iter_mut().rev().find(|(known, _)| Arc::ptr_eq(known, outlet)) {
                Some((_, octets)) => *octets += run.octets.len(),
                None => all.push((Arc::clone(outlet), run.octets.len())),
            }
        }
        all
    }

    /// Of what was sent on a stream that is gone, `h` stanzas were handled.
    pub(crate) fn delivered_before(&self, sent: &mut Unacknowledged, h: u32) {
        // A number that can't be is none.
        self.delivered(&sent.acknowledge(h).unwrap_or_default());
    }

    /// Writing is over. `refused`: if the negotiation was never confirmed, that is because the other end refused it, and not
    /// because its answer didn't arrive.
    pub(crate) fn end(&self, refused: bool) -> Remainder {
        let mut state = lock(&self.state);
        let mut sent = std::mem::take(&mut state.sent);
        if state.confirmed || !refused {
            return Remainder::Unknown(sent);
        }
        let mut runs = sent.take();
        runs.reverse();
        Remainder::PutBack(runs)
    }
}

/// When to ask for an acknowledgement.
enum Ask {
    Not,
    At(Instant),
    Now,
}

fn run_of_own(octets: String) -> Run {
    let mark = Mark { ours: true, wait: Wait::Iq, ..Mark::of(octets.len()) };
    Run::of([Waited { octets: octets.into(), mark, origin: None, since: clock::now() }])
}

#[cfg(test)]
mod tests;
