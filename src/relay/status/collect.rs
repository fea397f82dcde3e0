//! All facts together: from the router, the sessions' tasks, and the figures that outlets have written down.

use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use super::{
    ANSWER_TIME, Ledger, LocalStatus, PairStatus, PeerStatus, Queued, Saved, SessionFacts, SessionStatus,
    Status, age, wall_text,
};
use crate::proto::router::{HopFacts, PeerFacts, PeerId, RouteFacts, Router, SessionId, SessionLoad, Waits};
use crate::reason::Reason;
use crate::relay::clock;
use crate::relay::hub::{Command, Hub};
use crate::relay::mailbox::lock;
use crate::relay::peering::Peers;
use crate::relay::settings::{Peer, Settings};
use crate::relay::shared::SessionShared;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// Domains of a `[[peer]]` that are named.
const NAMED_MAX: usize = 3;

/// What the router and the sessions' table knew at one moment.
struct Known {
    routes: Vec<RouteFacts>,
    peers: Vec<(PeerId, PeerFacts)>,
    servers: Vec<(usize, HopFacts)>,
    components: Vec<(Domain, bool, usize)>,
    sessions: Vec<Asked>,
}

/// A session whose task was asked.
struct Asked {
    shared: Arc<SessionShared>,
    load: SessionLoad,
    answer: oneshot::Receiver<SessionFacts>,
}

/// How `hub` is.
pub(in crate::relay) async fn status(hub: &Hub) -> Status {
    let (now, live) = (clock::now(), hub.live());
    let known = known(hub, now);
    let queues = queues(hub, now);
    let pairs = pairs(known.routes, &queues);
    let mut of_session: FxHashMap<u64, Queued> = FxHashMap::default();
    for pair in &pairs {
        if let Some(session) = pair.session {
            add(of_session.entry(session).or_default(), pair.queued);
        }
    }
    let peers = known.peers.into_iter().filter_map(|(id, facts)| peer(id, facts, &live.peers, now));
    let peers = peers.collect();
    let local = local(known.servers, known.components, &live.settings, now);
    let mut queued = Queued::default();
    queues.values().for_each(|one| add(&mut queued, *one));
    let reload = lock(&hub.readings).told();
    let sessions = sessions(known.sessions, &of_session).await;
    let [accepted, delivered, bounced, discarded] = hub.metrics.ledger();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: wall_text(clock::wall()),
        up_seconds: age(hub.started, now).as_secs(),
        draining: hub.is_draining(),
        hosts: live.hosts.iter().count(),
        saved: hub.saved(),
        stanzas: Ledger {
            accepted,
            delivered,
            bounced,
            discarded,
            in_custody: accepted.saturating_sub(delivered + bounced + discarded),
        },
        queued,
        reload,
        sessions,
        peers,
        local,
        pairs,
    }
}

fn known(hub: &Hub, now: Instant) -> Known {
    let control = lock(&hub.control);
    let asked = control.sessions.values().map(|(commands, shared)| {
        let (tell, answer) = oneshot::channel();
        // A task that is just ending doesn't answer.
        let _ending = commands.send(Command::Tell(tell));
        let load = control.router.session_load(shared.id).unwrap_or_default();
        Asked { shared: Arc::clone(shared), load, answer }
    });
    let sessions = asked.collect();
    let router: &Router = &control.router;
    Known {
        routes: router.route_facts(now),
        peers: router.peer_facts(now),
        servers: router.server_facts(now),
        components: router.component_facts(),
        sessions,
    }
}

fn queues(hub: &Hub, now: Instant) -> FxHashMap<Route, Queued> {
    let outlets = lock(&hub.outlets);
    let of_each = outlets.values().map(|outlet| {
        let depth = outlet.depth();
        let queued = Queued {
            stanzas: depth.waiting_stanzas(),
            bytes: depth.waiting_bytes(),
            sent_bytes: depth.under_way_bytes(),
            oldest_seconds: depth.oldest().map(|since| age(since, now).as_secs_f64()),
        };
        (outlet.route.clone(), queued)
    });
    // Whoever looks for an outlet waits for no more than this.
    let of_each: Vec<(Route, Queued)> = of_each.collect();
    drop(outlets);
    of_each.into_iter().collect()
}

/// Add what waits in one queue to what waits in several.
fn add(sum: &mut Queued, one: Queued) {
    sum.stanzas += one.stanzas;
    sum.bytes += one.bytes;
    sum.sent_bytes += one.sent_bytes;
    let oldest = [sum.oldest_seconds, one.oldest_seconds].into_iter().flatten();
    sum.oldest_seconds = oldest.max_by(f64::total_cmp);
}

/// Each direction, those that wait first, and of these the ones that wait longest.
fn pairs(routes: Vec<RouteFacts>, queues: &FxHashMap<Route, Queued>) -> Vec<PairStatus> {
    let pair = |RouteFacts { route, session, waits, failed }| PairStatus {
        queued: queues.get(&route).copied().unwrap_or_default(),
        from: route.from.to_string(),
        to: route.to.to_string(),
        session: session.map(|SessionId(session)| session),
        waits_for: waits.map(|waits: Waits| waits.as_str().to_owned()),
        reason: failed.map(|reason: Reason| reason.as_str().to_owned()),
    };
    let mut pairs: Vec<PairStatus> = routes.into_iter().map(pair).collect();
    pairs.sort_by(|one, other| {
        let waits =
            |pair: &PairStatus| (pair.waits_for.is_some(), pair.queued.oldest_seconds.unwrap_or(-1.0));
        let ((first, age), (second, other_age)) = (waits(one), waits(other));
        let worse = second.cmp(&first).then(other_age.total_cmp(&age));
        worse.then_with(|| (&one.from, &one.to).cmp(&(&other.from, &other.to)))
    });
    pairs
}

async fn sessions(asked: Vec<Asked>, queued: &FxHashMap<u64, Queued>) -> Vec<SessionStatus> {
    let until = tokio::time::Instant::now() + ANSWER_TIME;
    let mut sessions = Vec::with_capacity(asked.len());
    for Asked { shared, load, answer } in asked {
        // When the time is over, what has been answered by then still counts.
        let told = tokio::time::timeout_at(until, answer).await;
        sessions.push(SessionStatus {
            session: shared.id.0,
            peer: shared.peer.clone(),
            transport: shared.connection.transport().as_str().to_owned(),
            told: told.ok().and_then(Result::ok),
            lanes: load.lanes,
            routes: load.routes,
            retiring: load.retiring,
            queued: queued.get(&shared.id.0).copied().unwrap_or_default(),
        });
    }
    sessions.sort_by_key(|session| session.session);
    sessions
}

/// A peer that something is known of; the others have never been needed.
fn peer(id: PeerId, facts: PeerFacts, peers: &Peers, now: Instant) -> Option<PeerStatus> {
    let state = facts.state();
    let PeerFacts { domain, refused, refusal, single_stream, hop, .. } = facts;
    let configured = domain.is_none();
    let reason = hop.down.map(|(_, reason)| reason).or(refusal.map(|(_, reason, _)| reason));
    Some(PeerStatus {
        peer: match domain {
            Some(domain) => domain.to_string(),
            None => named(peers.get(id)?),
        },
        configured,
        state: state.to_owned(),
        waiting: hop.waiting,
        reason: reason.map(|reason| reason.as_str().to_owned()),
        down_seconds: hop.down.map(|(since, _)| age(since, now).as_secs()),
        retry_seconds: hop.retry.map(|at| at.saturating_duration_since(now).as_secs()),
        refused,
        single_stream,
    })
}

fn named(peer: &Peer) -> String {
    let domains: Vec<String> = peer.domains.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = if peer.domains.len() > NAMED_MAX { ", ..." } else { "" };
    format!("{}{more} at {} by {}", domains.join(", "), peer.address, peer.transport)
}

fn local(
    servers: Vec<(usize, HopFacts)>,
    components: Vec<(Domain, bool, usize)>,
    settings: &Settings,
    now: Instant,
) -> Vec<LocalStatus> {
    let servers = servers.into_iter().filter_map(|(entry, hop)| {
        let deliver: Vec<String> =
            settings.hosts.get(entry)?.deliver.iter().map(ToString::to_string).collect();
        Some(LocalStatus {
            server: deliver.join(", "),
            state: if hop.down.is_some() { "down" } else { "up" }.to_owned(),
            waiting: hop.waiting,
            reason: hop.down.map(|(_, reason)| reason.as_str().to_owned()),
            down_seconds: hop.down.map(|(since, _)| age(since, now).as_secs()),
        })
    });
    let components = components.into_iter().map(|(domain, connected, waiting)| LocalStatus {
        server: domain.to_string(),
        state: if connected { "up" } else { "not-connected" }.to_owned(),
        waiting,
        reason: (!connected).then(|| Reason::ComponentNotConnected.as_str().to_owned()),
        down_seconds: None,
    });
    servers.chain(components).collect()
}

impl Hub {
    /// What multiplexing saves at this moment.
    pub(crate) fn saved(&self) -> Saved {
        let pairs = lock(&self.control).router.pair_count();
        let domain_pairs = i64::try_from(pairs).unwrap_or(i64::MAX);
        let connections = self.metrics.connections_held();
        Saved { domain_pairs, connections, connections_saved: domain_pairs - connections }
    }
}
