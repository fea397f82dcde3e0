//! What came on one stream under stream management (XEP-0198): the counters, shared by the lane that reads the stream, the
//! lanes that pass its stanzas on, and whoever answers for them when that takes too long.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::acknowledging::Acknowledger;
use super::mailbox::{Mailbox, lock};
use crate::proto::queue;
use crate::proto::stream_management::receipts::{Patience, Receipts, Ticket};

/// Whence a stanza came, and its place there; `None` where nobody waits for an acknowledgement.
pub(crate) type Origin = Option<(Arc<Inbound>, Ticket)>;
/// A stanza that waited.
pub(crate) type Waited = queue::Waited<Arc<Inbound>>;
/// Stanzas that a lane takes together.
pub(crate) type Run = queue::Run<Arc<Inbound>>;

/// What came on one stream.
#[derive(Debug)]
pub(crate) struct Inbound {
    receipts: Mutex<Receipts>,
    /// The lane that reads the stream now.
    lane: Mutex<Option<Arc<Mailbox>>>,
    /// Its sender has taken something back: looked at for each run, so that it costs nothing else.
    taken_back: AtomicBool,
    /// Nothing more is handled.
    closed: AtomicBool,
    /// Nothing behind what is told is.
    refused: AtomicBool,
    /// It stands in the list of those that are looked after.
    pub(super) listed: AtomicBool,
    /// When the last stanza came, in seconds after the relay began.
    last: AtomicU32,
    acknowledger: Arc<Acknowledger>,
}

impl Inbound {
    /// What comes to `lane`. `patience`: how long its sender may wait, and for how much.
    pub(crate) fn new(
        acknowledger: &Arc<Acknowledger>,
        lane: &Arc<Mailbox>,
        patience: Patience,
    ) -> Arc<Self> {
        Arc::new(Self {
            receipts: Mutex::new(Receipts::new(patience)),
            lane: Mutex::new(Some(Arc::clone(lane))),
            taken_back: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            listed: AtomicBool::new(false),
            last: AtomicU32::new(0),
            acknowledger: Arc::clone(acknowledger),
        })
    }

    /// `count` stanzas came. The ticket of the first.
    pub(crate) fn receive(self: &Arc<Self>, count: usize, now: Instant) -> Ticket {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.last.store(self.acknowledger.seconds(now), Ordering::Relaxed);
        let (ticket, early) = lock(&self.receipts).receive(count, now);
        self.acknowledger.acknowledged_early(early);
        self.acknowledger.look_after(self);
        ticket
    }

    /// Whether a stanza has come within the last `time`, or a little before.
    pub(crate) fn has_come_within(&self, time: Duration, now: Instant) -> bool {
        let last = u64::from(self.last.load(Ordering::Relaxed));
        last > 0 && u64::from(self.acknowledger.seconds(now)) <= last + time.as_secs() + 1
    }

    /// What came last, from `ticket` on, is as good as unread: its sender has it still. Whether that is so; it isn't if the sender was
    /// told that it is handled, or will be.
    pub(crate) fn forget_from(&self, ticket: Ticket) -> bool {
        lock(&self.receipts).forget_from(ticket)
    }

    /// `count` stanzas from `ticket` on are handled.
    pub(crate) fn settle(&self, ticket: Ticket, count: u32) {
        let mut receipts = lock(&self.receipts);
        let due = receipts.settle(ticket, count) && receipts.untold() >= self.acknowledger.ack_every;
        drop(receipts);
        if due {
            self.acknowledge();
        }
    }

    /// Let the lane say how many are handled.
    fn acknowledge(&self) {
        if let Some(lane) = &*lock(&self.lane) {
            lane.acknowledge();
        }
    }

    /// What the other end is told from now on to be handled.
    pub(crate) fn tell(&self) -> u32 {
        lock(&self.receipts).tell()
    }

    /// The same for the last time, because we end the stream: whatever came is in our custody and will be dealt with. `None`: the
    /// relay ends, and may not come to that.
    pub(crate) fn tell_finally(&self) -> Option<u32> {
        let mut receipts = lock(&self.receipts);
        if self.acknowledger.ends() && receipts.uncounted() > 0 {
            self.closed.store(true, Ordering::Relaxed);
            return None;
        }
        // A sender that has taken back what it wasn't told is told no more than was true then.
        if !self.taken_back.load(Ordering::Relaxed) {
            self.acknowledger.acknowledged_early(receipts.answer_for_all());
        }
        self.closed.store(true, Ordering::Relaxed);
        Some(receipts.tell())
    }

    /// There is no room for the stanza of `ticket`, nor for an answer to it: the stream ends there. What came before is in our custody
    /// and will be dealt with, and its sender is told so, unless it is to be told the last word already.
    pub(crate) fn refuse_from(&self, ticket: Ticket) {
        if self.acknowledger.ends() || self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        self.acknowledger.acknowledged_early(lock(&self.receipts).answer_before(ticket));
        self.refused.store(true, Ordering::Relaxed);
    }

    /// How much is handled, if nothing that came behind it is.
    pub(crate) fn refused_behind(&self) -> Option<u32> {
        self.refused.load(Ordering::Relaxed).then(|| self.tell())
    }

    /// We end the stream: what comes from here on isn't handled any more, and its sender sends it again. Whether everything that
    /// came before is.
    pub(crate) fn shut(&self) -> bool {
        self.closed.store(true, Ordering::Relaxed);
        self.is_handled()
    }

    /// Whether everything that came is handled.
    pub(crate) fn is_handled(&self) -> bool {
        lock(&self.receipts).uncounted() == 0
    }

    /// Whether the last acknowledgement was sent, or will be: what comes now is sent again by its sender.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The stream was resumed, and `lane` reads it now. The other end was told that `told` stanzas are handled, or is now
    /// (`None`). That number, and how many of the stanzas that follow are here already.
    pub(crate) fn resume(&self, lane: &Arc<Mailbox>, told: Option<u32>) -> (u32, u32) {
        *lock(&self.lane) = Some(Arc::clone(lane));
        // It was ending when it broke, perhaps; now it goes on.
        self.closed.store(false, Ordering::Relaxed);
        let mut receipts = lock(&self.receipts);
        let told = told.unwrap_or_else(|| receipts.tell());
        if receipts.h() != told {
            lane.acknowledge();
        }
        (told, receipts.h().wrapping_sub(told).wrapping_add(receipts.uncounted()))
    }

    /// No lane reads the stream any more.
    pub(crate) fn break_off(&self) {
        *lock(&self.lane) = None;
    }

    /// The sender has ended its stream and answers itself for what it wasn't told to be handled.
    pub(crate) fn take_back(&self) {
        lock(&self.receipts).take_back();
        self.taken_back.store(true, Ordering::Relaxed);
    }

    /// Whether the sender is told, or will be, that a stanza is handled.
    pub(crate) fn is_answered_for(&self, ticket: Ticket) -> bool {
        lock(&self.receipts).is_answered_for(ticket)
    }

    /// Whether the sender has taken back a stanza.
    pub(crate) fn is_taken_back(&self, ticket: Ticket) -> bool {
        self.taken_back.load(Ordering::Relaxed) && lock(&self.receipts).is_taken_back(ticket)
    }

    /// Answer for what has waited too long, and let the other end hear of what is handled. Whether there is more to look
    /// after.
    pub(super) fn attend(&self, now: Instant) -> bool {
        let mut receipts = lock(&self.receipts);
        self.acknowledger.acknowledged_early(receipts.expire(now));
        let (untold, open) = (receipts.untold() > 0, receipts.deadline().is_some());
        drop(receipts);
        if untold {
            self.acknowledge();
        }
        open
    }
}

/// The stanzas of `run` are handled: tell the streams on which they came.
pub(crate) fn settle(run: &Run) {
    for (inbound, ticket, count) in run.origins() {
        inbound.settle(ticket, count);
    }
}

/// A single stanza is handled.
pub(crate) fn settle_one(origin: &Origin) {
    if let Some((inbound, ticket)) = origin {
        inbound.settle(*ticket, 1);
    }
}
