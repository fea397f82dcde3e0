//! Routes: wanted, waiting, placed, expired.

use std::time::Instant;

use super::{Action, Again, LaneId, Placement, RouteState, Router};
use crate::reason::Reason;
use crate::xmpp::route::Route;

impl Router {
    /// A stanza waits for `route`, which is not placed. Idempotent.
    pub fn want(&mut self, route: &Route, now: Instant) {
        if let Some(state) = self.routes.get(route) {
            if matches!(state.placement, Placement::On(_)) {
                return;
            }
        } else if self.routes.len() >= self.limits.pairs {
            self.actions.push(Action::Bounce { route: route.clone(), reason: Reason::TooMany });
            return;
        } else {
            let expires = now + self.limits.hold_iq.min(self.limits.hold);
            self.expiries.insert((expires, route.clone()));
            self.routes.insert(
                route.clone(),
                RouteState {
                    placement: Placement::Waiting,
                    expires: Some(expires),
                    plain: false,
                    not_before: None,
                    reason: Reason::QueueTimeout,
                },
            );
        }
        self.place(route, now);
    }

    /// After [`Action::Expire`]: the next stanza of `route` will have waited long enough at `next`; `None`: none waits.
    pub fn rearm(&mut self, route: &Route, next: Option<Instant>) {
        let Some(state) = self.routes.get_mut(route) else { return };
        if let Some(expires) = std::mem::replace(&mut state.expires, next) {
            self.expiries.remove(&(expires, route.clone()));
        }
        match next {
            Some(next) => {
                self.expiries.insert((next, route.clone()));
            }
            None if state.placement == Placement::Waiting => self.forget(route),
            None => {}
        }
    }

    /// When [`Router::tick`] has to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let expiry = self.expiries.first().map(|(at, _)| *at);
        let later = self.later.first().map(|(at, _)| *at);
        let redial = self.peers.iter().filter(|peer| !peer.waiting.is_empty() && peer.dialling.is_none());
        let redial = redial.filter_map(|peer| peer.retry.at).min();
        let servers = self.servers.values().filter(|(_, waiting)| !waiting.is_empty());
        let servers = servers.filter_map(|(retry, _)| retry.at).min();
        [expiry, later, redial, servers, self.session_deadline()].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        while let Some((at, route)) = self.expiries.first().cloned() {
            if at > now {
                break;
            }
            self.expiries.remove(&(at, route.clone()));
            if let Some(state) = self.routes.get_mut(&route) {
                state.expires = None;
                let reason = state.reason;
                self.actions.push(Action::Expire { route, reason });
            }
        }
        while let Some((at, route)) = self.later.first().cloned() {
            if at > now {
                break;
            }
            self.later.remove(&(at, route.clone()));
            if self.routes.get(&route).is_some_and(|state| state.placement == Placement::Waiting) {
                self.place(&route, now);
            }
        }
        self.retry_waiting(now);
        self.close_idle_sessions(now);
    }

    /// Find `route`, which waits, a lane.
    pub(super) fn place(&mut self, route: &Route, now: Instant) {
        if self.routes.get(route).and_then(|state| state.not_before).is_some_and(|at| at > now) {
            return;
        }
        if self.hosts.serves(&route.to) {
            self.place_local(route, now)
        } else {
            self.place_remote(route, now)
        }
    }

    /// Everything that waits for `route` bounces.
    pub(super) fn give_up(&mut self, route: &Route, reason: Reason) {
        self.forget(route);
        self.actions.push(Action::Bounce { route: route.clone(), reason });
    }

    /// Nothing is placed and nothing waits.
    pub(super) fn forget(&mut self, route: &Route) {
        if let Some(state) = self.routes.remove(route) {
            if let Some(expires) = state.expires {
                self.expiries.remove(&(expires, route.clone()));
            }
            if let Some(at) = state.not_before {
                self.later.remove(&(at, route.clone()));
            }
        }
        for peer in &mut self.peers {
            peer.waiting.remove(route);
        }
        for (_, waiting) in self.servers.values_mut() {
            waiting.remove(route);
        }
    }

    /// Put `route` on `lane`.
    pub(super) fn attach(&mut self, route: &Route, lane: LaneId) {
        let Some(entry) = self.lanes.get_mut(&lane) else { return };
        entry.routes.insert(route.clone());
        let up = entry.up;
        if let Some(state) = self.routes.get_mut(route) {
            state.placement = Placement::On(lane);
            if up && let Some(expires) = state.expires.take() {
                self.expiries.remove(&(expires, route.clone()));
            }
        }
        for peer in &mut self.peers {
            peer.waiting.remove(route);
        }
        self.actions.push(Action::Attach { route: route.clone(), lane });
    }

    /// A lane has established itself: what is placed on it no longer waits for a way.
    pub(super) fn settle(&mut self, lane: LaneId) {
        let Some(entry) = self.lanes.get_mut(&lane) else { return };
        entry.up = true;
        for route in &entry.routes {
            if let Some(state) = self.routes.get_mut(route) {
                state.plain = false;
                if let Some(expires) = state.expires.take() {
                    self.expiries.remove(&(expires, route.clone()));
                }
            }
        }
    }

    /// Take all routes off a lane that is gone. They wait again only if the shell says that stanzas do.
    pub(super) fn detach_all(
        &mut self,
        routes: impl IntoIterator<Item = Route>,
        again: Again,
        reason: Reason,
    ) {
        for route in routes {
            let expires = self.routes.get(&route).and_then(|state| state.expires);
            self.forget(&route);
            if again != Again::AtOnce || expires.is_some() {
                // Still on its way to a first lane: keep what is known, so that its time is not started anew.
                if let Some(expires) = expires {
                    self.expiries.insert((expires, route.clone()));
                }
                let not_before = if let Again::NotBefore(at) = again { Some(at) } else { None };
                if let Some(at) = not_before {
                    self.later.insert((at, route.clone()));
                }
                let plain = again == Again::Plain;
                let state = RouteState { placement: Placement::Waiting, expires, plain, not_before, reason };
                self.routes.insert(route.clone(), state);
            }
            self.actions.push(Action::Detach { route });
        }
    }
}
