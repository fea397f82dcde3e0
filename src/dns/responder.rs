//! `[local] dns`: the responder by which our own XMPP servers find the relay, without a module or a setting for each
//! domain. Every look-up for XMPP between servers is answered with the relay's own `[local] s2s` address; the rest is
//! forwarded.
//!
//! | question | answer |
//! | --- | --- |
//! | SRV `_xmpp-server._tcp.NAME` | `0 0 PORT TARGET`, whatever the name: what is a host of ours is the relay's to say |
//! | SRV `_xmpps-server._tcp.NAME`, `_xmpp-server._quic.NAME`, `_xmppq-server._udp.NAME` | `0 0 0 .`: not offered (RFC 2782) |
//! | A or AAAA of TARGET | the address |
//! | TLSA and all else of or below these names | that there is none |
//! | anything else | what the upstream server says |
//!
//! TARGET of an IPv4 listener is its address written as a name, `127.0.0.9.`: ejabberd asks us for SRV records alone and
//! leaves the addresses of their targets to the C library, which takes such a name for the address that it is. That has
//! no equal in IPv6, where TARGET is a name, and only servers that ask us for addresses, too, can use it.
//!
//! Answers of ours carry no signature: a server that validates DNSSEC by itself must not do so for these names.
//!
//! It is no open resolver: it answers loopback, and the clients that are named to it; all others are refused.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::net::{DnsError as NoAnswer, NetError};
use hickory_server::proto::op::{Header, HeaderCounts, Query, ResponseCode};
use hickory_server::proto::rr::Record;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;

use super::relay_names::{Judged, RelayNames, Reply, edns};
use super::upstream::{DnsError, Upstream};

/// Questions that are forwarded at once; more are answered with SERVFAIL, and asked again by whoever needs them.
const FORWARDED_MAX: usize = 256;
/// How long an upstream server may take. Below the five seconds after which resolvers ask again.
const UPSTREAM_PATIENCE: Duration = Duration::from_secs(2);
/// A TCP connection without a question is closed after this.
const TCP_IDLE: Duration = Duration::from_secs(5);
/// Answers that wait to be written to one TCP connection.
const TCP_ANSWERS: usize = 16;

/// What the responder is told.
#[derive(Debug, Clone)]
pub struct ResponderSettings {
    /// The relay's `[local] s2s` address.
    pub relay: SocketAddr,
    /// To whom the rest is forwarded; empty: the system's DNS servers.
    pub servers: Vec<SocketAddr>,
    /// Who may ask, besides loopback.
    pub clients: Vec<IpNet>,
}

/// Where it listens: bound, both at one address.
#[derive(Debug)]
pub struct Sockets {
    /// Over UDP.
    pub udp: std::net::UdpSocket,
    /// Over TCP.
    pub tcp: std::net::TcpListener,
}

/// The responder. It ends when it is dropped.
pub struct Responder {
    server: Server<Answering>,
    addresses: Vec<SocketAddr>,
    overflowed: Arc<AtomicU64>,
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Responder {
    /// Begin to answer what comes to `sockets`. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`DnsError`] if a socket can't be used, no upstream server is known, or one of them is the responder itself.
    pub fn start(settings: &ResponderSettings, sockets: Vec<Sockets>) -> Result<Self, DnsError> {
        let loopback = [
            Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8).into(),
            Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
        ];
        Self::start_for(settings, sockets, settings.clients.iter().copied().chain(loopback))
    }

    fn start_for(
        settings: &ResponderSettings,
        sockets: Vec<Sockets>,
        clients: impl Iterator<Item = IpNet>,
    ) -> Result<Self, DnsError> {
        // Without a single client the library would answer everybody.
        let clients: Vec<IpNet> = clients.map(|network| network.trunc()).collect();
        let upstream = Upstream::new(&settings.servers, UPSTREAM_PATIENCE)?;
        let mut addresses = Vec::with_capacity(sockets.len());
        for Sockets { tcp, .. } in &sockets {
            let address = tcp.local_addr()?;
            if let Some(server) = upstream.servers().iter().find(|server| is_same(**server, address)) {
                return Err(DnsError::Loop(*server));
            }
            addresses.push(address);
        }
        let overflowed = Arc::<AtomicU64>::default();
        let answering = Answering {
            relay: RelayNames::new(settings.relay),
            upstream,
            forwarded: Semaphore::new(FORWARDED_MAX),
            overflowed: Arc::clone(&overflowed),
        };
        let mut server = Server::with_access(answering, [], clients);
        for Sockets { udp, tcp } in sockets {
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            server.register_socket(UdpSocket::from_std(udp)?);
            server.register_listener(TcpListener::from_std(tcp)?, TCP_IDLE, TCP_ANSWERS);
        }
        Ok(Self { server, addresses, overflowed })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How many questions were answered with SERVFAIL because too many were forwarded at once.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Wait until a listener fails. It never ends by itself.
    ///
    /// # Errors
    /// What failed.
    pub async fn failed(&mut self) -> Result<(), NetError> {
        self.server.block_until_done().await
    }
}

/// Whether what is sent to `server` arrives at `listener`.
fn is_same(server: SocketAddr, listener: SocketAddr) -> bool {
    let (to, at) = (server.ip().to_canonical(), listener.ip().to_canonical());
    server.port() == listener.port() && (to == at || (at.is_unspecified() && to.is_loopback()))
}

/// What the responder does with a question.
struct Answering {
    relay: RelayNames,
    upstream: Upstream,
    forwarded: Semaphore,
    overflowed: Arc<AtomicU64>,
}

impl Answering {
    async fn reply(&self, request: &Request) -> Reply {
        match self.relay.judge(request) {
            Judged::Answered(reply) => reply,
            Judged::Forward(query) => self.forward(request, query).await,
        }
    }

    async fn forward(&self, request: &Request, query: Query) -> Reply {
        let Ok(_place) = self.forwarded.try_acquire() else {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            return Reply::of(ResponseCode::ServFail);
        };
        let dnssec_ok = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        match self.upstream.ask(query, dnssec_ok).await {
            Ok(response) => {
                let message = response.into_message();
                Reply {
                    code: message.metadata.response_code,
                    authoritative: false,
                    answers: message.answers,
                    authorities: message.authorities,
                    additionals: message.additionals,
                }
            }
            Err(NetError::Dns(NoAnswer::NoRecordsFound(none))) => {
                let soa = none.soa.map(|soa| soa.into_record_of_rdata());
                let authorities = match none.authorities {
                    Some(all) => all.to_vec(),
                    None => soa.into_iter().collect(),
                };
                Reply { authorities, ..Reply::of(none.response_code) }
            }
            Err(_) => Reply::of(ResponseCode::ServFail),
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Answering {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let reply = self.reply(request).await;
        let mut metadata = reply.metadata(request);
        let edns = edns(request);
        let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
        let soa: [&Record; 0] = [];
        let message = builder.build(metadata, &reply.answers, &reply.authorities, soa, &reply.additionals);
        response.send_response(message).await.unwrap_or_else(|_| {
            // Whoever asked is gone.
            metadata.response_code = ResponseCode::ServFail;
            ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
        })
    }
}

#[cfg(test)]
mod tests;
