//! One direction of a domain pair, as the two endpoints share it: what its sender is told to send, and what its
//! receiver saw. The endpoints are in one process, so the account needs no word on the wire.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use tokio::sync::{Notify, mpsc};

use super::ledger::{Counts, Ledger, Timing};
use super::message::{self, Oddity, Stamp};
use crate::xmpp::domain::Domain;

/// Stanzas of one flow that may be on their way while a flood is sent: enough to fill what the relays coalesce, few
/// enough that the latency of a flood is not that of a queue.
const FLOOD_WINDOW: u64 = 32;
/// What is written to a stream at once.
const BATCH_BYTES: usize = 16_384;

/// What a sender is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// One stanza, which was due at this moment.
    One(Instant),
    /// So many, as fast as the window allows.
    Flood(u64),
}

impl Order {
    fn stanzas(self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Flood(count) => count,
        }
    }
}

/// One direction of a domain pair.
#[derive(Debug)]
pub(super) struct Flow {
    /// The sending domain.
    pub(super) from: Domain,
    /// The receiving domain.
    pub(super) to: Domain,
    shared: Arc<Shared>,
    sent: AtomicU64,
    delivered: AtomicU64,
    /// Wakes a sender that waits for its window.
    arrived: Notify,
    ledger: Mutex<Ledger>,
    orders: mpsc::UnboundedSender<Order>,
    /// Taken by the stream that carries the flow.
    waiting: Mutex<Option<mpsc::UnboundedReceiver<Order>>>,
}

/// What all flows of a run have in common.
#[derive(Debug)]
pub(super) struct Shared {
    /// Times in stanzas count from here.
    epoch: Instant,
    /// Set when no more of a flood is to be sent.
    enough: AtomicBool,
    /// What went wrong, for people; the first few.
    troubles: Mutex<Vec<String>>,
}

/// What is told of troubles: one usually explains the others.
const TROUBLES_MAX: usize = 5;
const TROUBLE_BYTES_MAX: usize = 400;

impl Shared {
    /// Nothing has happened yet.
    pub(super) fn new() -> Arc<Self> {
        let (enough, troubles) = (AtomicBool::new(false), Mutex::default());
        Arc::new(Self { epoch: Instant::now(), enough, troubles })
    }

    /// Note what went wrong.
    pub(super) fn trouble(&self, text: impl Into<String>) {
        let mut text = text.into();
        if let Some((end, _)) = text.char_indices().nth(TROUBLE_BYTES_MAX) {
            text.truncate(end);
        }
        let mut troubles = lock(&self.troubles);
        if troubles.len() < TROUBLES_MAX && !troubles.contains(&text) {
            troubles.push(text);
        }
    }

    /// What went wrong so far.
    pub(super) fn troubles(&self) -> Vec<String> {
        lock(&self.troubles).clone()
    }

    /// Let floods end where they are.
    pub(super) fn end_flood(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

impl Flow {
    /// A flow with nothing sent.
    pub(super) fn new(from: Domain, to: Domain, shared: &Arc<Shared>) -> Arc<Self> {
        // Unbounded, and bounded by what the load puts in: one order for each scheduled stanza.
        let (orders, waiting) = mpsc::unbounded_channel();
        Arc::new(Self {
            from,
            to,
            shared: Arc::clone(shared),
            sent: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            arrived: Notify::new(),
            ledger: Mutex::default(),
            orders,
            waiting: Mutex::new(Some(waiting)),
        })
    }

    /// Tell the sender.
    pub(super) fn order(&self, order: Order) {
        // Counted here and not where it is written: what a dead stream never sends is missed, and counts as lost.
        self.sent.fetch_add(order.stanzas(), Ordering::Relaxed);
        if self.orders.send(order).is_err() {
            self.shared.trouble(format!("{} -> {}: its stream has ended", self.from, self.to));
        }
    }

    /// The sender's end, for the first stream that carries the flow.
    pub(super) fn sender(self: &Arc<Self>) -> Option<Sender> {
        let orders = lock(&self.waiting).take()?;
        Some(Sender { flow: Arc::clone(self), orders, number: 0, flood_left: 0 })
    }

    /// A whole stanza arrived on the flow's stream. `scratch` saves an allocation.
    pub(super) fn receive(&self, ledger: &mut Ledger, stanza: &[u8], now: Instant, scratch: &mut Vec<u8>) {
        match message::read(stanza, &self.from, &self.to, scratch) {
            Ok(Stamp { number, sent }) => {
                let took = now.saturating_duration_since(self.shared.epoch).saturating_sub(sent);
                ledger.delivered(number, took, now);
                self.delivered.fetch_add(1, Ordering::Relaxed);
                self.arrived.notify_one();
            }
            Err(Oddity::Bounced(text)) => {
                ledger.bounced();
                self.shared.trouble(format!("{} -> {}: came back: {text}", self.from, self.to));
            }
            Err(Oddity::Altered(text)) => {
                ledger.altered();
                self.shared.trouble(format!("{} -> {}: arrived changed: {text}", self.from, self.to));
            }
        }
    }

    /// The receiver's account, to be held for one batch.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// The account as it stands.
    pub(super) fn counts(&self) -> Counts {
        self.ledger().counts(self.sent())
    }

    /// How long stanzas took since the clock was restarted.
    pub(super) fn timing(&self) -> Timing {
        self.ledger().timing().clone()
    }

    /// Let the sender look again whether it may, or has to, send.
    pub(super) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Stanzas ordered so far, without what is left of an ended flood.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stanzas arrived so far.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }
}

/// The sending end of a flow.
#[derive(Debug)]
pub(super) struct Sender {
    flow: Arc<Flow>,
    orders: mpsc::UnboundedReceiver<Order>,
    /// Of the next stanza.
    number: u64,
    /// What remains of a flood.
    flood_left: u64,
}

impl Sender {
    /// Wait until something is to be sent and write a batch of it to `out`; false once nothing ever will be.
    pub(super) async fn batch(&mut self, out: &mut Vec<u8>) -> bool {
        while out.is_empty() {
            if self.flood_left > 0 {
                self.flood(out).await;
                continue;
            }
            let Some(order) = self.orders.recv().await else { return false };
            self.obey(order, out);
            while out.len() < BATCH_BYTES && self.flood_left == 0 {
                let Ok(order) = self.orders.try_recv() else { break };
                self.obey(order, out);
            }
        }
        true
    }

    fn obey(&mut self, order: Order, out: &mut Vec<u8>) {
        match order {
            Order::One(due) => self.write(due, out),
            Order::Flood(count) => self.flood_left = count,
        }
    }

    /// Write what the window allows, or wait until it allows something.
    async fn flood(&mut self, out: &mut Vec<u8>) {
        if self.flow.shared.enough.load(Ordering::Relaxed) {
            self.flow.sent.fetch_sub(self.flood_left, Ordering::Relaxed);
            self.flood_left = 0;
            return;
        }
        let on_the_way = self.number.saturating_sub(self.flow.delivered());
        let allowed = FLOOD_WINDOW.saturating_sub(on_the_way).min(self.flood_left);
        if allowed == 0 {
            // `notify_one` leaves a permit if it comes first: no arrival between the look and the wait is missed.
            self.flow.arrived.notified().await;
            return;
        }
        self.flood_left -= allowed;
        let now = Instant::now();
        (0..allowed).for_each(|_| self.write(now, out));
    }

    fn write(&mut self, due: Instant, out: &mut Vec<u8>) {
        let sent = due.saturating_duration_since(self.flow.shared.epoch);
        message::write(out, &self.flow.from, &self.flow.to, Stamp { number: self.number, sent });
        self.number += 1;
    }
}

/// Everything of both directions, in the same order of pairs.
#[derive(Debug)]
pub(super) struct Flows {
    /// From the domains behind A.
    pub(super) forth: Vec<Arc<Flow>>,
    /// From the domains behind B.
    pub(super) back: Vec<Arc<Flow>>,
    /// Where each stands in its list, by its domains.
    places: FxHashMap<(Domain, Domain), usize>,
    /// What they have in common.
    pub(super) shared: Arc<Shared>,
}

impl Flows {
    /// Every domain of `a` with every domain of `b`.
    pub(super) fn between(a: &[Domain], b: &[Domain]) -> Arc<Self> {
        let shared = Shared::new();
        let pairs = || a.iter().flat_map(|a| b.iter().map(move |b| (a.clone(), b.clone())));
        let forth = pairs().map(|(a, b)| Flow::new(a, b, &shared)).collect();
        let back = pairs().map(|(a, b)| Flow::new(b, a, &shared)).collect();
        let places = pairs().enumerate().map(|(place, pair)| (pair, place)).collect();
        Arc::new(Self { forth, back, places, shared })
    }

    /// All flows, those of A first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Flow>> {
        self.forth.iter().chain(&self.back)
    }

    /// The flow between these domains.
    pub(super) fn find(&self, from: &str, to: &str) -> Option<&Arc<Flow>> {
        let (from, to) = (Domain::parse(from).ok()?, Domain::parse(to).ok()?);
        let pair = (from, to);
        if let Some(place) = self.places.get(&pair) {
            return self.forth.get(*place);
        }
        let (from, to) = pair;
        self.back.get(*self.places.get(&(to, from))?)
    }

    /// Stanzas arrived so far, of all flows.
    pub(super) fn delivered(&self) -> u64 {
        self.all().map(|flow| flow.delivered()).sum()
    }

    /// Stanzas ordered so far, of all flows.
    pub(super) fn sent(&self) -> u64 {
        self.all().map(|flow| flow.sent()).sum()
    }

    /// The sum of all accounts.
    pub(super) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.all().for_each(|flow| sum.add(&flow.counts()));
        sum
    }

    /// The sum of all timings.
    pub(super) fn timing(&self) -> Timing {
        let mut sum = Timing::default();
        self.all().for_each(|flow| sum.add(&flow.timing()));
        sum
    }

    /// Forget the latencies so far; see [`Ledger::restart_clock`].
    pub(super) fn restart_clock(&self, late_after: Option<Duration>) {
        self.all().for_each(|flow| flow.ledger().restart_clock(late_after));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A count is as good as it was when another holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
