//! Real handshakes between two relays' configurations: in memory (TLS over TCP) and over QUIC on loopback. Every
//! scenario runs over both, and every refusal has a reason of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, HandshakeKind, ServerConfig, ServerConnection};

use super::certificate::Certificate;
use super::config::{Carrier, Tls};
use super::development::{DevelopmentCa, IssuedPem, Purpose, Request};
use super::store::CertificateStore;
use super::trust::{Anchors, TrustStore};
use super::verdict::{PeerIdentity, Verdict};
use crate::reason::Reason;
use crate::xmpp::domain::{Domain, DomainPattern};

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// A store with these certificates, read from a folder like any other.
fn store_of(issued: &[IssuedPem]) -> Arc<CertificateStore> {
    let folder = tempfile::tempdir().unwrap();
    for (index, pem) in issued.iter().enumerate() {
        let text = format!("{}{}", pem.certificate, pem.key);
        std::fs::write(folder.path().join(format!("{index}.pem")), text).unwrap();
    }
    let store = CertificateStore::load(folder.path()).unwrap();
    assert_eq!(store.certificates().len(), issued.len());
    Arc::new(store)
}

fn certificate_of(issued: &IssuedPem) -> Arc<Certificate> {
    Arc::clone(&store_of(std::slice::from_ref(issued)).certificates()[0])
}

fn trust_in(ca: &DevelopmentCa) -> Arc<TrustStore> {
    Arc::new(TrustStore::new(Anchors::from_pem(ca.ca_pem()).unwrap(), Vec::new()))
}

/// One handshake, as a scenario tells it.
struct Scenario {
    server: Arc<CertificateStore>,
    client: Arc<Certificate>,
    server_trust: Arc<TrustStore>,
    client_trust: Arc<TrustStore>,
    /// The client offers no certificate.
    client_is_silent: bool,
    expected: Domain,
    /// The name that the client asks for; that of `expected` unless told.
    sni: String,
}

/// What both ends found out.
#[derive(Debug)]
struct Outcome {
    /// What the server knows about the client.
    by_server: Result<Arc<PeerIdentity>, Reason>,
    /// What the client knows about the server.
    by_client: Result<Arc<PeerIdentity>, Reason>,
    shown_by_server: Option<Arc<Certificate>>,
    shown_by_client: Option<Arc<Certificate>>,
}

impl Scenario {
    /// `a.test` dials `b.test`, both with good certificates of one authority.
    fn good() -> Self {
        let ca = DevelopmentCa::create().unwrap();
        let a = ca.issue(&Request { dns: &["a.test"], ..Request::default() }).unwrap();
        let b = ca.issue(&Request { dns: &["b.test"], ..Request::default() }).unwrap();
        Self {
            server: store_of(&[b]),
            client: certificate_of(&a),
            server_trust: trust_in(&ca),
            client_trust: trust_in(&ca),
            client_is_silent: false,
            expected: domain("b.test"),
            sni: "b.test".to_owned(),
        }
    }

    /// The same, but the client shows this certificate.
    fn with_client(request: &Request<'_>) -> Self {
        let ca = DevelopmentCa::create().unwrap();
        let client = certificate_of(&ca.issue(request).unwrap());
        Self { client, server_trust: trust_in(&ca), ..Self::good() }
    }

    /// The same, but the server shows this certificate. What a server with an honest resolver would not show, it shows
    /// here all the same.
    fn with_server(request: &Request<'_>) -> Self {
        let ca = DevelopmentCa::create().unwrap();
        let server = store_of(&[ca.issue(request).unwrap()]);
        Self { server, client_trust: trust_in(&ca), ..Self::good() }
    }

    fn dialling(self, name: &str) -> Self {
        Self { expected: domain(name), sni: domain(name).to_ascii(), ..self }
    }
}
