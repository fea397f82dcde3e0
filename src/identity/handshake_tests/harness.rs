//! Two ends with real configurations: over TLS in memory, and over QUIC on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use quinn::ConnectionError;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection, SignatureScheme,
};

use crate::identity::certificate::Certificate;
use crate::identity::config::{Carrier, Tls};
use crate::identity::development::{DevelopmentCa, IssuedPem, Request};
use crate::identity::store::CertificateStore;
use crate::identity::trust::{Anchors, TrustStore};
use crate::identity::verdict::{PeerIdentity, Verdict};
use crate::proto::discovery::pins::Pins;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

pub(super) fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// A store with these certificates, read from a folder like any other.
pub(super) fn store_of(issued: &[IssuedPem]) -> Arc<CertificateStore> {
    let folder = tempfile::tempdir().unwrap();
    for (index, pem) in issued.iter().enumerate() {
        let text = format!("{}{}", pem.certificate, pem.key);
        std::fs::write(folder.path().join(format!("{index}.pem")), text).unwrap();
    }
    let store = CertificateStore::load(folder.path()).unwrap();
    assert_eq!(store.certificates().len(), issued.len());
    Arc::new(store)
}

pub(super) fn certificate_of(issued: &IssuedPem) -> Arc<Certificate> {
    Arc::clone(&store_of(std::slice::from_ref(issued)).certificates()[0])
}

pub(super) fn trust_in(ca: &DevelopmentCa) -> Arc<TrustStore> {
    Arc::new(TrustStore::new(anchors(ca), Vec::new()))
}

pub(super) fn anchors(ca: &DevelopmentCa) -> Anchors {
    Anchors::from_pem(ca.ca_pem()).unwrap()
}

/// One handshake, as a scenario tells it.
pub(super) struct Scenario {
    pub(super) server: Arc<CertificateStore>,
    pub(super) client: Arc<Certificate>,
    pub(super) server_trust: Arc<TrustStore>,
    pub(super) client_trust: Arc<TrustStore>,
    /// The client offers no certificate.
    pub(super) client_is_silent: bool,
    /// The server shows its first certificate whatever is asked for and however bad it is.
    pub(super) server_is_careless: bool,
    pub(super) expected: Domain,
    /// The keys that the domain has published.
    pub(super) pins: Pins,
    /// The name that the client asks for.
    pub(super) sni: String,
}

/// What one end found out.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) peer: Result<Arc<PeerIdentity>, Reason>,
    /// Which certificate it showed.
    pub(super) shown: Option<Arc<Certificate>>,
}

/// What both ends found out.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) server: Finding,
    pub(super) client: Finding,
}

impl Scenario {
    /// `a.test` dials `b.test`, both with good certificates of one authority.
    pub(super) fn good() -> Self {
        let ca = DevelopmentCa::create().unwrap();
        let a = ca.issue(&Request { dns: &["a.test"], ..Request::default() }).unwrap();
        let b = ca.issue(&Request { dns: &["b.test"], ..Request::default() }).unwrap();
        Self {
            server: store_of(&[b]),
            client: certificate_of(&a),
            server_trust: trust_in(&ca),
            client_trust: trust_in(&ca),
            client_is_silent: false,
            server_is_careless: false,
            expected: domain("b.test"),
            pins: Pins::none(),
            sni: "b.test".to_owned(),
        }
    }

    /// The same, but the client shows this certificate.
    pub(super) fn with_client(request: &Request<'_>) -> Self {
        let ca = DevelopmentCa::create().unwrap();
        let client = certificate_of(&ca.issue(request).unwrap());
        Self { client, server_trust: trust_in(&ca), ..Self::good() }
    }

    /// The same, but the server shows this certificate, even where an honest one would not.
    pub(super) fn with_server(request: &Request<'_>) -> Self {
        let ca = DevelopmentCa::create().unwrap();
        let server = store_of(&[ca.issue(request).unwrap()]);
        Self { server, client_trust: trust_in(&ca), server_is_careless: true, ..Self::good() }
    }

    pub(super) fn dialling(self, name: &str) -> Self {
        Self { expected: domain(name), sni: domain(name).to_ascii(), ..self }
    }

    /// The configurations of both ends.
    pub(super) fn configs(&self, carrier: Carrier) -> (ServerConfig, Verdict, ClientConfig, Verdict) {
        let (server, server_verdict) =
            Tls::new(Arc::clone(&self.server_trust), carrier).unwrap().server(&self.server, None);
        let mut server = ServerConfig::clone(&server);
        if self.server_is_careless {
            let key = Arc::clone(&self.server.certificates()[0].certified_key);
            server.cert_resolver = Arc::new(Careless(key));
        }
        let (mut client, client_verdict) = Tls::new(Arc::clone(&self.client_trust), carrier).unwrap().client(
            &self.client,
            &self.expected,
            &self.pins,
        );
        if self.client_is_silent {
            client.client_auth_cert_resolver = Arc::new(Silent);
        }
        (server, server_verdict, client, client_verdict)
    }

    /// Shake hands over TLS and over QUIC, and give both outcomes.
    pub(super) async fn run(&self) -> [Outcome; 2] {
        [self.run_over_tls(), self.run_over_quic().await]
    }

    fn run_over_tls(&self) -> Outcome {
        let (server, server_verdict, client, client_verdict) = self.configs(Carrier::DirectTls);
        let name = ServerName::try_from(self.sni.clone()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let (by_server, by_client) = shake_hands(&mut server, &mut client);
        let finding = |verdict: &Verdict, result: Result<(), rustls::Error>| Finding {
            peer: result.map_err(|error| verdict.reason_of(&error)).map(|()| verdict.peer().unwrap()),
            shown: verdict.shown(),
        };
        Outcome { server: finding(&server_verdict, by_server), client: finding(&client_verdict, by_client) }
    }

    async fn run_over_quic(&self) -> Outcome {
        let (server, server_verdict, client, client_verdict) = self.configs(Carrier::Quic);
        let server = QuicServerConfig::try_from(server).unwrap();
        let server = quinn::ServerConfig::with_crypto(Arc::new(server));
        let client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = quinn::Endpoint::server(server, any).unwrap();
        let dialler = quinn::Endpoint::client(any).unwrap();
        let accepting = async {
            // An unknown name makes `accept` itself fail.
            let connection = listener.accept().await.unwrap().accept()?.await?;
            connection.open_uni().await?.finish().ok();
            Ok::<_, ConnectionError>(connection)
        };
        let dialling = async {
            let connection =
                dialler.connect_with(client, listener.local_addr().unwrap(), &self.sni).unwrap().await?;
            // Over TLS 1.3 the client only now learns what the server made of its certificate.
            connection.accept_uni().await?;
            Ok::<_, ConnectionError>(connection)
        };
        let (by_server, by_client) = tokio::join!(accepting, dialling);
        let finding = |verdict: &Verdict, result: Result<quinn::Connection, ConnectionError>| Finding {
            peer: result.map_err(|error| verdict.reason(alert(&error))).map(|_| verdict.peer().unwrap()),
            shown: verdict.shown(),
        };
        Outcome { server: finding(&server_verdict, by_server), client: finding(&client_verdict, by_client) }
    }
}

/// The TLS alert in a QUIC error (RFC 9001 section 4.8).
fn alert(error: &ConnectionError) -> Option<u8> {
    let code = match error {
        ConnectionError::TransportError(error) => u64::from(error.code),
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        _ => return None,
    };
    (0x100..0x200).contains(&code).then_some((code & 0xff) as u8)
}

/// Carry octets between both until neither has any, also the alert of the one that failed.
pub(super) fn shake_hands(
    server: &mut ServerConnection,
    client: &mut ClientConnection,
) -> (Result<(), rustls::Error>, Result<(), rustls::Error>) {
    let (mut by_server, mut by_client) = (Ok(()), Ok(()));
    loop {
        let to_server = carry(client, server, &mut by_server);
        let to_client = carry(server, client, &mut by_client);
        if !to_server && !to_client {
            return (by_server, by_client);
        }
    }
}

fn carry<A, B>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
    outcome: &mut Result<(), rustls::Error>,
) -> bool {
    let mut octets = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut octets).unwrap();
    }
    let mut rest = octets.as_slice();
    while !rest.is_empty() && outcome.is_ok() {
        to.read_tls(&mut rest).unwrap();
        *outcome = to.process_new_packets().map(drop);
    }
    !octets.is_empty()
}

#[derive(Debug)]
struct Careless(Arc<CertifiedKey>);

impl ResolvesServerCert for Careless {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Silent;

impl ResolvesClientCert for Silent {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
