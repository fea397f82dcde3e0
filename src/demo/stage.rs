//! The stage of a demo: two whole relays in this process, an XMPP server for each, and the path between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::certificates::Certificates;
use super::endpoint::Endpoint;
use super::flow::Flows;
use super::path::{Counts, Path};
use super::{DemoError, STREAM_PER_PAIR_HOSTS_MAX};
use crate::admin;
use crate::metrics::Opened;
use crate::proto::limits::Limits;
use crate::proto::mux::verifier::Allowance;
use crate::proto::policy::DomainPolicy;
use crate::proto::proof::DomainProof;
use crate::relay::settings::{
    Endpoint as Address, Host, LocalAuth, LocalDns, Peer, Placement, Policy, Settings, Transport,
};
use crate::relay::{Listeners, Relay};
use crate::xmpp::domain::{Domain, DomainPattern};

/// Who is on the stage.
#[derive(Debug)]
pub(super) struct Cast {
    /// The domains behind A, which dials.
    pub(super) a: Vec<Domain>,
    /// The domains behind B.
    pub(super) b: Vec<Domain>,
}

impl Cast {
    /// `a1.test` to `aN.test`, and the same with b.
    pub(super) fn new(hosts: usize) -> Result<Self, DemoError> {
        let side = |letter: char| -> Result<Vec<Domain>, DemoError> {
            (1..=hosts)
                .map(|n| {
                    Domain::parse(&format!("{letter}{n}.test"))
                        .map_err(|error| DemoError::Options(error.to_string()))
                })
                .collect()
        };
        Ok(Self { a: side('a')?, b: side('b')? })
    }
}

/// How the path between the relays is impaired.
#[derive(Debug, Clone, Copy)]
pub(super) struct Impairment {
    /// Probability (0 to 1) that a datagram is lost.
    pub(super) loss: f64,
    /// Delay both ways together.
    pub(super) round_trip: Duration,
    /// What decides which datagrams are lost.
    pub(super) seed: u64,
}

/// What joins the relays, read from A's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Links {
    pub(super) connections: u64,
    pub(super) quic_streams: u64,
    /// Hosts that joined a session by a mux secret, of both sides.
    pub(super) proofs: u64,
}

/// Everything that runs.
pub(super) struct Stage {
    pub(super) flows: Arc<Flows>,
    path: Option<Path>,
    relays: [Relay; 2],
    metrics: Vec<SocketAddr>,
    /// Kept for serving them.
    _pages: JoinSet<()>,
    /// Kept for their streams.
    _endpoints: [Endpoint; 2],
}

impl Stage {
    /// Start both relays and both servers, and open a stream from A's server for each domain pair.
    pub(super) async fn start(
        cast: &Cast,
        certificates: &Certificates,
        placement: Placement,
        impairment: Option<Impairment>,
        limits: &Limits,
    ) -> Result<Self, DemoError> {
        let flows = Flows::between(&cast.a, &cast.b);
        let [(server_a, at_a), (server_b, at_b)] = [listen().await?, listen().await?];
        let mut a = settings(certificates, &cast.a, at_a, &cast.b, placement, limits);
        let mut b = settings(certificates, &cast.b, at_b, &cast.a, placement, limits);
        let mut listeners_a = Listeners::bind(&a).map_err(DemoError::Relay)?;
        let mut listeners_b = Listeners::bind(&b).map_err(DemoError::Relay)?;
        let quic_a = first(&listeners_a.remote_quic())?;
        let quic_b = first(&listeners_b.remote_quic())?;
        let path = match impairment {
            Some(Impairment { round_trip, seed, .. }) => Some(
                Path::open(quic_b, round_trip / 2, seed)
                    .map_err(|error| DemoError::Io("the impaired path", error))?,
            ),
            None => None,
        };
        let towards_b = path.as_ref().map_or(quic_b, Path::address);
        a.peers.iter_mut().for_each(|peer| peer.address = Address::Address(towards_b));
        // A peer is who comes from its configured address: for B that is the far end of the path.
        let towards_a = path.as_ref().map_or(quic_a, Path::far_address);
        b.peers.iter_mut().for_each(|peer| peer.address = Address::Address(towards_a));
        let addresses = [listeners_a.admin(), listeners_b.admin()].concat();
        let sockets = [listeners_a.take_admin(), listeners_b.take_admin()];
        let local_a = first(&listeners_a.local_s2s())?;
        let local_b = first(&listeners_b.local_s2s())?;
        let relays = [
            Relay::start(a, listeners_a).await.map_err(DemoError::Relay)?,
            Relay::start(b, listeners_b).await.map_err(DemoError::Relay)?,
        ];
        let mut pages = JoinSet::new();
        for (relay, sockets) in relays.iter().zip(sockets) {
            for socket in sockets {
                socket
                    .set_nonblocking(true)
                    .map_err(|error| DemoError::Io("the metrics' listener", error))?;
                let listener = TcpListener::from_std(socket)
                    .map_err(|error| DemoError::Io("the metrics' listener", error))?;
                pages.spawn(admin::serve(listener, Arc::new(relay.view())));
            }
        }
        let endpoints =
            [Endpoint::serve(server_a, Arc::clone(&flows)), Endpoint::serve(server_b, Arc::clone(&flows))];
        open(&endpoints, [local_a, local_b], &flows, cast).await?;
        Ok(Self { flows, path, relays, metrics: addresses, _pages: pages, _endpoints: endpoints })
    }

    /// From now on lose datagrams with this probability.
    pub(super) fn set_loss(&self, probability: f64) {
        if let Some(path) = &self.path {
            path.set_loss(probability);
        }
    }

    /// What the impaired path has done; nothing without one.
    pub(super) fn path_counts(&self) -> Counts {
        self.path.as_ref().map(Path::counts).unwrap_or_default()
    }

    /// What joins the relays now.
    pub(super) fn links(&self) -> Links {
        let metrics = self.relays[0].metrics();
        let both = [Opened::Inbound, Opened::Outbound];
        let connections = both.iter().map(|opened| metrics.connections("quic", *opened).get()).sum::<i64>();
        let proofs = metrics.proven(DomainProof::MuxSecret);
        Links {
            connections: u64::try_from(connections).unwrap_or_default(),
            // All that were ever opened: one that had to be opened again would show. With proofs there are second
            // connections, whose streams move: then those that are open now.
            quic_streams: if proofs > 0 {
                u64::try_from(metrics.lanes.get()).unwrap_or_default()
            } else {
                both.iter().map(|opened| metrics.quic_streams(*opened).get()).sum()
            },
            proofs,
        }
    }

    /// Wait until no second connection is left, at most `patience`.
    pub(super) async fn quiet(&self, patience: Duration) {
        let until = tokio::time::Instant::now() + patience;
        while self.links().connections > 1 && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where both relays show their metrics.
    pub(super) fn metrics(&self) -> &[SocketAddr] {
        &self.metrics
    }

    /// Let both relays finish what they have, A first: it dialled.
    pub(super) async fn end(self) {
        let [a, b] = self.relays;
        a.drain().await;
        b.drain().await;
    }
}

/// Open the servers' streams: A's for each pair, or both servers' for each of their domains.
async fn open(
    [a, b]: &[Endpoint; 2],
    [local_a, local_b]: [SocketAddr; 2],
    flows: &Flows,
    cast: &Cast,
) -> Result<(), DemoError> {
    let failed = |from: &Domain, to: &str, error: &dyn std::fmt::Display| {
        DemoError::Stream(format!("{from} -> {to}"), error.to_string())
    };
    if cast.a.len() <= STREAM_PER_PAIR_HOSTS_MAX {
        let opened = a.open(local_a, &flows.forth).await;
        return opened.map_err(|(flow, error)| failed(&flow.from, flow.to.as_str(), &error));
    }
    let sides = [(a, local_a, &flows.forth, &cast.a), (b, local_b, &flows.back, &cast.b)];
    for (endpoint, relay, flows, domains) in sides {
        for domain in domains {
            let own = flows.iter().filter(|flow| flow.from == *domain).cloned().collect();
            let opened = endpoint.open_shared(relay, own).await;
            opened.map_err(|error| failed(domain, "every domain of the other side", &error))?;
        }
    }
    Ok(())
}

async fn listen() -> Result<(TcpListener, SocketAddr), DemoError> {
    let failed = |error| DemoError::Io("a listener on 127.0.0.1", error);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn first(addresses: &[SocketAddr]) -> Result<SocketAddr, DemoError> {
    addresses.first().copied().ok_or(DemoError::NoListener)
}

/// A relay with these hosts, whose server listens at `deliver`, and one peer with the other side's. The peer's address
/// is filled in when both are bound.
fn settings(
    certificates: &Certificates,
    hosts: &[Domain],
    deliver: SocketAddr,
    peer: &[Domain],
    placement: Placement,
    limits: &Limits,
) -> Settings {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    Settings {
        identity: certificates.identity(hosts),
        remote_quic: vec![any_port],
        remote_direct_tls: Vec::new(),
        remote_starttls: Vec::new(),
        local_s2s: vec![any_port],
        local_components: Vec::new(),
        admin_listen: vec![any_port],
        admin_socket: None,
        admin_name_hosts: false,
        dns: None,
        local_dns: LocalDns::default(),
        limits: limits.clone(),
        hosts: vec![Host {
            domains: hosts.to_vec(),
            deliver: vec![Address::Address(deliver)],
            local_auth: LocalAuth::Trusted { sources: Vec::new(), loopback: true },
            announce: false,
            policy: DomainPolicy::default(),
        }],
        components: Vec::new(),
        peers: vec![Peer {
            domains: peer.iter().cloned().map(DomainPattern::Exact).collect(),
            address: Address::Address(any_port),
            transport: Transport::Quic,
            trust: None,
            // A host list is what lets further hosts be proven.
            announce_all: true,
            placement,
            proofs: Allowance::PEER,
        }],
        policy: Policy::default(),
    }
}
