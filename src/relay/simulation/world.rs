//! Several relays with a server behind each, and what lies between them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::account::Account;
use super::dice::Dice;
use super::identities;
use super::pipe::{Ear, Mouth, Path, pipe};
use super::server::Server;
use super::wire::{End, Wire};
use crate::identity::certificate::{Certificate, KeyPurposes, Role};
use crate::identity::verdict::{PeerIdentity, Verdict};
use crate::metrics::Metrics;
use crate::proto::admission::Side;
use crate::proto::discovery::pins::Pins;
use crate::proto::limits::Limits;
use crate::proto::router::{PeerId, PeerRule, Router, SessionId};
use crate::reason::Reason;
use crate::relay::attempts::Kind;
use crate::relay::connector::{self, Asked, Attempt, DialGuard, Established, Origin};
use crate::relay::drain::{self, DrainReport};
use crate::relay::guard::LaneGuard;
use crate::relay::handshakes::Handshakes;
use crate::relay::host_meta::Browser;
use crate::relay::hub::{Hub, Order, Parts};
use crate::relay::live::Live;
use crate::relay::local::{deliver, listener};
use crate::relay::mailbox::lock;
use crate::relay::session::{self, Opening};
use crate::relay::settings::{Placement, Settings};
use crate::relay::shared::{Connection, SessionShared};
use crate::relay::tasks::Supervisor;
use crate::relay::{acknowledging, clock, random, start};
use crate::transport::quic;
use crate::xmpp::domain::Domain;

/// What TCP and the kernel hold of what a server doesn't read.
const LOCAL_WINDOW: usize = 32 * 1024;

/// What one history is made of.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) relays: usize,
    /// Domains behind each; the third has a certificate of its own.
    pub(super) domains: usize,
    pub(super) limits: Limits,
    /// How old the sessions of each relay become, where it isn't as the limits say.
    pub(super) ages: Vec<Duration>,
    pub(super) placement: Placement,
    pub(super) bounces: bool,
    /// Stanzas in a second, of all pairs together.
    pub(super) rate: u64,
    /// QUIC's stream window.
    pub(super) window: usize,
    /// How long the certificates of a connection are good.
    pub(super) lifetime: Duration,
    /// Reloads change who the peers are.
    pub(super) peers_change: bool,
}

impl Plan {
    /// Nothing happens of itself.
    pub(super) fn quiet() -> Self {
        Self {
            relays: 2,
            domains: 1,
            limits: Limits::default(),
            ages: Vec::new(),
            placement: Placement::StreamPerPair,
            bounces: false,
            rate: 1,
            window: 100_000,
            lifetime: Duration::from_secs(86_400),
            peers_change: false,
        }
    }
}

/// A relay that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) hub: Arc<Hub>,
    supervisor: JoinHandle<()>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) account: Account,
    pub(super) servers: Vec<Arc<Server>>,
    pub(super) relays: Mutex<Vec<Option<Running>>>,
    pub(super) wires: Mutex<Vec<Arc<Wire>>>,
    paths: Mutex<BTreeMap<[usize; 2], Arc<Path>>>,
    local: Arc<Path>,
    pub(super) dice: Mutex<Dice>,
    quiet: AtomicBool,
    tasks: Mutex<JoinSet<()>>,
    pub(super) events: Mutex<Vec<String>>,
    /// Stanzas of an error for which a relay that stopped found nobody to tell, at the most.
    untold: AtomicU64,
    /// What relays that were killed had acknowledged before their next hop did. They count on for the moment in which they end.
    killed_with: Mutex<Vec<IntCounter>>,
    /// Until when connections that were lost, to relays that were killed or on paths that died, seem to stand; or a relay drained, and took
    /// none.
    unnoticed: Mutex<Option<Instant>>,
    /// A relay was killed, or began to drain.
    relay_ended: AtomicBool,
    /// Hosts that were taken out of a configuration.
    pub(super) left: Mutex<BTreeSet<String>>,
}

/// The domains behind the relay `index`.
pub(super) fn domains(index: usize, count: usize) -> Vec<String> {
    let letter = char::from(b'a' + u8::try_from(index).unwrap());
    (0..count).map(|n| format!("{letter}{n}.test")).collect()
}

/// Where a relay is reached.
pub(super) fn address(index: usize) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, u8::try_from(index + 1).unwrap()), 5269).into()
}

impl World {
    pub(super) fn new(plan: Plan, dice: &mut Dice) -> Arc<Self> {
        let servers = (0..plan.relays).map(|index| Server::new(index, domains(index, plan.domains)));
        Arc::new(Self {
            account: Account::default(),
            servers: servers.collect(),
            relays: Mutex::new((0..plan.relays).map(|_| None).collect()),
            wires: Mutex::default(),
            paths: Mutex::default(),
            local: Path::new(dice.fork(), 0..2),
            dice: Mutex::new(dice.fork()),
            quiet: AtomicBool::new(false),
            tasks: Mutex::new(JoinSet::new()),
            events: Mutex::default(),
            untold: AtomicU64::new(0),
            killed_with: Mutex::default(),
            unnoticed: Mutex::default(),
            relay_ended: AtomicBool::new(false),
            left: Mutex::default(),
            plan,
        })
    }

    /// The servers send nothing more.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    pub(super) fn hush(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    /// Servers that are started from now on do.
    pub(super) fn speak(&self) {
        self.quiet.store(false, Ordering::Relaxed);
    }

    pub(super) fn tell(&self, event: impl std::fmt::Display) {
        tracing::trace!("{event}");
        let wall = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        lock(&self.events).push(format!("{:>9.3} {event}", wall.as_secs_f64() % 100_000.0));
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        lock(&self.tasks).spawn(task)
    }

    /// A task of the servers, or of the attacker, that panicked has found something.
    pub(super) fn observe(&self) {
        let mut tasks = lock(&self.tasks);
        while let Some(ended) = tasks.try_join_next() {
            match ended {
                Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
                _ => {}
            }
        }
    }

    pub(super) fn path(&self, one: usize, other: usize) -> Arc<Path> {
        let mut paths = lock(&self.paths);
        let fork = || lock(&self.dice).fork();
        Arc::clone(paths.entry([one.min(other), one.max(other)]).or_insert_with(|| Path::new(fork(), 5..40)))
    }

    pub(super) fn hub(&self, index: usize) -> Option<Arc<Hub>> {
        lock(&self.relays).get(index)?.as_ref().map(|running| Arc::clone(&running.hub))
    }

    /// Start a relay.
    pub(super) fn start(self: &Arc<Self>, index: usize) {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (tasks, supervisor) = Supervisor::new(Arc::clone(&metrics));
        let (orders, ordered) = mpsc::unbounded_channel();
        let live = self.live(index);
        let settings = &live.settings;
        let rule = |peer: &crate::relay::settings::Peer| PeerRule {
            domains: peer.domains.clone(),
            proofs: peer.proofs,
        };
        let router = Router::new(
            Arc::clone(&live.hosts),
            settings.peers.iter().map(rule).collect(),
            settings.limits.clone(),
            Arc::clone(&live.secrets),
            random::seed(),
        );
        let browser = Browser::new(Arc::clone(&live.web), Arc::clone(&metrics), 0);
        let hub = Arc::new(Hub::new(Parts {
            router,
            metrics,
            transport: quic::transport_config(&settings.limits),
            endpoints: Vec::new(),
            finder: None,
            browser: Arc::new(browser),
            tasks,
            handshakes: Handshakes::default(),
            orders,
            live,
        }));
        hub.tasks.spawn(start::tick(Arc::clone(&hub)));
        hub.tasks.spawn(acknowledging::run(Arc::clone(&hub)));
        hub.tasks.spawn(take_orders(Arc::clone(self), index, Arc::clone(&hub), ordered));
        let supervisor = tokio::spawn(supervisor.run());
        lock(&self.relays)[index] = Some(Running { hub, supervisor });
    }

    /// What the relay `index` goes by.
    fn live(&self, index: usize) -> Live {
        let base = identities::live(index);
        let settings = self.settings(index, base.settings.clone());
        base.with_settings(settings, false)
    }

    pub(super) fn settings(&self, index: usize, base: Settings) -> Settings {
        identities::settings(&self.plan, index, base)
    }

    /// Kill a relay. The others learn of it at `noticed`.
    pub(super) fn kill(&self, index: usize, noticed: Instant) {
        let Some(running) = lock(&self.relays)[index].take() else { return };
        lock(&self.killed_with).push(running.hub.metrics.custody.acknowledged_early.clone());
        self.seems_to_stand(noticed);
        self.cut_off(index, noticed);
        running.supervisor.abort();
    }

    /// Stanzas that relays had acknowledged before their next hop did, and that they were killed with or stopped with an error
    /// for them that found nobody to tell, at the most.
    pub(super) fn acknowledged_early(&self) -> u64 {
        let killed_with = lock(&self.killed_with).iter().map(IntCounter::get).sum::<u64>();
        killed_with + self.untold.load(Ordering::Relaxed)
    }

    /// Connections over which nothing passes seem to stand until then.
    pub(super) fn seems_to_stand(&self, until: Instant) {
        let mut unnoticed = lock(&self.unnoticed);
        *unnoticed = unnoticed.max(Some(until));
    }

    /// Whether somebody may have forgotten what was handled: a relay that ended, or a stream that wasn't resumed.
    pub(super) fn has_lost_state(&self) -> bool {
        let relays = lock(&self.relays);
        self.relay_ended.load(Ordering::Relaxed)
            || relays.iter().flatten().any(|running| running.hub.metrics.custody.lost() > 0)
    }

    fn cut_off(&self, index: usize, noticed: Instant) {
        self.relay_ended.store(true, Ordering::Relaxed);
        for wire in lock(&self.wires).iter() {
            for side in 0..2 {
                if wire.between[side] == index {
                    wire.kill(side);
                    wire.lose(1 - side, noticed, Reason::ConnectionLost);
                }
            }
        }
    }

    /// Stop a relay in good order. What it held of it when it was done.
    pub(super) async fn drain(&self, index: usize) -> Option<DrainReport> {
        let hub = self.hub(index)?;
        self.relay_ended.store(true, Ordering::Relaxed);
        let report = drain::drain(&hub).await;
        // It says how many errors found nobody to tell. That is right only if somebody wasn't there, whether that was noticed or not.
        let answers = clock::now().checked_sub(drain::LAST_ANSWERS);
        if !self.is_quiet() || *lock(&self.unnoticed) >= answers || self.is_another_draining(index) {
            self.untold.fetch_add(report.untold as u64, Ordering::Relaxed);
        }
        // A moment passes until its peers know and its process has gone, in which its servers find its listener.
        tokio::time::sleep(Duration::from_millis(500)).await;
        // Until now it took no new connection, and until then those that it had seem to stand.
        let noticed = clock::now() + Duration::from_millis(50);
        self.seems_to_stand(noticed);
        // It may have been killed meanwhile, and another one started.
        let running = lock(&self.relays)[index].take_if(|running| Arc::ptr_eq(&running.hub, &hub))?;
        self.cut_off(index, noticed);
        running.supervisor.abort();
        Some(report)
    }

    fn is_another_draining(&self, index: usize) -> bool {
        let relays = lock(&self.relays);
        let mut others = relays.iter().enumerate().filter(|(other, _)| *other != index);
        others.any(|(_, running)| running.as_ref().is_none_or(|running| running.hub.is_draining()))
    }

    /// A server opens a stream to its relay.
    pub(super) fn connect_local(&self, index: usize) -> Option<(Mouth, Ear)> {
        let hub = self.hub(index)?;
        let (to, from) = (pipe(&self.local, usize::MAX), pipe(&self.local, LOCAL_WINDOW));
        let source = (Ipv4Addr::LOCALHOST, 1).into();
        let serving = Arc::clone(&hub);
        hub.tasks.spawn(listener::carry(serving, source, listener::Who::Servers, (to.1, from.0)));
        Some((to.0, from.1))
    }

    /// Connect two places, and shake hands: the second serves `opening.route.to`.
    pub(super) async fn shake_hands(&self, between: [usize; 2]) -> Result<[End; 2], Reason> {
        let path = self.path(between[0], between[1]);
        let due = path.due() + path.due().saturating_duration_since(clock::now());
        let until = clock::now() + self.plan.limits.connect;
        tokio::time::sleep_until(due.min(until).into()).await;
        if due > until {
            return Err(Reason::ConnectionTimeout);
        }
        let ends = Wire::ends(between, &path, self.plan.window);
        let mut wires = lock(&self.wires);
        wires.retain(|wire| !wire.is_closed());
        wires.push(Arc::clone(&ends[0].wire));
        Ok(ends)
    }

    /// The session of one end of a connection.
    pub(super) async fn session(
        &self,
        hub: &Arc<Hub>,
        theirs: (&Arc<Certificate>, usize),
        ours: &Arc<Certificate>,
        exporters: [[u8; 32]; 2],
        origin: Origin<'_>,
    ) -> Result<Arc<SessionShared>, Reason> {
        let (theirs, index) = theirs;
        let mut names = theirs.names.clone();
        if !self.is_quiet() {
            names.not_after = names.not_after.min(clock::wall() + self.plan.lifetime);
        }
        let peer = PeerIdentity {
            names,
            keys: Arc::from([]),
            purposes: KeyPurposes::default(),
            subject: String::new(),
            issuer: String::new(),
            serial: String::new(),
        };
        let established = Established {
            connection: Connection::Simulated,
            address: address(index),
            exporters,
            verdict: Verdict::of(ours, peer),
        };
        connector::session(hub, established, origin).await
    }

    /// A session that the relay `index` opened to the first, `hub`.
    pub(super) async fn accepted(&self, hub: &Arc<Hub>, index: usize) -> Arc<SessionShared> {
        let certificate = |index: usize| {
            let name = Domain::parse(&domains(index, 1)[0]).unwrap();
            identities::live(index).certificates.choose(&name, Role::Initiating, clock::wall()).unwrap()
        };
        let (ours, theirs) = (certificate(0), certificate(index));
        self.session(hub, (&theirs, index), &ours, self.exporters(), Origin::Accepted).await.unwrap()
    }

    pub(super) fn exporters(&self) -> [[u8; 32]; 2] {
        [0; 2].map(|_: i32| random::bits().unwrap())
    }
}

/// Start the tasks that the router of a relay wants.
async fn take_orders(
    world: Arc<World>,
    index: usize,
    hub: Arc<Hub>,
    mut ordered: mpsc::UnboundedReceiver<Order>,
) {
    while let Some(order) = ordered.recv().await {
        let (world, started) = (Arc::clone(&world), Arc::clone(&hub));
        match order {
            Order::Find { .. } => unreachable!("there is nobody to ask"),
            Order::Dial { goal, session, opening } => {
                hub.tasks.spawn(dial(world, index, started, goal.peer, session, opening));
            }
            Order::Deliver { lane, route, mailbox } => {
                let guard = LaneGuard::new(&hub, lane, Side::Local);
                let server = Arc::clone(&world.servers[index]);
                if !server.is_up() {
                    guard.down(Reason::ConnectionRefused);
                    continue;
                }
                let (to, from) = (pipe(&world.local, LOCAL_WINDOW), pipe(&world.local, usize::MAX));
                server.accept(&world, (from.0, to.1));
                let at = (Ipv4Addr::LOCALHOST, 2).into();
                let carried = deliver::carry(started, guard, (lane, route, mailbox), at, (from.1, to.0));
                hub.tasks.spawn(carried);
            }
        }
    }
}

async fn dial(
    world: Arc<World>,
    index: usize,
    hub: Arc<Hub>,
    peer: PeerId,
    session: SessionId,
    opening: Opening,
) {
    let mut guard = DialGuard::new(&hub, session, &opening);
    match connect(&world, index, &hub, peer, session, &opening).await {
        Ok((shared, end)) => {
            guard.failed = None;
            // What its first lane was refused for the router has heard.
            let _told = session::run(hub, shared, end, Some(opening)).await;
        }
        Err(reason) => guard.failed = Some(reason),
    }
}

async fn connect(
    world: &Arc<World>,
    index: usize,
    hub: &Arc<Hub>,
    peer: PeerId,
    session: SessionId,
    opening: &Opening,
) -> Result<(Arc<SessionShared>, End), Reason> {
    let live = hub.live();
    let config = live.peers.get(peer).unwrap();
    let place = (0..).find(|place| config.address.to_string() == address(*place).to_string()).unwrap();
    let [ours, theirs] = world.shake_hands([index, place]).await?;
    let exporters = world.exporters();
    let route = &opening.route;
    let certificate = live.certificates.choose(&route.from, Role::Initiating, clock::wall())?;
    let shown = if place == world.plan.relays {
        super::attacker::accept(world, theirs)
    } else {
        let other = world.hub(place).filter(|hub| !hub.is_draining()).ok_or(Reason::ConnectionRefused)?;
        let shown = other.live().certificates.choose(&route.to, Role::Receiving, clock::wall())?;
        let from = (&certificate, index);
        let shared = world.session(&other, from, &shown, exporters, Origin::Accepted).await?;
        let serving = Arc::clone(&other);
        other.tasks.spawn(async move {
            let _told = session::run(serving, shared, theirs, None).await;
        });
        shown
    };
    let trace = hub.attempts.begin(Kind::Connection, &route.to, Some(&route.from));
    let attempt = Attempt {
        session,
        route,
        certificate: &certificate,
        peer,
        srv: None,
        asked: Asked { sni: None, pins: &Pins::default() },
        second: opening.second,
        trace: &trace,
    };
    let shared =
        world.session(hub, (&shown, place), &certificate, exporters, Origin::Dialled(attempt)).await?;
    Ok((shared, ours))
}
