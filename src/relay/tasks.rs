//! The tasks of a relay: each end is observed. A task that panics is counted and logged, and never takes another one
//! with it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tracing::error;

use crate::metrics::Metrics;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where tasks are handed to the supervisor. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tasks(mpsc::UnboundedSender<Task>);

/// Runs the tasks, until it is dropped: then they are aborted.
pub(crate) struct Supervisor {
    incoming: mpsc::UnboundedReceiver<Task>,
    running: JoinSet<()>,
    metrics: Arc<Metrics>,
}

impl Tasks {
    /// Start a task. If the supervisor is gone the relay is, and the task is dropped unstarted.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let _relay_gone = self.0.send(Box::pin(task));
    }
}

impl Supervisor {
    pub(crate) fn new(metrics: Arc<Metrics>) -> (Tasks, Self) {
        let (tasks, incoming) = mpsc::unbounded_channel();
        (Tasks(tasks), Self { incoming, running: JoinSet::new(), metrics })
    }

    /// Run until every handle for spawning is gone and every task has ended.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                task = self.incoming.recv() => match task {
                    Some(task) => { self.running.spawn(task); }
                    None => break,
                },
                Some(ended) = self.running.join_next() => { observe(&self.metrics, ended); }
            }
        }
        while let Some(ended) = self.running.join_next().await {
            observe(&self.metrics, ended);
        }
    }
}

/// What a task came to. Its panic is counted and logged; cancellation is somebody's decision and no failure.
pub(crate) fn observe<T>(metrics: &Metrics, ended: Result<T, JoinError>) -> Option<T> {
    if let Err(failure) = &ended
        && failure.is_panic()
    {
        metrics.tasks_failed.inc();
        error!(%failure, "a task ended by a panic; this is a defect, please report it with this log");
    }
    ended.ok()
}
