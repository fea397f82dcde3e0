//! The budgets of pairs, hosts and peers ([`crate::proto::budget`]), which lanes share, and what each lane is to wait for.
//!
//! Where no rate is set nothing is looked up and nothing is remembered: the data path costs what it cost without them.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::clock;
use super::hub::Hub;
use super::mailbox::lock;
use crate::proto::addresses::Network;
use crate::proto::admission::Side;
use crate::proto::budget::{Bucket, Budget, Hold, Level, Rates, cost};
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// How often it is looked which of them can be forgotten.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The key in `[limits]` of the rate of errors.
const BOUNCES: &str = "pair_bounces_rate";

/// What is remembered of each, as long as it makes a difference.
#[derive(Debug)]
struct Table<K, V> {
    entries: FxHashMap<K, V>,
    looked: Option<Instant>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { entries: FxHashMap::default(), looked: None }
    }
}

impl<K: Eq + Hash, V: Default> Table<K, V> {
    /// That of `key`. Now and then, and before the table has `most` entries, those that are `idle` are forgotten.
    fn of(&mut self, key: K, most: usize, now: Instant, idle: impl Fn(&V) -> bool) -> &mut V {
        let due = self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK_EVERY);
        if due || self.entries.len() >= most {
            self.looked = Some(now);
            self.entries.retain(|_, entry| !idle(entry));
        }
        if self.entries.len() >= most && !self.entries.contains_key(&key) {
            // Whoever is over its budget is so again soon; nobody is held for too many of them.
            self.entries.clear();
        }
        self.entries.entry(key).or_default()
    }
}

/// Whose budget it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    Pair(Route),
    /// A host of ours, and the side that its stanzas come from.
    Host(Domain, Side),
    Peer(Network),
}

type Shared = Arc<Mutex<Budget>>;

/// The budgets of a relay.
#[derive(Debug)]
pub(crate) struct Budgets {
    budgets: Mutex<Table<Whose, Shared>>,
    /// Errors that answer stanzas of a route.
    bounces: Mutex<Table<Route, Bucket>>,
    /// When all of these are whole again, in milliseconds since `base`; 0: there are none. Changed only by who holds them.
    whole_by: AtomicU64,
    base: Instant,
    most: usize,
}

impl Budgets {
    /// `pairs`: routes that the relay remembers at once.
    pub(crate) fn new(pairs: usize) -> Self {
        let (budgets, bounces) = Default::default();
        let most = pairs.saturating_mul(2).max(1024);
        Self { budgets, bounces, whole_by: AtomicU64::new(0), base: clock::now(), most }
    }

    fn milliseconds(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_millis()).unwrap_or(u64::MAX)
    }

    fn of(&self, whose: Whose, now: Instant) -> Shared {
        let idle = |entry: &Shared| Arc::strong_count(entry) == 1 && lock(entry).is_whole(now);
        Arc::clone(lock(&self.budgets).of(whose, self.most, now, idle))
    }

    /// Stanzas of `route` could not go on.
    pub(super) fn bounced(&self, route: &Route, stanzas: usize, rates: Rates, now: Instant) {
        if rates.pair_bounces == 0 || stanzas == 0 {
            return;
        }
        let (count, burst) = (stanzas as u64, rates.burst);
        let mut bounces = lock(&self.bounces);
        let bucket = bounces.of(route.clone(), self.most, now, |bucket| bucket.is_whole(now));
        bucket.spend(cost(count, u64::from(rates.pair_bounces)), burst, now);
        // What waited long came back at once: nobody is made to wait long for that.
        bucket.forgive(burst, burst, now);
        // Rounded up, so that it isn't too early, and never 0.
        let whole_by = bucket.whole().map_or(0, |whole| self.milliseconds(whole).saturating_add(1));
        self.whole_by.fetch_max(whole_by, Ordering::Relaxed);
    }

    /// Whether anything came back lately, so that some route may have to wait. Every lane asks this of whatever it brings: no lock
    /// is taken, but by the first one that asks after they all are whole again, which forgets them.
    fn has_bounced(&self) -> bool {
        let passed = |now: u64| now >= self.whole_by.load(Ordering::Relaxed);
        if passed(0) {
            return false;
        }
        let now = self.milliseconds(clock::now());
        if !passed(now) {
            return true;
        }
        let mut bounces = lock(&self.bounces);
        // Something may have come back meanwhile.
        if !passed(now) {
            return true;
        }
        self.whole_by.store(0, Ordering::Relaxed);
        let forgotten = std::mem::take(&mut *bounces);
        drop(bounces);
        // There may be many: nobody waits for that.
        drop(forgotten);
        false
    }

    /// Until when nothing more of `route` should come, because too much of it came back.
    fn held_for_bounces(&self, route: &Route, rates: Rates, now: Instant) -> Option<Hold> {
        if rates.pair_bounces == 0 {
            return None;
        }
        let bucket = *lock(&self.bounces).entries.get(route)?;
        bucket.until(rates.burst, now).map(|until| Hold { until, limit: BOUNCES })
    }

    /// Whether the data path looks for errors, and of how many routes some are remembered.
    #[cfg(test)]
    pub(super) fn bounces_remembered(&self) -> (bool, usize) {
        (self.whole_by.load(Ordering::Relaxed) != 0, lock(&self.bounces).entries.len())
    }
}

/// What one lane has brought. There are very many: what is kept for a budget is kept where there is one.
#[derive(Debug)]
pub(crate) struct Meter {
    hub: Arc<Hub>,
    side: Side,
    /// Where pairs, hosts or peers have a rate.
    shares: Option<Box<Shares>>,
    hold: Option<Box<Hold>>,
}

/// The budgets that a lane takes from.
#[derive(Debug)]
struct Shares {
    rates: Rates,
    /// Where the lane's peer is.
    address: Option<IpAddr>,
    peer: Option<Shared>,
    /// Those of the route that came last.
    last: Option<(Route, Option<Shared>, Option<Shared>)>,
}

impl Meter {
    /// `address`: where the peer is, on the remote side.
    pub(crate) fn new(hub: &Arc<Hub>, side: Side, address: Option<IpAddr>) -> Self {
        let mut meter = Self { hub: Arc::clone(hub), side, shares: None, hold: None };
        meter.reconsider(address);
        meter
    }

    /// The configuration has changed.
    pub(crate) fn reconsider(&mut self, address: Option<IpAddr>) {
        let rates = self.hub.live().settings.limits.rates;
        let limited = [rates.pair, rates.host, rates.peer].iter().any(|rate| !rate.is_unlimited());
        self.shares = limited.then(|| Box::new(Shares { rates, address, peer: None, last: None }));
    }

    /// Stanzas came; `None`: they weren't admitted for any route.
    pub(crate) fn charge(&mut self, route: Option<&Route>, stanzas: usize, bytes: usize) {
        if let Some(route) = route
            && self.hub.budgets.has_bounced()
        {
            let rates = self.hub.live().settings.limits.rates;
            self.hold(self.hub.budgets.held_for_bounces(route, rates, clock::now()));
        }
        let Some(shares) = &mut self.shares else { return };
        let (rates, now) = (shares.rates, clock::now());
        if let Some(route) = route
            && shares.last.as_ref().is_none_or(|(last, ..)| last != route)
        {
            let of = |level, whose: Whose| {
                (!rates.of(level).is_unlimited()).then(|| self.hub.budgets.of(whose, now))
            };
            let host = if self.side == Side::Remote { &route.to } else { &route.from };
            let pair = of(Level::Pair, Whose::Pair(route.clone()));
            let host = of(Level::Host, Whose::Host(host.clone(), self.side));
            shares.last = Some((route.clone(), pair, host));
        }
        if let (Some(address), None, false) = (shares.address, &shares.peer, rates.peer.is_unlimited()) {
            shares.peer = Some(self.hub.budgets.of(Whose::Peer(Network::of(address)), now));
        }
        let last = shares.last.as_ref().filter(|_| route.is_some());
        let (pair, host) = last.map_or((None, None), |(_, pair, host)| (pair.as_ref(), host.as_ref()));
        let load = (stanzas as u64, bytes as u64);
        let mut hold = None;
        for (level, budget) in [(Level::Pair, pair), (Level::Host, host), (Level::Peer, shares.peer.as_ref())]
        {
            if let Some(budget) = budget {
                let held = lock(budget).charge((level, rates.of(level)), rates.burst, load, now);
                hold = Hold::longer(hold, held);
            }
        }
        self.hold(hold);
    }

    /// An IQ of connection authorization came that had no use: it is worth no more than a stanza that comes back, and costs as
    /// much.
    pub(crate) fn charge_in_vain(&mut self, route: &Route) {
        let (rates, now) = (self.hub.live().settings.limits.rates, clock::now());
        self.hub.budgets.bounced(route, 1, rates, now);
        self.hold(self.hub.budgets.held_for_bounces(route, rates, now));
    }

    fn hold(&mut self, hold: Option<Hold>) {
        let held = self.hold.take().map(|hold| *hold);
        self.hold = Hold::longer(held, hold).map(Box::new);
    }

    /// What its lane is to wait for now.
    pub(crate) fn take_hold(&mut self) -> Option<Hold> {
        self.hold.take().map(|hold| *hold)
    }
}
