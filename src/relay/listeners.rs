//! Every socket of a relay, before its first task runs: handed over by a service manager ([`Inherited`]), or else bound.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use tokio::net::TcpStream;

use super::hub::Hub;
use super::inherited::{Configured, Inherited, Protocol};
use super::settings::Settings;
use super::start::StartError;
use crate::dns;

/// A socket on which the relay waits for others.
#[derive(Debug)]
pub(super) struct Listening<S> {
    pub(super) socket: S,
    /// It outlives the relay: who comes while the relay stops is left to the next one.
    pub(super) inherited: bool,
}

/// The sockets of a relay.
#[derive(Debug)]
pub struct Listeners {
    pub(super) quic: Vec<Listening<UdpSocket>>,
    pub(super) direct_tls: Vec<Listening<TcpListener>>,
    pub(super) starttls: Vec<Listening<TcpListener>>,
    pub(super) s2s: Vec<Listening<TcpListener>>,
    pub(super) components: Vec<Listening<TcpListener>>,
    dns: Vec<dns::Sockets>,
    admin: Vec<TcpListener>,
}

impl Listeners {
    /// Bind every address of `settings`.
    ///
    /// # Errors
    /// [`StartError`] names the address that could not be bound, and why.
    pub fn bind(settings: &Settings) -> Result<Self, StartError> {
        Self::open(settings, Inherited::default())
    }

    /// Take the sockets of `settings` that were handed over, and bind the others.
    ///
    /// # Errors
    /// [`StartError`] names the address that could not be bound, and why; or the socket that was handed over and that no
    /// listener of `settings` is for.
    pub fn open(settings: &Settings, mut inherited: Inherited) -> Result<Self, StartError> {
        // First: what is not ours keeps our own address from being bound, and tells it better.
        inherited.check(&configured(settings))?;
        let mut tcp = |key, addresses: &[SocketAddr]| -> Result<Vec<_>, StartError> {
            addresses.iter().map(|address| tcp(&mut inherited, key, *address)).collect()
        };
        let direct_tls = tcp("remote.direct_tls", &settings.remote_direct_tls)?;
        let starttls = tcp("remote.starttls", &settings.remote_starttls)?;
        let s2s = tcp("local.s2s", &settings.local_s2s)?;
        let components = tcp("local.components", &settings.local_components)?;
        let admin = tcp("admin.listen", &settings.admin_listen)?;
        let quic = settings.remote_quic.iter().map(|address| udp(&mut inherited, "remote.quic", *address));
        let quic = quic.collect::<Result<_, _>>()?;
        let dns = settings.local_dns.listen.iter().map(|address| both(&mut inherited, "local.dns", *address));
        let dns = dns.collect::<Result<_, _>>()?;
        let admin = admin.into_iter().map(|listening| listening.socket).collect();
        Ok(Self { quic, direct_tls, starttls, s2s, components, dns, admin })
    }

    /// Where peers reach us.
    #[must_use]
    pub fn remote_quic(&self) -> Vec<SocketAddr> {
        self.quic.iter().filter_map(|listening| listening.socket.local_addr().ok()).collect()
    }

    /// Where peers reach us by TLS over TCP.
    #[must_use]
    pub fn remote_direct_tls(&self) -> Vec<SocketAddr> {
        addresses(&self.direct_tls)
    }

    /// Where peers reach us by TCP with STARTTLS.
    #[must_use]
    pub fn remote_starttls(&self) -> Vec<SocketAddr> {
        addresses(&self.starttls)
    }

    /// Where our own servers reach us.
    #[must_use]
    pub fn local_s2s(&self) -> Vec<SocketAddr> {
        addresses(&self.s2s)
    }

    /// Where components reach us.
    #[must_use]
    pub fn local_components(&self) -> Vec<SocketAddr> {
        addresses(&self.components)
    }

    /// Where our own servers' look-ups are answered.
    #[must_use]
    pub fn local_dns(&self) -> Vec<SocketAddr> {
        self.dns.iter().filter_map(|sockets| sockets.tcp.local_addr().ok()).collect()
    }

    /// Where /metrics, /live and /ready are.
    #[must_use]
    pub fn admin(&self) -> Vec<SocketAddr> {
        self.admin.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Where this relay is, whoever it is there for.
    pub(super) fn all(&self) -> Vec<SocketAddr> {
        let tcp = [&self.direct_tls, &self.starttls, &self.s2s, &self.components];
        let tcp = tcp.into_iter().flat_map(|sockets| addresses(sockets));
        tcp.chain(self.remote_quic()).chain(self.local_dns()).chain(self.admin()).collect()
    }

    /// The admin sockets, for whoever serves them.
    pub fn take_admin(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.admin)
    }

    /// The sockets of the responder, for whoever starts it.
    pub(super) fn take_dns(&mut self) -> Vec<dns::Sockets> {
        std::mem::take(&mut self.dns)
    }
}

impl Listening<TcpListener> {
    /// The same for a runtime.
    pub(super) fn watched(self) -> Result<Listening<tokio::net::TcpListener>, StartError> {
        self.socket.set_nonblocking(true).map_err(StartError::new)?;
        let socket = tokio::net::TcpListener::from_std(self.socket).map_err(StartError::new)?;
        Ok(Listening { socket, inherited: self.inherited })
    }
}

impl Listening<tokio::net::TcpListener> {
    /// The next connection of one of our servers. While the relay is stopping it is the next one's too, unless we have sent a key of
    /// dialback on a stream that is open: then our server may come to ask about it, and nobody else can answer that.
    pub(super) async fn accept_server(&self, hub: &Hub) -> io::Result<(TcpStream, SocketAddr)> {
        if let Some(accepted) = self.accept(hub).await {
            return accepted;
        }
        loop {
            let changed = hub.keys_changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let asks = hub.has_open_keys();
            tokio::select! {
                biased;
                accepted = self.socket.accept(), if asks => return accepted,
                () = changed => {}
            }
        }
    }

    /// The next connection. `None`: the relay is stopping, and whoever comes now is the next one's.
    pub(super) async fn accept(&self, hub: &Hub) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let stopping = async {
            match self.inherited {
                true => hub.drains().await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stopping => None,
            accepted = self.socket.accept() => Some(accepted),
        }
    }
}

fn addresses(sockets: &[Listening<TcpListener>]) -> Vec<SocketAddr> {
    sockets.iter().filter_map(|listening| listening.socket.local_addr().ok()).collect()
}

/// Every listener that `settings` asks for.
fn configured(settings: &Settings) -> Vec<Configured> {
    let lists: [(_, &[Protocol], &Vec<SocketAddr>); 7] = [
        ("remote.quic", &[Protocol::Udp], &settings.remote_quic),
        ("remote.direct_tls", &[Protocol::Tcp], &settings.remote_direct_tls),
        ("remote.starttls", &[Protocol::Tcp], &settings.remote_starttls),
        ("local.s2s", &[Protocol::Tcp], &settings.local_s2s),
        ("local.components", &[Protocol::Tcp], &settings.local_components),
        ("local.dns", &[Protocol::Udp, Protocol::Tcp], &settings.local_dns.listen),
        ("admin.listen", &[Protocol::Tcp], &settings.admin_listen),
    ];
    let each = lists.into_iter().flat_map(|(key, protocols, addresses)| {
        let each =
            move |protocol| move |address: &SocketAddr| Configured { key, protocol, address: *address };
        protocols.iter().flat_map(move |protocol| addresses.iter().map(each(*protocol)))
    });
    each.collect()
}

fn tcp(
    inherited: &mut Inherited,
    key: &'static str,
    address: SocketAddr,
) -> Result<Listening<TcpListener>, StartError> {
    if let Some(socket) = inherited.tcp(Configured { key, protocol: Protocol::Tcp, address }) {
        return Ok(Listening { socket, inherited: true });
    }
    let socket = TcpListener::bind(address).map_err(|error| not_bound(key, address, &error))?;
    Ok(Listening { socket, inherited: false })
}

fn udp(
    inherited: &mut Inherited,
    key: &'static str,
    address: SocketAddr,
) -> Result<Listening<UdpSocket>, StartError> {
    if let Some(socket) = inherited.udp(Configured { key, protocol: Protocol::Udp, address }) {
        return Ok(Listening { socket, inherited: true });
    }
    let socket = UdpSocket::bind(address).map_err(|error| not_bound(key, address, &error))?;
    Ok(Listening { socket, inherited: false })
}

/// UDP and TCP at one address; port 0 stands for a free one, the same for both.
fn both(
    inherited: &mut Inherited,
    key: &'static str,
    address: SocketAddr,
) -> Result<dns::Sockets, StartError> {
    let tcp = tcp(inherited, key, address)?.socket;
    let bound = tcp.local_addr().map_err(|error| not_bound(key, address, &error))?;
    let udp = udp(inherited, key, bound)?.socket;
    Ok(dns::Sockets { udp, tcp })
}

fn not_bound(key: &str, address: SocketAddr, error: &io::Error) -> StartError {
    StartError::new(format_args!(
        "{key}: {address} can't be bound ({error}); stop what listens there, or choose another address"
    ))
}
