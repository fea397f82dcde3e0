//! What a relay can't go on without. When some of it is lost the relay is not ready any more, and whoever runs it is told, so that
//! the service manager starts it again.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::error;

use super::hub::Hub;

/// What was lost of it, a line each.
#[derive(Debug, Default)]
pub(super) struct Lost(watch::Sender<Vec<String>>);

impl Lost {
    /// All of it.
    pub(super) fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// Resolves when there is any.
    pub(super) async fn any(&self) -> String {
        let mut lost = self.0.subscribe();
        let any = lost.wait_for(|lost| !lost.is_empty()).await;
        // The sender is ours: it is there for as long as somebody waits.
        any.map(|lost| lost.join("; ")).unwrap_or_default()
    }
}

impl Hub {
    /// The relay can't go on, because of `what`.
    pub(super) fn lose(&self, what: String) {
        self.lost.0.send_modify(|lost| lost.push(what));
    }
}

/// Held by the task that runs all others, and tells of its end however it comes.
#[derive(Debug)]
pub(super) struct Supervised(pub(super) Arc<Hub>);

impl Drop for Supervised {
    fn drop(&mut self) {
        // Nobody else sees this task's end.
        if std::thread::panicking() {
            self.0.metrics.tasks_failed.inc();
            error!(
                "the relay's supervisor ended by a panic; this is a defect, please report it with this log"
            );
        }
        // A relay that has drained ends it.
        if !self.0.is_draining() {
            self.0.lose("the relay's supervisor has ended".to_owned());
        }
    }
}
