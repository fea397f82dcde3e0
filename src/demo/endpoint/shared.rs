//! One stream for each host, shared by all pairs of that host. With hundreds of pairs a stream for each would need more
//! open files than most systems allow a process: each is a TCP connection with both ends in this one.
//!
//! Further pairs join a stream by dialback (XEP-0220 section 2.6, piggybacking), which the relay believes from where it
//! trusts this server, and what comes back for them comes on the same stream (XEP-0288).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use memchr::memmem::Finder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::handshake;
use super::wire::Wire;
use super::{StreamError, carry};
use crate::demo::flow::{Flow, Flows, Sender};
use crate::demo::message;

/// Batches of all flows of one stream that wait to be written.
const BATCHES_MAX: usize = 4;

/// Open a stream from the one domain that all of `flows` leave, and authenticate it for each of them.
pub(super) async fn open(relay: SocketAddr, flows: &[Arc<Flow>]) -> Result<Wire, StreamError> {
    let socket = TcpStream::connect(relay).await?;
    socket.set_nodelay(true)?;
    let mut wire = Wire::new(socket);
    if let Some((first, further)) = flows.split_first() {
        handshake::initiate(&mut wire, &first.from, &first.to).await?;
        handshake::join(&mut wire, further.iter().map(|flow| (&flow.from, &flow.to))).await?;
    }
    Ok(wire)
}

/// Carry the flows out, and whatever comes in, until the other end closes its stream.
pub(super) async fn carry_all(
    wire: Wire,
    outbound: Vec<Arc<Flow>>,
    flows: &Flows,
) -> Result<(), StreamError> {
    let (mut socket, rest) = wire.into_parts();
    let (mut reading, mut writing) = socket.split();
    let (batches, written) = mpsc::channel(BATCHES_MAX);
    // They end when they are dropped, with this.
    let mut senders = JoinSet::new();
    for sender in outbound.iter().filter_map(Flow::sender) {
        senders.spawn(batch(sender, batches.clone()));
    }
    let outcome = tokio::select! {
        outcome = read(&mut reading, &rest, flows) => outcome,
        outcome = write(&mut writing, written) => outcome,
    };
    carry::close(&mut writing).await;
    outcome
}

async fn batch(mut sender: Sender, batches: mpsc::Sender<Vec<u8>>) {
    let mut batch = Vec::new();
    while sender.batch(&mut batch).await {
        if batches.send(std::mem::take(&mut batch)).await.is_err() {
            return;
        }
    }
}

async fn write(
    socket: &mut (impl AsyncWriteExt + Unpin),
    mut batches: mpsc::Receiver<Vec<u8>>,
) -> Result<(), StreamError> {
    while let Some(batch) = batches.recv().await {
        socket.write_all(&batch).await?;
    }
    // Nothing to send: the stream lives as long as the reader's.
    std::future::pending().await
}

async fn read(
    socket: &mut (impl AsyncReadExt + Unpin),
    rest: &[u8],
    flows: &Flows,
) -> Result<(), StreamError> {
    let end = Finder::new(message::END);
    let mut buffer = BytesMut::with_capacity(carry::READ_BYTES);
    buffer.extend_from_slice(rest);
    let mut scratch = Vec::new();
    loop {
        while let Some(at) = end.find(&buffer) {
            let length = at + message::END.len();
            // White space between stanzas is a keep-alive (RFC 6120 section 4.6.1).
            take(buffer[..length].trim_ascii_start(), flows, &mut scratch)?;
            buffer.advance(length);
        }
        if carry::is_over(&buffer)? {
            return Ok(());
        }
        buffer.reserve(carry::READ_BYTES);
        if socket.read_buf(&mut buffer).await? == 0 {
            return Err(carry::cut());
        }
    }
}

fn take(stanza: &[u8], flows: &Flows, scratch: &mut Vec<u8>) -> Result<(), StreamError> {
    let unknown = || StreamError::Unexpected(String::from_utf8_lossy(stanza).into_owned());
    let (from, to) = message::domains(stanza).ok_or_else(unknown)?;
    let flow = flows.find(from, to).ok_or_else(unknown)?;
    flow.receive(&mut flow.ledger(), stanza, Instant::now(), scratch);
    Ok(())
}
