//! TLS over TCP (XEP-0368, RFC 6120 section 5): one connection, both halves of it.
//!
//! Whoever ends a handshake says why by an alert. A socket that is closed with octets unread is reset, which takes the
//! alert back, so a client that is refused is listened to for a moment before its connection is dropped.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An established connection, at either end.
pub type TlsStream = tokio_rustls::TlsStream<TcpStream>;

/// Keep-alives that may stay unanswered.
const PROBES: u32 = 4;

/// Tune a fresh connection: stanzas are small and somebody waits for each; and an other end that vanished without a word
/// is noticed when nothing came from it for `silence`. What is under way has the operating system's own patience.
pub fn prepare(tcp: &TcpStream, silence: Duration) {
    let keepalive = TcpKeepalive::new()
        .with_time(silence / 3)
        .with_interval(silence * 2 / 3 / PROBES)
        .with_retries(PROBES);
    // It works without either.
    let _best_effort = (tcp.set_nodelay(true), SockRef::from(tcp).set_tcp_keepalive(&keepalive));
}

/// Shake hands on a connection that we opened, asking for `name`.
///
/// # Errors
/// What went wrong; [`tls_error`] finds the alert in it.
pub async fn connect(tcp: TcpStream, config: ClientConfig, name: &str) -> io::Result<TlsStream> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?.into())
}

/// Shake hands on a connection that somebody opened to us.
///
/// # Errors
/// As [`connect`], and the connection, of which the alert may have to be taken yet ([`part`]): a client sends on as soon
/// as it has said its part of the handshake.
pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<TlsStream, (io::Error, TcpStream)> {
    TlsAcceptor::from(config).accept(tcp).into_fallible().await.map(Into::into)
}

/// End a connection on which everything was said: finish, and take what the other end still sends until it finishes too,
/// at most for `patience`.
pub async fn part(mut tcp: TcpStream, patience: Duration) {
    let parting = async {
        // It fails if the other end is gone already.
        if tcp.shutdown().await.is_ok() {
            drain(&mut tcp).await;
        }
    };
    let _parted = tokio::time::timeout(patience, parting).await;
}

/// Read and throw away until nothing more comes.
pub async fn drain<R: AsyncRead + Unpin>(from: &mut R) {
    let mut scratch = [0; 4096];
    while let Ok(1..) = from.read(&mut scratch).await {}
}

/// The exporter value of a connection (RFC 5705), the same at both ends.
#[must_use]
pub fn exporter(stream: &TlsStream, label: &[u8]) -> Option<[u8; 32]> {
    let value = [0; 32];
    match stream {
        TlsStream::Client(stream) => stream.get_ref().1.export_keying_material(value, label, Some(b"")),
        TlsStream::Server(stream) => stream.get_ref().1.export_keying_material(value, label, Some(b"")),
    }
    .ok()
}

/// What TLS itself had to say about an error, if it was TLS that failed.
#[must_use]
pub fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
