//! Resumption is off at both ends: whichever end is ours, a second handshake is a full one and meets the verifier.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::client::Resumption;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::ServerSessionMemoryCache;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

use super::harness::{Scenario, shake_hands};
use crate::identity::config::Carrier;
use crate::reason::Reason;

/// A clock that the test sets.
#[derive(Debug, Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn now() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Self(Arc::new(AtomicU64::new(now.as_secs())))
    }

    fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_secs(), Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

/// A client that resumes whenever it can, as rustls does by itself.
fn eager_client(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    config
}

/// A server that lets resume whoever can, as rustls does by itself.
fn eager_server(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = ServerSessionMemoryCache::new(8);
    config.send_tls13_tickets = 2;
    config
}

/// Two handshakes with the same two configurations: the kind of the second, and the tickets that the client got.
fn twice(server: ServerConfig, client: ClientConfig) -> (Option<HandshakeKind>, u32) {
    let (server, client) = (Arc::new(server), Arc::new(client));
    let mut last = (None, 0);
    for _ in 0..2 {
        let name = ServerName::try_from("b.test").unwrap();
        let mut at_server = ServerConnection::new(Arc::clone(&server)).unwrap();
        let mut at_client = ClientConnection::new(Arc::clone(&client), name).unwrap();
        assert_eq!(shake_hands(&mut at_server, &mut at_client), (Ok(()), Ok(())));
        last = (at_server.handshake_kind(), at_client.tls13_tickets_received());
    }
    last
}

#[test]
fn two_ends_that_resume_by_default_would_skip_the_verifier() {
    // What the other tests would look like if a default came back.
    let (server, _, client, _) = Scenario::good().configs(Carrier::DirectTls);
    assert_eq!(twice(eager_server(server), eager_client(client)), (Some(HandshakeKind::Resumed), 2));
}

#[test]
fn our_server_gives_no_ticket_and_resumes_nobody() {
    let (server, _, client, _) = Scenario::good().configs(Carrier::DirectTls);
    assert_eq!(twice(server, eager_client(client)), (Some(HandshakeKind::Full), 0));
}

#[test]
fn our_client_resumes_with_nobody() {
    let (server, _, client, _) = Scenario::good().configs(Carrier::DirectTls);
    let (kind, _) = twice(eager_server(server), client);
    assert_eq!(kind, Some(HandshakeKind::Full));
}

#[test]
fn a_certificate_that_expires_between_two_handshakes_is_refused_the_second_time() {
    let scenario = Scenario::good();
    let (mut server, server_verdict, mut client, client_verdict) = scenario.configs(Carrier::DirectTls);
    let clock = Clock::now();
    server.time_provider = Arc::new(clock.clone());
    client.time_provider = Arc::new(clock.clone());
    let (server, client) = (Arc::new(server), Arc::new(eager_client(client)));
    let handshake = || {
        let name = ServerName::try_from("b.test").unwrap();
        let mut at_server = ServerConnection::new(Arc::clone(&server)).unwrap();
        let mut at_client = ClientConnection::new(Arc::clone(&client), name).unwrap();
        shake_hands(&mut at_server, &mut at_client)
    };
    assert_eq!(handshake(), (Ok(()), Ok(())));
    assert!(server_verdict.peer().is_some() && client_verdict.peer().is_some());
    clock.advance(Duration::from_secs(100 * 24 * 3600));
    let (by_server, by_client) = handshake();
    assert_eq!(client_verdict.reason_of(&by_client.unwrap_err()), Reason::CertificateExpired);
    assert!(by_server.is_err() && client_verdict.peer().is_none());
}
