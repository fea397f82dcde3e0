//! Over what a found peer was reached: for a while that is tried first, so that a network that swallows QUIC doesn't cost
//! every connection the delay after which the next way is tried. Then the best is tried first again.

use std::time::{Duration, Instant};

use crate::proto::discovery::Transport;

/// How long what worked is tried first.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What worked, and until when that is remembered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Preference(Option<(Transport, Instant)>);

impl Preference {
    /// The peer was reached over `transport`. Once more doesn't count anew: the best would never be tried again.
    pub(super) fn reached(&mut self, transport: Transport, now: Instant) {
        if self.transport(now) != Some(transport) {
            self.0 = Some((transport, now + REMEMBERED));
        }
    }

    /// What is to be tried first, whatever the records say.
    pub(super) fn transport(&self, now: Instant) -> Option<Transport> {
        self.0.filter(|(_, until)| *until > now).map(|(transport, _)| transport)
    }
}
