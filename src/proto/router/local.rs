//! The local side: streams of our own servers, and to them. One stream for each pair.

use std::time::Instant;

use super::{Action, Again, Carrier, Lane, LaneId, Retry, Router};
use crate::reason::Reason;
use crate::xmpp::route::Route;

impl Router {
    /// One of our servers opened a stream, or was believed for a further pair on it: `route` is the direction that WE
    /// can send on it, which needs bidi.
    pub fn local_lane_up(&mut self, lane: LaneId, route: &Route, bidi: bool, now: Instant) {
        let entry = self.lanes.entry(lane).or_insert_with(|| Lane {
            carrier: Carrier::Local,
            initiated: false,
            up: true,
            closing: false,
            routes: Default::default(),
            offers: Default::default(),
        });
        if bidi {
            entry.offers.insert(route.clone());
            self.local.insert(route.clone(), lane);
            if self.routes.get(route).is_some_and(|state| state.placement == super::Placement::Waiting) {
                self.place(route, now);
            }
        }
    }

    /// The stream to one of our servers, opened after [`Action::OpenLocal`], is established.
    pub fn local_lane_established(&mut self, lane: LaneId) {
        let routes: Vec<Route> =
            self.lanes.get(&lane).map(|entry| entry.routes.iter().cloned().collect()).unwrap_or_default();
        for route in &routes {
            if let Some((retry, _)) = self.server_of(route).and_then(|entry| self.servers.get_mut(&entry)) {
                retry.succeeded();
            }
        }
        self.settle(lane);
        for route in &routes {
            self.release_waiting(route);
        }
    }

    /// A local stream is gone, or could not be opened.
    pub fn local_lane_down(&mut self, lane: LaneId, reason: Reason, now: Instant) {
        let Some(entry) = self.lanes.remove(&lane) else { return };
        for route in &entry.offers {
            if self.local.get(route) == Some(&lane) {
                self.local.remove(route);
            }
        }
        if !entry.up {
            for route in &entry.routes {
                if let Some(server) = self.server_of(route) {
                    let (retry, _) = self.servers.entry(server).or_default();
                    retry.failed(reason, now, &self.limits, &mut self.jitter);
                }
            }
        }
        self.detach_all(entry.routes, Again::AtOnce, reason);
    }

    pub(super) fn place_local(&mut self, route: &Route, now: Instant) {
        if let Some(lane) = self.local.get(route).copied()
            && self.lanes.get(&lane).is_some_and(|entry| !entry.closing)
        {
            self.attach(route, lane);
            return;
        }
        let Some(server) = self.server_of(route) else {
            self.give_up(route, Reason::HostUnknown);
            return;
        };
        let (retry, waiting) =
            self.servers.entry(server).or_insert_with(|| (Retry::default(), Default::default()));
        if let Some(reason) = retry.long_down(now, &self.limits) {
            self.give_up(route, reason);
        } else if retry.may_try(now) {
            waiting.remove(route);
            let lane = LaneId(self.fresh());
            let entry = Lane {
                carrier: Carrier::Local,
                initiated: true,
                up: false,
                closing: false,
                routes: Default::default(),
                offers: Default::default(),
            };
            self.lanes.insert(lane, entry);
            self.actions.push(Action::OpenLocal { lane, route: route.clone() });
            self.attach(route, lane);
        } else {
            waiting.insert(route.clone());
        }
    }

    /// The `[[host]]` entry whose server takes the stanzas of `route`.
    fn server_of(&self, route: &Route) -> Option<usize> {
        self.hosts.facts(&route.to).map(|facts| facts.entry)
    }

    /// A server is back: whoever waited for it need not wait for its next attempt.
    fn release_waiting(&mut self, route: &Route) {
        let Some(server) = self.server_of(route) else { return };
        if let Some((retry, _)) = self.servers.get_mut(&server) {
            retry.at = None;
        }
    }

    /// Try again where the time has come.
    pub(super) fn retry_servers(&mut self, now: Instant) {
        let due: Vec<Route> = self
            .servers
            .values()
            .filter(|(retry, _)| retry.may_try(now))
            .flat_map(|(_, waiting)| waiting.iter().cloned())
            .collect();
        for route in due {
            self.place(&route, now);
        }
    }
}
