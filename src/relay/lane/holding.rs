//! A lane that brought more than it may isn't read for a while ([`crate::relay::budgets`]): what its other end sends then
//! waits there, and nothing of it is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Ended, Lane};
use crate::proto::budget::{Hold, Level};
use crate::reason::Reason;
use crate::relay::shared::{Connection, SessionShared};

/// A lane that isn't read, as its session counts them.
struct Held(Arc<SessionShared>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.strain.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lane {
    /// Wait. Why the lane ends, if it ends meanwhile.
    pub(super) async fn hold(&mut self, hold: Hold) -> Option<Ended> {
        let (metrics, begun) = (Arc::clone(&self.hub.metrics), Instant::now());
        metrics.limit_hit(hold.limit);
        // Whoever is held for its peer leaves nothing to others: they are held too.
        let of_peer = Level::Peer.keys().contains(&hold.limit);
        let held = if of_peer { Ok(None) } else { self.count_held() };
        let Ok(_held) = held else {
            metrics.limit_hit("session_window");
            return Some(Ended::Violated(Reason::TooMany.into()));
        };
        let mailbox = Arc::clone(&self.mailbox);
        let ended = tokio::select! {
            () = mailbox.is_usurped() => Some(Ended::Usurped),
            () = tokio::time::sleep_until(hold.until.into()) => None,
        };
        metrics.held_for(hold.limit, begun.elapsed());
        ended
    }

    /// Count the lane among those of its session that aren't read. It is an error if there are too many: what their peer has
    /// sent on them would take the session's window from the others.
    fn count_held(&self) -> Result<Option<Held>, ()> {
        let session = self.place.session();
        let Some(session) = session.filter(|it| matches!(it.connection, Connection::Quic(_))) else {
            return Ok(None);
        };
        let before = session.strain.held.fetch_add(1, Ordering::Relaxed);
        let held = Held(session);
        if before < self.hub.limits.held_lanes_max() { Ok(Some(held)) } else { Err(()) }
    }
}
