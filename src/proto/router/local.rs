//! The local side: streams of our own servers, and to them. One stream for each pair.
//!
//! As long as a server answers, streams to it are opened as they are needed. Once an attempt has failed, one at a time
//! finds out whether it is back; whatever else is meant for it waits for that. A server that refuses a pair has answered:
//! that pair is tried again later, and the others go on.

use std::collections::BTreeSet;
use std::time::Instant;

use super::retry::Retry;
use super::{Action, Again, Carrier, Hop, Lane, LaneId, Router};
use crate::reason::Reason;
use crate::xmpp::route::Route;

/// What is known of one of our servers, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) waiting: BTreeSet<Route>,
    pub(super) retry: Retry,
    /// The stream that finds out whether it is back.
    probe: Option<LaneId>,
}

impl Server {
    pub(super) fn retry(&self) -> &Retry {
        &self.retry
    }
}

impl Router {
    /// One of our servers opened a stream, or was believed for a further pair on it: `route` is the direction that WE
    /// can send on it, which needs bidi.
    pub fn local_lane_up(&mut self, lane: LaneId, route: &Route, bidi: bool, now: Instant) {
        let entry = self.lanes.entry(lane).or_insert_with(|| Lane::opened(Carrier::Local, now));
        if bidi {
            entry.offers.insert(route.clone());
            self.local.insert(route.clone(), lane);
            self.place_early(route, now);
        }
        if let Some(entry) = self.server_of(route)
            && let Some(server) = self.servers.get_mut(&entry)
        {
            server.retry.hurry();
            // What waits while it is being found out whether the server is back goes on waiting: a server that opens a
            // thousand streams isn't a thousand times looked at for each of a thousand routes.
            if server.probe.is_none() {
                self.place_waiting_for_server(entry, now);
            }
        }
    }

    /// The stream to one of our servers, opened after [`Action::OpenLocal`], is established.
    pub fn local_lane_established(&mut self, lane: LaneId, now: Instant) {
        self.settle(lane, now);
        let route = self.lanes.get(&lane).and_then(|entry| entry.pair.clone());
        let Some(entry) = route.and_then(|route| self.server_of(&route)) else { return };
        if let Some(server) = self.servers.get_mut(&entry) {
            server.retry.succeeded();
            server.probe = None;
            self.place_waiting_for_server(entry, now);
        }
    }

    /// A local stream is gone, or could not be opened.
    pub fn local_lane_down(&mut self, lane: LaneId, reason: Reason, now: Instant) {
        let Some(entry) = self.lanes.remove(&lane) else { return };
        for route in entry.offers.iter() {
            if self.local.get(route) == Some(&lane) {
                self.local.remove(route);
            }
        }
        let failed = entry.pair.as_ref().filter(|_| !entry.up).and_then(|route| self.server_of(route));
        let pair_refused = failed.is_some() && is_about_the_pair(reason);
        let mut is_news = pair_refused;
        if let Some(server) = failed.and_then(|entry| self.servers.get_mut(&entry)) {
            // Attempts that were under way together fail together, and count once.
            if pair_refused {
                server.retry.succeeded();
                server.probe = server.probe.filter(|probe| *probe != lane);
            } else if server.probe == Some(lane) || !server.retry.is_down() {
                server.probe = None;
                is_news = true;
                server.retry.failed(reason, now, &self.limits, &mut self.jitter);
            }
            for route in server.waiting.iter().filter(|_| !pair_refused) {
                if let Some(state) = self.routes.get_mut(route) {
                    state.reason = reason;
                }
            }
        }
        let again = match entry.pair {
            _ if pair_refused => Again::Later,
            Some(_) => self.after_the_end_of(&entry, now),
            // Who opened it, a component for one, opens the next one too.
            None => Again::AtOnce,
        };
        self.detach_all(entry.routes.into_vec(), again, reason, now);
        if let Some(entry) = failed.filter(|_| is_news) {
            self.place_waiting_for_server(entry, now);
        }
    }

    pub(super) fn place_local(&mut self, route: &Route, now: Instant) {
        let offered = self.local.get(route).copied();
        if let Some(lane) = offered.filter(|lane| self.lanes.get(lane).is_some_and(|entry| !entry.closing)) {
            return self.attach(route, lane);
        }
        if self.hosts.component(&route.to).is_some() {
            return self.place_component(route);
        }
        let Some(entry) = self.server_of(route) else { return self.give_up(route, Reason::HostUnknown) };
        let server = self.servers.entry(entry).or_default();
        if let Some(reason) = server.retry.long_down(now, &self.limits) {
            return self.turn_away(route, Hop::Server(entry), reason);
        }
        let probing = server.retry.is_down();
        if probing && (server.probe.is_some() || !server.retry.may_try(now)) {
            return self.wait_for(route, Hop::Server(entry));
        }
        let lane = LaneId(self.fresh());
        if probing && let Some(server) = self.servers.get_mut(&entry) {
            server.probe = Some(lane);
        }
        self.lanes.insert(lane, Lane::opening(Carrier::Local, route));
        self.actions.push(Action::OpenLocal { lane, route: route.clone() });
        self.attach(route, lane);
    }

    /// The `[[host]]` entry whose server takes the stanzas of `route`.
    fn server_of(&self, route: &Route) -> Option<usize> {
        self.hosts.facts(&route.to).map(|facts| facts.entry)
    }

    fn place_waiting_for_server(&mut self, entry: usize, now: Instant) {
        let waiting = self.servers.get(&entry).map(|server| server.waiting.clone()).unwrap_or_default();
        for route in waiting {
            self.place(&route, now);
        }
    }

    pub(super) fn server_deadline(&self) -> Option<Instant> {
        let waited_for =
            self.servers.values().filter(|server| !server.waiting.is_empty() && server.probe.is_none());
        waited_for.filter_map(|server| server.retry.at).min()
    }

    /// Try again where the time has come.
    pub(super) fn retry_servers(&mut self, now: Instant) {
        let due: Vec<usize> = self
            .servers
            .iter()
            .filter(|(_, server)| !server.waiting.is_empty() && server.probe.is_none())
            .filter(|(_, server)| server.retry.may_try(now))
            .map(|(entry, _)| *entry)
            .collect();
        for entry in due {
            self.place_waiting_for_server(entry, now);
        }
    }
}

/// Whether a server that didn't accept a stream for this reason has something against its pair, and not none at all: others
/// may have better luck.
fn is_about_the_pair(reason: Reason) -> bool {
    reason.is_permanent() || matches!(reason, Reason::PolicyViolation | Reason::DialbackTimeout)
}
