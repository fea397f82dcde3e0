//! The signals of an operator: SIGTERM and SIGINT stop the relay, SIGHUP lets it read its configuration again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use super::lifecycle::Asked;

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

    /// The next signal.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
