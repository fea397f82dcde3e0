//! Listening sockets that a service manager holds and hands over when it starts us (sd_listen_fds(3)). They outlive the
//! relay: whoever connects while it is being restarted waits in the socket's queue, and is served by the next one.
//!
//! A socket belongs to the listener of the configuration that has its protocol and its address. One that belongs to none
//! stops the start: the service manager would go on to hold it open, and who connects there would wait for ever.

use std::fmt;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use listenfd::ListenFd;
use socket2::SockRef;
use tracing::info;

use super::start::StartError;

/// Number of the first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;

/// What a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// A listening stream socket.
    Tcp,
    /// A datagram socket.
    Udp,
}

impl Protocol {
    /// Its line in a socket unit.
    fn directive(self) -> &'static str {
        match self {
            Self::Tcp => "ListenStream",
            Self::Udp => "ListenDatagram",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A listener of the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Configured {
    /// Its key, like `local.s2s`.
    pub(super) key: &'static str,
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
}

/// The sockets that were handed over and that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Handed>);

#[derive(Debug)]
struct Handed {
    /// As the socket unit calls it.
    name: String,
    address: SocketAddr,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Handed {
    fn protocol(&self) -> Protocol {
        match self.socket {
            Socket::Tcp(_) => Protocol::Tcp,
            Socket::Udp(_) => Protocol::Udp,
        }
    }

    fn is_for(&self, listener: Configured) -> bool {
        self.protocol() == listener.protocol && is_same(self.address, listener.address)
    }
}

impl Inherited {
    /// What was handed over to this process: nothing, if nothing was, or if it was meant for another one. To be called
    /// once, while the process has one thread: it takes the variables out of the environment.
    ///
    /// # Errors
    /// [`StartError`] if a descriptor is no socket that we could listen on.
    pub fn take() -> Result<Self, StartError> {
        let own = std::process::id().to_string();
        if std::env::var("LISTEN_PID").ok().as_deref() != Some(own.as_str()) {
            return Ok(Self::default());
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut descriptors = ListenFd::from_env();
        let handed = (0..descriptors.len()).map(|index| {
            // systemd leaves the names out, or gives one for each.
            let name = names.get(index).copied().filter(|name| !name.is_empty()).unwrap_or("unknown");
            let place = format!("the service manager handed over descriptor {} ({name})", FIRST + index);
            handed(&mut descriptors, index, name)
                .map_err(|problem| StartError::new(format_args!("{place}: {problem}")))
        });
        Ok(Self(handed.collect::<Result<_, _>>()?))
    }

    /// Each of them is for one of `all` listeners of the configuration.
    ///
    /// # Errors
    /// [`StartError`] names each socket that isn't, and what to do about it.
    pub(super) fn check(&self, all: &[Configured]) -> Result<(), StartError> {
        let mut open = all.to_vec();
        let mut left = Vec::new();
        for socket in &self.0 {
            match open.iter().position(|listener| socket.is_for(*listener)) {
                Some(position) => drop(open.swap_remove(position)),
                None => left.push(left_over(socket, all)),
            }
        }
        if left.is_empty() { Ok(()) } else { Err(StartError::new(left.join("; "))) }
    }

    fn remove(&mut self, wanted: Configured) -> Option<Socket> {
        let position = self.0.iter().position(|socket| socket.is_for(wanted))?;
        let Handed { name, address, socket } = self.0.swap_remove(position);
        info!(listener = wanted.key, protocol = %wanted.protocol, %address, name, "socket taken over from the service manager");
        Some(socket)
    }

    /// The socket for `wanted`, if it was handed over.
    pub(super) fn tcp(&mut self, wanted: Configured) -> Option<TcpListener> {
        match self.remove(wanted)? {
            Socket::Tcp(listener) => Some(listener),
            Socket::Udp(_) => None,
        }
    }

    /// The socket for `wanted`, if it was handed over.
    pub(super) fn udp(&mut self, wanted: Configured) -> Option<UdpSocket> {
        match self.remove(wanted)? {
            Socket::Udp(socket) => Some(socket),
            Socket::Tcp(_) => None,
        }
    }
}

fn handed(descriptors: &mut ListenFd, index: usize, name: &str) -> Result<Handed, String> {
    let name = name.to_owned();
    let unusable = |error: std::io::Error| format!("it can't be used ({error})");
    if let Ok(Some(listener)) = descriptors.take_tcp_listener(index) {
        if SockRef::from(&listener).peer_addr().is_ok() {
            return Err(
                "it is one connection and no listening socket; write Accept=no in its unit".to_owned()
            );
        }
        let address = listener.local_addr().map_err(unusable)?;
        return Ok(Handed { name, address, socket: Socket::Tcp(listener) });
    }
    match descriptors.take_udp_socket(index) {
        Ok(Some(socket)) => {
            let address = socket.local_addr().map_err(unusable)?;
            Ok(Handed { name, address, socket: Socket::Udp(socket) })
        }
        _ => Err("it is neither a TCP nor a UDP socket; remove it from the unit".to_owned()),
    }
}

/// Whether what is sent to one of them arrives at the other. Port 0 of a configuration stands for a free port of ours.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
}

/// Why nobody has taken `socket`, and what to do.
fn left_over(socket: &Handed, all: &[Configured]) -> String {
    let Handed { name, address, .. } = socket;
    let protocol = socket.protocol();
    let similar = all.iter().find(|listener| {
        listener.address.port() == address.port()
            && (listener.protocol == protocol || is_same(listener.address, *address))
    });
    let what = format!("{protocol} {address}, handed over by the service manager as {name}");
    let Some(Configured { key, protocol: wanted, address: wanted_at }) = similar else {
        let advice = "add it to [remote], [local] or [admin], or remove it from the socket unit";
        return format!("{what}, is no listener of the configuration; {advice}");
    };
    let reached = if key.starts_with("local.") && address.ip().is_unspecified() {
        ", and this socket could be reached from outside"
    } else {
        ""
    };
    let directive = wanted.directive();
    format!(
        "{what}, is no listener of the configuration: {key} is {wanted} {wanted_at}{reached}; write {directive}={wanted_at} in the socket unit"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(key: &'static str, protocol: Protocol, address: &str) -> Configured {
        Configured { key, protocol, address: address.parse().unwrap() }
    }

    /// What a service manager would hand over that listens at two free ports of loopback.
    fn inherited() -> (Inherited, SocketAddr, SocketAddr) {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (at_tcp, at_udp) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        let sockets = vec![
            Handed { name: "a.socket".to_owned(), address: at_tcp, socket: Socket::Tcp(tcp) },
            Handed { name: "b.socket".to_owned(), address: at_udp, socket: Socket::Udp(udp) },
        ];
        (Inherited(sockets), at_tcp, at_udp)
    }

    #[test]
    fn a_socket_is_taken_by_its_protocol_and_address_alone() {
        let (mut inherited, at_tcp, at_udp) = inherited();
        let wanted = |protocol, address| Configured { key: "local.dns", protocol, address };
        assert!(inherited.udp(wanted(Protocol::Udp, at_tcp)).is_none(), "another protocol");
        assert!(
            inherited.tcp(listener("local.s2s", Protocol::Tcp, "127.0.0.1:0")).is_none(),
            "any free port"
        );
        let elsewhere = SocketAddr::from(([127, 0, 0, 2], at_tcp.port()));
        assert!(inherited.tcp(wanted(Protocol::Tcp, elsewhere)).is_none(), "another address");
        let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), at_tcp.port());
        assert_eq!(inherited.tcp(wanted(Protocol::Tcp, mapped)).unwrap().local_addr().unwrap(), at_tcp);
        assert!(inherited.tcp(wanted(Protocol::Tcp, at_tcp)).is_none(), "it was taken");
        assert!(inherited.udp(wanted(Protocol::Udp, at_udp)).is_some());
    }

    #[test]
    fn a_socket_that_is_left_over_is_told_with_what_to_do() {
        let (left, at_tcp, at_udp) = inherited();
        let of_tcp = Configured { key: "local.s2s", protocol: Protocol::Tcp, address: at_tcp };
        let of_udp = Configured { key: "remote.quic", protocol: Protocol::Udp, address: at_udp };
        left.check(&[of_udp, of_tcp]).unwrap();
        let said = left.check(&[of_tcp]).unwrap_err().to_string();
        assert!(
            said.starts_with(&format!("UDP {at_udp}, handed over by the service manager as b.socket")),
            "{said}"
        );
        let said = left.check(&[]).unwrap_err().to_string();
        assert!(
            said.contains(&format!(
                "TCP {at_tcp}, handed over by the service manager as a.socket, is no listener of"
            )) && said.contains(&format!("UDP {at_udp}"))
                && said.contains("remove it from the socket unit"),
            "{said}"
        );
        let all = SocketAddr::from(([0, 0, 0, 0], 5266));
        let socket = |socket| Handed { name: "f.socket".to_owned(), address: all, socket };
        let said = left_over(
            &socket(Socket::Tcp(TcpListener::bind("127.0.0.1:0").unwrap())),
            &[listener("local.s2s", Protocol::Tcp, "127.0.0.1:5266")],
        );
        assert_eq!(
            said,
            "TCP 0.0.0.0:5266, handed over by the service manager as f.socket, is no listener of the configuration: local.s2s \
             is TCP 127.0.0.1:5266, and this socket could be reached from outside; write ListenStream=127.0.0.1:5266 in the \
             socket unit"
        );
    }
}
