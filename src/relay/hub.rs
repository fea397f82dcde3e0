//! The hub: what the tasks of a relay share, and where the router's actions are carried out.
//!
//! Established lanes never come here: they hold the outlets of their routes and push into them. The one lock of the hub
//! is taken when something is placed, opened or lost, and the router's actions are carried out under it, so that they
//! take effect in the order in which the router decided them. Nothing is awaited meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc, watch};
use tracing::debug;

use super::acknowledging::Acknowledger;
use super::acquaintances::Acquaintances;
use super::attempts::Attempts;
use super::broken::BrokenStreams;
use super::budgets::Budgets;
use super::clock;
use super::essential::Lost;
use super::handshakes::Handshakes;
use super::host_meta::Browser;
use super::live::Live;
use super::mailbox::{Close, Mailbox, lock};
use super::outlet::{Outlet, TotalQueued};
use super::outlets::Outlets;
use super::proofs;
use super::reach::Goal;
use super::readings::Readings;
use super::session::Opening;
use super::settings::RemoteDialback;
use super::shared::SessionShared;
use super::status::SessionTold;
use super::tasks::Tasks;
use crate::dns::Finder;
use crate::metrics::{HostProven, Metrics};
use crate::proto::limits::Limits;
use crate::proto::router::{Action, LaneId, PeerId, Place, Router, SessionId};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::framer::XmlLimits;
use crate::xmpp::route::Route;

/// What a session's task is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Open a lane.
    OpenLane { lane: LaneId, route: Route, plain: bool, mailbox: Arc<Mailbox> },
    /// Close the connection; no lane is left.
    Close(Reason),
    /// Go: the session was made by rules that no longer hold ([`SessionShared::leave`]).
    Leave,
    /// Say how the session is.
    Tell(SessionTold),
}

/// What the router wants done that takes a task of its own.
#[derive(Debug)]
pub(crate) enum Order {
    /// Ask where the records of a domain lead.
    Find { peer: PeerId, domain: Domain },
    /// Connect to a peer: where its records lead, or where it is configured.
    Dial { goal: Goal, session: SessionId, opening: Opening },
    /// Open a stream to the server of `route.to`.
    Deliver { lane: LaneId, route: Route, mailbox: Arc<Mailbox> },
}

/// What the tasks of a relay share.
#[derive(Debug)]
pub(crate) struct Hub {
    /// What a reload replaces.
    live: Mutex<Arc<Live>>,
    /// Held by who makes another one of it, so that none is made of what is replaced meanwhile.
    pub(super) renewing: Mutex<()>,
    /// How often it was replaced.
    reloads: AtomicU64,
    /// How the configuration and the certificates were last read again.
    pub(super) readings: Mutex<Readings>,
    pub(super) started: Instant,
    /// Held by who makes the exposition text.
    pub(super) scraping: Mutex<()>,
    /// How long each host is proven by the certificates that there are.
    pub(super) proven_until: Mutex<Vec<HostProven>>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) transport: Arc<quinn::TransportConfig>,
    pub(crate) endpoints: Vec<quinn::Endpoint>,
    /// Finds peers that no `[[peer]]` names.
    pub(crate) finder: Option<Finder>,
    /// By which it asks web servers.
    browser: Arc<Browser>,
    /// Where the peers are that the operator knows.
    pub(super) acquaintances: Arc<Acquaintances>,
    pub(crate) tasks: Tasks,
    pub(crate) handshakes: Handshakes,
    orders: mpsc::UnboundedSender<Order>,
    pub(crate) queued: Arc<TotalQueued>,
    pub(crate) acknowledger: Arc<Acknowledger>,
    pub(crate) budgets: Budgets,
    /// What was tried towards each remote domain.
    pub(crate) attempts: Arc<Attempts>,
    pub(super) broken: Mutex<BrokenStreams>,
    pub(super) outlets: Mutex<Outlets>,
    /// Outlets without a lane of which something is under way, or that take nothing for now.
    pub(super) lingering: Mutex<Vec<Arc<Outlet>>>,
    pub(super) control: Mutex<Control>,
    /// Streams of ours on which a dialback key was sent and that are still open.
    open_keys: Mutex<FxHashSet<(Route, String)>>,
    keys_changed: Notify,
    /// The router's deadline may have changed.
    pub(crate) retime: Notify,
    pub(super) draining: watch::Sender<bool>,
    /// The time to drain is over.
    pub(super) ending: AtomicBool,
    /// Nothing is taken any more.
    pub(super) shut: AtomicBool,
    /// Why it can't go on.
    pub(super) lost: Lost,
    /// Told whenever a lane goes.
    pub(crate) lane_gone: Notify,
    /// Told whenever it is known whether a lane goes on with a stream of ours that broke.
    pub(crate) resumption_answered: Notify,
}

#[derive(Debug)]
pub(super) struct Control {
    pub(super) router: Router,
    pub(super) lanes: FxHashMap<LaneId, Arc<Mailbox>>,
    pub(super) sessions: FxHashMap<SessionId, (mpsc::UnboundedSender<Command>, Arc<SessionShared>)>,
}

/// What [`Hub`] is made of.
pub(crate) struct Parts {
    pub(crate) live: Live,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) transport: Arc<quinn::TransportConfig>,
    pub(crate) endpoints: Vec<quinn::Endpoint>,
    pub(crate) finder: Option<Finder>,
    pub(crate) browser: Arc<Browser>,
    pub(crate) tasks: Tasks,
    pub(crate) handshakes: Handshakes,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    pub(crate) router: Router,
}

impl Hub {
    pub(crate) fn new(parts: Parts) -> Self {
        let limits = parts.live.settings.limits.clone();
        let acquaintances = Arc::new(Acquaintances::new(&parts.live.settings));
        let acknowledger = Acknowledger::new(
            &limits,
            parts.metrics.custody.acknowledged_early.clone(),
            parts.metrics.discarded_for(Reason::TakenBack),
        );
        Self {
            acknowledger,
            broken: Mutex::new(BrokenStreams::new(limits.resumable)),
            budgets: Budgets::new(limits.pairs),
            attempts: Attempts::new(limits.domains_remembered),
            queued: Arc::new(TotalQueued::new(limits.queue_bytes)),
            limits,
            live: Mutex::new(Arc::new(parts.live)),
            renewing: Mutex::default(),
            reloads: AtomicU64::new(0),
            readings: Mutex::default(),
            started: clock::now(),
            proven_until: Mutex::default(),
            scraping: Mutex::default(),
            metrics: parts.metrics,
            transport: parts.transport,
            endpoints: parts.endpoints,
            finder: parts.finder,
            browser: parts.browser,
            acquaintances,
            tasks: parts.tasks,
            handshakes: parts.handshakes,
            orders: parts.orders,
            outlets: Mutex::default(),
            lingering: Mutex::default(),
            control: Mutex::new(Control {
                router: parts.router,
                lanes: FxHashMap::default(),
                sessions: FxHashMap::default(),
            }),
            open_keys: Mutex::default(),
            keys_changed: Notify::new(),
            retime: Notify::new(),
            draining: watch::Sender::new(false),
            ending: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            lost: Lost::default(),
            lane_gone: Notify::new(),
            resumption_answered: Notify::new(),
        }
    }

    /// What the relay goes by at this moment. Whoever needs several parts of it takes it once.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&lock(&self.live))
    }

    /// Changes whenever [`Hub::live`] does.
    pub(crate) fn generation(&self) -> u64 {
        self.reloads.load(Ordering::Acquire)
    }

    /// Go by `live` from now on.
    pub(super) fn replace(self: &Arc<Self>, live: Live) {
        let live = Arc::new(live);
        self.browser.believe(Arc::clone(&live.web));
        // What waits is answered while the lanes for the answers still stand.
        self.steer(|control, _| control.router.hosts_leave(&live.hosts));
        self.acquaintances.follow(&live.settings);
        self.steer(|control, now| {
            let former = std::mem::replace(&mut *lock(&self.live), Arc::clone(&live));
            self.reloads.fetch_add(1, Ordering::Release);
            control.router.set_keys(Arc::clone(&live.secrets));
            control.router.hosts_changed(Arc::clone(&live.hosts), now);
            for (_, session) in control.sessions.values() {
                lock(&session.machine).set_hosts(&live.hosts);
            }
            control.follow_peers(&former, &live, now);
        });
    }

    pub(crate) fn xml_limits(&self) -> XmlLimits {
        XmlLimits {
            stanza_bytes: self.limits.stanza_bytes,
            negotiation_bytes: self.limits.negotiation_bytes,
            depth: self.limits.stanza_depth,
            attributes: self.limits.element_attributes,
        }
    }

    /// Tell the router something, and do what it decides.
    pub(crate) fn control<T>(self: &Arc<Self>, tell: impl FnOnce(&mut Router, Instant) -> T) -> T {
        self.steer(|control, now| tell(&mut control.router, now))
    }

    fn steer<T>(self: &Arc<Self>, tell: impl FnOnce(&mut Control, Instant) -> T) -> T {
        let mut control = lock(&self.control);
        let now = clock::now();
        let told = tell(&mut control, now);
        loop {
            let actions = control.router.actions();
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.carry_out(&mut control, action, now);
            }
        }
        drop(control);
        self.retime.notify_one();
        told
    }

    /// When the router's time has come next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        lock(&self.control).router.deadline()
    }

    fn carry_out(self: &Arc<Self>, control: &mut Control, action: Action, now: Instant) {
        match action {
            // What a new lane took would be gone with the relay: it stays where it waits until that is counted.
            Action::Dial { .. } | Action::OpenLane { .. } | Action::OpenLocal { .. } if self.is_shut() => {}
            Action::Find { peer, domain } => self.order(Order::Find { peer, domain }),
            Action::Dial { peer, found, prefer, in_vain, session, lane, route, second, plain } => {
                let mailbox = control.new_lane(lane);
                let opening = Opening { lane, route, plain, second, mailbox };
                let goal = Goal { peer, found, prefer, in_vain };
                self.order(Order::Dial { goal, session, opening });
            }
            Action::OpenLane { session, lane, route, plain } => {
                let mailbox = control.new_lane(lane);
                if let Some((commands, _)) = control.sessions.get(&session) {
                    // A session that is just ending takes its lanes with it, opened or not.
                    let _ending = commands.send(Command::OpenLane { lane, route, plain, mailbox });
                }
            }
            Action::OpenLocal { lane, route } => {
                let mailbox = control.new_lane(lane);
                self.order(Order::Deliver { lane, route, mailbox });
            }
            Action::Attach { route, lane } => {
                if let (Some(mailbox), Some(outlet)) = (control.lanes.get(&lane), self.known_outlet(&route)) {
                    outlet.attach(mailbox);
                }
            }
            Action::Detach { route } => self.detach(control, &route, now),
            Action::Expire { route, reason } => self.expire(control, &route, reason, now),
            Action::Bounce { route, reason } => self.bounce_queue(control, &route, reason, false, now),
            Action::BounceAllButAnswers { route, reason } => {
                self.bounce_queue(control, &route, reason, true, now);
            }
            Action::CloseLane { lane, reason } => control.close_lane(lane, reason),
            Action::MakeSecret { first, host } => control.make_secret(first, &host, now),
            Action::Post { lane, octets } => {
                if let Some(mailbox) = control.lanes.get(&lane) {
                    mailbox.post_own(octets);
                }
            }
            Action::Granted { session, host, until, ours, took } => {
                control.grant(session, &host, until, ours);
                self.proof_granted(control, session, &host, ours, took);
            }
            Action::ProofRefused { session, host, reason } => {
                self.proof_refused(control, session, host.as_ref(), reason);
            }
            Action::ProofStarted { role } => self.metrics.proof_started(role.as_str()),
            Action::LimitHit { limit } => self.metrics.limit_hit(limit),
            Action::ClockStepped { seconds } => proofs::clock_stepped(seconds),
            Action::CloseSession { session, reason } => {
                if let Some((commands, _)) = control.sessions.get(&session) {
                    let _ended = commands.send(Command::Close(reason));
                }
            }
        }
    }

    fn expire(self: &Arc<Self>, control: &mut Control, route: &Route, reason: Reason, now: Instant) {
        let Some(outlet) = self.known_outlet(route) else {
            return control.router.rearm(route, None, now);
        };
        let (expired, next) = outlet.expire(self.limits.holds(), now);
        // As long as there is a stream to resume, a lane is wanted.
        let kept = outlet.look_at_broken(|broken| Some(broken.until.max(now + self.limits.ack_within)));
        control.router.rearm(route, next.or(kept), now);
        self.bounce(control, route, &expired, reason, now);
        self.retire(route, &outlet);
    }

    fn order(&self, order: Order) {
        // Whoever takes orders lives as long as the relay.
        let _relay_gone = self.orders.send(order);
    }

    /// Stanzas wait in the outlet of `route`, and no lane takes them.
    pub(crate) fn want(self: &Arc<Self>, route: &Route) {
        self.control(|router, now| router.want(route, now));
    }

    /// An identifier and a mailbox for a lane that the other end opened.
    pub(crate) fn admit_lane(&self) -> (LaneId, Arc<Mailbox>) {
        let mut control = lock(&self.control);
        let lane = control.router.fresh_lane();
        let mailbox = control.new_lane(lane);
        if self.is_shut() {
            // Nothing that comes on it is looked at.
            mailbox.refuse("", Reason::Draining);
        }
        (lane, mailbox)
    }

    /// Let a lane end in good order.
    pub(crate) fn close_lane(&self, lane: LaneId, reason: Reason) {
        lock(&self.control).close_lane(lane, reason);
    }

    /// A lane's task has ended.
    pub(crate) fn forget_lane(&self, lane: LaneId) {
        lock(&self.control).lanes.remove(&lane);
        self.lane_gone.notify_waiters();
    }

    /// A session's task takes commands.
    pub(crate) fn register_session(
        &self,
        shared: &Arc<SessionShared>,
        commands: mpsc::UnboundedSender<Command>,
    ) {
        let mut control = lock(&self.control);
        // The configuration may have changed during its handshake.
        let live = self.live();
        lock(&shared.machine).set_hosts(&live.hosts);
        let judged_by = shared.verdict.trust().unwrap_or_else(|| Arc::clone(&live.trust));
        if shared.is_outdated(&judged_by, &live, None) {
            shared.leave(&commands);
        }
        control.sessions.insert(shared.id, (commands, Arc::clone(shared)));
    }

    /// The `[[peer]]` entry for a remote domain.
    pub(crate) fn peer_for(&self, domain: &Domain) -> Option<PeerId> {
        lock(&self.control).router.peer_for(domain)
    }

    /// Whether remote domains may be proven by dialback.
    pub(crate) fn dials_back(&self) -> bool {
        self.live().settings.policy.dialback == RemoteDialback::Tls
    }

    /// An identifier for a session that the other end opened.
    pub(crate) fn fresh_session(&self) -> SessionId {
        lock(&self.control).router.fresh_session()
    }

    /// A session's task has ended. In one step: the router must not place anything in a session without a task.
    pub(crate) fn session_down(self: &Arc<Self>, session: SessionId, in_vain: Option<Place>, reason: Reason) {
        self.steer(|control, now| {
            if let Some(at) = in_vain {
                control.router.came_to_nothing(session, at, reason, now);
            }
            control.sessions.remove(&session);
            // What it was told to open when it was ending already.
            for lane in control.router.lanes_of(session) {
                control.lanes.remove(&lane);
            }
            control.router.session_down(session, reason, now);
        });
        self.lane_gone.notify_waiters();
    }

    /// A dialback key was sent on a stream with this id, which is open.
    pub(crate) fn open_key(&self, route: Route, stream_id: String) {
        debug!(pair = %route, "dialback key sent");
        lock(&self.open_keys).insert((route, stream_id));
        self.keys_changed.notify_waiters();
    }

    /// That stream is gone.
    pub(crate) fn close_key(&self, key: &(Route, String)) {
        lock(&self.open_keys).remove(key);
        self.keys_changed.notify_waiters();
    }

    /// Whether any such stream is.
    pub(super) fn has_open_keys(&self) -> bool {
        !lock(&self.open_keys).is_empty()
    }

    /// Resolves when one is opened or gone.
    pub(super) fn keys_changed(&self) -> Notified<'_> {
        self.keys_changed.notified()
    }

    /// Whether that stream is open.
    pub(crate) fn has_open_key(&self, route: &Route, stream_id: &str) -> bool {
        lock(&self.open_keys).contains(&(route.clone(), stream_id.to_owned()))
    }
}

impl Control {
    fn new_lane(&mut self, lane: LaneId) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        self.lanes.insert(lane, Arc::clone(&mailbox));
        mailbox
    }

    /// Let a lane end in good order.
    fn close_lane(&mut self, lane: LaneId, reason: Reason) {
        if let Some(mailbox) = self.lanes.get(&lane) {
            self.router.lane_closing(lane);
            mailbox.close(Close::AfterQueue, reason);
        }
    }
}
