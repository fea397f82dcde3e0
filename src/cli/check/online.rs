//! What is asked of the network: our records, our servers, our peers. Side by side, and within one bound.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::report::Report;
use super::{published, reach};
use crate::relay::settings::Settings;

/// All of it together. `--help` and the README name it.
pub(super) const NETWORK_MAX: Duration = Duration::from_secs(20);

/// Ask, and add what is found.
///
/// # Errors
/// If the system gives no runtime.
pub(super) fn examine(settings: &Settings, report: &mut Report) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let deadline = Instant::now() + NETWORK_MAX;
        let (records, reached) =
            tokio::join!(published::look_up(settings, deadline), reach::try_all(settings, deadline));
        published::examine(settings, &records, report);
        reach::examine(settings, reached, report);
    });
    // A look-up of the system's own resolver can't be called off; nobody waits for it.
    runtime.shutdown_background();
    Ok(())
}

/// Do all `jobs`, `at_once` side by side, until `deadline`. What they came to, in their order; `None`: it wasn't done in time.
pub(super) async fn all<J>(jobs: Vec<J>, at_once: usize, deadline: Instant) -> Vec<Option<J::Output>>
where
    J: Future + Send + 'static,
    J::Output: Send + 'static,
{
    let mut done: Vec<Option<J::Output>> = jobs.iter().map(|_| None).collect();
    let places = Arc::new(Semaphore::new(at_once));
    let mut tasks = JoinSet::new();
    for (index, job) in jobs.into_iter().enumerate() {
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            // It is never closed.
            let _place = places.acquire().await;
            (index, job.await)
        });
    }
    while let Ok(Some(ended)) = timeout_at(deadline, tasks.join_next()).await {
        if let Ok((index, output)) = ended {
            done[index] = Some(output);
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_done_in_time_is_left_out_and_the_order_stays() {
        let jobs = [5, 1, 9, 2].map(|seconds| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            seconds
        });
        let (begun, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(8));
        assert_eq!(all(Vec::from(jobs), 2, deadline).await, [Some(5), Some(1), None, Some(2)]);
        assert_eq!(begun.elapsed(), Duration::from_secs(8));
    }
}
