//! How a relay starts, and how it stops: every socket is bound and every file read before the first task runs.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinHandle};
use tracing::info;

use super::door::Door;
use super::drain::{DrainReport, drain, give_up};
use super::essential::Supervised;
use super::explain::{self, Explanation};
use super::handshakes::Handshakes;
use super::host_meta::Browser;
use super::hub::{Hub, Order, Parts};
use super::listeners::{Listeners, Listening};
use super::live::Live;
use super::local::listener::Who;
use super::settings::{Settings, Transport};
use super::status::{self, Status};
use super::tasks::{Supervisor, Tasks, observe};
use super::{acknowledging, connector, finder, local, over_quic, over_tls, random, renewal};
use crate::metrics::Metrics;
use crate::proto::router::{PeerRule, Router};
use crate::transport::quic;
use crate::xmpp::domain::Domain;

/// Why a relay did not start: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

impl StartError {
    pub(super) fn new(what: impl std::fmt::Display) -> Self {
        Self(what.to_string())
    }
}

/// Something ended without which a relay can't go on: what it was.
#[derive(Debug, thiserror::Error)]
#[error("{0}; see the log above for the reason")]
pub struct RelayFailure(String);

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    pub(super) hub: Arc<Hub>,
    supervisor: JoinHandle<()>,
    addresses: Addresses,
}

#[derive(Debug, Clone, Default)]
struct Addresses {
    quic: Vec<SocketAddr>,
    direct_tls: Vec<SocketAddr>,
    starttls: Vec<SocketAddr>,
    s2s: Vec<SocketAddr>,
    dns: Vec<SocketAddr>,
}

impl Relay {
    /// Start a relay on bound sockets. Returns when it takes stanzas.
    ///
    /// # Errors
    /// [`StartError`] if certificates, authorities or the key can't be read, or a socket can't be used.
    pub async fn start(settings: Settings, mut listeners: Listeners) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new().ok_or_else(|| StartError::new("metrics can't be registered"))?);
        let (tasks, supervisor) = Supervisor::new(Arc::clone(&metrics));
        let addresses = Addresses {
            quic: listeners.remote_quic(),
            direct_tls: listeners.remote_direct_tls(),
            starttls: listeners.remote_starttls(),
            s2s: listeners.local_s2s(),
            dns: listeners.local_dns(),
        };
        let components = listeners.local_components();
        let (orders, ordered) = mpsc::unbounded_channel();
        let hub = Arc::new(Hub::new(parts(settings, &metrics, tasks, orders, &listeners)?));
        hub.count_hosts();
        let local_dns = finder::respond(&hub.live().settings, listeners.take_dns(), &addresses.s2s)?;
        listen(&hub, listeners)?;
        if let Some(responder) = local_dns {
            hub.tasks.spawn(finder::watch(responder));
        }
        hub.tasks.spawn(renewal::watch(Arc::clone(&hub)));
        hub.tasks.spawn(tick(Arc::clone(&hub)));
        hub.tasks.spawn(acknowledging::run(Arc::clone(&hub)));
        hub.tasks.spawn(take_orders(Arc::clone(&hub), ordered));
        let supervised = Supervised(Arc::clone(&hub));
        let supervisor = tokio::spawn(async move {
            let _tells = supervised;
            supervisor.run().await;
        });
        info!(quic = ?addresses.quic, direct_tls = ?addresses.direct_tls, starttls = ?addresses.starttls, s2s = ?addresses.s2s, ?components, hosts = hub.live().hosts.iter().count(), "relay started");
        Ok(Self { hub, supervisor, addresses })
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.hub.metrics
    }

    /// The exposition text of its metrics, brought up to date.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.hub.scrape()
    }

    /// A handle for the admin endpoints that outlives nothing of the relay.
    #[must_use]
    pub fn view(&self) -> RelayView {
        RelayView(Arc::clone(&self.hub))
    }

    /// Where peers reach it.
    #[must_use]
    pub fn remote_quic(&self) -> &[SocketAddr] {
        &self.addresses.quic
    }

    /// Where peers reach it by TLS over TCP.
    #[must_use]
    pub fn remote_direct_tls(&self) -> &[SocketAddr] {
        &self.addresses.direct_tls
    }

    /// Where peers reach it by TCP with STARTTLS.
    #[must_use]
    pub fn remote_starttls(&self) -> &[SocketAddr] {
        &self.addresses.starttls
    }

    /// Where our own servers reach it.
    #[must_use]
    pub fn local_s2s(&self) -> &[SocketAddr] {
        &self.addresses.s2s
    }

    /// Where our own servers' look-ups are answered.
    #[must_use]
    pub fn local_dns(&self) -> &[SocketAddr] {
        &self.addresses.dns
    }

    /// Resolves if the relay can't go on.
    pub async fn failed(&self) -> RelayFailure {
        RelayFailure(self.hub.lost.any().await)
    }

    /// Stop: take nothing new, let lanes finish what is queued, at most `limits.drain`.
    pub async fn drain(self) -> DrainReport {
        let hub = &self.hub;
        // Without its tasks nothing finds its way any more.
        let report = if self.supervisor.is_finished() { give_up(hub) } else { drain(hub).await };
        for endpoint in &hub.endpoints {
            endpoint.close(quic::Code::Done.into(), b"");
            // The peers learn it now instead of by a time-out.
            let _told = tokio::time::timeout(std::time::Duration::from_secs(1), endpoint.wait_idle()).await;
        }
        self.supervisor.abort();
        report.say();
        report
    }
}

/// What the admin endpoints may see of a relay.
#[derive(Debug, Clone)]
pub struct RelayView(Arc<Hub>);

impl RelayView {
    /// The exposition text of the metrics.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.0.scrape()
    }

    /// What a task came to that was started for the operator; a panic is counted and logged.
    pub(crate) fn observe<T>(&self, ended: Result<T, JoinError>) -> Option<T> {
        observe(&self.0.metrics, ended)
    }

    /// What the relay is doing.
    pub async fn status(&self) -> Status {
        status::of(&self.0).await
    }

    /// What was tried towards a remote domain, from one host of ours or from all.
    ///
    /// # Errors
    /// If `from` is no host of ours: one line that says so.
    pub fn explain(&self, domain: &Domain, from: Option<&Domain>) -> Result<Explanation, String> {
        if let Some(from) = from.filter(|from| !self.0.live().hosts.serves(from)) {
            return Err(format!(
                "{from} is no host of this relay; leave --from out, or name one that it serves"
            ));
        }
        Ok(explain::explain(&self.0, domain, from))
    }

    /// Whether the relay takes stanzas.
    ///
    /// # Errors
    /// Why not, a line each.
    pub fn readiness(&self) -> Result<(), Vec<String>> {
        let draining = self.0.is_draining().then(|| "draining: the relay is stopping".to_owned());
        let reasons: Vec<String> = draining.into_iter().chain(self.0.lost.all()).collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}

fn parts(
    settings: Settings,
    metrics: &Arc<Metrics>,
    tasks: Tasks,
    orders: mpsc::UnboundedSender<Order>,
    listeners: &Listeners,
) -> Result<Parts, StartError> {
    let live = Live::read(settings, None)?;
    let settings = &live.settings;
    let rules = settings
        .peers
        .iter()
        .map(|peer| PeerRule { domains: peer.domains.clone(), proofs: peer.proofs })
        .collect();
    let mut router = Router::new(
        Arc::clone(&live.hosts),
        rules,
        settings.limits.clone(),
        Arc::clone(&live.secrets),
        random::seed(),
    );
    let bytes_max = settings.limits.host_meta_bytes;
    let browser = Arc::new(Browser::new(Arc::clone(&live.web), Arc::clone(metrics), bytes_max));
    let web = || Arc::clone(&browser) as _;
    let finder =
        settings.dns.as_ref().map(|dns| finder::start(dns, listeners.all(), &settings.limits, web()));
    let finder = finder.transpose()?.flatten();
    if finder.is_some() {
        router.discover();
    }
    Ok(Parts {
        router,
        metrics: Arc::clone(metrics),
        transport: quic::transport_config(&settings.limits),
        endpoints: endpoints(listeners, live.quic_key())?,
        finder,
        browser,
        tasks,
        handshakes: Handshakes::start().map_err(|error| {
            StartError::new(format_args!("the system gives no threads ({error}); look at its limits"))
        })?,
        orders,
        live,
    })
}

/// The endpoints of the bound sockets, from which we dial too; without any, one that only dials.
fn endpoints(listeners: &Listeners, key: &[u8; 32]) -> Result<Vec<quinn::Endpoint>, StartError> {
    let make = |socket| {
        quic::endpoint(socket, key).map_err(|error| StartError::new(format_args!("remote.quic: {error}")))
    };
    if listeners.quic.is_empty() {
        let any = ["0.0.0.0:0", "[::]:0"];
        let sockets: Vec<UdpSocket> =
            any.iter().filter_map(|address| UdpSocket::bind(address).ok()).collect();
        return sockets.into_iter().map(make).collect();
    }
    let copies = listeners.quic.iter().map(|quic| quic.socket.try_clone().map_err(StartError::new));
    copies.map(|socket| make(socket?)).collect()
}

fn listen(hub: &Arc<Hub>, listeners: Listeners) -> Result<(), StartError> {
    let door = Door::new(hub);
    // Without a listener there are endpoints too, which only dial.
    for endpoint in hub.endpoints.iter().skip(listeners.quic.len()) {
        hub.tasks.spawn(over_quic::watch(Arc::clone(hub), endpoint.clone()));
    }
    for (endpoint, Listening { inherited, .. }) in hub.endpoints.iter().zip(&listeners.quic) {
        // Each connection is accepted with a configuration of its own; this one makes the retry tokens.
        let live = hub.live();
        let (tls, _) = live.tls(Transport::Quic).server(&live.certificates, None);
        let config = quic::server_config(tls, &hub.transport).map_err(StartError::new)?;
        quic::listen(endpoint, config);
        let endpoint = Listening { socket: endpoint.clone(), inherited: *inherited };
        hub.tasks.spawn(over_quic::accept(Arc::clone(hub), endpoint, Arc::clone(&door)));
    }
    let direct = listeners.direct_tls.into_iter().map(|socket| (socket, Transport::DirectTls));
    let starttls = listeners.starttls.into_iter().map(|socket| (socket, Transport::StartTls));
    for (listening, transport) in direct.chain(starttls) {
        let listener = listening.watched()?;
        hub.tasks.spawn(over_tls::accept(Arc::clone(hub), listener, transport, Arc::clone(&door)));
    }
    let places = Arc::new(Semaphore::new(hub.limits.local_connections));
    let servers = listeners.s2s.into_iter().map(|socket| (socket, Who::Servers));
    let components = listeners.components.into_iter().map(|socket| (socket, Who::Components));
    for (listening, who) in servers.chain(components) {
        let listener = listening.watched()?;
        hub.tasks.spawn(local::listener::accept(Arc::clone(hub), listener, who, Arc::clone(&places)));
    }
    Ok(())
}

/// Wake the router when its time has come.
pub(super) async fn tick(hub: Arc<Hub>) {
    loop {
        let retimed = hub.retime.notified();
        match hub.deadline() {
            None => retimed.await,
            Some(at) => {
                if tokio::time::timeout_at(at.into(), retimed).await.is_err() {
                    hub.control(|router, now| router.tick(now));
                }
            }
        }
    }
}

/// Start the tasks that the router wants.
async fn take_orders(hub: Arc<Hub>, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        let started = Arc::clone(&hub);
        match order {
            Order::Find { peer, domain } => hub.tasks.spawn(finder::find(started, peer, domain)),
            Order::Dial { goal, session, opening } => {
                hub.tasks.spawn(connector::dial(started, goal, session, opening));
            }
            Order::Deliver { lane, route, mailbox } => {
                hub.tasks.spawn(local::deliver::run(started, lane, route, mailbox));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::relay::simulation::identities;

    async fn relay() -> Relay {
        relay_at(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]).await
    }

    async fn relay_at(remote_quic: Vec<SocketAddr>) -> Relay {
        let settings = Settings { remote_quic, ..identities::live(0).settings.clone() };
        let listeners = Listeners::bind(&settings).unwrap();
        Relay::start(settings, listeners).await.unwrap()
    }

    async fn failure(relay: &Relay) -> String {
        let failed = tokio::time::timeout(Duration::from_secs(5), relay.failed()).await;
        failed.expect("nobody is told").to_string()
    }

    #[tokio::test]
    async fn a_relay_that_lost_its_quic_listener_says_so_and_ends() {
        let relay = relay().await;
        assert_eq!(relay.view().readiness(), Ok(()));
        // As after an error of the socket: nothing more is accepted.
        relay.hub.endpoints[0].close(0_u32.into(), b"");
        let failure = failure(&relay).await;
        let reasons = relay.view().readiness().unwrap_err();
        assert!(
            reasons.len() == 1 && reasons[0].contains(&relay.remote_quic()[0].to_string()),
            "{reasons:?}"
        );
        assert!(failure.contains(&reasons[0]), "{failure}");
    }

    #[tokio::test]
    async fn a_relay_that_lost_the_socket_from_which_it_dials_says_so_and_ends() {
        let relay = relay_at(Vec::new()).await;
        assert_eq!(relay.view().readiness(), Ok(()));
        relay.hub.endpoints[0].close(0_u32.into(), b"");
        assert!(failure(&relay).await.contains("from which peers are dialled"));
        assert!(relay.view().readiness().is_err());
    }

    #[tokio::test]
    async fn a_supervisor_that_ends_in_whatever_way_ends_the_relay() {
        let relay = relay().await;
        relay.supervisor.abort();
        assert!(failure(&relay).await.contains("supervisor"));
        assert!(relay.view().readiness().is_err());
    }

    #[tokio::test]
    async fn a_relay_that_drains_has_lost_nothing() {
        let relay = relay().await;
        let (view, hub) = (relay.view(), Arc::clone(&relay.hub));
        relay.drain().await;
        tokio::task::yield_now().await;
        assert_eq!(view.readiness().unwrap_err().len(), 1, "{:?}", view.readiness());
        assert_eq!(hub.metrics.tasks_failed.get(), 0);
    }
}
