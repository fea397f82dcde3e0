//! What the octets of a stream are read into: much at once while much comes, nothing while nothing does.
//!
//! A stream that has octets to read borrows a large buffer of its thread, and gives it back as soon as there is nothing more:
//! idle streams hold none, and of an unfinished stanza only its own octets. So many may be out at once; the streams beyond
//! read in small pieces, because a stream whose stanzas wait for room keeps its buffer for as long.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Octets of a large buffer.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;
/// Large buffers that may be out at once, over all streams of the process: 16 MB.
const LARGE_MAX: usize = 256;
/// What one read brings at the most without a large one.
const SMALL_BYTES: usize = 4 * 1024;
/// An unfinished stanza up to this is moved into a large buffer, and out of it; a longer one has a buffer of its own.
const MOVED_BYTES_MAX: usize = 16 * 1024;
/// Large buffers that each thread keeps for the next stream.
const KEPT_MAX: usize = 4;

static OUT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static KEPT: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// The right to one large buffer.
#[derive(Debug)]
struct Loan;

impl Loan {
    fn take() -> Option<Self> {
        let others = OUT.fetch_add(1, Ordering::Relaxed);
        // One too many is given back where this drops it.
        let loan = Self;
        (others < LARGE_MAX).then_some(loan)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        OUT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What came on a stream and isn't dealt with.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    octets: BytesMut,
    /// It is a large one.
    loan: Option<Loan>,
}

/// What a stream is read from, and into.
#[derive(Debug)]
pub(crate) struct Ear<R> {
    pub(crate) receive: R,
    pub(crate) buffer: ReadBuffer,
}

impl Deref for ReadBuffer {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.octets
    }
}

impl DerefMut for ReadBuffer {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.octets
    }
}

impl ReadBuffer {
    /// Append what comes; 0: nothing more will. Nothing is lost if this is dropped before it resolves.
    ///
    /// # Errors
    /// What reading fails with.
    pub(crate) async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin + Send)) -> io::Result<usize> {
        poll_fn(|context| {
            self.make_room();
            let polled = pin!(from.read_buf(&mut self.octets)).poll(context);
            if polled.is_pending() {
                self.let_go();
            }
            polled
        })
        .await
    }

    /// Append what is there behind the octets just appended; 0 if there is nothing yet.
    ///
    /// # Errors
    /// What reading fails with.
    pub(crate) fn fill_further(
        &mut self,
        from: &mut (impl AsyncRead + Unpin + Send),
        context: &mut Context<'_>,
    ) -> io::Result<usize> {
        match pin!(from.read_buf(&mut self.octets)).poll(context) {
            Poll::Ready(read) => read,
            Poll::Pending => Ok(0),
        }
    }

    /// Append octets behind which there may be more.
    pub(crate) fn append(&mut self, octets: &[u8]) {
        self.make_room();
        self.octets.extend_from_slice(octets);
    }

    fn make_room(&mut self) {
        if self.loan.is_none()
            && self.octets.len() <= MOVED_BYTES_MAX
            && let Some(loan) = Loan::take()
        {
            let kept = KEPT.with_borrow_mut(Vec::pop);
            let mut large = kept.unwrap_or_else(|| BytesMut::with_capacity(LARGE_BYTES));
            large.extend_from_slice(&self.octets);
            (self.octets, self.loan) = (large, Some(loan));
        }
        // Where a large one has less, most of what was in it is dealt with, and its room is used again.
        let room = if self.loan.is_some() { LARGE_BYTES / 2 } else { SMALL_BYTES };
        self.octets.reserve(room);
    }

    /// There is nothing to read.
    pub(crate) fn let_go(&mut self) {
        if self.octets.len() > MOVED_BYTES_MAX {
            // It has outgrown the large one, or will.
            self.loan = None;
        } else if self.loan.take().is_some() {
            let mut large = std::mem::take(&mut self.octets);
            self.octets.extend_from_slice(&large);
            large.clear();
            KEPT.with_borrow_mut(|kept| {
                if kept.len() < KEPT_MAX {
                    kept.push(large);
                }
            });
        } else if self.octets.is_empty() {
            self.octets = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Read what is there.
    fn fill(buffer: &mut ReadBuffer, from: &mut (impl AsyncRead + Unpin + Send)) -> Poll<usize> {
        let polled = pin!(buffer.fill(from)).poll(&mut Context::from_waker(Waker::noop()));
        polled.map(Result::unwrap)
    }

    #[tokio::test]
    async fn much_is_read_at_once_and_nothing_is_held_for_nothing() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let mut buffer = ReadBuffer::default();
        assert!(fill(&mut buffer, &mut near).is_pending());
        assert_eq!(buffer.capacity(), 0);
        far.write_all(&vec![b'x'; 40_000]).await.unwrap();
        assert_eq!(fill(&mut buffer, &mut near), Poll::Ready(40_000));
        bytes::Buf::advance(&mut *buffer, 39_990);
        assert!(fill(&mut buffer, &mut near).is_pending());
        assert_eq!((&buffer[..], buffer.loan.is_none()), (&b"xxxxxxxxxx"[..], true));
        assert!(buffer.capacity() < 100, "{}", buffer.capacity());
        far.write_all(b"yz").await.unwrap();
        assert_eq!((fill(&mut buffer, &mut near), &buffer[..]), (Poll::Ready(2), &b"xxxxxxxxxxyz"[..]));
        drop(far);
        assert_eq!(fill(&mut buffer, &mut near), Poll::Ready(0));
    }

    #[tokio::test]
    async fn a_large_stanza_keeps_what_came_of_it_however_it_comes() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let (mut buffer, mut sent) = (ReadBuffer::default(), Vec::new());
        for (at, len) in [10_usize, 5_000, 16_000, 1, 70_000, 3].into_iter().enumerate() {
            let octets = vec![b'a' + u8::try_from(at).unwrap(); len];
            far.write_all(&octets).await.unwrap();
            sent.extend_from_slice(&octets);
            while fill(&mut buffer, &mut near).is_ready() {}
            assert!(buffer[..] == sent[..], "{at}");
        }
        assert!(buffer.loan.is_none());
    }
}
