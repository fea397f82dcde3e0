//! TLS handshakes over TCP, on threads of their own: one takes as much of a processor as hundreds of stanzas, and whoever connects again
//! and again would have every stanza that comes meanwhile wait for it. Between threads the system decides, and lets those go first
//! that have slept. (QUIC's handshakes are its connection's own, on the threads that carry stanzas.)

use std::future::Future;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use super::tasks::observe;
use crate::metrics::Metrics;
use crate::reason::Reason;

/// The threads; by default there are none, and handshakes are done where they are asked for.
#[derive(Debug, Default)]
pub(crate) struct Handshakes(Option<Runtime>);

impl Handshakes {
    /// Start them, as many as this runtime has.
    ///
    /// # Errors
    /// The system gives none.
    pub(crate) fn start() -> std::io::Result<Self> {
        let threads = Handle::current().metrics().num_workers();
        let runtime =
            Builder::new_multi_thread().worker_threads(threads).thread_name("handshakes").build()?;
        Ok(Self(Some(runtime)))
    }

    /// Do a handshake. It ends with whoever waits for it.
    ///
    /// # Errors
    /// [`Reason::InternalServerError`] if it panics, which is counted.
    pub(crate) async fn shake<T: Send + 'static>(
        &self,
        metrics: &Metrics,
        handshake: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Reason> {
        let Some(runtime) = &self.0 else { return Ok(handshake.await) };
        let mut shaking = JoinSet::new();
        shaking.spawn_on(handshake, runtime.handle());
        let shaken = shaking.join_next().await.and_then(|ended| observe(metrics, ended));
        shaken.ok_or(Reason::InternalServerError)
    }
}

impl Drop for Handshakes {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Nobody waits for one any more.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn handshakes_keep_nobody_from_his_work() {
        let (handshakes, metrics) = (Handshakes::start().unwrap(), Metrics::new().unwrap());
        let here = std::thread::current().id();
        let (begin, begun) = std::sync::mpsc::channel();
        let (say, said) = std::sync::mpsc::channel();
        let shaking = handshakes.shake(&metrics, async move {
            begin.send(std::thread::current().id()).unwrap();
            // It holds its thread until somebody did something else on the one that waits for it.
            said.recv_timeout(Duration::from_secs(10))
        });
        let working = async {
            assert_ne!(begun.recv_timeout(Duration::from_secs(10)), Ok(here));
            say.send(7).unwrap();
        };
        let (shaken, ()) = tokio::join!(shaking, working);
        assert_eq!(shaken, Ok(Ok(7)));
    }

    #[tokio::test]
    async fn a_handshake_that_panics_fails_and_is_counted() {
        let metrics = Metrics::new().unwrap();
        let handshakes = Handshakes::start().unwrap();
        let shaken = handshakes.shake(&metrics, async { panic!("a handshake panics") }).await;
        assert_eq!(shaken, Err::<(), _>(Reason::InternalServerError));
        assert_eq!(metrics.tasks_failed.get(), 1);
    }

    #[tokio::test]
    async fn a_handshake_that_nobody_waits_for_is_over() {
        let (handshakes, metrics) = (Handshakes::start().unwrap(), Metrics::new().unwrap());
        let (kept, gone) = tokio::sync::oneshot::channel::<()>();
        let endless = async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            _ = handshakes.shake(&metrics, endless) => unreachable!(),
            () = tokio::task::yield_now() => {}
        }
        assert!(gone.await.is_err());
    }
}
