//! A lane that brought more than it may isn't read for a while ([`crate::relay::budgets`]): what its other end sends then
//! waits there, and nothing of it is lost. It is listened to for acknowledgements.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Ended, Lane};
use crate::proto::budget::{Hold, Level};
use crate::reason::Reason;
use crate::relay::clock;
use crate::relay::io::Receive;
use crate::relay::read_buffer::Ear;
use crate::relay::shared::{Connection, SessionShared};

/// A lane that isn't read, as its session counts them.
struct Held(Arc<SessionShared>);

impl Held {
    /// Count one more, if there are fewer than `most`.
    fn count(session: &Arc<SessionShared>, most: u32) -> Option<Self> {
        let before = session.strain.held.fetch_add(1, Ordering::Relaxed);
        let held = Self(Arc::clone(session));
        (before < most).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.strain.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lane {
    /// Wait. Why the lane ends, if it ends meanwhile.
    pub(super) async fn hold<R: Receive>(&mut self, hold: Hold, ear: &mut Ear<R>) -> Option<Ended> {
        let (hub, mailbox, begun) = (Arc::clone(&self.hub), Arc::clone(&self.mailbox), clock::now());
        hub.metrics.limit_hit(hold.limit);
        let session = self.place.session();
        let quic = session.as_ref().and_then(|session| match &session.connection {
            Connection::Quic(connection) => Some((session, connection)),
            _ => None,
        });
        // What the peer sends meanwhile takes of the session's window: as long as reading may pause for want of room in any
        // case that is nothing new. Whoever waits for all of its peer's lanes takes nothing that they would have.
        let long = hold.until.saturating_duration_since(begun) > hub.limits.read_pause
            && !Level::Peer.keys().contains(&hold.limit);
        let mut held = None;
        if let (true, Some((session, _))) = (long, quic) {
            held = Held::count(session, hub.limits.held_lanes_max());
            if held.is_none() {
                hub.metrics.limit_hit("session_window");
                return Some(Ended::Violated(Reason::TooMany.into()));
            }
        }
        let gone = async {
            match quic {
                Some((_, connection)) => drop(connection.closed().await),
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            biased;
            reason = mailbox.broken_off() => Some(Ended::by_us(reason)),
            // The next read says so.
            () = gone => None,
            () = tokio::time::sleep_until(hold.until.into()) => None,
            ended = self.listen(ear) => Some(ended),
        };
        drop(held);
        hub.metrics.held_for(hold.limit, clock::now().saturating_duration_since(begun));
        ended
    }
}
