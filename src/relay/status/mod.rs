//! What a running relay is doing, for whoever operates it (`fedmux status`): the facts as they are, and no judgement.
//!
//! Nothing here waits for the data path, or has it wait. What is placed where the router knows, whose lock is taken only when
//! something is placed, opened or lost; how full a queue is its outlet has written down beside it (`depth.rs`); and what a session
//! is, its own task is asked, for `ANSWER_TIME` at most. One that doesn't answer in that time is shown as such.

mod collect;
mod sessions;
mod time_text;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) use collect::status as of;
pub(crate) use sessions::SessionTold;
pub(crate) use time_text::{age, wall_text};

/// How long the tasks of sessions have to say how they are, all of them together.
pub(crate) const ANSWER_TIME: Duration = Duration::from_millis(500);

/// Everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The version of the relay.
    pub version: String,
    /// When this was.
    pub at: String,
    /// Seconds since the relay started.
    pub up_seconds: u64,
    /// It takes nothing new, and ends.
    pub draining: bool,
    /// Hosts that are served.
    pub hosts: usize,
    /// What multiplexing saves.
    pub saved: Saved,
    /// What became of all stanzas so far.
    pub stanzas: Ledger,
    /// What is queued in the whole relay.
    pub queued: Queued,
    /// How the configuration was last read again.
    pub reload: Option<Reloaded>,
    /// Of each connection with a peer.
    pub sessions: Vec<SessionStatus>,
    /// Of each next hop of the remote side.
    pub peers: Vec<PeerStatus>,
    /// Of each of our own servers that was ever needed, and each component.
    pub local: Vec<LocalStatus>,
    /// Of each direction of each domain pair that is placed or waits.
    pub pairs: Vec<PairStatus>,
}

/// What multiplexing saves.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Saved {
    /// Pairs of a host of ours and a remote domain that are carried.
    pub domain_pairs: i64,
    /// Connections with peers that are held.
    pub connections: i64,
    /// The difference: connections that a server which keeps one for each pair would hold besides.
    pub connections_saved: i64,
}

/// What became of all stanzas so far.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ledger {
    /// They passed our checks.
    pub accepted: u64,
    /// The next hop has them.
    pub delivered: u64,
    /// Their senders were handed an error.
    pub bounced: u64,
    /// They may not be answered.
    pub discarded: u64,
    /// The rest of those that were accepted.
    pub in_custody: u64,
}

/// What waits in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Queued {
    /// Stanzas that wait for a lane to take them.
    pub stanzas: usize,
    /// Their octets.
    pub bytes: usize,
    /// Octets that a lane has taken and that aren't acknowledged.
    pub sent_bytes: usize,
    /// How long the oldest one has waited for a lane to take it.
    pub oldest_seconds: Option<f64>,
}

/// How the configuration was last read again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reloaded {
    /// When.
    pub at: String,
    /// Why the former one stays; `None`: it counts.
    pub refused: Option<String>,
    /// What has changed.
    pub changed: Vec<String>,
    /// What has changed and counts only after a restart.
    pub needs_restart: Vec<String>,
}

/// One connection with a peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its number, as in the log.
    pub session: u64,
    /// The peer's address.
    pub peer: String,
    /// `quic`, `direct-tls` or `starttls`.
    pub transport: String,
    /// What its task said; `None`: it didn't answer in time.
    pub told: Option<SessionFacts>,
    /// Its lanes.
    pub lanes: usize,
    /// Directions of domain pairs that are placed on them.
    pub routes: usize,
    /// It takes no new lane.
    pub retiring: bool,
    /// What waits for its lanes.
    pub queued: Queued,
}

/// What a session says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionFacts {
    /// We opened the connection.
    pub opened_by_us: bool,
    /// Seconds since its handshake.
    pub up_seconds: u64,
    /// A stream of it is authenticated.
    pub authenticated: bool,
    /// XEP-0451 was negotiated: certificates count as a whole.
    pub multiplexed: bool,
    /// Domains that the peer has proven.
    pub theirs: Vec<ProvenDomain>,
    /// Hosts that we have proven to the peer.
    pub ours: Vec<ProvenDomain>,
    /// The path, over QUIC.
    pub path: Option<PathStatus>,
}

/// A domain that is proven for a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenDomain {
    /// The domain; of a wildcard, with its `*.`.
    pub domain: String,
    /// `certificate` or `mux-secret`.
    pub by: String,
    /// Until when.
    pub until: String,
}

/// The path of a QUIC connection.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct PathStatus {
    /// Round-trip time.
    pub rtt_seconds: f64,
    /// Congestion window in octets.
    pub congestion_window: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Of those, how many were lost.
    pub packets_lost: u64,
    /// How often the congestion controller slowed down.
    pub congestion_events: u64,
}

/// One next hop of the remote side.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The domain by which it was found, or the domains and the address of its `[[peer]]`.
    pub peer: String,
    /// It stands in the configuration.
    pub configured: bool,
    /// What is going on: `asking-dns`, `dialling`, `back-off`, `refused` or `idle`.
    pub state: String,
    /// Directions of pairs that wait for it.
    pub waiting: usize,
    /// Why the last attempt failed, if it did.
    pub reason: Option<String>,
    /// How long every attempt has failed.
    pub down_seconds: Option<u64>,
    /// How long it is until the next attempt may be made.
    pub retry_seconds: Option<u64>,
    /// Pairs that were refused for a reason that waiting doesn't cure.
    pub refused: usize,
    /// It takes one stream for each connection.
    pub single_stream: bool,
}

/// One of our own servers, or a component.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LocalStatus {
    /// Where it is, or the component's domain.
    pub server: String,
    /// `up`, `down` or, of a component, `not-connected`.
    pub state: String,
    /// Directions of pairs that wait for it.
    pub waiting: usize,
    /// Why it could not be reached.
    pub reason: Option<String>,
    /// How long it could not be.
    pub down_seconds: Option<u64>,
}

/// One direction of a domain pair.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PairStatus {
    /// The domain that sends.
    pub from: String,
    /// The domain that receives.
    pub to: String,
    /// The session that carries it, or is to; none on the local side.
    pub session: Option<u64>,
    /// What it waits for: `records`, `connection`, `stream`, `proof`, `back-off`, `server`, `component` or `turn`; nothing, if its lane is
    /// up.
    pub waits_for: Option<String>,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// What is queued.
    pub queued: Queued,
}
