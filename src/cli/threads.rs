//! The threads of a running relay.

use std::num::NonZero;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;

use super::failure::Failure;

/// How long a thread that waits for files or for the system's resolver is kept when it has nothing to do: longer than any
/// relay runs.
const KEPT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Start them: those that carry stanzas, as many as `limits.threads` says, and one for what has to wait for the system.
///
/// The latter is there for good, because later the machine may have none to give (`TasksMax=`, `pids.max`): work for which there is
/// no thread and can't be one is a panic of the task that wants it done, and no certificate would be renewed any more. What comes
/// while that thread is busy waits for it, or gets another one.
///
/// # Errors
/// The system gives none.
pub(super) fn start(limit: usize) -> Result<Runtime, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed(error, "the runtime", "the system gives no threads; look at its limits")
    };
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .worker_threads(carrying(limit))
        .thread_keep_alive(KEPT)
        .build()
        .map_err(|error| failed(&error))?;
    runtime.block_on(async { spawn_blocking(|| ()).await }).map_err(|error| failed(&error))?;
    Ok(runtime)
}

/// How many threads carry stanzas if `limits.threads` is so many. The servers beside the relay need processors too.
fn carrying(limit: usize) -> usize {
    match limit {
        0 => std::thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2),
        limit => limit,
    }
}
