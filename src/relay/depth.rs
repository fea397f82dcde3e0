//! How full the queue of one route is, for whoever looks at the relay from outside: written behind each change, under the lock
//! that the change takes anyway, and read without it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::proto::queue::Queue;

/// How many times what is left for all one queue may hold.
const SHARE: usize = 8;

/// The figures of one queue. Each is right by itself; together they may be of two moments.
#[derive(Debug, Default)]
pub(crate) struct Depth {
    waiting_bytes: AtomicUsize,
    waiting_stanzas: AtomicUsize,
    under_way_bytes: AtomicUsize,
    /// Since when the oldest one waits, in milliseconds after [`epoch`], and one more; 0: nothing waits.
    oldest: AtomicU64,
}

/// What counts as the beginning: an instant before any that is written.
static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

fn epoch(now: Instant) -> Instant {
    *EPOCH.get_or_init(|| now)
}

impl Depth {
    /// What waits in `queue`, and how many octets a lane has taken that are still ours.
    pub(super) fn set<O: Clone>(&self, queue: &Queue<O>, under_way: usize) {
        self.waiting_bytes.store(queue.len(), Ordering::Relaxed);
        self.waiting_stanzas.store(queue.count(), Ordering::Relaxed);
        self.under_way_bytes.store(under_way, Ordering::Relaxed);
        let oldest = queue.oldest().map_or(0, |since| {
            let after = since.saturating_duration_since(epoch(since)).as_millis();
            u64::try_from(after).unwrap_or(u64::MAX - 1) + 1
        });
        self.oldest.store(oldest, Ordering::Relaxed);
    }

    /// Octets that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Stanzas that wait, errors of our own making among them.
    pub(crate) fn waiting_stanzas(&self) -> usize {
        self.waiting_stanzas.load(Ordering::Relaxed)
    }

    /// Octets that a lane has taken and that aren't acknowledged.
    pub(crate) fn under_way_bytes(&self) -> usize {
        self.under_way_bytes.load(Ordering::Relaxed)
    }

    /// Since when the oldest stanza waits.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let millis = self.oldest.load(Ordering::Relaxed).checked_sub(1)?;
        EPOCH.get()?.checked_add(std::time::Duration::from_millis(millis))
    }
}

/// What waits in the whole relay.
#[derive(Debug)]
pub(crate) struct TotalQueued {
    pub(super) bytes: AtomicUsize,
    pub(super) stanzas: AtomicUsize,
    pub(super) limit: usize,
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

    /// Whether a queue finds room for `octets` that would hold so many with them. The less is left, the less one queue may hold: those
    /// that hold much leave room for those that hold little, however many they are.
    pub(super) fn has_room(&self, octets: usize, held: usize) -> bool {
        let left = self.limit.saturating_sub(self.bytes());
        octets <= left && held <= left.saturating_mul(SHARE)
    }

    /// Whether even answers find no room, but those to what was held.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.bytes() > super::outlet::OVERDRAFT * self.limit
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::queue::Mark;

    #[test]
    fn however_many_queues_hold_much_there_is_room_for_one_that_holds_little() {
        const LIMIT: usize = 256_000_000;
        let total = TotalQueued::new(LIMIT);
        let fill = |piece: usize| {
            let mut held = 0;
            while total.has_room(piece, held + piece) {
                held += piece;
                total.bytes.fetch_add(piece, Ordering::Relaxed);
            }
            held
        };
        let first = fill(1_000);
        assert!(first.abs_diff(LIMIT / (SHARE + 1) * SHARE) < 10_000, "{first}");
        let others: Vec<usize> = (0..4).map(|_| fill(1_000)).collect();
        assert!(others.iter().all(|held| *held >= 4_000), "{others:?}");
        assert!(total.bytes() < LIMIT);
    }

    #[test]
    fn what_waits_is_read_without_the_lock() {
        let (depth, now) = (Depth::default(), Instant::now());
        let mut queue: Queue<()> = Queue::new(usize::MAX);
        assert_eq!((depth.waiting_bytes(), depth.waiting_stanzas(), depth.oldest()), (0, 0, None));
        queue.push(b"aabbb", &[Mark::of(2), Mark::of(3)], None, now).unwrap();
        queue.push(b"c", &[Mark::of(1)], None, now + Duration::from_secs(5)).unwrap();
        depth.set(&queue, 7);
        assert_eq!((depth.waiting_bytes(), depth.waiting_stanzas(), depth.under_way_bytes()), (6, 3, 7));
        let age = |now: Instant| now.saturating_duration_since(depth.oldest().unwrap()).as_millis();
        assert!((0..=1).contains(&age(now)), "{}", age(now));
        queue.take(5);
        depth.set(&queue, 0);
        let later = now + Duration::from_secs(5);
        assert!((0..=1).contains(&age(later)) && depth.waiting_stanzas() == 1, "{}", age(later));
        queue.drain();
        depth.set(&queue, 0);
        assert_eq!((depth.waiting_bytes(), depth.oldest()), (0, None));
    }
}
