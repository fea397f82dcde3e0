//! When acknowledgements are asked for and given unasked: one tick for the whole relay, not a timer for each stream.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tokio::sync::Notify;

use super::clock;
use super::hub::Hub;
use super::inbound::{Inbound, Run, Waited};
use super::mailbox::{Mailbox, When, lock};
use super::outlet::Outlet;
use crate::proto::admission::Side;
use crate::proto::limits::Limits;
use crate::proto::stream_management::receipts::Patience;

/// How often an acknowledgement is asked for while as much is sent as a queue holds.
const ASKS_A_QUEUE: usize = 4;

/// Who wants to hear of acknowledgements, and who has to be told.
#[derive(Debug)]
pub(crate) struct Acknowledger {
    /// When the relay began.
    epoch: Instant,
    pub(crate) patience: Patience,
    pub(crate) ack_every: u32,
    pub(crate) ack_request_every: u32,
    /// Octets after which an acknowledgement is asked for: a queue with few large stanzas would be full before their number says so,
    /// and stand still until the time does.
    pub(crate) ack_request_octets: usize,
    within: Duration,
    /// The time between two turns of writing on a busy lane.
    pub(super) linger: Duration,
    request_within: Duration,
    /// Whoever gives no answer is asked again after this.
    pub(crate) ask_again: Duration,
    /// How long lanes may take to finish when the relay ends.
    pub(super) drain: Duration,
    /// Whoever acknowledges nothing, or takes nothing, for this long is given up.
    pub(super) stall: Duration,
    /// Lanes that have sent something and not asked yet, and when they do.
    asking: Mutex<Vec<(Instant, Arc<Mailbox>)>>,
    /// Streams on which something came that isn't handled, or that hasn't been told.
    answering: Mutex<Vec<Arc<Inbound>>>,
    /// There is something to do again.
    work: Notify,
    /// The relay ends.
    ends: AtomicBool,
    early: IntCounter,
    taken_back: IntCounter,
}

impl Acknowledger {
    /// `early` counts stanzas that are answered for before their next hop has acknowledged them, `taken_back` those that
    /// their senders took back.
    pub(crate) fn new(limits: &Limits, early: IntCounter, taken_back: IntCounter) -> Arc<Self> {
        Arc::new(Self {
            epoch: clock::now(),
            patience: limits.patience(),
            ack_every: limits.ack_every,
            ack_request_every: limits.ack_request_every,
            ack_request_octets: limits.pair_queue_bytes / ASKS_A_QUEUE,
            within: limits.ack_within,
            linger: limits.linger,
            request_within: limits.ack_request_within,
            ask_again: limits.ack_wait,
            drain: limits.drain,
            stall: limits.lane_stall,
            asking: Mutex::default(),
            answering: Mutex::default(),
            work: Notify::new(),
            ends: AtomicBool::new(false),
            early,
            taken_back,
        })
    }

    /// Milliseconds since the relay began.
    pub(super) fn elapsed(&self) -> u64 {
        let elapsed = clock::now().saturating_duration_since(self.epoch);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }

    /// How many seconds after the relay began `now` is: one at the least.
    pub(super) fn seconds(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.epoch).as_secs().saturating_add(1))
            .unwrap_or(u32::MAX)
    }

    /// So many milliseconds after the relay began.
    pub(super) fn at(&self, elapsed: u64) -> Instant {
        self.epoch + Duration::from_millis(elapsed)
    }

    /// The relay ends: what has no way out isn't promised any more.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Whether the relay ends.
    pub(super) fn ends(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    /// `count` stanzas are answered for though their next hop hasn't acknowledged them.
    pub(super) fn acknowledged_early(&self, count: u32) {
        if count > 0 {
            self.early.inc_by(u64::from(count));
        }
    }

    /// Whether a stanza of `outlet` must not go on because its sender has taken it back; then it is counted and gone.
    pub(crate) fn drops(&self, outlet: &Arc<Outlet>, stanza: &Waited) -> bool {
        let Some((inbound, ticket)) = &stanza.origin else { return false };
        if !inbound.is_taken_back(*ticket) {
            return false;
        }
        outlet.release_one(stanza);
        if !stanza.mark.ours {
            self.taken_back.inc();
        }
        inbound.settle(*ticket, 1);
        true
    }

    /// `run` without what its senders have taken back.
    pub(crate) fn wanted(&self, outlet: &Arc<Outlet>, run: Run) -> Run {
        // Of a stream everything from some stanza on is taken back: the last one tells for its segment.
        let suspect = run
            .origins()
            .any(|(inbound, ticket, count)| inbound.is_taken_back(ticket.plus(count.saturating_sub(1))));
        if suspect { Run::of(run.stanzas().filter(|stanza| !self.drops(outlet, stanza))) } else { run }
    }

    /// `lane` has sent something: it asks at `due`.
    pub(crate) fn ask_at(&self, due: Instant, lane: &Arc<Mailbox>) {
        lock(&self.asking).push((due, Arc::clone(lane)));
        self.work.notify_one();
    }

    /// How long a lane of `side` may wait before it asks. Each question and each answer of a peer's lane is a datagram that may
    /// be lost, and holds up the pair's stanzas until it is sent again.
    pub(crate) fn asks_within(&self, side: Side) -> Duration {
        match side {
            Side::Local => self.request_within,
            Side::Remote => self.request_within.max(self.within),
        }
    }

    /// Something came on `inbound`: it is looked after until all of it is handled and told.
    pub(crate) fn look_after(&self, inbound: &Arc<Inbound>) {
        if !inbound.listed.swap(true, Ordering::AcqRel) {
            lock(&self.answering).push(Arc::clone(inbound));
            self.work.notify_one();
        }
    }

    /// There are broken streams to look after.
    pub(super) fn attend_to_broken(&self) {
        self.work.notify_one();
    }

    pub(super) fn ask(&self, now: Instant) {
        let due: Vec<_> = lock(&self.asking).extract_if(.., |(due, _)| *due <= now).collect();
        for (_, lane) in due {
            lane.request(When::Due);
        }
    }

    fn answer(&self, now: Instant) {
        let answering = std::mem::take(&mut *lock(&self.answering));
        for inbound in answering {
            // Unlisted first: what comes while it is looked at lists it again.
            inbound.listed.store(false, Ordering::Release);
            if inbound.attend(now) {
                self.look_after(&inbound);
            }
        }
    }

    fn is_idle(&self) -> bool {
        lock(&self.asking).is_empty() && lock(&self.answering).is_empty()
    }
}

/// Ask, answer, and see to broken streams, for ever.
pub(crate) async fn run(hub: Arc<Hub>) {
    let acknowledger = &hub.acknowledger;
    let mut answered = clock::now();
    loop {
        if acknowledger.is_idle() && hub.broken_deadline().is_none() {
            acknowledger.work.notified().await;
        }
        tokio::time::sleep(acknowledger.request_within).await;
        let now = clock::now();
        acknowledger.ask(now);
        if answered + acknowledger.within <= now {
            answered = now;
            acknowledger.answer(now);
            hub.see_to_broken(now);
        }
    }
}
