//! A relay with the XMPP server behind it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use fedmux::proto::admission::Side;
use fedmux::proto::limits::Limits;
use fedmux::proto::mux::verifier::Allowance;
use fedmux::proto::policy::DomainPolicy;
use fedmux::reason::Reason;
use fedmux::relay::settings::{
    Component, Dns, Endpoint, Host as HostSettings, HostMeta, Identity, LocalAuth, LocalDns, Peer, Placement,
    Policy, Settings, Transport, Trust,
};
use fedmux::relay::{DrainReport, Listeners, Relay, ReloadReport};
use fedmux::xmpp::domain::{Domain, DomainPattern};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::certificates::{Authority, Certificate};
use super::server::{Host, Server};
use super::wire::Wire;
use super::{soon, until};

/// A relay that is about to start: its settings may still be changed.
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) server: Server,
    folder: TempDir,
}

/// A relay whose sockets are bound: others may be told where it is before it starts.
pub(crate) struct Bound {
    plan: Plan,
    listeners: Listeners,
    pub(crate) quic: SocketAddr,
}

/// A running relay, and the server behind it.
pub(crate) struct Provider {
    pub(crate) relay: Relay,
    pub(crate) server: Server,
    /// Where peers reach it.
    pub(crate) quic: SocketAddr,
    /// Where its own server reaches it.
    pub(crate) s2s: SocketAddr,
    /// Where components reach it, if it has any.
    pub(crate) components: Option<SocketAddr>,
    /// Where its metrics are.
    pub(crate) admin: SocketAddr,
    settings: Settings,
    admin_task: EndsWithIt,
    folder: TempDir,
}

/// A task that ends when it is dropped.
struct EndsWithIt(AbortHandle);

impl Drop for EndsWithIt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Plan {
    /// A relay for these hosts, with one certificate for all of them and `authority` to believe. Its server is trusted
    /// by its address.
    pub(crate) async fn new(authority: &Authority, hosts: &[&str]) -> Self {
        let plan = Self::without_certificate(authority, hosts).await;
        plan.add_certificate(&authority.certify(hosts), "hosts");
        plan
    }

    /// The same, with no certificate yet.
    pub(crate) async fn without_certificate(authority: &Authority, hosts: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(hosts).await;
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let settings = Settings {
            identity: Identity {
                certificates: folder.path().to_owned(),
                trust: Trust::File(authority.file()),
                mux_key_file: None,
            },
            remote_quic: vec![any_port],
            remote_direct_tls: vec![any_port],
            remote_starttls: vec![any_port],
            local_s2s: vec![any_port],
            local_components: Vec::new(),
            admin_listen: vec![any_port],
            admin_socket: None,
            admin_name_hosts: false,
            dns: None,
            local_dns: LocalDns::default(),
            limits: Limits::default(),
            hosts: vec![HostSettings {
                domains: hosts.iter().map(|host| Domain::parse(host).unwrap()).collect(),
                deliver: vec![Endpoint::Address(server.address)],
                local_auth: LocalAuth::Trusted { sources: Vec::new(), loopback: true },
                announce: false,
                policy: DomainPolicy::default(),
            }],
            components: Vec::new(),
            peers: Vec::new(),
            policy: Policy::default(),
        };
        Self { settings, server, folder }
    }

    /// Add a `[[component]]`, which finds a listener of its own.
    pub(crate) fn component(mut self, domain: &str, secret: &str) -> Self {
        let secret_file = self.folder.path().join(format!("{domain}.secret"));
        std::fs::write(&secret_file, secret).unwrap();
        let domain = Domain::parse(domain).unwrap();
        self.settings.components.push(Component {
            domain,
            secret_file,
            announce: false,
            policy: DomainPolicy::default(),
        });
        self.settings.local_components = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        self
    }

    pub(crate) fn add_certificate(&self, certificate: &Certificate, name: &str) {
        certificate.write_into(self.folder.path(), name);
    }

    /// Add a `[[peer]]`: `domains` are reached at `address`, each pair on a stream of its own.
    pub(crate) fn peer(self, domains: &[&str], address: SocketAddr) -> Self {
        self.placed_peer(domains, address, Placement::StreamPerPair)
    }

    pub(crate) fn placed_peer(self, domains: &[&str], address: SocketAddr, placement: Placement) -> Self {
        self.any_peer(domains, address, Transport::Quic, placement)
    }

    /// Add a `[[peer]]` that is reached by `transport`.
    pub(crate) fn peer_by(self, transport: Transport, domains: &[&str], address: SocketAddr) -> Self {
        self.any_peer(domains, address, transport, Placement::default())
    }

    fn any_peer(
        mut self,
        domains: &[&str],
        address: SocketAddr,
        transport: Transport,
        placement: Placement,
    ) -> Self {
        self.settings.peers.push(Peer {
            domains: domains.iter().map(|domain| DomainPattern::parse(domain).unwrap()).collect(),
            address: Endpoint::Address(address),
            transport,
            trust: None,
            announce_all: false,
            placement,
            proofs: Allowance::PEER,
        });
        self
    }

    /// Change `[limits]`.
    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.settings.limits);
        self
    }

    /// Take its ports, and stay on them if it is started again.
    pub(crate) fn bind(mut self) -> Bound {
        let listeners = Listeners::bind(&self.settings).unwrap();
        self.settings.remote_quic = listeners.remote_quic();
        self.settings.remote_direct_tls = listeners.remote_direct_tls();
        self.settings.remote_starttls = listeners.remote_starttls();
        self.settings.local_s2s = listeners.local_s2s();
        self.settings.local_components = listeners.local_components();
        let quic = listeners.remote_quic()[0];
        Bound { plan: self, listeners, quic }
    }

    pub(crate) async fn start(self) -> Provider {
        self.bind().start().await
    }

    /// Every peer named so far may see every host of ours: what lets further hosts be proven.
    pub(crate) fn announcing(mut self) -> Self {
        self.settings.peers.iter_mut().for_each(|peer| peer.announce_all = true);
        self
    }

    /// Find peers by the DNS server at `server`, and dial where its answers lead, inside or not.
    pub(crate) fn finding_by(mut self, server: SocketAddr) -> Self {
        let (servers, host_meta) = (vec![server], HostMeta::Never);
        self.settings.dns = Some(Dns { servers, allow_private: true, host_meta, ..Dns::default() });
        self
    }

    /// Ask for host-meta documents, of web servers that listen at `port`.
    pub(crate) fn asking_the_web(mut self, when: HostMeta, port: u16) -> Self {
        let dns = self.settings.dns.get_or_insert_default();
        (dns.host_meta, dns.https_port) = (when, port);
        self
    }

    /// What it listens on, for who has to know before it starts.
    pub(crate) fn listeners(&self) -> Listeners {
        Listeners::bind(&self.settings).unwrap()
    }

    /// Start on what [`Plan::listeners`] bound.
    pub(crate) async fn start_on(self, listeners: Listeners) -> Provider {
        let quic = listeners.remote_quic()[0];
        Bound { plan: self, listeners, quic }.start().await
    }
}

impl Bound {
    /// Where peers reach it by `transport`.
    pub(crate) fn at(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::Quic => self.quic,
            Transport::DirectTls => self.plan.settings.remote_direct_tls[0],
            Transport::StartTls => self.plan.settings.remote_starttls[0],
        }
    }

    /// As [`Plan::peer_by`].
    pub(crate) fn peer_by(mut self, transport: Transport, domains: &[&str], address: SocketAddr) -> Self {
        self.plan = self.plan.peer_by(transport, domains, address);
        self
    }

    /// As [`Plan::placed_peer`].
    pub(crate) fn peer(mut self, domains: &[&str], address: SocketAddr, placement: Placement) -> Self {
        self.plan = self.plan.placed_peer(domains, address, placement);
        self
    }

    /// As [`Plan::finding_by`].
    pub(crate) fn finding_by(mut self, server: SocketAddr) -> Self {
        self.plan = self.plan.finding_by(server);
        self
    }

    /// As [`Plan::asking_the_web`].
    pub(crate) fn asking_the_web(mut self, when: HostMeta, port: u16) -> Self {
        self.plan = self.plan.asking_the_web(when, port);
        self
    }

    /// Everywhere where peers reach it over QUIC.
    pub(crate) fn all_quic(&self) -> &[SocketAddr] {
        &self.plan.settings.remote_quic
    }

    /// As [`Plan::announcing`].
    pub(crate) fn announcing(mut self) -> Self {
        self.plan = self.plan.announcing();
        self
    }

    pub(crate) async fn start(self) -> Provider {
        let Self { plan: Plan { settings, server, folder }, mut listeners, quic } = self;
        let (s2s, admin) = (listeners.local_s2s()[0], listeners.admin()[0]);
        let components = listeners.local_components().first().copied();
        let admin_socket = listeners.take_admin().remove(0);
        admin_socket.set_nonblocking(true).unwrap();
        let relay = Relay::start(settings.clone(), listeners).await.unwrap();
        let admin_socket = TcpListener::from_std(admin_socket).unwrap();
        let admin_task = tokio::spawn(fedmux::admin::serve(admin_socket, Arc::new(relay.view())));
        let admin_task = EndsWithIt(admin_task.abort_handle());
        Provider { relay, server, quic, s2s, components, admin, settings, admin_task, folder }
    }
}

impl Provider {
    /// One of its hosts, to speak and hear for.
    pub(crate) fn host(&mut self, name: &str) -> Host {
        self.server.host(name, self.s2s)
    }

    /// Where peers reach it by `transport`.
    pub(crate) fn at(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::Quic => self.quic,
            Transport::DirectTls => self.relay.remote_direct_tls()[0],
            Transport::StartTls => self.relay.remote_starttls()[0],
        }
    }

    /// A stream to the relay's local side, on which nothing was said.
    pub(crate) async fn local(&self) -> Wire {
        Wire::tcp(TcpStream::connect(self.s2s).await.unwrap())
    }

    /// The sum of a metric's series that carry these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let text = self.relay.metrics_text();
        let has = |line: &str| labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")));
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && has(line)
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    pub(crate) fn refusals(&self, side: Side, reason: Reason) -> u64 {
        self.relay.metrics().refusals(side, reason)
    }

    pub(crate) fn dial_failures(&self, side: &str, reason: Reason) -> u64 {
        self.metric("fedmux_dial_failures_total", &[("side", side), ("reason", reason.as_str())])
    }

    /// What it goes by.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Let the running relay go by changed settings.
    pub(crate) fn reload(&mut self, change: impl FnOnce(&mut Settings)) -> ReloadReport {
        change(&mut self.settings);
        self.relay.reload(self.settings.clone()).unwrap()
    }

    /// Put a certificate where the relay looks for them.
    pub(crate) fn add_certificate(&self, certificate: &Certificate, name: &str) {
        certificate.write_into(self.folder.path(), name);
    }

    /// Stop the relay in good order: what the drain did, and everything that is needed to start it again.
    pub(crate) async fn stop(self) -> (DrainReport, Plan) {
        let Self { relay, server, settings, folder, quic, s2s, admin_task, .. } = self;
        drop(admin_task);
        let report = soon("the end of the drain", relay.drain()).await;
        until("the relay's ports to be free", || {
            std::net::UdpSocket::bind(quic).is_ok() && std::net::TcpListener::bind(s2s).is_ok()
        })
        .await;
        (report, Plan { settings, server, folder })
    }

    /// Each stanza that was accepted was delivered, bounced or discarded, or waits; the counters that moved last may
    /// need a moment.
    pub(crate) async fn is_balanced(&self) {
        let sum = |name| self.metric(name, &[]);
        let accounted = || {
            sum("fedmux_stanzas_delivered_total")
                + sum("fedmux_stanzas_bounced_total")
                + sum("fedmux_stanzas_discarded_total")
                + sum("fedmux_queued_stanzas")
        };
        until("the ledger to balance", || sum("fedmux_stanzas_accepted_total") == accounted()).await;
    }

    /// No task of the relay ended by a panic.
    pub(crate) fn assert_unharmed(&self) {
        assert_eq!(self.relay.metrics().tasks_failed.get(), 0, "a task of the relay panicked");
    }
}
