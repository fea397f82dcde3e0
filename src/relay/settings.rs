//! What a relay is told to do: one typed value, complete before any port is bound. The `config` floor reads it from
//! TOML; tests and the demo make it themselves.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

pub use crate::proto::discovery::{HostMeta, Transport};
use crate::proto::limits::Limits;
use crate::proto::mux::verifier::Allowance;
use crate::proto::policy::DomainPolicy;
use crate::xmpp::domain::{Domain, DomainPattern};

/// Everything a relay is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[identity]`
    pub identity: Identity,
    /// `[remote] quic`: where peers reach us. Empty: off.
    pub remote_quic: Vec<SocketAddr>,
    /// `[remote] direct_tls`: where peers reach us by TLS over TCP, without STARTTLS. Empty: off.
    pub remote_direct_tls: Vec<SocketAddr>,
    /// `[remote] starttls`: where peers reach us by TCP with STARTTLS. Empty: off.
    pub remote_starttls: Vec<SocketAddr>,
    /// `[local] s2s`: where our own servers reach us.
    pub local_s2s: Vec<SocketAddr>,
    /// `[local] dns`: the DNS responder for our own servers.
    pub local_dns: LocalDns,
    /// `[local] components`: where components reach us (XEP-0114).
    pub local_components: Vec<SocketAddr>,
    /// `[admin] listen`: /metrics, /live, /ready.
    pub admin_listen: Vec<SocketAddr>,
    /// `[admin] socket`: where `fedmux status`, `explain` and `log` ask. `None`: off.
    pub admin_socket: Option<PathBuf>,
    /// `[admin] name_hosts`: whether metrics name our hosts.
    pub admin_name_hosts: bool,
    /// `[dns]`: how peers are found that no `[[peer]]` names. `None`: they are not.
    pub dns: Option<Dns>,
    /// `[limits]`
    pub limits: Limits,
    /// `[[host]]`, one for each entry.
    pub hosts: Vec<Host>,
    /// `[[component]]`
    pub components: Vec<Component>,
    /// `[[peer]]`
    pub peers: Vec<Peer>,
    /// `[policy]`
    pub policy: Policy,
}

impl Settings {
    /// Whether peers can reach us: there is a listener of the remote side.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        [&self.remote_quic, &self.remote_direct_tls, &self.remote_starttls]
            .iter()
            .any(|list| !list.is_empty())
    }
}

/// `[identity]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Folder of certificates and keys.
    pub certificates: PathBuf,
    /// Whom we believe about peers.
    pub trust: Trust,
    /// Master key of the secrets that we make: a file, or a folder in which the newest is used and the older ones are still
    /// good. `None`: a key for each process.
    pub mux_key_file: Option<PathBuf>,
}

/// Certificate authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The system's.
    System,
    /// A PEM file.
    File(PathBuf),
}

/// An address that may have to be resolved first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `127.0.0.2:5269`
    Address(SocketAddr),
    /// `xmpp.internal:5269`
    Name {
        /// The name to look up (A and AAAA).
        host: String,
        /// The port.
        port: u16,
    },
}

impl Endpoint {
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// `[[host]]`: domains behind this relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The domains.
    pub domains: Vec<Domain>,
    /// Their XMPP server, in order of preference.
    pub deliver: Vec<Endpoint>,
    /// How that server proves itself to us.
    pub local_auth: LocalAuth,
    /// Whether the host may stand in the list shown to any peer.
    pub announce: bool,
    /// Narrows [`Policy::domains`] for these domains.
    pub policy: DomainPolicy,
}

/// How one of our own servers proves that it speaks for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAuth {
    /// Server dialback, verified against the host's `deliver` address.
    Dialback,
    /// By source address.
    Trusted {
        /// Networks that may speak for the host.
        sources: Vec<IpNet>,
        /// Every process of this machine may.
        loopback: bool,
    },
}

/// `[[component]]`: a domain behind this relay that connects to it (XEP-0114).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its domain.
    pub domain: Domain,
    /// The file whose first line is the secret that it proves itself with.
    pub secret_file: PathBuf,
    /// Whether it may stand in the list of hosts shown to any peer.
    pub announce: bool,
    /// Narrows [`Policy::domains`] for this domain.
    pub policy: DomainPolicy,
}

/// `[[peer]]`: remote domains reached without DNS, or with rules of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The domains.
    pub domains: Vec<DomainPattern>,
    /// Where the peer listens.
    pub address: Endpoint,
    /// How it is reached.
    pub transport: Transport,
    /// Its own certificate authorities, if not `[identity] trust`.
    pub trust: Option<PathBuf>,
    /// Whether it may see every host of ours.
    pub announce_all: bool,
    /// How its domain pairs are placed in a session.
    pub placement: Placement,
    /// How many mux secrets are made for its sessions: `proofs_open`, `proofs_burst`, `proofs_every`.
    pub proofs: Allowance,
}

/// `[[peer]] placement`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// `"stream-per-pair"`: each domain pair has a QUIC stream of its own.
    #[default]
    StreamPerPair,
    /// `"one-stream"`: one XML stream carries every proven pair, as XEP-0451 is written.
    OneStream,
}

/// `[dns]`: how peers are found that no `[[peer]]` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Servers that are asked. Empty: the system's.
    pub servers: Vec<SocketAddr>,
    /// Whether private names may be looked up, and private addresses dialled.
    pub allow_private: bool,
    /// Whether QUIC is tried at UDP port 443 of a domain whose records don't speak of QUIC.
    pub quic_443: bool,
    /// When a domain's host-meta document is asked for (XEP-0487).
    pub host_meta: HostMeta,
    /// Where it is asked for: [`https::PORT`](crate::https::PORT). No key: the document of a public domain is nowhere else.
    pub https_port: u16,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            allow_private: false,
            quic_443: false,
            host_meta: HostMeta::default(),
            https_port: crate::https::PORT,
        }
    }
}

/// `[local] dns`: by which our own servers find the relay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalDns {
    /// Where it listens, over UDP and TCP. Empty: off.
    pub listen: Vec<SocketAddr>,
    /// `[local] dns_clients`: who may ask, besides this machine.
    pub clients: Vec<IpNet>,
}

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Remote domains that our hosts exchange stanzas with.
    pub domains: DomainPolicy,
    /// Whether a remote domain may be proven by dialback.
    pub dialback: RemoteDialback,
    /// What becomes of stanzas that may have been handled or not.
    pub uncertain: Uncertain,
}

/// `[policy] uncertain`: the stream on which messages and presence were sent ended without a word on whether they were
/// handled, and can't be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Uncertain {
    /// `"resend"`: they are sent again, with the time at which they first came; some may be seen twice.
    #[default]
    Resend,
    /// `"bounce"`: they come back as errors, though some may have arrived; rooms drop occupants for it.
    Bounce,
}

/// `[policy] dialback`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RemoteDialback {
    /// `"never"`: by certificates alone.
    #[default]
    Never,
    /// `"tls"`: over TLS, with the certificate of the domain's server verified.
    Tls,
}
