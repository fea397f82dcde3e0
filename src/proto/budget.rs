//! How much may come in a time: token buckets, and the rates of `[limits]`.
//!
//! Whoever is over a budget isn't refused and loses nothing: the lane that brought it isn't read for as long as it takes to
//! be within it again. Lanes that share a budget so take turns: each has at most one read outstanding, and waits behind what
//! the others have brought before it.

use std::time::{Duration, Instant};

/// What may come in a second. 0: any amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Stanzas.
    pub stanzas: u32,
    /// Their octets.
    pub bytes: u64,
}

impl Rate {
    /// Whether it bounds nothing.
    #[must_use]
    pub const fn is_unlimited(self) -> bool {
        self.stanzas == 0 && self.bytes == 0
    }
}

/// The rates of `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Of one direction of a domain pair.
    pub pair: Rate,
    /// To, and from, one host of ours.
    pub host: Rate,
    /// From all peers at one address (an IPv4 address, or an IPv6 /64).
    pub peer: Rate,
    /// Stanzas of one direction of a pair that may be answered with errors in a second, mux secrets that are refused among
    /// them. 0: any number.
    pub pair_bounces: u32,
    /// How long's worth of each may come at once after a quiet time.
    pub burst: Duration,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            pair: Rate::default(),
            host: Rate::default(),
            peer: Rate::default(),
            pair_bounces: 100,
            burst: Duration::from_secs(10),
        }
    }
}

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// One direction of a domain pair.
    Pair,
    /// One host of ours.
    Host,
    /// The peers at one address.
    Peer,
}

impl Level {
    /// The keys in `[limits]` of its rates, of stanzas and of octets.
    #[must_use]
    pub const fn keys(self) -> [&'static str; 2] {
        match self {
            Self::Pair => ["pair_stanzas_rate", "pair_bytes_rate"],
            Self::Host => ["host_stanzas_rate", "host_bytes_rate"],
            Self::Peer => ["peer_stanzas_rate", "peer_bytes_rate"],
        }
    }
}

impl Rates {
    /// Their keys in `[limits]`.
    pub const KEYS: [&'static str; 8] = [
        Level::Pair.keys()[0],
        Level::Pair.keys()[1],
        Level::Host.keys()[0],
        Level::Host.keys()[1],
        Level::Peer.keys()[0],
        Level::Peer.keys()[1],
        "pair_bounces_rate",
        "rate_burst",
    ];

    /// That of one level.
    #[must_use]
    pub const fn of(&self, level: Level) -> Rate {
        match level {
            Level::Pair => self.pair,
            Level::Host => self.host,
            Level::Peer => self.peer,
        }
    }
}

/// An allowance that is used up, and comes back with time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it will be whole again. `None`: it is.
    whole: Option<Instant>,
}

impl Bucket {
    /// Use what takes `cost` to come back, of an allowance that takes `burst` to come back as a whole. Until when nothing
    /// more should be used, if more was used than there was.
    pub fn spend(&mut self, cost: Duration, burst: Duration, now: Instant) -> Option<Instant> {
        let from = self.whole.map_or(now, |whole| whole.max(now));
        let whole = from.checked_add(cost).unwrap_or(from);
        self.whole = Some(whole);
        self.until(burst, now)
    }

    /// Forget what was used beyond this debt.
    pub fn forgive(&mut self, debt_max: Duration, burst: Duration, now: Instant) {
        let most = now + burst + debt_max;
        self.whole = self.whole.map(|whole| whole.min(most));
    }

    /// Until when nothing more should be used.
    #[must_use]
    pub fn until(&self, burst: Duration, now: Instant) -> Option<Instant> {
        let until = self.whole?.checked_sub(burst)?;
        (until > now).then_some(until)
    }

    /// When nothing of it will be used any more. `None`: nothing ever was.
    #[must_use]
    pub const fn whole(&self) -> Option<Instant> {
        self.whole
    }

    /// Whether nothing of it is used: it can be forgotten without a difference.
    #[must_use]
    pub fn is_whole(&self, now: Instant) -> bool {
        self.whole.is_none_or(|whole| whole <= now)
    }
}

/// How long `count` takes at so many a second; no time at all if there is no rate.
#[must_use]
pub fn cost(count: u64, rate: u64) -> Duration {
    let nanoseconds = u128::from(count) * 1_000_000_000;
    match nanoseconds.checked_div(u128::from(rate)) {
        Some(nanoseconds) => Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)),
        None => Duration::ZERO,
    }
}

/// What is used of one budget.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    stanzas: Bucket,
    bytes: Bucket,
}

/// A lane is to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Until then.
    pub until: Instant,
    /// The key in `[limits]` of what it is for.
    pub limit: &'static str,
}

impl Hold {
    /// The longer one of two.
    #[must_use]
    pub fn longer(this: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (this, other) {
            (Some(one), Some(two)) if two.until > one.until => Some(two),
            (one, two) => one.or(two),
        }
    }
}

impl Budget {
    /// Stanzas came, of so many octets together. Whether the lane that brought them is to wait.
    pub fn charge(
        &mut self,
        (level, rate): (Level, Rate),
        burst: Duration,
        (stanzas, bytes): (u64, u64),
        now: Instant,
    ) -> Option<Hold> {
        let [of_stanzas, of_bytes] = level.keys();
        let uses = [
            (&mut self.stanzas, stanzas, u64::from(rate.stanzas), of_stanzas),
            (&mut self.bytes, bytes, rate.bytes, of_bytes),
        ];
        let mut hold = None;
        for (bucket, count, rate, limit) in uses {
            if rate > 0 {
                let until = bucket.spend(cost(count, rate), burst, now);
                hold = Hold::longer(hold, until.map(|until| Hold { until, limit }));
            }
        }
        hold
    }

    /// Whether it can be forgotten without a difference.
    #[must_use]
    pub fn is_whole(&self, now: Instant) -> bool {
        self.stanzas.is_whole(now) && self.bytes.is_whole(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_holds_its_burst_and_what_comes_back_and_no_more() {
        let (mut bucket, mut now) = (Bucket::default(), Instant::now());
        let spend = |bucket: &mut Bucket, count, now| bucket.spend(cost(count, 10), 2 * SECOND, now);
        assert_eq!(spend(&mut bucket, 20, now), None, "two seconds' worth at once");
        assert_eq!(spend(&mut bucket, 5, now), Some(now + SECOND / 2));
        now += SECOND / 2;
        assert_eq!(bucket.until(2 * SECOND, now), None);
        assert_eq!(spend(&mut bucket, 1, now), Some(now + SECOND / 10));
        now += 3600 * SECOND;
        assert!(bucket.is_whole(now));
        assert_eq!(
            spend(&mut bucket, 21, now),
            Some(now + SECOND / 10),
            "a long quiet time is worth no more"
        );
    }

    #[test]
    fn over_any_time_no_more_comes_than_the_rate_and_one_burst() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let rate = (Level::Pair, Rate { stanzas: 100, bytes: 10_000 });
        let (mut now, mut stanzas, mut bytes) = (start, 0, 0);
        while now < start + 60 * SECOND {
            let load = (7, 7 * (30 + stanzas % 200));
            (stanzas, bytes) = (stanzas + load.0, bytes + load.1);
            now = match budget.charge(rate, SECOND, load, now) {
                Some(hold) => hold.until,
                None => now,
            };
        }
        let seconds = (now - start).as_secs() + 2;
        assert!(stanzas <= 100 * seconds && bytes <= 10_000 * seconds, "{stanzas} stanzas, {bytes} octets");
        assert!(bytes >= 10_000 * 60, "and no less: {bytes}");
    }

    #[test]
    fn those_who_share_a_budget_take_turns() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let rate = (Level::Host, Rate { stanzas: 1_000, bytes: 0 });
        // Nine that bring as much as they may and one that is quiet: it waits no longer than a turn of all the others.
        let mut next = [start; 10];
        let (mut counts, mut longest) = ([0; 10], Duration::ZERO);
        for _ in 0..10_000 {
            let (who, now) = (0..10).map(|who| (who, next[who])).min_by_key(|(_, at)| *at).unwrap();
            let load = if who == 0 { 1 } else { 100 };
            let hold = budget.charge(rate, SECOND, (load, 0), now);
            next[who] = hold.map_or(now, |hold| hold.until);
            if who == 0 {
                longest = longest.max(next[who] - now);
                next[who] += SECOND;
            }
            counts[who] += load;
        }
        assert!(longest <= SECOND, "{longest:?}");
        let (least, most) = (counts[1..].iter().min().unwrap(), counts[1..].iter().max().unwrap());
        // One of them has had the burst at the beginning.
        assert!(most - least <= 1_200, "{counts:?}");
    }

    #[test]
    fn without_a_rate_nothing_is_charged_and_a_debt_can_be_forgiven() {
        let now = Instant::now();
        let mut budget = Budget::default();
        assert_eq!(budget.charge((Level::Peer, Rate::default()), SECOND, (1 << 40, 1 << 60), now), None);
        assert!(budget.is_whole(now) && Rate::default().is_unlimited());
        let mut bucket = Bucket::default();
        bucket.spend(1_000 * SECOND, SECOND, now);
        bucket.forgive(5 * SECOND, SECOND, now);
        assert_eq!(bucket.until(SECOND, now), Some(now + 5 * SECOND));
        assert_eq!(bucket.spend(Duration::MAX, SECOND, now), Some(now + 5 * SECOND), "no time is too long");
    }
}
