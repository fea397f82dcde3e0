//! A small XMPP server for the demo: it opens and accepts ordinary server-to-server streams over plain TCP on loopback,
//! one for each (local domain, remote domain), as a real server beside a relay does.
//!
//! The endpoint behind A opens; its stanza crosses to B; the relay there connects to the endpoint behind B to deliver
//! it; and what that endpoint has to say to the domain goes back on the same stream, which is bidirectional (XEP-0288).

mod carry;
mod handshake;
mod shared;
mod wire;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use self::handshake::Accepted;
use self::wire::Wire;
use super::flow::{Flow, Flows};

/// From connecting to an authenticated stream.
const HANDSHAKE_MAX: Duration = Duration::from_secs(15);
/// Streams that are opened at once.
const OPENING_MAX: usize = 32;

/// Why a stream of an endpoint failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The connection.
    #[error("{0}")]
    Connection(#[from] std::io::Error),
    /// The other end closed the stream.
    #[error("the relay closed the stream: {0}")]
    Closed(String),
    /// The other end said something that doesn't belong there.
    #[error("the relay sent {0}")]
    Unexpected(String),
    /// [`HANDSHAKE_MAX`] passed.
    #[error("no authenticated stream within {} s", HANDSHAKE_MAX.as_secs())]
    Slow,
    /// A domain pair that the demo doesn't have.
    #[error("the relay opened a stream from {0:?} to {1:?}, which are not a pair of this demo")]
    UnknownPair(String, String),
}

/// A server with all its streams, which end when it is dropped.
#[derive(Debug)]
pub(super) struct Endpoint {
    flows: Arc<Flows>,
    accepting: AbortHandle,
    streams: Arc<Mutex<JoinSet<()>>>,
}

impl Endpoint {
    /// Accept streams from a relay that delivers.
    pub(super) fn serve(listener: TcpListener, flows: Arc<Flows>) -> Self {
        let streams = Arc::new(Mutex::new(JoinSet::new()));
        let accepting =
            tokio::spawn(accept_all(listener, Arc::clone(&flows), Arc::clone(&streams))).abort_handle();
        Self { flows, accepting, streams }
    }

    /// Open a stream to a relay for each of these flows; they carry the flow's opposite direction too.
    ///
    /// # Errors
    /// The first stream that can't be opened, with its pair.
    pub(super) async fn open(
        &self,
        relay: SocketAddr,
        outbound: &[Arc<Flow>],
    ) -> Result<(), (Arc<Flow>, StreamError)> {
        let permits = Arc::new(Semaphore::new(OPENING_MAX));
        let mut opening = JoinSet::new();
        for flow in outbound {
            let (flow, permits) = (Arc::clone(flow), Arc::clone(&permits));
            opening.spawn(async move {
                // Never closed: a permit always comes.
                let _permit = permits.acquire_owned().await;
                let opened = within(open(relay, &flow)).await;
                opened.map(|wire| (wire, Arc::clone(&flow))).map_err(|error| (flow, error))
            });
        }
        while let Some(opened) = opening.join_next().await {
            // An opening task neither panics nor is aborted before this loop ends.
            let Ok(opened) = opened else { continue };
            let (wire, outbound) = opened?;
            let Some(inbound) = self.flows.find(outbound.to.as_str(), outbound.from.as_str()) else {
                continue;
            };
            let (inbound, flows) = (Arc::clone(inbound), Arc::clone(&self.flows));
            lock(&self.streams).spawn(async move {
                let sender = outbound.sender();
                let (socket, rest) = wire.into_parts();
                let outcome = carry::carry(socket, rest, &inbound, sender).await;
                report(&flows, &format!("{} -> {}", outbound.from, outbound.to), outcome);
            });
        }
        Ok(())
    }
}

impl Endpoint {
    /// Open one stream to a relay for all of these flows, which leave the same domain; it carries their opposite
    /// directions too.
    ///
    /// # Errors
    /// Why it can't be opened.
    pub(super) async fn open_shared(
        &self,
        relay: SocketAddr,
        outbound: Vec<Arc<Flow>>,
    ) -> Result<(), StreamError> {
        let wire = within(shared::open(relay, &outbound)).await?;
        let flows = Arc::clone(&self.flows);
        lock(&self.streams).spawn(async move {
            let outcome = shared::carry_all(wire, outbound, &flows).await;
            report(&flows, "a shared stream", outcome);
        });
        Ok(())
    }
}

#[cfg(test)]
impl Endpoint {
    /// Cut every stream, as a server that dies does.
    pub(super) async fn end_streams(&self) {
        let mut streams = std::mem::take(&mut *lock(&self.streams));
        streams.shutdown().await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn within<T>(work: impl Future<Output = Result<T, StreamError>>) -> Result<T, StreamError> {
    tokio::time::timeout(HANDSHAKE_MAX, work).await.unwrap_or(Err(StreamError::Slow))
}

async fn open(relay: SocketAddr, flow: &Flow) -> Result<Wire, StreamError> {
    let socket = TcpStream::connect(relay).await?;
    socket.set_nodelay(true)?;
    let mut wire = Wire::new(socket);
    handshake::initiate(&mut wire, &flow.from, &flow.to).await?;
    Ok(wire)
}

async fn accept_all(listener: TcpListener, flows: Arc<Flows>, streams: Arc<Mutex<JoinSet<()>>>) {
    let mut id = 0_u64;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                id += 1;
                let flows = Arc::clone(&flows);
                lock(&streams).spawn(async move {
                    let outcome = serve(socket, id, &flows).await;
                    report(&flows, "a delivering stream", outcome);
                });
            }
            Err(error) => {
                flows.shared.trouble(format!("an endpoint can't accept a connection: {error}"));
                // Out of file descriptors, mostly: they come back, but not at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(socket: TcpStream, id: u64, flows: &Flows) -> Result<(), StreamError> {
    socket.set_nodelay(true)?;
    let mut wire = Wire::new(socket);
    let Accepted { from, to, bidirectional } = within(handshake::accept(&mut wire, id)).await?;
    let (Some(inbound), Some(outbound)) = (flows.find(&from, &to), flows.find(&to, &from)) else {
        return Err(StreamError::UnknownPair(from, to));
    };
    let sender = if bidirectional { outbound.sender() } else { None };
    let (socket, rest) = wire.into_parts();
    carry::carry(socket, rest, inbound, sender).await
}

fn report(flows: &Flows, what: &str, outcome: Result<(), StreamError>) {
    if let Err(error) = outcome {
        flows.shared.trouble(format!("{what}: {error}"));
    }
}

fn lock(streams: &Mutex<JoinSet<()>>) -> MutexGuard<'_, JoinSet<()>> {
    streams.lock().unwrap_or_else(PoisonError::into_inner)
}
