//! QUIC as this relay uses it (RFC 9000, XEP-0467): one UDP socket for connections in both directions, bidirectional
//! streams only, and windows under which a lane that nobody reads can't stall the others.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, ControllerFactory};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ConnectionError, Endpoint, EndpointConfig, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;

use super::congestion::FlooredCubicConfig;
use crate::proto::limits::{Congestion, Limits};
use crate::reason::Reason;

/// Application error codes of connections, resets and stops (RFC 9000 section 20.2), as this relay's profile has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Everything was done.
    Done,
    /// Refused; nothing of this stream was handled, and it is safe to send again.
    Refused,
    /// This framing isn't spoken.
    Framing,
    /// A limit.
    Limit,
    /// The protocol was violated.
    Violation,
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        VarInt::from_u32(match code {
            Code::Done => 0,
            Code::Refused => 1,
            Code::Framing => 2,
            Code::Limit => 3,
            Code::Violation => 4,
        })
    }
}

/// What one session may have unacknowledged in its send buffers, in octets, at the least. It may have as much as it takes from its peer
/// in `limits.session_window`, so that this is hardly ever what a lane waits for: when there is room QUIC wakes all that do, the last
/// one first, and a few take it every time. What a lane has there under stream management is in our custody still, and counts for
/// `limits.queue_bytes`.
const SEND_WINDOW_MIN: u64 = 8 * 1024 * 1024;

/// How all connections are tuned.
#[must_use]
pub fn transport_config(limits: &Limits) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let controller: Arc<dyn ControllerFactory + Send + Sync> = match limits.congestion {
        Congestion::Cubic => Arc::new(FlooredCubicConfig::new(limits.congestion_window_min)),
        Congestion::Bbr => Arc::new(BbrConfig::default()),
    };
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.lanes_unauthenticated))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(limits.lane_window))
        .receive_window(VarInt::from_u32(limits.session_window))
        .send_window(SEND_WINDOW_MIN.max(limits.session_window.into()))
        .keep_alive_interval(Some(limits.path_idle / 3))
        .max_idle_timeout(quinn::IdleTimeout::try_from(limits.path_idle).ok())
        .congestion_controller_factory(controller);
    Arc::new(config)
}

/// An endpoint on a bound socket, for connections in both directions. A peer that finds us by our address so sees the
/// same address when we come to it.
///
/// `key` makes the tokens of stateless resets (RFC 9000 section 10.3). If it is that of the process that was here before and
/// died, a peer that dialled that one learns by its next datagram that it is gone; else only by a time-out.
///
/// # Errors
/// What the operating system says.
pub fn endpoint(socket: UdpSocket, key: &[u8; 32]) -> io::Result<Endpoint> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    // Only to an identifier that may be ours a reset is sent: those of the process before are told by the same key.
    let mut ids = [0; 8];
    ids.copy_from_slice(&hmac::sign(&key, b"connection identifiers").as_ref()[..8]);
    let ids = u64::from_be_bytes(ids);
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime))
}

/// The configuration under which one incoming connection is accepted.
///
/// # Errors
/// [`Reason::HandshakeFailed`] if the TLS configuration has no cipher suite that QUIC needs.
pub fn server_config(
    tls: Arc<rustls::ServerConfig>,
    transport: &Arc<TransportConfig>,
) -> Result<Arc<ServerConfig>, Reason> {
    let crypto = QuicServerConfig::try_from(tls).map_err(|_| Reason::HandshakeFailed)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::clone(transport)).migration(true);
    Ok(Arc::new(config))
}

/// The configuration of an endpoint that takes incoming connections at all; each one is then accepted with its own.
/// It carries the keys with which retry tokens are made.
///
/// # Errors
/// As [`server_config`].
pub fn listen(endpoint: &Endpoint, config: Arc<ServerConfig>) {
    endpoint.set_server_config(Some(Arc::unwrap_or_clone(config)));
}

/// The configuration of one outgoing connection.
///
/// # Errors
/// [`Reason::HandshakeFailed`] if the TLS configuration has no cipher suite that QUIC needs.
pub fn client_config(
    tls: rustls::ClientConfig,
    transport: &Arc<TransportConfig>,
) -> Result<ClientConfig, Reason> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|_| Reason::HandshakeFailed)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::clone(transport));
    Ok(config)
}

/// `address` as `endpoint`'s socket reaches it: an IPv6 socket reaches IPv4 by mapped addresses.
#[must_use]
pub fn reachable(local: SocketAddr, address: SocketAddr) -> Option<SocketAddr> {
    match (local, address) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => Some(address),
        (SocketAddr::V6(local), SocketAddr::V4(v4)) if local.ip().is_unspecified() => {
            Some(SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()))
        }
        _ => None,
    }
}

/// An address without the IPv4 mapping, as configurations and logs have it.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The TLS alert with which a handshake ended, if it was one (RFC 9001 section 4.8).
#[must_use]
pub fn alert(error: &ConnectionError) -> Option<u8> {
    let code = match error {
        ConnectionError::TransportError(error) => u64::from(error.code),
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        _ => return None,
    };
    (0x100..0x200).contains(&code).then(|| u8::try_from(code & 0xff).ok()).flatten()
}

/// Why a connection ended.
#[must_use]
pub fn reason(error: &ConnectionError) -> Reason {
    match error {
        ConnectionError::TimedOut => Reason::ConnectionLost,
        ConnectionError::LocallyClosed => Reason::Idle,
        ConnectionError::ApplicationClosed(close) => match close.error_code.into_inner() {
            0 => Reason::Idle,
            3 => Reason::TooMany,
            4 => Reason::PolicyViolation,
            _ => Reason::ConnectionLost,
        },
        ConnectionError::VersionMismatch => Reason::HandshakeFailed,
        _ => Reason::ConnectionLost,
    }
}

/// The exporter value of a session (RFC 5705), the same at both ends.
#[must_use]
pub fn exporter(connection: &quinn::Connection, label: &[u8]) -> Option<[u8; 32]> {
    let mut value = [0; 32];
    connection.export_keying_material(&mut value, label, b"").ok().map(|()| value)
}

/// Finish a stream, and wait until the peer's transport has acknowledged everything on it, at most `patience`:
/// what was sent just before a close arrives.
pub async fn finish(stream: &mut quinn::SendStream, patience: Duration) {
    if stream.finish().is_ok() {
        // Either all is acknowledged, or the peer wants no more, or the connection is gone: it is over in each case.
        let _acknowledged = tokio::time::timeout(patience, stream.stopped()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_socket_reaches_ipv4_and_both_forms_are_one_address() {
        let any: SocketAddr = "[::]:5269".parse().unwrap();
        let v4: SocketAddr = "192.0.2.1:5269".parse().unwrap();
        let mapped = reachable(any, v4).unwrap();
        assert!(mapped.is_ipv6());
        assert_eq!(canonical(mapped), v4);
        assert_eq!(reachable("127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()), None);
    }
}
