//! The two halves of a TLS connection over TCP: the one XML stream of its session.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::io::{Receive, Transmit, of_io};
use super::read_buffer::ReadBuffer;
use super::shared::SessionShared;
use crate::identity::verdict::Verdict;
use crate::reason::Reason;
use crate::transport::quic::Code;
use crate::transport::tls::{self, TlsStream};

/// The receiving half.
pub(crate) struct TlsReceive {
    half: ReadHalf<TlsStream>,
    session: Arc<SessionShared>,
}

/// The sending half.
pub(crate) struct TlsTransmit {
    half: WriteHalf<TlsStream>,
    session: Arc<SessionShared>,
}

/// Both halves of `stream`, the connection of `session`.
pub(crate) fn split(stream: TlsStream, session: &Arc<SessionShared>) -> (TlsReceive, TlsTransmit) {
    let (receive, transmit) = tokio::io::split(stream);
    (
        TlsReceive { half: receive, session: Arc::clone(session) },
        TlsTransmit { half: transmit, session: Arc::clone(session) },
    )
}

/// What an error means: over TLS 1.3 a refusal of our certificate comes with the first octets that are read.
pub(crate) fn reason(verdict: &Verdict, error: &io::Error) -> Reason {
    match tls::tls_error(error) {
        Some(error) => verdict.reason_of(error),
        None => of_io(error),
    }
}

impl Receive for TlsReceive {
    async fn read(&mut self, buffer: &mut ReadBuffer) -> Result<usize, Reason> {
        // Into a large buffer that is lent while there is something to read: idle streams hold none.
        let read = buffer.fill(&mut self.half);
        tokio::select! {
            biased;
            reason = self.session.cut_off() => Err(reason),
            read = read => read.map_err(|error| reason(&self.session.verdict, &error)),
        }
    }

    async fn stop(&mut self, _code: Code, patience: Duration) {
        // To close with octets unread would reset the connection, and take back what we said last if it was not yet
        // read. So they are read and thrown away until the other end closes too.
        let _closed = tokio::time::timeout(patience, tls::drain(&mut self.half)).await;
    }

    async fn linger(&mut self, patience: Duration) {
        self.stop(Code::Done, patience).await;
    }
}

impl Transmit for TlsTransmit {
    async fn write(&mut self, octets: Bytes) -> Result<(), Reason> {
        let written = async {
            self.half.write_all(&octets).await?;
            self.half.flush().await
        };
        written.await.map_err(|error| reason(&self.session.verdict, &error))
    }

    async fn finish(&mut self, patience: Duration) {
        // `close_notify`, then FIN. The other end may be gone already.
        let _shut = tokio::time::timeout(patience, self.half.shutdown()).await;
    }

    fn reset(&mut self, _code: Code) {}
}
