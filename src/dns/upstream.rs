//! The DNS servers that are asked: those of `[dns] servers`, or the system's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig, system_conf};

/// A question may go to this many servers at once; the first answer counts.
const SERVERS_AT_ONCE: usize = 2;
/// Questions on one TCP connection to a server. More than the look-ups that are under way together can need.
const TCP_QUESTIONS_MAX: usize = 1024;

/// Why DNS can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The system names no server, or its configuration can't be read.
    #[error("the system's DNS servers are not known ({0}); name some in dns.servers")]
    System(NetError),
    /// The servers can't be used.
    #[error("the DNS servers can't be used ({0})")]
    Unusable(NetError),
    /// A socket that was bound for the responder can't be used.
    #[error("its sockets can't be used ({0}); look at the limits of the system")]
    Socket(#[from] std::io::Error),
    /// The responder would forward to itself.
    #[error(
        "{0} is the responder's own address and one of the servers to which it forwards; name others in dns.servers"
    )]
    Loop(SocketAddr),
}

/// The servers, asked in a bounded way.
#[derive(Clone)]
pub(super) struct Upstream {
    pool: NameServerPool<TokioRuntimeProvider>,
    servers: Arc<[SocketAddr]>,
}

impl Upstream {
    /// Ask `servers`, or the system's if there are none. `patience`: how long one server may take for an answer.
    pub(super) fn new(servers: &[SocketAddr], patience: Duration) -> Result<Self, DnsError> {
        let configured: Vec<NameServerConfig> = if servers.is_empty() {
            let (system, _) = system_conf::read_system_conf().map_err(DnsError::System)?;
            system.name_servers().to_vec()
        } else {
            servers.iter().copied().map(server).collect()
        };
        let asked = configured.iter().flat_map(|server| {
            server.connections.iter().map(|connection| SocketAddr::new(server.ip, connection.port))
        });
        let asked = asked.collect();
        let mut options = ResolverOpts::default();
        options.timeout = patience;
        options.num_concurrent_reqs = SERVERS_AT_ONCE;
        options.max_active_requests = TCP_QUESTIONS_MAX;
        // The fallback of a resolver whose UDP answers don't arrive, as behind a filter for fragments.
        options.try_tcp_on_error = true;
        let tls = TlsConfig::new().map_err(DnsError::Unusable)?;
        let context = Arc::new(PoolContext::new(options, tls));
        let pool = NameServerPool::from_config(configured, context, TokioRuntimeProvider::default());
        Ok(Self { pool, servers: asked })
    }

    /// Where the questions go.
    pub(super) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Ask once. Equal questions that are under way together are sent once.
    pub(super) async fn ask(&self, query: Query, dnssec_ok: bool) -> Result<DnsResponse, NetError> {
        let mut options = DnsRequestOptions::default();
        options.edns_set_dnssec_ok = dnssec_ok;
        self.pool.lookup(query, options).first_answer().await
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}
