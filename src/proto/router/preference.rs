//! Over what a peer was reached, and where in vain.
//!
//! What worked is tried first for a while, so that a network that swallows QUIC doesn't cost every connection the delay after which
//! the next way is tried. And where a connection came to be, but no stream of it was authenticated, nobody goes before the other ways
//! have been tried: whoever ends TLS there may have no server behind it, or another one, and would be reached first each time. After
//! that the best is tried first again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::lanes::is_final;
use crate::proto::discovery::Transport;
use crate::proto::discovery::found::ATTEMPTS_MAX;
use crate::reason::Reason;

/// How long what worked is tried first, and what was in vain last.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// A peer's address, canonical, and how it is reached there.
pub type Place = (Transport, SocketAddr);

/// What is remembered of the ways to a peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Preference {
    /// What worked, and until when that counts.
    worked: Option<(Transport, Instant)>,
    /// Where it worked last, and was not in vain since.
    proven: Option<Place>,
    /// Where it was in vain, the last place at the end, and until when that counts.
    in_vain: Vec<(Place, Instant)>,
}

impl Preference {
    /// The peer was reached there. The same transport once more doesn't count anew: the best would never be tried again.
    pub(super) fn reached(&mut self, place: Place, now: Instant) {
        self.in_vain.retain(|(other, _)| *other != place);
        self.proven = Some(place);
        if self.transport(now) != Some(place.0) {
            self.worked = Some((place.0, now + REMEMBERED));
        }
    }

    /// A connection came to be there, and no stream. Where it worked before, that happens once when the other end restarts.
    pub(super) fn in_vain_at(&mut self, place: Place, now: Instant) {
        if self.proven.take_if(|proven| *proven == place).is_some() {
            return;
        }
        self.in_vain.retain(|(other, until)| *other != place && *until > now);
        if self.in_vain.len() == ATTEMPTS_MAX {
            self.in_vain.remove(0);
        }
        self.in_vain.push((place, now + REMEMBERED));
    }

    /// The peer has answered for a pair: where it was in vain it may answer, too.
    pub(super) fn forgive(&mut self) {
        self.in_vain = Vec::new();
    }

    /// What is to be tried first, whatever the records say.
    pub(super) fn transport(&self, now: Instant) -> Option<Transport> {
        self.worked.filter(|(_, until)| *until > now).map(|(transport, _)| transport)
    }

    /// What is to be tried last, the last place at the end.
    pub(super) fn in_vain(&self, now: Instant) -> Vec<Place> {
        self.in_vain.iter().filter(|(_, until)| *until > now).map(|(place, _)| *place).collect()
    }
}

/// Whether that no stream was authenticated for this reason says something about where the connection led. What is permanent is said
/// of the pair, or of our own certificate.
pub(super) fn is_of_place(reason: Reason) -> bool {
    !is_final(reason)
}
