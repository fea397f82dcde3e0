//! Which of a peer's addresses is dialled when: the race between them ([`crate::proto::race`], RFC 8305) as tasks. The
//! first connection whose certificate is verified is taken, and nothing is left of the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tracing::debug;

use super::attempts::Trace;
use super::clock;
use super::connector::{Asked, Attempt, Connected, Target, connect};
use super::hub::Hub;
use super::io::resolve;
use super::live::Live;
use super::random;
use super::session::Opening;
use super::settings::Transport;
use crate::identity::certificate::{Certificate, Role};
use crate::proto::discovery::TlsHints;
use crate::proto::discovery::found::{self, Answer, Found};
use crate::proto::discovery::pins::Pins;
use crate::proto::race::{Action, Race, more_telling};
use crate::proto::router::{PeerId, Place, SessionId};
use crate::reason::Reason;
use crate::xmpp::route::Route;

/// Whom to reach, and how.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) peer: PeerId,
    /// Where its domain's records lead; `None` for a `[[peer]]`.
    pub(crate) found: Option<Arc<Found>>,
    /// Over what it was reached a while ago.
    pub(crate) prefer: Option<Transport>,
    /// Where it was reached in vain a while ago: tried when the others were.
    pub(crate) in_vain: Vec<Place>,
}

/// Ways that the log names.
const NAMED_MAX: usize = 4;

impl Goal {
    /// Where the domain's records lead, for the log; `None` for a `[[peer]]`.
    pub(crate) fn tried(&self) -> Option<String> {
        let ways = self.found.as_ref()?.ways();
        let named = ways.iter().take(NAMED_MAX).map(|way| &way.candidate);
        let named: Vec<_> =
            named.map(|way| format!("{}:{} by {}", way.host, way.port, way.transport)).collect();
        let more = if ways.len() > NAMED_MAX { ", and others" } else { "" };
        Some(format!("{}{more}", named.join(", ")))
    }
}

/// What every runner of the race is told.
struct Course {
    hub: Arc<Hub>,
    session: SessionId,
    route: Route,
    certificate: Arc<Certificate>,
    peer: PeerId,
    pins: Pins,
    second: bool,
    trace: Trace,
}

/// Connect to a peer: where its domain's records lead, or where it is configured.
///
/// # Errors
/// Of all that was tried the reason that tells most.
pub(crate) async fn reach(
    hub: &Arc<Hub>,
    goal: &Goal,
    session: SessionId,
    opening: &Opening,
    trace: &Trace,
) -> Result<Connected, Reason> {
    let peer = goal.peer;
    let live = hub.live();
    let route = opening.route.clone();
    let chosen = live.certificates.choose(&route.from, Role::Initiating, clock::wall());
    let certificate = chosen.inspect_err(|reason| {
        trace.failed("own-certificate", format!("none of ours can speak for {}", route.from), *reason);
    })?;
    let mut ways = match goal.found.as_ref().map(|found| &found.answer) {
        Some(Answer::Ways(ways)) => {
            let all = ways.attempts(random::seed());
            trace.step("ways", named(&all));
            all
        }
        Some(Answer::Nothing) => return Err(Reason::NoRecords),
        Some(Answer::Failed(reason)) => return Err(*reason),
        None => configured(hub, &live, peer, trace).await?,
    };
    if let Some(transport) = goal.prefer {
        found::prefer(&mut ways, transport);
    }
    let put_off = found::put_off(&mut ways, &goal.in_vain);
    if !put_off.is_empty() {
        trace.step("put-off", format!("no stream came of a connection with {}", named(&put_off)));
    }
    let pins = goal.found.as_ref().map(|found| found.pins.clone()).unwrap_or_default();
    let hub = Arc::clone(hub);
    let (second, trace) = (opening.second, trace.clone());
    let course = Arc::new(Course { hub, session, route, certificate, peer, pins, second, trace });
    let bound = course.hub.limits.connect;
    if put_off.is_empty() {
        return run(course, ways, bound).await;
    }
    match run(Arc::clone(&course), ways, bound / 2).await {
        Err(first) => run(course, put_off, bound / 2).await.map_err(|then| more_telling(first, then)),
        reached => reached,
    }
}

/// The ways to the `[[peer]]` entry `peer`.
async fn configured(
    hub: &Hub,
    live: &Live,
    peer: PeerId,
    trace: &Trace,
) -> Result<Vec<found::Attempt>, Reason> {
    let peer = live.peers.get(peer).ok_or(Reason::NoRoute)?;
    let host = peer.address.to_string();
    trace.step("configured", format!("[[peer]] at {host} by {}", peer.transport));
    let resolved = resolve(&peer.address, hub.limits.look_up).await;
    let addresses: Vec<SocketAddr> = resolved.inspect_err(|reason| {
        trace.failed("address", format!("the addresses of {host}"), *reason);
    })?;
    hub.acquaintances.learn(&peer.address, Ok(&addresses));
    let way = |address| found::Attempt {
        transport: peer.transport,
        address,
        host: host.clone(),
        target: None,
        tls: TlsHints::default(),
    };
    Ok(addresses.into_iter().map(way).collect())
}

/// The addresses, in the order in which they are tried.
fn named(ways: &[found::Attempt]) -> String {
    let each = ways.iter().map(way_text);
    each.collect::<Vec<_>>().join(", ")
}

/// The race between `ways`, which takes `bound` at most.
async fn run(course: Arc<Course>, ways: Vec<found::Attempt>, bound: Duration) -> Result<Connected, Reason> {
    let mut race = Race::new(ways.len(), bound, clock::now());
    let mut dialling = JoinSet::new();
    let mut runners: Vec<Option<AbortHandle>> = ways.iter().map(|_| None).collect();
    let mut up: Vec<Option<Connected>> = ways.iter().map(|_| None).collect();
    loop {
        while let Some(action) = race.poll_action() {
            match action {
                Action::Start(index) => {
                    let Some(way) = ways.get(index).cloned() else { continue };
                    let course = Arc::clone(&course);
                    let dialled = async move { (index, dial(&course, &way).await) };
                    if let Some(runner) = runners.get_mut(index) {
                        *runner = Some(dialling.spawn(dialled));
                    }
                }
                Action::Abandon(index) => {
                    if let Some(runner) = runners.get_mut(index).and_then(Option::take) {
                        runner.abort();
                    }
                }
                Action::Won(index) => {
                    return up.get_mut(index).and_then(Option::take).ok_or(Reason::InternalServerError);
                }
                Action::Failed(reason) => {
                    course.trace.failed("race", "no address is left", reason);
                    return Err(reason);
                }
            }
        }
        let Some(deadline) = race.deadline() else { return Err(Reason::InternalServerError) };
        tokio::select! {
            Some(ended) = dialling.join_next() => match ended {
                Ok((index, Ok(connected))) => {
                    if let Some(place) = up.get_mut(index) {
                        *place = Some(connected);
                    }
                    race.handle_connected(index);
                }
                Ok((index, Err(reason))) => race.handle_failed(index, reason, clock::now()),
                // Abandoned, which the race knows.
                Err(ended) if ended.is_cancelled() => {}
                Err(_) => return Err(Reason::InternalServerError),
            },
            () = tokio::time::sleep_until(deadline.into()) => race.handle_timeout(clock::now()),
        }
    }
}

async fn dial(course: &Course, way: &found::Attempt) -> Result<Connected, Reason> {
    let Course { hub, session, route, certificate, peer, pins, second, trace } = course;
    let attempt = Attempt {
        session: *session,
        route,
        certificate,
        peer: *peer,
        srv: way.target.as_deref(),
        asked: Asked { sni: way.tls.sni.as_deref(), pins },
        second: *second,
        trace,
    };
    let mut racing = Racing { trace, way, done: false };
    trace.step("dialling", way_text(way));
    let target = Target { transport: way.transport, address: way.address };
    let connected = connect(hub, target, attempt).await;
    racing.done = true;
    if let Err(reason) = &connected {
        trace.failed("address", way_text(way), *reason);
        let (transport, address) = (way.transport, way.address);
        debug!(pair = %route, host = %way.host, %transport, %address, %reason, "address not reached");
    }
    connected
}

fn way_text(way: &found::Attempt) -> String {
    format!("{} by {} ({})", way.address, way.transport, way.host)
}

/// An address that is being dialled; if it is dropped before its end, it was given up.
struct Racing<'a> {
    trace: &'a Trace,
    way: &'a found::Attempt,
    done: bool,
}

impl Drop for Racing<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.trace.step("given-up", format!("{}: no answer so far", way_text(self.way)));
        }
    }
}
