//! The signals of an operator: SIGTERM and SIGINT stop the relay, SIGHUP would reload it.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// Signals as they come. Made before anything is started, so that none is missed.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on the signals no longer end the process by themselves. Needs a tokio runtime.
    pub(super) fn watch() -> Result<Self, Failure> {
        let watch = |kind| {
            signal(kind)
                .map_err(|error| Failure::failed(error, "signals", "the system refuses to announce signals"))
        };
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }

    /// The next signal that asks us to stop.
    pub(super) async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => tracing::warn!(
                    "SIGHUP: reloading is not available in this version; restart to take up a changed configuration"
                ),
            }
        }
    }
}
