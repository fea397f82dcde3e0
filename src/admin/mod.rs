//! What is told to whoever operates the relay: over HTTP, as follows, and over a unix socket ([`socket`]).
//!
//! The admin listener: `/metrics`, `/live` and `/ready` over HTTP/1.1. It changes nothing and names no tenant, so it
//! may be reachable by a monitoring network.
//!
//! | path | answers |
//! | --- | --- |
//! | `/metrics` | 200 and the metrics, in Prometheus' text format; 500 if a defect keeps them from being made |
//! | `/live` | 200 as long as the process answers |
//! | `/ready` | 200 if the relay can do its work, else 503 with one reason a line |

mod accepting;
mod respond;
pub mod socket;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinError;

use respond::Scraping;

use crate::relay::start::RelayView;

/// What one client may take from the others.
#[derive(Clone, Copy)]
struct Bounds {
    /// Connections served at once; more wait in the listener's backlog.
    connections: usize,
    /// From accepting a connection to the last octet of its only answer.
    connection_time: Duration,
    /// For the request's header; part of the time above.
    header_time: Duration,
}

const BOUNDS: Bounds =
    Bounds { connections: 32, connection_time: Duration::from_secs(10), header_time: Duration::from_secs(5) };
/// Octets of a request's header. hyper asks for at least 8 KiB.
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Fields in a request's header.
const HEADER_FIELDS_MAX: usize = 64;

/// What the listener shows.
pub trait AdminView: Send + Sync {
    /// All metrics, in Prometheus' text format. Called on a thread that may be blocked.
    fn metrics_text(&self) -> String;

    /// Whether the relay can do its work.
    ///
    /// # Errors
    /// Why not: one line for each reason, without the name of a tenant.
    fn readiness(&self) -> Result<(), Vec<String>>;

    /// A connection was served, or the metrics were made; or the task of it has panicked.
    fn served(&self, ended: Result<(), JoinError>);
}

impl AdminView for RelayView {
    fn metrics_text(&self) -> String {
        Self::metrics_text(self)
    }

    fn readiness(&self) -> Result<(), Vec<String>> {
        Self::readiness(self)
    }

    fn served(&self, ended: Result<(), JoinError>) {
        self.observe(ended);
    }
}

/// Serve `view` at `listener`, for as long as the future is polled. Dropping it ends its connections too.
pub async fn serve(listener: TcpListener, view: Arc<dyn AdminView>) {
    serve_within(BOUNDS, listener, view).await;
}

async fn serve_within(bounds: Bounds, listener: TcpListener, view: Arc<dyn AdminView>) {
    let accept = || async { listener.accept().await.map(|(stream, _)| stream) };
    let scraping = Arc::new(Scraping::new(Arc::clone(&view)));
    let serve = |stream| connection(bounds, stream, Arc::clone(&scraping));
    accepting::serve("admin listener", bounds.connections, accept, serve, |ended| view.served(ended)).await;
}

/// One connection, one request. What goes wrong is the client's loss: it sees a closed connection.
async fn connection(bounds: Bounds, stream: TcpStream, scraping: Arc<Scraping>) {
    let service = service_fn(move |request| {
        let scraping = Arc::clone(&scraping);
        async move { Ok::<_, std::convert::Infallible>(respond::respond(request, &scraping).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_time)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADER_FIELDS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(bounds.connection_time, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin request failed"),
        Err(_) => tracing::debug!("admin request took too long"),
    }
}
