//! How a relay stops: it takes nothing new, finishes what is under way, and then answers for the rest.
//!
//! What it has read from a stream is its own to answer for from the moment at which that stream's last acknowledgement was
//! sent. So whatever has found no way out in time comes back to its sender, over lanes that are opened for that, before the
//! relay ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::clock;
use super::hub::Hub;
use super::mailbox::{Close, lock};
use crate::proto::router::Router;
use crate::reason::Reason;

/// How long lanes may take to let go of what they hold when their time is over: as long as reading may pause.
const LET_GO: Duration = Duration::from_secs(2);

/// How long the answers to what is left may take to leave, after `limits.drain`.
pub(super) const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What a drain did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Lanes that were open when it began.
    pub lanes: usize,
    /// Lanes that did not finish in time.
    pub unfinished: usize,
    /// Stanzas that found no way out in time, and came back.
    pub bounced: usize,
    /// Stanzas that found none either, and whose senders were never told that they were handled: they answer for them, or send
    /// them again.
    pub left: usize,
    /// Stanzas that nobody could be told of.
    pub discarded: usize,
    /// Errors for stanzas that came back, and answers, that aren't known to have found their way to whom they were for.
    pub untold: usize,
}

impl std::fmt::Display for DrainReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lanes, unfinished, bounced, left, discarded, untold } = self;
        write!(f, "{lanes} lanes drained, {unfinished} of them not in time; ")?;
        write!(f, "{bounced} stanzas came back, {left} are left to their senders, {discarded} were lost")?;
        write!(f, ", and {untold} errors found nobody to tell")
    }
}

impl DrainReport {
    /// Put it into the log.
    pub(super) fn say(&self) {
        let Self { lanes, unfinished, bounced, left, discarded, untold } = *self;
        if discarded + unfinished + bounced + left + untold > 0 {
            warn!(
                lanes,
                unfinished, bounced, left, discarded, untold, "drained, but not everything found its way"
            );
        } else {
            info!(lanes, "drained");
        }
    }
}

/// Take nothing new, let lanes finish what is queued, at most `limits.drain`, and answer for what is left.
pub(super) async fn drain(hub: &Arc<Hub>) -> DrainReport {
    hub.start_draining();
    let lanes = hub.lane_count();
    hub.finish_lanes(clock::now() + hub.limits.drain).await;
    let unfinished = hub.lane_count();
    let [_, _, bounced, _] = hub.metrics.ledger();
    let taken_back = hub.metrics.discarded_for(Reason::TakenBack);
    let lost = hub.metrics.discarded_for(Reason::Draining);
    let (left, discarded) = (taken_back.get(), lost.get());
    hub.answer_for_the_rest().await;
    // What came from here on would be taken, and nobody would deal with it.
    hub.shut().await;
    let (_, untold) = hub.discard_everything(Reason::Draining);
    let since = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX);
    let [_, _, bounced_by_now, _] = hub.metrics.ledger();
    let (bounced, left) = (since(bounced_by_now, bounced), since(taken_back.get(), left));
    // Those of which nobody may be told are among them wherever they were.
    let discarded = since(lost.get(), discarded);
    DrainReport { lanes, unfinished, bounced, left, discarded, untold }
}

/// All tasks are gone: drop what is left, and count it.
pub(super) fn give_up(hub: &Arc<Hub>) -> DrainReport {
    hub.start_draining();
    let lanes = hub.lane_count();
    let (discarded, untold) = hub.discard_everything(Reason::Draining);
    DrainReport { lanes, unfinished: lanes, bounced: 0, left: 0, discarded, untold }
}

impl Hub {
    /// Close lanes in good order until there are none, or it is `until`.
    async fn finish_lanes(&self, until: Instant) {
        loop {
            let gone = self.lane_gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable();
            // Again at each turn: what arrived last may have needed a lane of its own.
            self.close_lanes(Reason::Draining);
            // Answers of our own are no stanzas that were accepted, but somebody waits for them.
            if self.lane_count() == 0 && self.queued.bytes() == 0 {
                return;
            }
            let turn = until.min(clock::now() + self.limits.ack_within);
            let _either = tokio::time::timeout_at(turn.into(), gone).await;
            if until <= clock::now() {
                return;
            }
        }
    }

    /// Let everything that is left come back to its sender, as far as there is a way and the sender doesn't answer for it.
    async fn answer_for_the_rest(self: &Arc<Self>) {
        if self.queued.bytes() == 0 {
            return;
        }
        let left = self.queued.stanzas();
        warn!(stanzas = left, "the time to drain is over; what is left comes back to its senders");
        self.end();
        self.break_lanes_off().await;
        self.give_up_broken(Reason::Draining);
        let outlets: Vec<_> = lock(&self.outlets).values().cloned().collect();
        for outlet in outlets {
            let stanzas = outlet.drain_all_but(|mark| mark.ours);
            self.bounce_all(&outlet.route, &stanzas, Reason::Draining);
        }
        self.control(Router::hurries);
        self.finish_lanes(clock::now() + LAST_ANSWERS).await;
        self.break_lanes_off().await;
    }

    /// No lane takes anything any more, and none is asked for.
    pub(super) async fn shut(self: &Arc<Self>) {
        self.end();
        self.shut.store(true, Ordering::Relaxed);
        self.break_lanes_off().await;
    }

    /// Whether that is so. A lane that was there before is broken off, even while it says its last words; for one that a peer opens later
    /// this is looked at when it does.
    pub(super) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    /// End every lane without a word, so that what it holds is in its outlets again.
    async fn break_lanes_off(&self) {
        let until = clock::now() + LET_GO;
        let mailboxes: Vec<_> = lock(&self.control).lanes.values().cloned().collect();
        for mailbox in &mailboxes {
            mailbox.break_off(Reason::Draining);
        }
        drop(mailboxes);
        loop {
            let gone = self.lane_gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable();
            if self.lane_count() == 0 || tokio::time::timeout_at(until.into(), gone).await.is_err() {
                return;
            }
        }
    }

    /// How many lanes there are, on both sides.
    pub(crate) fn lane_count(&self) -> usize {
        lock(&self.control).lanes.len()
    }

    /// Close every lane in good order; but who may be asking about a key of ours that is out is answered first.
    pub(crate) fn close_lanes(&self, reason: Reason) {
        let is_asked = self.has_open_keys();
        let mut control = lock(&self.control);
        let lanes = control.lanes.iter().filter(|(lane, _)| !is_asked || control.router.has_lane(**lane));
        let lanes: Vec<_> = lanes.map(|(lane, mailbox)| (*lane, Arc::clone(mailbox))).collect();
        for (lane, mailbox) in lanes {
            control.router.lane_closing(lane);
            mailbox.close(Close::AfterQueue, reason);
        }
    }

    /// Drop everything that waits, and count it: nobody is left to tell. How many stanzas that were acknowledged, and how many answers of
    /// our own.
    pub(super) fn discard_everything(&self, reason: Reason) -> (usize, usize) {
        let outlets: Vec<_> = lock(&self.outlets).values().cloned().collect();
        let (mut stanzas, mut answers) = (0, 0);
        for stanza in outlets.iter().flat_map(|outlet| outlet.drain()) {
            if stanza.mark.ours {
                answers += 1;
            } else if stanza.origin.as_ref().is_some_and(|(from, ticket)| !from.is_answered_for(*ticket)) {
                // It came while the last answers left, and its sender still has it.
                self.metrics.discarded(Reason::TakenBack);
            } else {
                stanzas += 1;
                self.metrics.discarded(reason);
            }
        }
        (stanzas, answers)
    }

    pub(crate) fn start_draining(self: &Arc<Self>) {
        self.draining.send_replace(true);
        self.acknowledger.end();
        self.control(Router::drains);
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Resolves when the relay begins to drain.
    pub(crate) async fn drains(&self) {
        let mut draining = self.draining.subscribe();
        // The sender is ours: it is there for as long as somebody waits.
        let _begun = draining.wait_for(|begun| *begun).await;
    }

    /// The time to drain is over.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }
}
