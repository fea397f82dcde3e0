//! What a session of many streams runs over: a QUIC connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::io::{Receive, Transmit};
use super::shared::SessionShared;
use crate::reason::Reason;
use crate::transport::quic::{self, Code};

/// How often a connection is asked where its peer is: nothing tells when that changes.
const LOOK: Duration = Duration::from_secs(1);

/// A connection on which both ends open streams. Clones are the same connection.
pub(crate) trait Streams: Clone + Send + Sync + 'static {
    /// The sending half of a stream.
    type Transmit: Transmit + 'static;
    /// The receiving half.
    type Receive: Receive + 'static;

    /// Open a stream, when the peer gives credit for one.
    fn open(&self) -> impl Future<Output = Result<(Self::Transmit, Self::Receive), Reason>> + Send;
    /// The next stream that the peer opens.
    fn accept(&self) -> impl Future<Output = Result<(Self::Transmit, Self::Receive), Reason>> + Send;
    /// Close the connection, and whatever streams are left.
    fn close(&self, code: Code);
    /// Why there is no connection any more, if there is none.
    fn closed(&self) -> Option<Reason>;
    /// Grows when something comes from the peer, be it only that something of ours has arrived.
    fn heard(&self) -> u64;
    /// Resolves when the peer is elsewhere than at `known` (RFC 9000 section 9): where.
    fn moved(&self, known: SocketAddr) -> impl Future<Output = SocketAddr> + Send {
        let _stays_there = known;
        std::future::pending()
    }
}

/// The QUIC connection of a session.
#[derive(Debug, Clone)]
pub(crate) struct QuicStreams {
    connection: quinn::Connection,
    session: Arc<SessionShared>,
}

impl QuicStreams {
    pub(crate) fn new(connection: quinn::Connection, session: &Arc<SessionShared>) -> Self {
        Self { connection, session: Arc::clone(session) }
    }
}

impl Streams for QuicStreams {
    type Transmit = quinn::SendStream;
    type Receive = quinn::RecvStream;

    async fn open(&self) -> Result<(quinn::SendStream, quinn::RecvStream), Reason> {
        self.connection.open_bi().await.map_err(|error| self.session.reason(&error))
    }

    async fn accept(&self) -> Result<(quinn::SendStream, quinn::RecvStream), Reason> {
        self.connection.accept_bi().await.map_err(|error| self.session.reason(&error))
    }

    fn close(&self, code: Code) {
        self.connection.close(code.into(), b"");
    }

    fn closed(&self) -> Option<Reason> {
        self.connection.close_reason().map(|error| self.session.reason(&error))
    }

    fn heard(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    async fn moved(&self, known: SocketAddr) -> SocketAddr {
        loop {
            tokio::time::sleep(LOOK).await;
            let at = quic::canonical(self.connection.remote_address());
            if at != known {
                return at;
            }
        }
    }
}
