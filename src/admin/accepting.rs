//! Accepts connections and serves so many of them at once: more wait in the backlog.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

/// Wait after a failed accept: it fails for want of file descriptors, and at once again.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serve what `accept` brings, at most `at_once` connections at a time, for as long as the future is polled. Dropping it ends its
/// connections. `ended` is told how each of them ended. `listener`: what it is called in the log.
pub(super) async fn serve<S, A, C>(
    listener: &'static str,
    at_once: usize,
    accept: impl Fn() -> A,
    connection: impl Fn(S) -> C,
    ended: impl Fn(Result<(), JoinError>),
) where
    A: Future<Output = io::Result<S>>,
    C: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(at_once));
    let mut connections = JoinSet::new();
    let next = || async {
        // The semaphore is never closed, so there is always a permit to wait for.
        let slot = Arc::clone(&slots).acquire_owned().await;
        (slot, accept().await)
    };
    loop {
        let (slot, accepted) = tokio::select! {
            next = next() => next,
            Some(served) = connections.join_next() => {
                ended(served);
                continue;
            }
        };
        match accepted {
            Ok(stream) => {
                let served = connection(stream);
                connections.spawn(async move {
                    served.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the {listener} can't accept a connection; is the limit of open files too low?");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
