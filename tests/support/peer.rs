//! Whoever is at the other end of QUIC: it may carry any certificate, be choosy about ours, and open whatever it likes.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use fedmux::identity::config::ALPN_XMPP_SERVER;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint, TransportConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    SupportedProtocolVersion, version,
};

use super::certificates::Certificate;
use super::soon;
use super::wire::Wire;

/// Octets that a connection of a peer holds back unacknowledged. Small, so that what was written has left.
const SEND_WINDOW: u64 = 65_536;

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What a peer makes of the relay's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// Takes any.
    Trusting,
    /// Refuses it for this reason, as a server and as a client.
    Refusing(Refusal),
    /// As a server, doesn't ask for one.
    Incurious,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Expired,
    UnknownIssuer,
}

/// A peer: one UDP socket, from which it dials and on which it listens.
pub(crate) struct Peer {
    endpoint: Endpoint,
    identity: Option<Arc<CertifiedKey>>,
    manners: Manners,
    pub(crate) address: SocketAddr,
}

impl Peer {
    /// One with this certificate, which takes whatever the relay shows.
    pub(crate) fn start(certificate: &Certificate) -> Self {
        Self::with_manners(Some(certificate), Manners::Trusting)
    }

    /// The same, at this address of the machine.
    pub(crate) fn at(address: IpAddr, certificate: &Certificate) -> Self {
        Self::bound(SocketAddr::from((address, 0)), certificate).unwrap()
    }

    /// The same, at this port.
    pub(crate) fn bound(address: SocketAddr, certificate: &Certificate) -> io::Result<Self> {
        Self::listening(address, Some(certificate), &[], Manners::Trusting)
    }

    /// One without a certificate, so that it can only dial.
    pub(crate) fn nobody() -> Self {
        Self::with_manners(None, Manners::Trusting)
    }

    pub(crate) fn with_manners(certificate: Option<&Certificate>, manners: Manners) -> Self {
        Self::listening(ANY_PORT, certificate, &[], manners).unwrap()
    }

    /// One that shows these certificates to who asks for these names, and the first one else.
    pub(crate) fn serving(certificates: &[(&str, &Certificate)]) -> Self {
        Self::listening(ANY_PORT, Some(certificates[0].1), certificates, Manners::Trusting).unwrap()
    }

    fn listening(
        address: SocketAddr,
        certificate: Option<&Certificate>,
        by_name: &[(&str, &Certificate)],
        manners: Manners,
    ) -> io::Result<Self> {
        let endpoint = Endpoint::client(address)?;
        let identity = certificate.map(Certificate::certified_key);
        if let Some(identity) = &identity {
            let by_name = by_name.iter().map(|(name, shown)| ((*name).to_owned(), shown.certified_key()));
            let served = Served { by_name: by_name.collect(), default: Arc::clone(identity) };
            endpoint.set_server_config(Some(server_config(served, manners)));
        }
        let address = endpoint.local_addr()?;
        Ok(Self { endpoint, identity, manners, address })
    }

    /// Connect to a relay that serves `host`.
    pub(crate) async fn dial(&self, relay: SocketAddr, host: &str) -> Result<Connection, ConnectionError> {
        self.dial_with(client_config(self.identity.clone(), self.manners, ALPN_XMPP_SERVER), relay, host)
            .await
    }

    /// Connect, and offer another protocol than XMPP.
    pub(crate) async fn dial_speaking(
        &self,
        alpn: &[u8],
        relay: SocketAddr,
        host: &str,
    ) -> Result<Connection, ConnectionError> {
        self.dial_with(client_config(self.identity.clone(), self.manners, alpn), relay, host).await
    }

    /// From now on it accepts connections on which it takes so many streams at a time.
    pub(crate) fn takes_streams(&self, at_once: u32) {
        let default = Arc::clone(self.identity.as_ref().unwrap());
        let mut config = server_config(Served { by_name: Default::default(), default }, self.manners);
        let mut transport = TransportConfig::default();
        transport.send_window(SEND_WINDOW).max_concurrent_bidi_streams(at_once.into());
        config.transport_config(Arc::new(transport));
        self.endpoint.set_server_config(Some(config));
    }

    async fn dial_with(
        &self,
        config: quinn::ClientConfig,
        relay: SocketAddr,
        host: &str,
    ) -> Result<Connection, ConnectionError> {
        let connecting = self.endpoint.connect_with(config, relay, host).unwrap();
        soon("the handshake", connecting).await.map(Connection)
    }

    /// The next connection from a relay.
    pub(crate) async fn accept(&self) -> Connection {
        self.try_accept().await.unwrap()
    }

    /// The next connection from a relay, which may fail.
    pub(crate) async fn try_accept(&self) -> Result<Connection, ConnectionError> {
        let incoming = soon("a connection from the relay", self.endpoint.accept()).await.unwrap();
        soon("the handshake", incoming.accept()?).await.map(Connection)
    }
}

/// A connection between a peer and a relay.
pub(crate) struct Connection(pub(crate) quinn::Connection);

impl Connection {
    /// Open a stream, and do nothing on it.
    pub(crate) async fn open(&self) -> Wire {
        Wire::quic(soon("credit for a stream", self.0.open_bi()).await.unwrap())
    }

    /// Open a lane for one pair.
    pub(crate) async fn lane(&self, from: &str, to: &str) -> Wire {
        let mut wire = self.open().await;
        wire.authenticate(from, to).await;
        wire
    }

    /// The next stream that the relay opens.
    pub(crate) async fn accept(&self) -> Wire {
        Wire::quic(soon("a stream from the relay", self.0.accept_bi()).await.unwrap())
    }

    /// How the connection ends.
    pub(crate) async fn closed(&self) -> ConnectionError {
        soon("the end of the connection", self.0.closed()).await
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.send_window(SEND_WINDOW).max_concurrent_bidi_streams(10_000_u32.into());
    Arc::new(transport)
}

fn client_config(identity: Option<Arc<CertifiedKey>>, manners: Manners, alpn: &[u8]) -> quinn::ClientConfig {
    let tls = tls_client(identity, manners, &[&version::TLS13], &[alpn]);
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(transport());
    config
}

fn server_config(served: Served, manners: Manners) -> quinn::ServerConfig {
    let tls = tls_server(served, manners, &[&version::TLS13], &[ALPN_XMPP_SERVER]);
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    config.transport_config(transport());
    config
}

/// A client's configuration, over whatever.
pub(super) fn tls_client(
    identity: Option<Arc<CertifiedKey>>,
    manners: Manners,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> ClientConfig {
    let mut tls = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Judge { manners, provider: provider() }))
        .with_client_cert_resolver(Arc::new(Shown(identity)));
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    tls.resumption = Resumption::disabled();
    tls
}

/// A server's configuration, over whatever.
pub(super) fn tls_server(
    served: Served,
    manners: Manners,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> ServerConfig {
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(Arc::new(Judge { manners, provider: provider() }))
        .with_cert_resolver(Arc::new(served));
    tls.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    tls
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The one certificate that there is, whatever the other end asks for.
#[derive(Debug)]
struct Shown(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// A certificate for each name that is asked for.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) by_name: BTreeMap<String, Arc<CertifiedKey>>,
    pub(super) default: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.by_name.get(name));
        Some(Arc::clone(named.unwrap_or(&self.default)))
    }
}

/// Judges by its manners alone.
#[derive(Debug)]
struct Judge {
    manners: Manners,
    provider: Arc<CryptoProvider>,
}

impl Judge {
    fn judge(&self) -> Result<(), Error> {
        match self.manners {
            Manners::Trusting | Manners::Incurious => Ok(()),
            Manners::Refusing(Refusal::Expired) => Err(Error::InvalidCertificate(CertificateError::Expired)),
            Manners::Refusing(Refusal::UnknownIssuer) => {
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
            }
        }
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge().map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Judge {
    fn offer_client_auth(&self) -> bool {
        self.manners != Manners::Incurious
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge().map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}
