//! Routes: wanted, waiting, placed, expired.

use std::time::Instant;

use super::{Action, Again, Hop, LaneId, PeerId, Placement, RouteState, Router};
use crate::reason::Reason;
use crate::xmpp::route::Route;

/// How often the back-off of a pair whose lanes come to be and end is doubled: to half a minute by default. Where there is room
/// again nobody says so, and what waits may bounce in the meantime.
const ENDED_MAX: u32 = 5;

impl Router {
    /// A stanza waits for `route`, and no lane takes it. Idempotent; for a route that is placed its lane is named again.
    pub fn want(&mut self, route: &Route, now: Instant) {
        let full = self.routes.len() >= self.limits.pairs;
        match self.routes.get(route) {
            Some(RouteState { placement: Placement::On(lane), .. }) => {
                // The stanza came between the decision and the lane's hearing of it.
                self.actions.push(Action::Attach { route: route.clone(), lane: *lane });
                return;
            }
            Some(_) => {}
            None if full => {
                self.actions.push(Action::Bounce { route: route.clone(), reason: Reason::TooMany });
                return;
            }
            None => {
                let expires = now + self.limits.holds().shortest();
                self.expiries.insert((expires, route.clone()));
                self.routes.insert(route.clone(), RouteState::new(Some(expires)));
            }
        }
        self.place(route, now);
    }

    /// As [`Router::want`], to resume a stream that we opened for `route` and that broke: no lane that another opened will do.
    pub fn want_resumed(&mut self, route: &Route, now: Instant) {
        if let Some(state) = self.routes.get_mut(route) {
            state.resumes = true;
        } else if self.routes.len() < self.limits.pairs {
            let expires = now + self.limits.holds().shortest();
            self.expiries.insert((expires, route.clone()));
            self.routes.insert(route.clone(), RouteState { resumes: true, ..RouteState::new(Some(expires)) });
        }
        self.want(route, now);
    }

    /// After [`Action::Detach`]: nothing waits for `route`.
    pub fn unwanted(&mut self, route: &Route) {
        if self.routes.get(route).is_some_and(|state| !state.is_placed()) {
            self.forget(route);
        }
    }

    /// After [`Action::Expire`]: the next stanza of `route` will have waited long enough at `next`; `None`: none waits.
    pub fn rearm(&mut self, route: &Route, next: Option<Instant>, now: Instant) {
        let Some(state) = self.routes.get_mut(route) else { return };
        // What is pushed for a lane that is not up yet isn't told to anybody: look again.
        let next = next.or_else(|| state.is_placed().then(|| now + self.limits.holds().shortest()));
        if let Some(expires) = std::mem::replace(&mut state.expires, next) {
            self.expiries.remove(&(expires, route.clone()));
        }
        match next {
            Some(next) => {
                self.expiries.insert((next, route.clone()));
            }
            None => self.unwanted(route),
        }
    }

    /// When [`Router::tick`] has to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let expiry = self.expiries.first().map(|(at, _)| *at);
        let later = self.later.first().map(|(at, _)| *at);
        let redial = self.peers.values().filter(|peer| !peer.waiting.is_empty() && peer.is_idle());
        let redial = redial.filter_map(|peer| peer.retry.at).min();
        let proofs = self.proof_deadline();
        [
            expiry,
            later,
            redial,
            proofs,
            self.refresh_deadline(),
            self.server_deadline(),
            self.session_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        while let Some((_, route)) = self.expiries.first().filter(|(at, _)| *at <= now).cloned() {
            self.expiries.pop_first();
            if let Some(state) = self.routes.get_mut(&route) {
                state.expires = None;
                let reason = state.reason;
                self.actions.push(Action::Expire { route, reason });
            }
        }
        while let Some((_, route)) = self.later.first().filter(|(at, _)| *at <= now).cloned() {
            self.later.pop_first();
            self.place_early(&route, now);
        }
        self.expire_proofs(now);
        self.refresh_records(now);
        self.retry_peers(now);
        self.retry_servers(now);
        self.close_idle_sessions(now);
    }

    /// Find `route`, which waits, a lane.
    pub(super) fn place(&mut self, route: &Route, now: Instant) {
        let Some(state) = self.routes.get(route) else { return };
        if state.is_placed() || state.not_before.is_some_and(|at| at > now) {
            return;
        }
        if self.hosts.serves(&route.to) {
            self.place_local(route, now)
        } else {
            self.place_remote(route, now)
        }
    }

    /// Find `route` a lane, even if its next attempt was to come later: something has changed.
    pub(super) fn place_early(&mut self, route: &Route, now: Instant) {
        if let Some(at) = self.routes.get_mut(route).and_then(|state| state.not_before.take()) {
            self.later.remove(&(at, route.clone()));
        }
        self.place(route, now);
    }

    /// Let `route` stand in the list of those that wait for `hop`.
    pub(super) fn wait_for(&mut self, route: &Route, hop: Hop) {
        self.leave(route);
        if let Some(waiting) = self.waiting_for(hop, route) {
            waiting.insert(route.clone());
            if let Some(state) = self.routes.get_mut(route) {
                state.placement = Placement::Waiting(hop);
            }
        }
    }

    /// Take `route` out of the list that it stands in.
    pub(super) fn leave(&mut self, route: &Route) {
        let Some(Placement::Waiting(hop)) = self.routes.get(route).map(|state| state.placement) else {
            return;
        };
        if let Some(waiting) = self.waiting_for(hop, route) {
            waiting.remove(route);
        }
    }

    fn waiting_for(&mut self, hop: Hop, route: &Route) -> Option<&mut std::collections::BTreeSet<Route>> {
        match hop {
            Hop::Peer(peer) => self.peers.get_mut(&peer).map(|peer| &mut peer.waiting),
            Hop::Server(server) => self.servers.get_mut(&server).map(|server| &mut server.waiting),
            Hop::Component => self.components.get_mut(&route.to).map(|component| &mut component.waiting),
        }
    }

    /// Everything that waits for `route` bounces.
    pub(super) fn give_up(&mut self, route: &Route, reason: Reason) {
        self.forget(route);
        self.actions.push(Action::Bounce { route: route.clone(), reason });
    }

    /// The hop of `route` has been down for long, and isn't tried again yet. What it says to others needn't wait for that.
    pub(super) fn turn_away(&mut self, route: &Route, hop: Hop, reason: Reason) {
        self.wait_for(route, hop);
        if let Some(state) = self.routes.get_mut(route) {
            state.reason = reason;
        }
        self.actions.push(Action::BounceAllButAnswers { route: route.clone(), reason });
    }

    /// `route` was refused, and isn't tried again before `until`. What answers somebody waits for that: a certificate that has expired
    /// may be renewed by then, or another session come.
    pub(super) fn refused_until(&mut self, route: &Route, peer: PeerId, reason: Reason, until: Instant) {
        self.turn_away(route, Hop::Peer(peer), reason);
        self.later.insert((until, route.clone()));
    }

    /// When a refusal of `route` is over.
    fn end_of_refusal(&self, route: &Route) -> Option<Instant> {
        let peer = self.peers.get(&self.peer_for(&route.to)?)?;
        peer.refused.get(route).map(|(until, _)| *until)
    }

    /// Nothing is placed and nothing waits. What was known of the route.
    fn forget(&mut self, route: &Route) -> Option<RouteState> {
        self.leave(route);
        if let Some(until) = self.end_of_refusal(route) {
            self.later.remove(&(until, route.clone()));
        }
        let state = self.routes.remove(route)?;
        if let Some(expires) = state.expires {
            self.expiries.remove(&(expires, route.clone()));
        }
        if let Some(at) = state.not_before {
            self.later.remove(&(at, route.clone()));
        }
        Some(state)
    }

    /// Put `route` on `lane`.
    pub(super) fn attach(&mut self, route: &Route, lane: LaneId) {
        self.leave(route);
        let Some(entry) = self.lanes.get_mut(&lane) else { return };
        entry.routes.insert(route.clone());
        if let Some(state) = self.routes.get_mut(route) {
            state.placement = Placement::On(lane);
        }
        if entry.up {
            self.arrived(route);
        }
        self.actions.push(Action::Attach { route: route.clone(), lane });
    }

    /// A lane has established itself: what is placed on it no longer waits for a way.
    pub(super) fn settle(&mut self, lane: LaneId, now: Instant) {
        let Some(entry) = self.lanes.get_mut(&lane) else { return };
        (entry.up, entry.since, entry.ahead) = (true, Some(now), false);
        for route in entry.routes.clone().into_vec() {
            self.arrived(&route);
        }
    }

    /// `route` is on a lane that is up: nothing expires, and its failures are history unless that lane ends as the last one did.
    fn arrived(&mut self, route: &Route) {
        let Some(state) = self.routes.get_mut(route) else { return };
        let expires = state.expires;
        let (placement, failures) = (state.placement, state.failures);
        *state = RouteState { placement, failures, ..RouteState::new(None) };
        if let Some(expires) = expires {
            self.expiries.remove(&(expires, route.clone()));
        }
    }

    /// Take `routes` off a lane that is gone. They are placed again only if the shell says that stanzas wait.
    pub(super) fn detach_all(
        &mut self,
        routes: impl IntoIterator<Item = Route>,
        again: Again,
        reason: Reason,
        now: Instant,
    ) {
        for route in routes {
            let Some(known) = self.forget(&route) else { continue };
            // On its way to a first lane: keep what is known, so that its time doesn't start anew. What had one waits from now on.
            let at_once = again == Again::AtOnce;
            let expires = known.expires.or_else(|| (!at_once).then(|| now + self.limits.holds().shortest()));
            if expires.is_some() {
                let mut state = RouteState {
                    plain: known.plain,
                    reason,
                    resumes: known.resumes,
                    ..RouteState::new(expires)
                };
                if let Some(expires) = state.expires {
                    self.expiries.insert((expires, route.clone()));
                }
                state.failures = known.failures;
                if again == Again::Plain {
                    state.plain = true;
                }
                state.full = again == Again::WithRoom;
                let failures = known.failures;
                let doubled = match again {
                    Again::AtOnce | Again::Plain => None,
                    Again::OnceMore => failures.checked_sub(1).map(|more| more.min(ENDED_MAX)),
                    Again::WithRoom => Some(failures.min(ENDED_MAX)),
                    Again::Later => Some(failures),
                };
                if !matches!(again, Again::AtOnce | Again::Plain) {
                    state.failures = failures.saturating_add(1);
                }
                if let Some(doubled) = doubled {
                    let at = now + self.jitter.after(doubled, &self.limits);
                    state.not_before = Some(at);
                    self.later.insert((at, route.clone()));
                }
                self.routes.insert(route.clone(), state);
            }
            self.actions.push(Action::Detach { route });
        }
    }
}
