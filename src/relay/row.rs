//! The lanes of one session that wait for its window, in a row.
//!
//! When a connection has room again, QUIC wakes every stream that waits for it, the one that came last first. With many thousands
//! of them a few take the room and all others were woken for nothing, each time anew: the cost grows with the square of their
//! number, and whoever came first waits until no one else does. So only a few wait there, and the others behind them, in the
//! order in which they came.
//!
//! A stream waits there for its own window too, which only its peer's reader can open. Nobody may stand behind that: a lane with
//! so much under way that it may have filled its own window isn't made to wait in the row, and whoever stands at the head of
//! the row for long gives its place up.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::turns::Turns;

/// Lanes that wait for the window itself. One wake-up of all of them is cheap, and together they take what comes free at once.
pub(super) const PLACES: usize = 64;
/// How long one of them keeps others waiting.
const PLACE: Duration = Duration::from_secs(1);
/// With so many octets under way a lane may have filled its own window: no peer that means well gives less.
pub(crate) const MUCH_BYTES: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Row {
    places: Semaphore,
    /// Lanes in the row, those that have a place among them.
    waiting: AtomicUsize,
    /// In which order leaves what they have written.
    pub(super) turns: Turns,
}

impl Default for Row {
    fn default() -> Self {
        Self { places: Semaphore::new(PLACES), waiting: AtomicUsize::new(0), turns: Turns::default() }
    }
}

/// Stands in the row.
struct Waiting<'a>(&'a Row);

impl<'a> Waiting<'a> {
    fn behind(row: &'a Row) -> Self {
        row.waiting.fetch_add(1, Ordering::AcqRel);
        Self(row)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Row {
    /// Whether nobody waits.
    fn is_free(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Do `write` when it is its turn.
    async fn wait<T>(&self, mut write: Pin<&mut (impl Future<Output = T> + Send)>) -> T {
        {
            let _waiting = Waiting::behind(self);
            let _place = self.places.acquire().await;
            if let Ok(done) = tokio::time::timeout(PLACE, write.as_mut()).await {
                return done;
            }
        }
        write.await
    }
}

/// Do `write`: at once if nobody waits in `row` and there is room, else when it is its turn. `stands`: whether it has to wait there.
/// `None`: it could not be done within `patience`.
pub(crate) async fn pass<T>(
    row: Option<&Row>,
    stands: impl Fn() -> bool + Send,
    patience: Duration,
    write: impl Future<Output = T> + Send,
) -> Option<T> {
    let mut write = pin!(write);
    if row.is_none_or(|row| row.is_free() || !stands()) {
        let tried = poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await;
        if let Poll::Ready(done) = tried {
            return Some(done);
        }
    }
    let waits = async {
        match row.filter(|_| stands()) {
            Some(row) => row.wait(write).await,
            None => write.await,
        }
    };
    // Boxed: of all lanes few wait at a time.
    Box::pin(tokio::time::timeout(patience, waits)).await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Waker};

    use super::*;
    use crate::relay::mailbox::lock;

    /// A window as QUIC has it: whoever finds no room is woken when there is some, the last one first.
    #[derive(Debug, Default)]
    struct Window {
        room: usize,
        blocked: Vec<Waker>,
        /// Writes in the order in which they went.
        written: Vec<usize>,
        tries: usize,
    }

    type Shared = Arc<Mutex<Window>>;

    fn write(window: &Shared, who: usize) -> impl Future<Output = ()> + Send + use<> {
        let window = Arc::clone(window);
        poll_fn(move |context: &mut Context<'_>| {
            let mut window = lock(&window);
            window.tries += 1;
            if window.room == 0 {
                window.blocked.push(context.waker().clone());
                return Poll::Pending;
            }
            window.room -= 1;
            window.written.push(who);
            Poll::Ready(())
        })
    }

    fn widen(window: &Shared, room: usize) {
        let mut window = lock(window);
        window.room += room;
        while let Some(blocked) = window.blocked.pop() {
            blocked.wake();
        }
    }

    /// As a lane with little under way.
    async fn pass_alone(row: &Row, write: impl Future<Output = ()> + Send) {
        pass(Some(row), || true, Duration::from_secs(3600), write).await.unwrap();
    }

    /// Let everybody do what can be done.
    async fn settle() {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_lanes_that_wait_for_a_window_few_are_woken_and_the_first_goes_first() {
        const LANES: usize = 2_000;
        let (row, window) = (Arc::new(Row::default()), Shared::default());
        let mut lanes = tokio::task::JoinSet::new();
        for who in 0..LANES {
            let (row, write) = (Arc::clone(&row), write(&window, who));
            lanes.spawn(async move { pass_alone(&row, write).await });
        }
        settle().await;
        for _ in 0..LANES / 10 {
            widen(&window, 10);
            settle().await;
        }
        while lanes.join_next().await.is_some() {}
        let window = lock(&window);
        assert!(window.tries <= LANES * (PLACES / 10 + 4), "{} tries", window.tries);
        let overtaken = window.written.iter().enumerate().filter(|(at, who)| **who > at + PLACES).count();
        assert_eq!((overtaken, window.written.len()), (0, LANES));
        assert!(row.is_free());
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_whose_own_window_is_full_hold_up_the_others_for_a_moment_only() {
        let (row, stuck, window) = (Arc::new(Row::default()), Shared::default(), Shared::default());
        let mut lanes = tokio::task::JoinSet::new();
        for who in 0..PLACES {
            let (row, write) = (Arc::clone(&row), write(&stuck, who));
            lanes.spawn(async move { pass_alone(&row, write).await });
        }
        settle().await;
        lock(&window).room = 1;
        let (began, write) = (tokio::time::Instant::now(), write(&window, 0));
        pass_alone(&row, write).await;
        assert_eq!(began.elapsed().as_secs(), PLACE.as_secs());
        assert!(lock(&stuck).written.is_empty());
        widen(&stuck, PLACES);
        while lanes.join_next().await.is_some() {}
        assert_eq!(lock(&stuck).written.len(), PLACES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_with_much_under_way_waits_for_its_own_window_beside_the_row() {
        let (row, stuck, window) = (Row::default(), Shared::default(), Shared::default());
        let patience = Duration::from_secs(300);
        let mut bulk = pin!(pass(Some(&row), || false, patience, write(&stuck, 0)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(bulk.as_mut().poll(&mut context).is_pending() && row.is_free());
        let mut waits = pin!(pass_alone(&row, write(&window, 0)));
        assert!(waits.as_mut().poll(&mut context).is_pending() && !row.is_free());
        widen(&stuck, 1);
        assert!(bulk.as_mut().poll(&mut context).is_ready());
        let stalled = pass(Some(&row), || false, patience, write(&stuck, 0)).await;
        assert_eq!(stalled, None);
    }

    #[tokio::test]
    async fn where_there_is_room_nobody_stands_in_the_row() {
        let (row, window) = (Row::default(), Shared::default());
        lock(&window).room = 1;
        let mut pass = pin!(pass_alone(&row, write(&window, 0)));
        let polled = pass.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_ready() && row.is_free());
    }
}
