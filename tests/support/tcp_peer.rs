//! Whoever is at the other end of TLS over TCP: it may carry any certificate or none, speak STARTTLS well or badly, and
//! listen like any XMPP server.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use fedmux::identity::config::ALPN_XMPP_SERVER;
use fedmux::relay::settings::Transport;
use fedmux::xmpp::namespace as ns;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, SupportedProtocolVersion, version};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificates::Certificate;
use super::peer::{Manners, Served, tls_client, tls_server};
use super::soon;
use super::wire::{Heard, Wire, answer, header};

/// TLS 1.2 and 1.3.
pub(crate) const ANY_VERSION: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// The two ways of TLS over TCP.
pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::DirectTls, Transport::StartTls];

/// How a script dials.
pub(crate) struct Dialler {
    config: ClientConfig,
}

impl Dialler {
    /// With this certificate, and as a good client would.
    pub(crate) fn with(certificate: Option<&Certificate>) -> Self {
        Self::speaking(certificate, ANY_VERSION, &[ALPN_XMPP_SERVER])
    }

    pub(crate) fn speaking(
        certificate: Option<&Certificate>,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
    ) -> Self {
        let identity = certificate.map(Certificate::certified_key);
        Self { config: tls_client(identity, Manners::Trusting, versions, alpn) }
    }

    /// It sends no SNI.
    pub(crate) fn without_sni(mut self) -> Self {
        self.config.enable_sni = false;
        self
    }

    /// Shake hands on `tcp`, asking for `host`.
    pub(crate) async fn secure(&self, tcp: TcpStream, host: &str) -> io::Result<Wire> {
        let config = self.config.clone();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let stream = soon("the handshake", TlsConnector::from(Arc::new(config)).connect(name, tcp)).await?;
        Ok(Wire::tls(stream.into()))
    }

    /// Direct TLS to a relay that serves `host`.
    pub(crate) async fn direct(&self, relay: SocketAddr, host: &str) -> io::Result<Wire> {
        self.secure(TcpStream::connect(relay).await.unwrap(), host).await
    }

    /// STARTTLS to a relay that serves `host`, as `from`.
    pub(crate) async fn starttls(&self, relay: SocketAddr, from: &str, host: &str) -> io::Result<Wire> {
        let tcp = upgrade(TcpStream::connect(relay).await.unwrap(), from, host).await;
        let mut config = self.config.clone();
        config.alpn_protocols.clear();
        Self { config }.secure(tcp, host).await
    }

    /// Either.
    pub(crate) async fn dial(
        &self,
        transport: Transport,
        relay: SocketAddr,
        from: &str,
        host: &str,
    ) -> io::Result<Wire> {
        match transport {
            Transport::StartTls => self.starttls(relay, from, host).await,
            _ => self.direct(relay, host).await,
        }
    }
}

/// As the initiating entity: STARTTLS up to `<proceed/>`.
pub(crate) async fn upgrade(tcp: TcpStream, from: &str, to: &str) -> TcpStream {
    let mut wire = Wire::tcp(tcp);
    wire.say(header(from, to)).await;
    let features = wire.features().await;
    let offer = features.child("starttls", ns::TLS).unwrap();
    assert!(offer.child("required", ns::TLS).is_some(), "{features:?}");
    assert_eq!(features.children().count(), 1, "nothing else is offered in clear text: {features:?}");
    wire.say(format!("<starttls xmlns='{}'/>", ns::TLS)).await;
    match wire.hear().await {
        Heard::Element(element) if element.is("proceed", ns::TLS) => wire.into_tcp(),
        other => panic!("{other:?} instead of <proceed/>"),
    }
}

/// A server of a peer.
pub(crate) struct Listening {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    config: Arc<rustls::ServerConfig>,
    /// What was asked for by SNI.
    names: Mutex<Vec<String>>,
}

impl Listening {
    /// With this certificate, taking whatever the relay shows.
    pub(crate) async fn with(certificate: &Certificate) -> Self {
        Self::with_manners(certificate, Manners::Trusting).await
    }

    /// The same, at this address of the machine.
    pub(crate) async fn at(address: SocketAddr, certificate: &Certificate) -> io::Result<Self> {
        Self::listening(address, certificate, Manners::Trusting, ANY_VERSION, &[]).await
    }

    pub(crate) async fn with_manners(certificate: &Certificate, manners: Manners) -> Self {
        Self::speaking(certificate, manners, ANY_VERSION, &[]).await
    }

    pub(crate) async fn speaking(
        certificate: &Certificate,
        manners: Manners,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
    ) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::listening(any_port, certificate, manners, versions, alpn).await.unwrap()
    }

    async fn listening(
        address: SocketAddr,
        certificate: &Certificate,
        manners: Manners,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let served = Served { by_name: BTreeMap::new(), default: certificate.certified_key() };
        let config = Arc::new(tls_server(served, manners, versions, alpn));
        Ok(Self { address: listener.local_addr()?, listener, config, names: Mutex::default() })
    }

    /// The next TCP connection from a relay.
    pub(crate) async fn tcp(&self) -> TcpStream {
        soon("a connection from the relay", self.listener.accept()).await.unwrap().0
    }

    /// A connection that the relay has opened already, if it has.
    pub(crate) fn another(&self) -> Option<TcpStream> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match self.listener.poll_accept(&mut context) {
            std::task::Poll::Ready(accepted) => Some(accepted.unwrap().0),
            std::task::Poll::Pending => None,
        }
    }

    /// Shake hands on one.
    pub(crate) async fn secure(&self, tcp: TcpStream) -> io::Result<Wire> {
        let stream = soon("the handshake", TlsAcceptor::from(Arc::clone(&self.config)).accept(tcp)).await?;
        self.names.lock().unwrap().push(stream.get_ref().1.server_name().unwrap_or_default().to_owned());
        Ok(Wire::tls(stream.into()))
    }

    /// What was asked for by SNI, in each handshake so far.
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.lock().unwrap().clone()
    }

    /// Shake hands on one, and fail: the connection, of which nothing behind the handshake was read.
    pub(crate) async fn refuse(&self, tcp: TcpStream) -> TcpStream {
        let accepting = TlsAcceptor::from(Arc::clone(&self.config)).accept(tcp).into_fallible();
        soon("the handshake", accepting).await.err().unwrap().1
    }

    /// The next connection by Direct TLS.
    pub(crate) async fn direct(&self) -> io::Result<Wire> {
        self.secure(self.tcp().await).await
    }

    /// The next connection by STARTTLS.
    pub(crate) async fn starttls(&self) -> io::Result<Wire> {
        self.accept(Transport::StartTls).await
    }

    /// Either.
    pub(crate) async fn accept(&self, transport: Transport) -> io::Result<Wire> {
        self.shake(self.tcp().await, transport).await
    }

    /// The same on a connection that has come.
    pub(crate) async fn shake(&self, tcp: TcpStream, transport: Transport) -> io::Result<Wire> {
        let mut wire = match transport {
            Transport::StartTls => Wire::tcp(tcp),
            _ => return self.secure(tcp).await,
        };
        offer(&mut wire).await;
        wire.say(format!("<proceed xmlns='{}'/>", ns::TLS)).await;
        self.secure(wire.into_tcp()).await
    }
}

/// As the receiving entity: offer STARTTLS, and hear it asked for.
pub(crate) async fn offer(wire: &mut Wire) {
    greet(wire, &format!("<starttls xmlns='{}'/>", ns::TLS)).await;
    match wire.hear().await {
        Heard::Element(element) if element.is("starttls", ns::TLS) => {}
        other => panic!("{other:?} instead of <starttls/>"),
    }
}

/// As the receiving entity: answer a header with one, and with these features.
pub(crate) async fn greet(wire: &mut Wire, features: &str) {
    let Heard::Header(opening) = wire.hear().await else { panic!("no stream header") };
    let (from, to) = (opening.from.unwrap(), opening.to.unwrap());
    let header = answer(to.as_str(), from.as_str(), "clear");
    wire.say(format!("{header}<stream:features>{features}</stream:features>")).await;
}
