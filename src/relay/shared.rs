//! What the tasks of one session share: its machine, its connection, and what is known of the peer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::identity::verdict::Verdict;
use crate::proto::router::{PeerId, SessionId};
use crate::proto::session::Session;
use crate::reason::Reason;
use crate::transport::quic;

/// What the tasks of one session share.
#[derive(Debug)]
pub(crate) struct SessionShared {
    pub(crate) id: SessionId,
    pub(crate) machine: Mutex<Session>,
    /// Its first stream is authenticated.
    pub(crate) up: AtomicBool,
    /// The `[[peer]]` entries whose address it leads to.
    pub(crate) pinned: Vec<PeerId>,
    pub(crate) grants: GrantChanges,
    pub(crate) exporter: [u8; 32],
    /// What mux secrets are bound to.
    pub(crate) mux_exporter: [u8; 32],
    pub(crate) connection: quinn::Connection,
    /// The peer's address, for logs.
    pub(crate) peer: String,
    pub(crate) verdict: Verdict,
}

/// Tells that the grants of a session have changed.
#[derive(Debug, Default)]
pub(crate) struct GrantChanges {
    count: AtomicU64,
    changed: Notify,
}

impl GrantChanges {
    /// They have changed in the session's machine.
    pub(crate) fn tell(&self) {
        self.count.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }

    /// How often they have: whoever knows the grants of another count is out of date.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Resolves after a change; for the session's own task alone.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl SessionShared {
    /// Whether a stream of it has been authenticated.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Why the connection ended, in our own words where we know better than the transport.
    pub(crate) fn reason(&self, error: &quinn::ConnectionError) -> Reason {
        match quic::alert(error) {
            Some(alert) => self.verdict.reason(Some(alert)),
            None => quic::reason(error),
        }
    }
}
