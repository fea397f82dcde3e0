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
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
