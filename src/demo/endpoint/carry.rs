//! The stanza half of an endpoint's XML stream: numbered stanzas both ways until it ends.
//!
//! The receiver knows what must arrive and compares octets: anything else that stands in the stream is trouble.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use memchr::memmem::Finder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::StreamError;
use crate::demo::flow::{Flow, Sender};
use crate::demo::message;

pub(super) const READ_BYTES: usize = 65_536;
/// Longer than any stanza of the demo, and than one that comes back with an error in it.
const STANZA_BYTES_MAX: usize = 4_096;

/// Carry a flow in and, if the stream is the first to offer, one out. Ends when the other end closes its stream.
pub(super) async fn carry(
    mut socket: TcpStream,
    rest: Vec<u8>,
    inbound: &Arc<Flow>,
    outbound: Option<Sender>,
) -> Result<(), StreamError> {
    let (mut reading, mut writing) = socket.split();
    let outcome = tokio::select! {
        outcome = read(&mut reading, &rest, inbound) => outcome,
        outcome = write(&mut writing, outbound) => outcome,
    };
    close(&mut writing).await;
    outcome
}

/// RFC 6120 section 4.4: a closed stream is closed in return. If that fails, there is nobody left to tell.
pub(super) async fn close(socket: &mut (impl AsyncWriteExt + Unpin)) {
    drop(socket.write_all(b"</stream:stream>").await);
    drop(socket.shutdown().await);
}

async fn write(
    socket: &mut (impl AsyncWriteExt + Unpin),
    outbound: Option<Sender>,
) -> Result<(), StreamError> {
    let mut batch = Vec::new();
    if let Some(mut sender) = outbound {
        while sender.batch(&mut batch).await {
            socket.write_all(&batch).await?;
            batch.clear();
        }
    }
    // Nothing to send: the stream lives as long as the reader's.
    std::future::pending().await
}

async fn read(
    socket: &mut (impl AsyncReadExt + Unpin),
    rest: &[u8],
    inbound: &Flow,
) -> Result<(), StreamError> {
    let end = Finder::new(message::END);
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    buffer.extend_from_slice(rest);
    let mut scratch = Vec::new();
    loop {
        take_stanzas(&mut buffer, &end, inbound, &mut scratch);
        if is_over(&buffer)? {
            return Ok(());
        }
        buffer.reserve(READ_BYTES);
        if socket.read_buf(&mut buffer).await? == 0 {
            return Err(cut());
        }
    }
}

/// Whether what stands behind the last whole stanza is the end of the stream.
pub(super) fn is_over(rest: &[u8]) -> Result<bool, StreamError> {
    let tail = rest.trim_ascii();
    if tail.starts_with(b"<stream:error") || tail.len() > STANZA_BYTES_MAX {
        return Err(StreamError::Closed(String::from_utf8_lossy(tail).into_owned()));
    }
    Ok(tail == b"</stream:stream>")
}

/// The connection ended before the stream did.
pub(super) fn cut() -> StreamError {
    StreamError::Closed("the end of the connection, without </stream:stream>".to_owned())
}

/// Count every whole stanza of the buffer, under one lock.
fn take_stanzas(buffer: &mut BytesMut, end: &Finder<'_>, inbound: &Flow, scratch: &mut Vec<u8>) {
    let now = Instant::now();
    let mut ledger = inbound.ledger();
    while let Some(at) = end.find(buffer) {
        let length = at + message::END.len();
        // White space between stanzas is a keep-alive (RFC 6120 section 4.6.1).
        let stanza = buffer[..length].trim_ascii_start();
        inbound.receive(&mut ledger, stanza, now, scratch);
        buffer.advance(length);
    }
}
