//! What the tasks of one session share: its machine, its connection, and what is known of the peer.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use tokio::sync::{Notify, mpsc};
use tracing::{Span, error_span, field, info};

use super::attempts::Trace;
use super::credit::Credit;
use super::gauges::PathSeen;
use super::hub::Command;
use super::row::Row;
use super::session::openings::Openings;
use super::settings::Transport;
use crate::identity::verdict::Verdict;
use crate::metrics::Opened;
use crate::proto::budget::Bucket;
use crate::proto::limits::Limits;
use crate::proto::router::{PeerId, PeerPlace, SessionId};
use crate::proto::session::Session;
use crate::proto::telling::Telling;
use crate::reason::Reason;
use crate::transport::quic;
use crate::xmpp::domain::Domain;

/// What the tasks of one session share.
#[derive(Debug)]
pub(crate) struct SessionShared {
    pub(crate) id: SessionId,
    pub(crate) machine: Mutex<Session>,
    /// Its first stream is authenticated.
    pub(crate) up: AtomicBool,
    /// The peers whose address it leads to: `[[peer]]` entries, and whom it was dialled for.
    pub(crate) pinned: Vec<PeerId>,
    /// The `[[peer]]` entry whose rules it was made by, if there is one.
    pub(crate) entry: Option<PeerId>,
    /// It takes no lane of the peer's any more.
    pub(crate) retired: AtomicBool,
    /// Nor does it then, and those that it has finish: why.
    pub(crate) leaving: OnceLock<Reason>,
    pub(crate) grants: GrantChanges,
    pub(crate) exporter: [u8; 32],
    /// What mux secrets are bound to.
    pub(crate) mux_exporter: [u8; 32],
    pub(crate) connection: Connection,
    /// Where the peer is.
    pub(crate) place: PeerPlace,
    /// The peer's address, for logs.
    pub(crate) peer: String,
    /// What each line of the log about the session says of it; see [`span`].
    pub(crate) span: Span,
    pub(crate) verdict: Verdict,
    pub(crate) strain: Strain,
    /// Lanes that the peer may open.
    pub(crate) credit: Credit,
    /// Lanes that wait to be opened.
    pub(crate) openings: Openings,
    /// Lanes that wait to write.
    pub(crate) row: Row,
    /// When its handshake was complete.
    pub(crate) began: Instant,
    /// Who opened its connection.
    pub(crate) opened: Opened,
    pub(crate) path_seen: PathSeen,
    /// Writes down how the attempt goes for which we dialled it.
    pub(crate) trace: Option<Trace>,
}

/// What each line of the log about a session says of it: its number, the peer's address, the transport, which end opened the
/// connection, and as soon as it is proven the peer's domain.
///
/// A line names the span as its parent. Nothing ever enters it: tasks would do so each time that they are polled, which is about once
/// for each stanza. It has the highest level, so that it is there for whatever is logged, also when that is changed while the session
/// stands.
pub(crate) fn span(id: SessionId, peer: &str, transport: Transport, opened: Opened) -> Span {
    let role = match opened {
        Opened::Outbound => "initiating",
        Opened::Inbound => "receiving",
    };
    error_span!("session", session = id.0, %peer, %transport, %role, domain = field::Empty)
}

/// What the peer of a session costs.
#[derive(Debug, Default)]
pub(crate) struct Strain {
    /// Lanes that are not read, for what they have brought.
    pub(crate) held: AtomicU32,
    /// Lanes that the peer has broken off.
    pub(crate) resets: Mutex<Bucket>,
    /// We closed the session, for a limit.
    pub(crate) over_limit: AtomicBool,
    /// What is said of refusals.
    pub(crate) refusals: Mutex<Telling>,
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

/// What a session runs over.
#[derive(Debug)]
pub(crate) enum Connection {
    /// QUIC: a stream for each lane.
    Quic(quinn::Connection),
    /// Many streams, of a simulation.
    #[cfg(test)]
    Simulated,
    /// TLS over TCP, and how it was begun. The connection itself belongs to the one lane; `over` tells that lane that
    /// what the certificates prove has ended.
    Tls { transport: Transport, over: Notify },
}

impl Connection {
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Quic,
            #[cfg(test)]
            Self::Simulated => Transport::Quic,
            Self::Tls { transport, .. } => *transport,
        }
    }
}

impl SessionShared {
    /// Where the peer is.
    pub(crate) fn address(&self) -> IpAddr {
        self.place.address.ip()
    }

    /// Whether a stream of it has been authenticated.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Its first stream is authenticated: the peer may have more than one that is not. Whether that is news.
    pub(crate) fn comes_up(&self, limits: &Limits) -> bool {
        let first = !self.up.swap(true, Ordering::AcqRel);
        if first {
            self.credit.begin(limits.lanes_unauthenticated, limits.lanes, |lanes| self.allow(lanes));
        }
        first
    }

    /// The peer has opened a lane.
    pub(crate) fn lane_opened(&self, limits: &Limits) {
        self.credit.opened(limits.lanes, |lanes| self.allow(lanes));
    }

    /// Tell the peer that it may have so many lanes.
    fn allow(&self, lanes: u32) {
        if let Connection::Quic(connection) = &self.connection {
            connection.set_max_concurrent_bi_streams(quinn::VarInt::from_u32(lanes));
        }
    }

    /// The first domain of the peer's is proven.
    pub(crate) fn name_peer(&self, domain: &Domain) {
        self.span.record("domain", field::display(domain));
    }

    /// It takes no lane of the peer's any more, who opens it on another one. Whether that is news.
    pub(crate) fn retire(&self) -> bool {
        !self.retired.swap(true, Ordering::AcqRel)
    }

    /// Whether it takes lanes of the peer's; at its age still the one that it was dialled for.
    pub(crate) fn takes_lanes(&self) -> bool {
        let retired = self.retired.load(Ordering::Acquire) && self.is_up();
        !retired && self.leaves().is_none()
    }

    /// Let it go: what is under way on its lanes is finished, and what follows goes elsewhere.
    pub(crate) fn leave(&self, commands: &mpsc::UnboundedSender<Command>) {
        if self.leaving.set(Reason::PeerChanged).is_ok() {
            info!(parent: &self.span, "session leaves: its [[peer]] has changed");
            // A session that is just ending needn't be told.
            let _ending = commands.send(Command::Leave);
        }
    }

    /// Why all of its lanes finish, if they do.
    pub(crate) fn leaves(&self) -> Option<Reason> {
        self.leaving.get().copied()
    }

    /// Why a QUIC connection ended, in our own words where we know better than the transport.
    pub(crate) fn reason(&self, error: &quinn::ConnectionError) -> Reason {
        if self.strain.over_limit.load(Ordering::Acquire) {
            return Reason::TooMany;
        }
        match quic::alert(error) {
            Some(alert) => self.verdict.reason(Some(alert)),
            None => quic::reason(error),
        }
    }

    /// What the certificates prove has ended: nothing more is read over TCP.
    pub(crate) fn cut(&self) {
        if let Connection::Tls { over, .. } = &self.connection {
            over.notify_one();
        }
    }

    /// Resolves when [`SessionShared::cut`] was called, and says why.
    pub(crate) async fn cut_off(&self) -> Reason {
        match &self.connection {
            Connection::Tls { over, .. } => over.notified().await,
            _ => std::future::pending().await,
        }
        Reason::CertificateExpired
    }
}
