//! The clocks that a relay goes by: one that only ever goes on, and the system's, which may be set.
//!
//! The shell asks here and nowhere else. The first is the one that its timers follow, so that under a runtime whose time is
//! paused everything happens in virtual time.

use std::time::{Instant, SystemTime};

/// Now, by the clock that the timers follow.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Now, by the clock of the system.
#[cfg(not(test))]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
pub(crate) use simulated::{set_wall, wall};

/// Under a simulation the system's clock goes on with virtual time, from where the simulation sets it.
#[cfg(test)]
mod simulated {
    use std::cell::Cell;

    use super::{Instant, SystemTime, now};

    thread_local! {
        static SET: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
    }

    pub(crate) fn wall() -> SystemTime {
        match SET.get() {
            Some((at, time)) => time + now().saturating_duration_since(at),
            None => SystemTime::now(),
        }
    }

    /// Set the clock of this thread's simulation; `None`: there is none any more.
    pub(crate) fn set_wall(time: Option<SystemTime>) {
        SET.set(time.map(|time| (now(), time)));
    }
}
