//! Gauges that follow from the tables, brought up to date when somebody asks for the metrics. Nothing here waits for a lane, nor has one
//! wait: see [`super::status`].

use std::sync::{Arc, Mutex};

use prometheus::IntGauge;
use tokio::runtime::Handle;

use super::clock;
use super::hub::Hub;
use super::live::Live;
use super::mailbox::lock;
use super::shared::{Connection, SessionShared};
use crate::identity::certificate::Role;
use crate::metrics::{HostProven, PathFigures, SessionShown};
use crate::proto::router::SessionLoad;

/// What was last seen of the path of a session, so that what has been added since is added to the sums.
#[derive(Debug, Default)]
pub(crate) struct PathSeen(Mutex<PathFigures>);

impl SessionShared {
    /// Add to the sums what the transport has counted since the last time. Its round-trip time, its congestion window and its
    /// counters; `None`: there are none over TCP.
    pub(crate) fn look_at_path(&self, hub: &Hub) -> Option<(f64, u64, PathFigures)> {
        let Connection::Quic(connection) = &self.connection else { return None };
        let stats = connection.stats();
        let figures = PathFigures {
            sent: stats.path.sent_packets,
            lost: stats.path.lost_packets,
            congestion: stats.path.congestion_events,
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
        };
        let before = std::mem::replace(&mut *lock(&self.path_seen.0), figures);
        hub.metrics.paths.moved(before, figures);
        Some((stats.path.rtt.as_secs_f64(), stats.path.cwnd, figures))
    }
}

impl Hub {
    /// The exposition text, brought up to date. One at a time: some of it is made anew for each.
    pub(crate) fn scrape(&self) -> String {
        let _alone = lock(&self.scraping);
        self.refresh_gauges();
        self.metrics.text()
    }

    fn refresh_gauges(&self) {
        self.refresh_standing();
        self.refresh_queues();
        self.refresh_sessions();
        let live = self.live();
        let (now, named) = (clock::wall(), live.settings.admin_name_hosts);
        self.metrics.certificates.set(&lock(&self.proven_until), named, now);
        let good = live
            .certificates
            .certificates()
            .iter()
            .filter(|certificate| certificate.is_valid_at(now))
            .count();
        set(&self.metrics.certificates.good, good);
    }

    fn refresh_standing(&self) {
        let (standing, now) = (&self.metrics.standing, clock::now());
        let control = lock(&self.control);
        let pairs = control.router.pair_count();
        let (proofs, requests) = control.router.proof_counts(now);
        let (waits, peers) = (control.router.waits_counts(now), control.router.peer_counts(now));
        let down =
            control.router.server_facts(now).iter().filter(|(_, server)| server.down.is_some()).count();
        let components = control.router.component_facts();
        drop(control);
        let tasks = Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        set(&self.metrics.tasks, tasks);
        set(&self.metrics.domain_pairs, pairs);
        set(&self.metrics.proofs.under_way, proofs);
        set(&self.metrics.proofs.requests_open, requests);
        set(&standing.servers_down, down);
        set(&standing.components, components.iter().filter(|(_, connected, _)| *connected).count());
        for (what, routes) in waits {
            standing.waiting_for(what, routes);
        }
        for (state, count) in peers {
            standing.peers(state, count);
        }
        set(&standing.remembered, self.attempts.domains());
        let pairs = i64::try_from(pairs).unwrap_or(i64::MAX);
        standing.saved.set(pairs - self.metrics.connections_held());
        standing.draining.set(i64::from(self.is_draining()));
        let [accepted, delivered, bounced, discarded] = self.metrics.ledger();
        let custody = accepted.saturating_sub(delivered + bounced + discarded);
        standing.custody.set(i64::try_from(custody).unwrap_or(i64::MAX));
    }

    fn refresh_queues(&self) {
        let (queues, now) = (&self.metrics.standing.queues, clock::now());
        let (mut waiting, mut stanzas, mut bytes, mut longest, mut oldest) = (0, 0, 0, 0, None);
        for outlet in lock(&self.outlets).values() {
            let depth = outlet.depth();
            let Some(since) = depth.oldest() else { continue };
            waiting += 1;
            stanzas += depth.waiting_stanzas();
            bytes += depth.waiting_bytes();
            longest = longest.max(depth.waiting_bytes());
            oldest = Some(oldest.map_or(since, |oldest: std::time::Instant| oldest.min(since)));
        }
        set(&queues.waiting, waiting);
        set(&queues.stanzas, stanzas);
        set(&queues.bytes, bytes);
        set(&queues.longest, longest);
        let age = oldest.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        queues.oldest.set(age.as_secs_f64());
        set(&self.metrics.queued_bytes, self.queued.bytes());
        set(&self.metrics.queued_stanzas, self.queued.stanzas());
    }

    fn refresh_sessions(&self) {
        let control = lock(&self.control);
        let sessions = control.sessions.values().map(|(_, shared)| {
            (Arc::clone(shared), control.router.session_load(shared.id).unwrap_or_default())
        });
        let mut sessions: Vec<(Arc<SessionShared>, SessionLoad)> = sessions.collect();
        drop(control);
        // The ones that carry most come first; of equal ones the older.
        sessions.sort_by_key(|(shared, load)| (std::cmp::Reverse(load.routes), shared.id));
        let (mut rtts, mut windows, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for (shared, load) in sessions {
            let path = shared.look_at_path(self);
            if let Some((rtt, window, _)) = path {
                rtts.push(rtt);
                windows.push(window);
            }
            if shown.len() < self.limits.sessions_shown {
                shown.push(show(&shared, load, path));
            }
        }
        self.metrics.paths.spread(rtts, windows);
        self.metrics.paths.show(&shown);
    }

    /// The hosts or the certificates are others now.
    pub(super) fn count_hosts(&self) {
        let live = self.live();
        let proven: Vec<HostProven> = live.hosts.iter().map(|(host, _)| proven(&live, host)).collect();
        set(&self.metrics.hosts, proven.len());
        *lock(&self.proven_until) = proven;
    }
}

fn proven(live: &Live, host: &crate::xmpp::domain::Domain) -> HostProven {
    let certificate = live.certificates.choose(host, Role::Initiating, clock::wall());
    let until = certificate.ok().map(|certificate| certificate.names.not_after);
    HostProven { host: host.to_string(), until }
}

fn show(shared: &SessionShared, load: SessionLoad, path: Option<(f64, u64, PathFigures)>) -> SessionShown {
    let (theirs, ours) = lock(&shared.machine).grants();
    SessionShown {
        session: shared.id.0.to_string(),
        transport: shared.connection.transport().as_str(),
        direction: shared.opened.as_str(),
        age: clock::now().saturating_duration_since(shared.began).as_secs_f64(),
        counts: [load.lanes, load.routes, theirs, ours],
        path,
    }
}

fn set(gauge: &IntGauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}
