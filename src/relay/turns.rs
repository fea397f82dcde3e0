//! In which order leaves what the lanes of a session have handed to QUIC and what it can't send at once (RFC 9000 section 2.3).
//!
//! Left to itself QUIC sends one datagram of each stream in turn. Where hundreds of lanes have much to send, the octets of each so
//! arrive in as many small pieces, and each piece has its reader woken and its server written to. So what a busy lane has handed over
//! leaves in one piece, before what others hand over later. And whoever has less under way goes before whoever has more: a lane
//! with a stanza now and then waits behind no flood, and what one lane has in QUIC doesn't keep long from others what they need.
//!
//! Nobody waits for ever: a lane that hands over more goes behind all that waited with it, and one that has had nothing acknowledged for
//! [`LONG`] goes with the first when it next writes, if only to ask (`limits.ack_wait`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::row::MUCH_BYTES;

/// The highest rank: behind it, more under way makes no difference.
const RANK_MAX: u32 = 6;
/// Turns that are told apart, in bits: 4 TB of a session. Later ones are all the same, and QUIC sends one datagram of each.
const TURN_BITS: u32 = 28;
const TURN_LAST: u32 = (1 << TURN_BITS) - 1;
/// How long those with less under way may keep a lane from sending.
const LONG: Duration = Duration::from_secs(1);

/// How much a lane has under way: 0, little; and one more for each time that it is twice as much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Rank(u32);

impl Rank {
    /// That of a lane on which so many octets aren't acknowledged, and none have been for this long.
    pub(super) fn of(under_way: usize, waited: Duration) -> Self {
        if waited >= LONG {
            return Self::default();
        }
        let times = u32::try_from(under_way.saturating_sub(1) / MUCH_BYTES).unwrap_or(u32::MAX);
        Self(times.checked_ilog2().map_or(0, |twice| twice + 1).min(RANK_MAX))
    }

    /// Whether it has little under way: all such lanes are equal, and nothing has to be told to QUIC.
    pub(super) fn is_lowest(self) -> bool {
        self.0 == 0
    }
}

/// The turns of the lanes of one session.
#[derive(Debug, Default)]
pub(super) struct Turns(AtomicU32);

impl Turns {
    /// What a stream is to QUIC whose lane hands something over now: the lower, the later it leaves.
    pub(super) fn priority(&self, rank: Rank) -> i32 {
        if rank.is_lowest() {
            return 0;
        }
        let turn = self.0.load(Ordering::Relaxed);
        if turn < TURN_LAST {
            self.0.store(turn + 1, Ordering::Relaxed);
        }
        let behind = rank.0 << TURN_BITS | turn;
        i32::try_from(behind).map_or(i32::MIN, |behind| -behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn lanes_with_little_under_way_are_equal_and_go_first() {
        let turns = Turns::default();
        let little = [0, 1, 16 * KIB].map(|octets| turns.priority(Rank::of(octets, Duration::ZERO)));
        assert_eq!(little, [0; 3]);
        assert!(turns.priority(Rank::of(16 * KIB + 1, Duration::ZERO)) < 0);
    }

    #[test]
    fn who_has_less_under_way_goes_first_and_among_equals_who_came_first() {
        let turns = Turns::default();
        let octets = [300 * KIB, 40 * KIB, 300 * KIB, 60 * KIB, 1 << 30, usize::MAX];
        let mut order: Vec<_> = octets
            .iter()
            .map(|octets| (turns.priority(Rank::of(*octets, Duration::ZERO)), *octets))
            .collect();
        order.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        let order = order.into_iter().map(|(_, octets)| octets);
        assert_eq!(
            order.collect::<Vec<_>>(),
            [40 * KIB, 60 * KIB, 300 * KIB, 300 * KIB, 1 << 30, usize::MAX]
        );
    }

    #[test]
    fn a_rank_is_twice_as_much() {
        let ranks = [16, 17, 32, 33, 64, 65, 128, 129, 256, 257, 512, 513, 100_000]
            .map(|kib| Rank::of(kib * KIB, Duration::ZERO).0);
        assert_eq!(ranks, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
    }

    #[test]
    fn who_has_waited_for_long_goes_with_the_first() {
        let just_before = LONG - Duration::from_millis(1);
        assert!(!Rank::of(usize::MAX, just_before).is_lowest() && Rank::of(usize::MAX, LONG).is_lowest());
    }

    #[test]
    fn behind_very_many_turns_all_are_equal() {
        let turns = Turns(AtomicU32::new(TURN_LAST - 1));
        let rank = Rank(RANK_MAX);
        let priorities = [(); 3].map(|()| turns.priority(rank));
        assert!(priorities[0] > priorities[1] && priorities[1] == priorities[2] && priorities[2] > i32::MIN);
        assert!(turns.priority(Rank(RANK_MAX - 1)) > priorities[0]);
    }
}
