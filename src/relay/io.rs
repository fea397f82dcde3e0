//! The two halves of what an XML stream runs over: a QUIC stream, or TCP.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::read_buffer::{LARGE_BYTES, ReadBuffer};
use super::settings::Endpoint;
use crate::reason::Reason;
use crate::transport::quic::{self, Code};

/// Behind a piece of a QUIC stream of so many octets, which nearly fill a datagram, there may be more.
const MORE_BYTES: usize = 1_000;

/// Octets that are copied so that what follows them goes in the same call.
const JOINED_BYTES: usize = 16 * 1024;

/// How long the last octets of a stream may take to arrive.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(2);

/// The receiving half.
pub(crate) trait Receive: Send {
    /// Append what arrives to `buffer`; 0: the other end finished.
    fn read(&mut self, buffer: &mut ReadBuffer) -> impl Future<Output = Result<usize, Reason>> + Send;
    /// Read no further; the other end is told where the transport can, and else given `patience` to notice.
    fn stop(&mut self, code: Code, patience: Duration) -> impl Future<Output = ()> + Send;
    /// Both ends have said everything. Where closing would take back what the other end hasn't read yet, wait for its end
    /// too, at most `patience`.
    fn linger(&mut self, _patience: Duration) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// The sending half.
pub(crate) trait Transmit: Send {
    /// Write all of `octets`.
    fn write(&mut self, octets: Bytes) -> impl Future<Output = Result<(), Reason>> + Send;
    /// Write all of `first` and `then`: in one call, unless the copy that this takes costs more than another one.
    fn write_both(&mut self, first: Bytes, then: Bytes) -> impl Future<Output = Result<(), Reason>> + Send {
        async move {
            if first.len() <= JOINED_BYTES {
                return self.write([first, then].concat().into()).await;
            }
            self.write(first).await?;
            self.write(then).await
        }
    }
    /// What is written from here on, and what of it hasn't left, goes by `priority`: the higher, the sooner. For transports that carry
    /// others beside it.
    fn set_priority(&mut self, _priority: i32) {}
    /// Everything was written: finish, and wait until it has arrived, at most `patience`.
    fn finish(&mut self, patience: Duration) -> impl Future<Output = ()> + Send;
    /// Break off what was not finished; the other end is told why, where the transport can.
    fn reset(&mut self, code: Code);
}

impl Receive for quinn::RecvStream {
    fn read(&mut self, buffer: &mut ReadBuffer) -> impl Future<Output = Result<usize, Reason>> + Send {
        // Not beyond a piece that doesn't fill a datagram: behind the closing tag there is but the end of the stream. Whoever leaves
        // that unread stops the stream, and the other end knows at once that everything has come (RFC 9000 section 3.5); else it
        // waits for an acknowledgement, which may be delayed.
        poll_fn(|context| {
            let polled = pin!(self.read_chunk(LARGE_BYTES, true)).poll(context);
            if polled.is_pending() {
                buffer.let_go();
            }
            let Some(chunk) = ready!(polled).map_err(|error| read_error(&error))? else {
                return Poll::Ready(Ok(0));
            };
            let mut read = chunk.bytes.len();
            if read >= MORE_BYTES {
                buffer.append(&chunk.bytes);
                // An error comes again at the next call.
                read += buffer.fill_further(self, context).unwrap_or(0);
            } else {
                buffer.extend_from_slice(&chunk.bytes);
            }
            Poll::Ready(Ok(read))
        })
    }

    async fn stop(&mut self, code: Code, _patience: Duration) {
        // It fails only if the stream is over already, which is what was wanted.
        let _over = quinn::RecvStream::stop(self, code.into());
    }
}

fn read_error(error: &quinn::ReadError) -> Reason {
    match error {
        quinn::ReadError::Reset(code) => of_code(*code),
        quinn::ReadError::ConnectionLost(lost) => quic::reason(lost),
        _ => Reason::ConnectionLost,
    }
}

fn write_error(error: &quinn::WriteError) -> Reason {
    match error {
        quinn::WriteError::Stopped(code) => of_code(*code),
        quinn::WriteError::ConnectionLost(lost) => quic::reason(lost),
        _ => Reason::ConnectionLost,
    }
}

fn of_code(code: quinn::VarInt) -> Reason {
    match code.into_inner() {
        1 => Reason::ExternalRefused,
        2 => Reason::FramingNotSpoken,
        3 => Reason::TooMany,
        4 => Reason::PolicyViolation,
        _ => Reason::ConnectionLost,
    }
}

impl Transmit for quinn::SendStream {
    async fn write(&mut self, octets: Bytes) -> Result<(), Reason> {
        self.write_chunk(octets).await.map_err(|error| write_error(&error))
    }

    async fn write_both(&mut self, first: Bytes, then: Bytes) -> Result<(), Reason> {
        self.write_all_chunks(&mut [first, then]).await.map_err(|error| write_error(&error))
    }

    fn set_priority(&mut self, priority: i32) {
        // It fails only if the stream is over already.
        let _over = quinn::SendStream::set_priority(self, priority);
    }

    async fn finish(&mut self, patience: Duration) {
        quic::finish(self, patience).await;
    }

    fn reset(&mut self, code: Code) {
        // It fails only if the stream is over already, which is what was wanted.
        let _over = quinn::SendStream::reset(self, code.into());
    }
}

impl Receive for OwnedReadHalf {
    async fn read(&mut self, buffer: &mut ReadBuffer) -> Result<usize, Reason> {
        buffer.fill(self).await.map_err(|error| of_io(&error))
    }

    async fn stop(&mut self, _code: Code, patience: Duration) {
        // To close with octets unread would reset the connection, and take back what we said last if it was not yet
        // read. So they are read and thrown away until the other end closes too.
        let mut scratch = BytesMut::with_capacity(LARGE_BYTES);
        let until_closed = async {
            while let Ok(1..) = self.read_buf(&mut scratch).await {
                scratch.clear();
            }
        };
        let _closed = tokio::time::timeout(patience, until_closed).await;
    }
}

impl Transmit for OwnedWriteHalf {
    async fn write(&mut self, octets: Bytes) -> Result<(), Reason> {
        self.write_all(&octets).await.map_err(|error| of_io(&error))
    }

    async fn finish(&mut self, patience: Duration) {
        // The other end may be gone already.
        let _shut = tokio::time::timeout(patience, self.shutdown()).await;
    }

    fn reset(&mut self, _code: Code) {}
}

/// What an error of the operating system means for a connection.
pub(crate) fn of_io(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectionRefused,
        io::ErrorKind::TimedOut => Reason::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Reason::ConnectionRefused,
        _ => Reason::ConnectionLost,
    }
}

/// Resolve an endpoint with the system's resolver, within `patience`: the system itself may try for half a minute and more.
pub(crate) async fn resolve(endpoint: &Endpoint, patience: Duration) -> Result<Vec<SocketAddr>, Reason> {
    match endpoint {
        Endpoint::Address(address) => Ok(vec![*address]),
        Endpoint::Name { host, port } => {
            let looking = tokio::net::lookup_host((host.as_str(), *port));
            let found = tokio::time::timeout(patience, looking).await;
            let found: Vec<_> = found.ok().and_then(Result::ok).map(Iterator::collect).unwrap_or_default();
            if found.is_empty() { Err(Reason::NameNotResolved) } else { Ok(found) }
        }
    }
}
