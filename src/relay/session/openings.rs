//! How many lanes of one session are being opened at once.
//!
//! A hundred thousand pairs may want a lane at the same moment, when a session comes up. Opened all together they would fill
//! every buffer on the way, and the answer to the last of them would come long after its time. So a few begin, and each answer
//! that comes soon lets two follow, as long as they do: a fast peer is soon asked for thousands at once, a slow path is never
//! asked for more than it carries. A lane's time for its answer begins with its turn, and so does that for the peer's credit: who
//! gives few at first, and more as they are used, does so in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lanes that begin at once, and the fewest that are under way if more want to be.
const AT_ONCE_MIN: usize = 64;
/// The most: their negotiation fits into what one session may have unacknowledged.
const AT_ONCE_MAX: usize = 4096;
/// An answer that comes in this time came soon.
const SOON: Duration = Duration::from_secs(1);
/// And after this, late.
const LATE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(crate) struct Openings {
    turns: Arc<Semaphore>,
    at_once: AtomicUsize,
    /// The last one whose turn it was got no credit.
    short: AtomicBool,
}

impl Default for Openings {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE_MIN)),
            at_once: AtomicUsize::new(AT_ONCE_MIN),
            short: AtomicBool::new(false),
        }
    }
}

/// A lane's turn to be opened.
#[derive(Debug)]
pub(crate) struct Turn(OwnedSemaphorePermit);

impl Openings {
    /// Wait for a turn, the first come first; `None`: the session ends.
    pub(crate) async fn turn(&self) -> Option<Turn> {
        Arc::clone(&self.turns).acquire_owned().await.ok().map(Turn)
    }

    /// A lane has its answer, so long after its turn came.
    pub(crate) fn answered(&self, turn: Turn, after: Duration) {
        let at_once = &self.at_once;
        let change = |by: isize, within: fn(&usize) -> bool| {
            at_once
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                    now.checked_add_signed(by).filter(within)
                })
                .is_ok()
        };
        if after <= SOON {
            if change(1, |now| *now <= AT_ONCE_MAX) {
                self.turns.add_permits(1);
            }
        } else if after > LATE && change(-1, |now| *now >= AT_ONCE_MIN) {
            turn.0.forget();
        }
    }

    /// A lane whose turn it was got credit, or got none in its time.
    pub(crate) fn credited(&self, credited: bool) {
        self.short.store(!credited, Ordering::Relaxed);
    }

    /// How long a lane waits for credit that asked at `asked` and whose turn it is now. If one has learnt in its time that there is
    /// none, those that waited for their turn meanwhile needn't begin anew: a peer of one stream would else be found out by a
    /// few of them at a time.
    pub(crate) fn patience(&self, wait: Duration, asked: Instant, now: Instant) -> Duration {
        if self.short.load(Ordering::Relaxed) {
            return wait.saturating_sub(now.saturating_duration_since(asked));
        }
        wait
    }

    /// Nothing is opened any more.
    pub(crate) fn close(&self) {
        self.turns.close();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// As many turns as can be had now.
    fn begin(openings: &Openings) -> Vec<Turn> {
        let begun = std::iter::from_fn(|| {
            match pin!(openings.turn()).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(turn) => turn,
                Poll::Pending => None,
            }
        });
        begun.collect()
    }

    fn answer(openings: &Openings, turns: Vec<Turn>, after: Duration) {
        turns.into_iter().for_each(|turn| openings.answered(turn, after));
    }

    #[test]
    fn a_peer_that_answers_soon_is_asked_for_twice_as_many_up_to_a_bound() {
        let openings = Openings::default();
        let mut counts = Vec::new();
        for _ in 0..8 {
            let turns = begin(&openings);
            counts.push(turns.len());
            answer(&openings, turns, SOON);
        }
        assert_eq!(counts, [64, 128, 256, 512, 1024, 2048, 4096, 4096]);
    }

    #[test]
    fn a_peer_that_answers_late_is_asked_for_fewer_and_never_for_less_than_some() {
        let openings = Openings::default();
        answer(&openings, begin(&openings), SOON);
        let turns = begin(&openings);
        assert_eq!(turns.len(), 128);
        answer(&openings, turns, (SOON + LATE) / 2);
        let turns = begin(&openings);
        assert_eq!(turns.len(), 128, "neither soon nor late");
        answer(&openings, turns, LATE + SOON);
        for _ in 0..3 {
            let turns = begin(&openings);
            assert_eq!(turns.len(), AT_ONCE_MIN);
            answer(&openings, turns, LATE + SOON);
        }
    }

    #[test]
    fn a_lane_that_gets_no_answer_lets_the_next_one_begin() {
        let openings = Openings::default();
        drop(begin(&openings));
        assert_eq!(begin(&openings).len(), AT_ONCE_MIN);
    }

    #[test]
    fn what_one_lane_learns_of_credit_those_that_waited_as_long_needn_t_learn_again() {
        let (openings, asked, wait) = (Openings::default(), Instant::now(), Duration::from_secs(2));
        let later = asked + Duration::from_secs(3);
        assert_eq!(openings.patience(wait, asked, later), wait);
        openings.credited(false);
        assert_eq!(openings.patience(wait, asked, later), Duration::ZERO);
        let since = later - Duration::from_millis(500);
        assert_eq!(openings.patience(wait, since, later), Duration::from_millis(1500));
        openings.credited(true);
        assert_eq!(openings.patience(wait, asked, later), wait, "there is some again");
    }

    #[tokio::test]
    async fn a_session_that_ends_leaves_nobody_waiting() {
        let openings = Openings::default();
        let _turns = begin(&openings);
        let mut next = pin!(openings.turn());
        assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        openings.close();
        assert!(next.await.is_none());
    }
}
