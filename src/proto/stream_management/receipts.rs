//! What came on one stream since stream management was turned on, and how much of it is handled: the `h` that the other
//! end is told (XEP-0198 section 4).
//!
//! Stanzas come in runs, each run for one queue, and are handled as their next hops acknowledge them, in order within a run
//! and in any order among runs. `h` counts from the first stanza on: a later run that is handled waits for an earlier one,
//! so that whatever the other end drops at our word is really off its hands.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When we answer for stanzas though their next hop hasn't: see the module.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A stanza is answered for when it is this old (`limits.ack_hold`).
    pub hold: Duration,
    /// So many may be unhandled at once; then the oldest are answered for (`limits.unacked_max`).
    pub unhandled_max: u32,
}

/// Which stanza of a stream: the run in which it came, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// The run.
    pub run: u64,
    /// The place, from 0.
    pub at: u32,
}

impl Ticket {
    /// The ticket of the stanza `by` places behind this one, in the same run.
    #[must_use]
    pub const fn plus(self, by: u32) -> Self {
        Self { run: self.run, at: self.at + by }
    }
}

#[derive(Debug)]
struct Run {
    count: u32,
    /// The first so many of it are handled.
    handled: u32,
    /// And so many of those behind them.
    beyond: u32,
    since: Instant,
}

/// The counters.
#[derive(Debug)]
pub struct Receipts {
    patience: Patience,
    /// What is told.
    h: u32,
    /// What was told last.
    told: u32,
    runs: VecDeque<Run>,
    /// The number of the first of `runs`.
    first: u64,
    unhandled: u32,
    /// Everything from this run on was taken back by its sender.
    taken_back: Option<Ticket>,
}

impl Receipts {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        Self { patience, h: 0, told: 0, runs: VecDeque::new(), first: 0, unhandled: 0, taken_back: None }
    }

    /// `count` stanzas came. The ticket of the first, and how many others were answered for to make room.
    pub fn receive(&mut self, count: u32, now: Instant) -> (Ticket, u32) {
        let run = self.first + self.runs.len() as u64;
        if self.runs.capacity() == 0 {
            // Of very many streams on which something came most have one run.
            self.runs.reserve_exact(1);
        }
        self.runs.push_back(Run { count, handled: 0, beyond: 0, since: now });
        self.unhandled = self.unhandled.saturating_add(count);
        let mut early = 0;
        while self.unhandled > self.patience.unhandled_max && self.runs.len() > 1 {
            early += self.answer_for_oldest();
        }
        (Ticket { run, at: 0 }, early)
    }

    /// What came from `ticket` on, in the last run, never came: nothing of it is handled, and it comes again or not at all. Whether that
    /// is so; whoever was answered for did come.
    pub fn forget_from(&mut self, ticket: Ticket) -> bool {
        let last = self.first + self.runs.len() as u64;
        let Some(run) = self.runs.back_mut().filter(|_| ticket.run + 1 == last) else {
            return self.is_taken_back(ticket);
        };
        if run.handled + run.beyond > ticket.at {
            return false;
        }
        let forgotten = run.count.saturating_sub(ticket.at);
        run.count -= forgotten;
        self.unhandled = self.unhandled.saturating_sub(forgotten);
        self.advance();
        true
    }

    /// `count` stanzas from `ticket` on are handled. Whether that moved `h`.
    pub fn settle(&mut self, ticket: Ticket, count: u32) -> bool {
        let before = self.h;
        let Some(at) = ticket.run.checked_sub(self.first) else { return false };
        let Some(run) = usize::try_from(at).ok().and_then(|at| self.runs.get_mut(at)) else { return false };
        if ticket.at == run.handled {
            run.handled += count;
            if at == 0 {
                self.h = self.h.wrapping_add(count);
            }
        } else {
            run.beyond += count;
        }
        self.unhandled = self.unhandled.saturating_sub(count);
        self.advance();
        self.h != before
    }

    /// Drop the runs at the head that are handled in full, and count what is handled of the one behind them.
    fn advance(&mut self) {
        while let Some(run) = self.runs.front()
            && run.handled + run.beyond >= run.count
        {
            self.h = self.h.wrapping_add(run.count - run.handled);
            self.runs.pop_front();
            self.first += 1;
            self.h = self.h.wrapping_add(self.runs.front().map_or(0, |next| next.handled));
        }
        if self.runs.is_empty() {
            // Streams are many, and few of them have something unhandled.
            self.runs = VecDeque::new();
        }
    }

    /// Answer for what has waited long enough. How many that were.
    pub fn expire(&mut self, now: Instant) -> u32 {
        let mut early = 0;
        while self.runs.front().is_some_and(|run| run.since + self.patience.hold <= now) {
            early += self.answer_for_oldest();
        }
        early
    }

    /// Answer for everything that came: it stays in our custody, and the other end can't hear of it any more. How many
    /// that were.
    pub fn answer_for_all(&mut self) -> u32 {
        let mut early = 0;
        while !self.runs.is_empty() {
            early += self.answer_for_oldest();
        }
        early
    }

    /// Answer for everything that came before `ticket`: that stanza is refused, and the stream ends there. Nothing counts from then on.
    /// How many that were. Whoever is answered for can't be refused any more.
    pub fn answer_before(&mut self, ticket: Ticket) -> u32 {
        if self.is_answered_for(ticket) {
            return 0;
        }
        let mut early = 0;
        while self.first < ticket.run && !self.runs.is_empty() {
            early += self.answer_for_oldest();
        }
        if self.first == ticket.run
            && let Some(run) = self.runs.front_mut()
            && let Some(left) = ticket.at.checked_sub(run.handled)
        {
            self.h = self.h.wrapping_add(left);
            // What was handled out of turn among them isn't early.
            early += left - run.beyond.min(left);
        }
        (self.runs, self.first, self.unhandled) = (VecDeque::new(), ticket.run + 1, 0);
        // Its sender has those again.
        self.taken_back = Some(ticket);
        early
    }

    fn answer_for_oldest(&mut self) -> u32 {
        let Some(run) = self.runs.front_mut() else { return 0 };
        let left = run.count - run.handled - run.beyond;
        run.beyond += left;
        self.unhandled = self.unhandled.saturating_sub(left);
        self.advance();
        left
    }

    /// Handled stanzas, from the first on, modulo 2^32.
    #[must_use]
    pub fn h(&self) -> u32 {
        self.h
    }

    /// Stanzas that came and that `h` doesn't count.
    #[must_use]
    pub fn uncounted(&self) -> u32 {
        let counted = self.runs.front().map_or(0, |run| run.handled);
        self.runs.iter().map(|run| run.count).sum::<u32>() - counted
    }

    /// How many more are handled than the other end was told.
    #[must_use]
    pub fn untold(&self) -> u32 {
        self.h.wrapping_sub(self.told)
    }

    /// The other end is told [`Receipts::h`].
    pub fn tell(&mut self) -> u32 {
        self.told = self.h;
        self.h
    }

    /// When the oldest stanza will have waited long enough.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.runs.front().map(|run| run.since + self.patience.hold)
    }

    /// The sender has taken back whatever it wasn't told to be handled: it answers those stanzas itself, as a server does
    /// when its stream ends. What is still here must not go on.
    pub fn take_back(&mut self) {
        let handled = self.runs.front().map_or(0, |run| run.handled);
        self.taken_back = Some(Ticket { run: self.first, at: handled });
    }

    /// Whether the other end is told, or will be, that the stanza of `ticket` is handled.
    #[must_use]
    pub fn is_answered_for(&self, ticket: Ticket) -> bool {
        let handled = self.runs.front().map_or(0, |run| run.handled);
        ticket < Ticket { run: self.first, at: handled } && !self.is_taken_back(ticket)
    }

    /// Whether the sender has taken back the stanza of `ticket`.
    #[must_use]
    pub fn is_taken_back(&self, ticket: Ticket) -> bool {
        self.taken_back.is_some_and(|from| ticket >= from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Patience = Patience { hold: Duration::from_secs(10), unhandled_max: 400 };

    #[test]
    fn h_waits_for_the_oldest_and_then_counts_what_was_handled_behind_it() {
        let (mut receipts, now) = (Receipts::new(PATIENCE), Instant::now());
        let (one, _) = receipts.receive(3, now);
        let (two, _) = receipts.receive(2, now);
        assert!(!receipts.settle(two, 2));
        assert!(receipts.settle(one, 1));
        assert_eq!((receipts.h(), receipts.uncounted()), (1, 4));
        assert!(!receipts.settle(one.plus(2), 1), "the second of three is still open");
        assert!(receipts.settle(one.plus(1), 1));
        assert_eq!((receipts.h(), receipts.uncounted()), (5, 0));
    }

    #[test]
    fn what_is_handled_of_the_next_run_counts_as_soon_as_it_is_its_turn() {
        let (mut receipts, now) = (Receipts::new(PATIENCE), Instant::now());
        let (one, _) = receipts.receive(1, now);
        let (two, _) = receipts.receive(3, now);
        receipts.settle(two, 2);
        receipts.settle(one, 1);
        assert_eq!(receipts.h(), 3);
        receipts.settle(two.plus(2), 1);
        assert_eq!((receipts.h(), receipts.deadline()), (4, None));
    }

    #[test]
    fn stanzas_are_answered_for_when_they_are_too_old_or_too_many() {
        let (mut receipts, now) = (Receipts::new(PATIENCE), Instant::now());
        let (one, early) = receipts.receive(300, now);
        assert_eq!(early, 0);
        let (two, early) = receipts.receive(101, now);
        assert_eq!((early, receipts.h()), (300, 300));
        assert!(receipts.is_answered_for(one.plus(299)) && !receipts.is_answered_for(two));
        assert!(!receipts.settle(one, 300), "its own settlement comes too late to count");
        assert_eq!(receipts.expire(now + PATIENCE.hold), 101);
        assert_eq!((receipts.h(), receipts.settle(two, 101)), (401, false));
    }

    #[test]
    fn what_never_came_is_not_counted_and_what_was_answered_for_did_come() {
        let now = Instant::now();
        let mut receipts = Receipts::new(PATIENCE);
        let (one, _) = receipts.receive(2, now);
        let (two, _) = receipts.receive(5, now);
        receipts.settle(two, 1);
        assert!(!receipts.forget_from(two), "some of it is handled");
        assert!(receipts.forget_from(two.plus(3)) && receipts.uncounted() == 5);
        receipts.settle(one, 2);
        assert_eq!((receipts.h(), receipts.uncounted()), (3, 2));
        receipts.settle(two.plus(1), 2);
        assert_eq!((receipts.h(), receipts.uncounted()), (5, 0), "what comes again is counted as it comes");
        let (three, _) = receipts.receive(1, now);
        assert!(three.run > two.run && receipts.forget_from(three) && receipts.uncounted() == 0);
        let (four, _) = receipts.receive(2, now);
        assert_eq!(receipts.answer_for_all(), 2);
        assert!(!receipts.forget_from(four.plus(1)));
    }

    #[test]
    fn one_run_may_be_larger_than_what_may_be_unhandled() {
        let (mut receipts, now) = (Receipts::new(PATIENCE), Instant::now());
        assert_eq!(receipts.receive(500, now).1, 0);
        assert_eq!(receipts.receive(1, now).1, 500);
    }

    #[test]
    fn a_stanza_that_is_refused_is_the_first_that_is_not_handled() {
        let (mut receipts, now) = (Receipts::new(PATIENCE), Instant::now());
        let (one, _) = receipts.receive(3, now);
        let (two, _) = receipts.receive(5, now);
        receipts.settle(two, 1);
        receipts.settle(two.plus(2), 1);
        assert_eq!(receipts.answer_before(two.plus(4)), 5);
        assert!(receipts.is_answered_for(two.plus(3)) && !receipts.is_answered_for(two.plus(4)));
        assert!(receipts.is_taken_back(two.plus(4)));
        for (late, count) in [(one, 3), (two.plus(1), 1), (two.plus(3), 2)] {
            assert!(!receipts.settle(late, count), "nothing counts any more");
        }
        assert_eq!(receipts.answer_before(one), 0, "it is answered for");
        assert_eq!(
            (receipts.h(), receipts.expire(now + PATIENCE.hold), receipts.answer_for_all()),
            (7, 0, 0)
        );
    }

    #[test]
    fn what_was_taken_back_is_what_was_not_handled() {
        let (mut receipts, now) = (Receipts::new(PATIENCE), Instant::now());
        let (one, _) = receipts.receive(3, now);
        receipts.settle(one, 1);
        assert!(receipts.is_answered_for(one) && !receipts.is_answered_for(one.plus(1)));
        receipts.take_back();
        assert!(!receipts.is_taken_back(one));
        assert!(receipts.is_taken_back(one.plus(1)));
    }

    proptest! {
        /// Against a model that knows of each stanza: `h` is the number of handled ones before the first that isn't.
        #[test]
        fn h_is_the_length_of_the_handled_beginning(
            runs in prop::collection::vec(1_u32..6, 1..12),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let now = Instant::now();
            let mut receipts = Receipts::new(PATIENCE);
            let tickets: Vec<Ticket> = runs.iter().flat_map(|count| {
                let (first, _) = receipts.receive(*count, now);
                (0..*count).map(move |by| first.plus(by))
            }).collect();
            let mut open: Vec<usize> = (0..tickets.len()).collect();
            for index in order {
                if open.is_empty() { break; }
                let stanza = open.remove(index.index(open.len()));
                receipts.settle(tickets[stanza], 1);
                let first_open = open.iter().min().copied().unwrap_or(tickets.len());
                // Exact in order; out of order within a run it may lag until the run is complete, and never leads.
                prop_assert!(receipts.h() as usize <= first_open);
                prop_assert_eq!(receipts.h() + receipts.uncounted(), u32::try_from(tickets.len()).unwrap());
                if open.is_empty() { prop_assert_eq!(receipts.h() as usize, tickets.len()); }
            }
        }
    }
}
