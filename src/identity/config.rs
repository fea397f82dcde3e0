//! A rustls configuration for one connection, with the [`Verdict`] that its handshake will fill.
//!
//! What is shared (cryptography, protocol versions, authorities) is made once in [`Tls`]; a configuration only adds the
//! verifier and the certificate of its connection. Identity belongs to the handshake that made it: resumption, tickets
//! and early data are off at both ends, because a resumed session never meets the verifier.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ConfigBuilder, ServerConfig, SignatureScheme, SupportedProtocolVersion, WantsVerifier,
    version,
};

use super::certificate::{Certificate, Role};
use super::store::CertificateStore;
use super::trust::{Anchors, TrustStore};
use super::verdict::Verdict;
use super::verifier::{ExpectedPeer, PeerVerifier};
use crate::proto::discovery::pins::Pins;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// The ALPN protocol of server-to-server XMPP (XEP-0368 section 3, XEP-0467 section 3).
pub const ALPN_XMPP_SERVER: &[u8] = b"xmpp-server";

/// The ALPN protocol of HTTP/1.1.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// What TLS runs over: it decides about versions and ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// QUIC: TLS 1.3, ALPN `xmpp-server` mandatory (RFC 9001 sections 4.2 and 8.1).
    Quic,
    /// Direct TLS over TCP (XEP-0368): TLS 1.2 or 1.3, ALPN `xmpp-server`; a client without ALPN is taken.
    DirectTls,
    /// TLS after STARTTLS (RFC 6120 section 5): TLS 1.2 or 1.3, no ALPN.
    StartTls,
}

/// Makes the TLS configurations of all connections over one carrier. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tls {
    trust: Arc<TrustStore>,
    algorithms: WebPkiSupportedAlgorithms,
    alpn: Vec<Vec<u8>>,
    anonymous: bool,
    server: ConfigBuilder<ServerConfig, WantsVerifier>,
    client: ConfigBuilder<ClientConfig, WantsVerifier>,
}

impl Tls {
    /// Prepare for connections whose peers are believed by `trust`. After a change of trust, make another.
    ///
    /// # Errors
    /// None in practice: rustls would refuse a version for which it has no cipher suite.
    pub fn new(trust: Arc<TrustStore>, carrier: Carrier) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&'static SupportedProtocolVersion] = match carrier {
            Carrier::Quic => &[&version::TLS13],
            Carrier::DirectTls | Carrier::StartTls => &[&version::TLS13, &version::TLS12],
        };
        let alpn = match carrier {
            Carrier::Quic | Carrier::DirectTls => vec![ALPN_XMPP_SERVER.to_vec()],
            Carrier::StartTls => Vec::new(),
        };
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
        Ok(Self {
            trust,
            algorithms: provider.signature_verification_algorithms,
            alpn,
            anonymous: false,
            server: server.with_protocol_versions(versions)?,
            client: ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?,
        })
    }

    /// From now on a client may show no certificate, if it proves its domain otherwise ([`Verdict::peer`] is then
    /// `None`). One that it shows must be good.
    #[must_use]
    pub fn taking_anonymous_clients(self) -> Self {
        Self { anonymous: true, ..self }
    }

    /// For one connection that somebody opens to us. The certificate is chosen from `store` by the name the client
    /// asks for (SNI), or for `host` if it asks for none; a client that names no host, or one that none of ours covers,
    /// is refused.
    #[must_use]
    pub fn server(
        &self,
        store: &Arc<CertificateStore>,
        host: Option<Domain>,
    ) -> (Arc<ServerConfig>, Verdict) {
        let verdict = Verdict::default();
        let verifier = self.verifier(ExpectedPeer::Client { anonymous: self.anonymous }, &verdict);
        let resolver = ByServerName { store: Arc::clone(store), host, verdict: verdict.clone() };
        let mut config = self
            .server
            .clone()
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols.clone_from(&self.alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        // Without the extended master secret a TLS 1.2 exporter doesn't bind to the handshake (RFC 7627).
        config.require_ems = true;
        (Arc::new(config), verdict)
    }

    /// For one connection that we open to `expected`, showing `certificate`. `pins`: the keys that the domain says its servers
    /// have.
    #[must_use]
    pub fn client(
        &self,
        certificate: &Arc<Certificate>,
        expected: &Domain,
        pins: &Pins,
    ) -> (ClientConfig, Verdict) {
        let verdict = Verdict::default();
        let expected = ExpectedPeer::Server { domain: expected.clone(), pins: pins.clone() };
        let verifier = self.verifier(expected, &verdict);
        let resolver = OneCertificate { certificate: Arc::clone(certificate), verdict: verdict.clone() };
        let mut config = self
            .client
            .clone()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.require_ems = true;
        (config, verdict)
    }

    fn verifier(&self, peer: ExpectedPeer, verdict: &Verdict) -> PeerVerifier {
        verdict.judged_by(&self.trust);
        PeerVerifier::new(Arc::clone(&self.trust), self.algorithms, peer, verdict.clone())
    }
}

/// For questions to web servers: their certificates are verified as on the web (RFC 9110 section 4.3.4: dNSName, serverAuth),
/// by `anchors`. We show none of our own: such a question is in nobody's name.
///
/// # Errors
/// None in practice, as [`Tls::new`].
pub fn web_client(anchors: &Anchors) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_root_certificates(anchors.roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// As a server: the certificate that covers the name in SNI, or the host that was asked for before TLS.
#[derive(Debug)]
struct ByServerName {
    store: Arc<CertificateStore>,
    host: Option<Domain>,
    verdict: Verdict,
}

impl ResolvesServerCert for ByServerName {
    /// Asked a second time after a HelloRetryRequest: the last answer is the one that is sent.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = match hello.server_name() {
            Some(name) => Domain::parse(name).ok(),
            None => self.host.clone(),
        };
        let found = named
            .ok_or(Reason::CertificateNone)
            .and_then(|domain| self.store.choose(&domain, Role::Receiving, SystemTime::now()));
        match found {
            Ok(certificate) => {
                self.verdict.show(&certificate);
                Some(Arc::clone(&certificate.certified_key))
            }
            Err(reason) => {
                self.verdict.refuse(reason);
                None
            }
        }
    }
}

/// As a client: the one that the session is opened for.
#[derive(Debug)]
struct OneCertificate {
    certificate: Arc<Certificate>,
    verdict: Verdict,
}

impl ResolvesClientCert for OneCertificate {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // rustls sends none where the key has no scheme in common with the server: then it wasn't shown.
        self.certificate.certified_key.key.choose_scheme(schemes)?;
        self.verdict.show(&self.certificate);
        Some(Arc::clone(&self.certificate.certified_key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
