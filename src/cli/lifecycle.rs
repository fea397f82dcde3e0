//! From started to stopped: the first signal drains, a second one ends at once, and so it is when a part fails.

/// What an operator asks for while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// End, in good order; the second time at once.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// What runs until it is told to stop.
pub(super) trait Service {
    /// Read the configuration again. What comes of it is logged; nothing of it ends the service.
    fn reload(&self) -> impl Future<Output = ()>;

    /// Resolves if a part without which it can't work has ended, and says which and why.
    fn failed(&self) -> impl Future<Output = String>;

    /// Take nothing new, finish what is under way, and tell what became of it.
    fn drain(self) -> impl Future<Output = String>;
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything was finished, or its time was up; what became of it.
    Drained(String),
    /// A second signal came before that.
    AtOnce,
    /// A part of it failed.
    Failed(String),
}

/// Run `service` until it ends; each call of `asked` waits for the next signal.
pub(super) async fn run(service: impl Service, mut asked: impl AsyncFnMut() -> Asked) -> Ended {
    let failure = loop {
        tokio::select! {
            failure = service.failed() => break Some(failure),
            asked = asked() => match asked {
                Asked::Reload => service.reload().await,
                Asked::Stop => break None,
            },
        }
    };
    // What the rest of it holds finds its way, or comes back, though a part has failed.
    match &failure {
        Some(failure) => tracing::error!(%failure, "stopping: draining; a signal ends at once"),
        None => tracing::info!("stopping: draining; a second signal ends at once"),
    }
    let again = async {
        while asked().await == Asked::Reload {
            tracing::warn!("SIGHUP: the relay is stopping, and reads no configuration any more");
        }
    };
    tokio::select! {
        // Draining that has finished counts, even if a second signal came with it.
        biased;
        report = service.drain() => failure.map_or(Ended::Drained(report), Ended::Failed),
        () = again => failure.map_or(Ended::AtOnce, Ended::Failed),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// Drains when it is told that it is done.
    struct StandIn {
        reloads: mpsc::UnboundedSender<()>,
        failure: Option<&'static str>,
        drained: oneshot::Receiver<()>,
    }
    impl StandIn {
        fn new(failure: Option<&'static str>, drained: oneshot::Receiver<()>) -> Self {
            Self { reloads: mpsc::unbounded_channel().0, failure, drained }
        }
    }
    impl Service for StandIn {
        async fn reload(&self) {
            let _counted = self.reloads.send(());
        }
        async fn failed(&self) -> String {
            match self.failure {
                Some(failure) => failure.to_owned(),
                None => pending().await,
            }
        }
        async fn drain(self) -> String {
            self.drained.await.map_or_else(|_| "dropped".to_owned(), |()| "all done".to_owned())
        }
    }

    #[tokio::test]
    async fn the_first_signal_drains() {
        let (done, drained) = oneshot::channel();
        done.send(()).unwrap();
        let ended = run(StandIn::new(None, drained), async || ready(Asked::Stop).await).await;
        assert_eq!(ended, Ended::Drained("all done".to_owned()));
    }

    #[tokio::test]
    async fn a_second_signal_ends_at_once() {
        let (_done, drained) = oneshot::channel();
        let (signals, mut received) = mpsc::channel(3);
        for asked in [Asked::Stop, Asked::Reload, Asked::Stop] {
            signals.send(asked).await.unwrap();
        }
        let running = run(StandIn::new(None, drained), async || received.recv().await.unwrap());
        let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
        assert_eq!(ended, Ok(Ended::AtOnce), "it must not wait for a drain that never ends");
    }

    #[tokio::test]
    async fn each_reload_is_made_and_it_runs_on() {
        let (done, drained) = oneshot::channel();
        done.send(()).unwrap();
        let (reloads, mut made) = mpsc::unbounded_channel();
        let mut asked = [Asked::Reload, Asked::Reload, Asked::Stop].into_iter();
        let service = StandIn { reloads, failure: None, drained };
        let ended = run(service, async || ready(asked.next().unwrap()).await).await;
        assert_eq!(ended, Ended::Drained("all done".to_owned()));
        assert!(made.recv().await.is_some() && made.recv().await.is_some() && made.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_part_that_fails_ends_the_relay() {
        let (done, drained) = oneshot::channel();
        let running = run(StandIn::new(Some("the listener"), drained), async || pending().await);
        tokio::pin!(running);
        let early = tokio::time::timeout(Duration::from_millis(20), &mut running).await;
        assert!(early.is_err(), "what it holds is dealt with first");
        done.send(()).unwrap();
        assert_eq!(running.await, Ended::Failed("the listener".to_owned()));
    }
}
