//! Another configuration: hosts come and go, keys rotate, the policy changes. Only the pairs of hosts that go and those
//! that are denied from now on are drained.
//!
//! A host that is taken away leaves in two steps. What waits for it, or from it, bounces while its lanes still stand
//! ([`Router::hosts_leave`]); then its lanes of the remote side finish, those that the peer opened with `host-gone`, and
//! nothing new begins ([`Router::hosts_changed`]). What the peer had sent by then is still handed to the host's server:
//! its local lanes follow when the remote ones are gone.
//!
//! A domain of a peer's that becomes a host of ours is spoken for by our own server from then on, and what is for it stays here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::preference::Preference;
use super::{Action, Again, Carrier, Lane, LaneId, Placement, Router, SessionEntry, SessionId};
use crate::proto::admission::Direction;
use crate::proto::hosts::Hosts;
use crate::proto::mux::secret::SecretKeys;
use crate::proto::stream::Learned;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

impl Router {
    /// Secrets are made with other keys from now on. Those that are handed out have their answer to come: `keys` takes
    /// them too.
    pub fn set_keys(&mut self, keys: Arc<SecretKeys>) {
        self.keys = keys;
    }

    /// Before [`Router::hosts_changed`]: what waits for or from a host that `hosts` takes away bounces, and what waits
    /// for a remote domain to which its host may send no more.
    pub fn hosts_leave(&mut self, hosts: &Hosts) {
        let waiting = self.routes.iter().filter(|(_, state)| !state.is_placed()).map(|(route, _)| route);
        // What went before may be a peer's by now.
        let leaves = |domain: &Domain| self.hosts.serves(domain) && !hosts.serves(domain);
        let leaving = |route: &Route| {
            if leaves(&route.from) || leaves(&route.to) {
                return Some(Reason::HostGone);
            }
            let leads_out = hosts.serves(&route.from) && !hosts.serves(&route.to);
            leads_out.then(|| hosts.policy(Direction::Outbound, &route.from, &route.to).err()).flatten()
        };
        let leaving: Vec<(Route, Reason)> =
            waiting.filter_map(|route| Some((route.clone(), leaving(route)?))).collect();
        for (route, reason) in leaving {
            self.give_up(&route, reason);
        }
    }

    /// The hosts or the policy are others now.
    pub fn hosts_changed(&mut self, hosts: Arc<Hosts>, now: Instant) {
        let former = std::mem::replace(&mut self.hosts, hosts);
        for session in self.sessions.values_mut().filter_map(|entry| entry.session.as_mut()) {
            session.set_hosts(&self.hosts);
        }
        self.close_gone(&former);
        self.come_home(&former, now);
        // Servers are known by the position of their entry, which may have changed.
        let servers = std::mem::take(&mut self.servers);
        for route in servers.into_values().flat_map(|server| server.waiting) {
            if let Some(state) = self.routes.get_mut(&route) {
                state.placement = Placement::Unplaced;
            }
            self.place(&route, now);
        }
        // The operator may just have mended what stood against them.
        for peer in self.peers.values_mut() {
            peer.refused.clear();
            peer.preference = Preference::default();
        }
        self.unproven.clear();
    }

    /// Lanes of pairs whose host is gone finish, those of pairs whose peer's domain is a host of ours now, and those of pairs
    /// that the policy no longer wants: not those that stand though it never did, for the questions of dialback alone. A lane
    /// of ours ends even if only what comes back on it is denied: it was opened under the former policy, and the next one isn't.
    fn close_gone(&mut self, former: &Hosts) {
        let mut closing = Vec::new();
        let mut served: BTreeSet<Route> = BTreeSet::new();
        for (id, lane) in &self.lanes {
            let (Carrier::Session(session), Some(pair)) = (lane.carrier, &lane.pair) else { continue };
            let (gone, home) = (self.hosts.has_gone(&pair.from), self.hosts.serves(&pair.to));
            let denies = |hosts: &Hosts, way| hosts.policy(way, &pair.from, &pair.to).is_err();
            let denied = |way| denies(&self.hosts, way) && !denies(former, way);
            let denied = lane.ours && denied(Direction::Outbound) || denied(Direction::Inbound);
            if !gone && !denied && !home {
                continue;
            }
            served.insert(pair.reversed());
            let shared = self.sessions.get(&session).is_some_and(SessionEntry::shares_lanes);
            if !lane.closing && !shared {
                // Only who was called may say that nobody lives there any more.
                let reason = match lane.ours {
                    true => Reason::Idle,
                    false if gone => Reason::HostGone,
                    false if denied => Reason::PolicyDenied,
                    false => Reason::PeerChanged,
                };
                closing.push((*id, reason));
            }
        }
        for (id, lane) in self.lanes.iter().filter(|(_, lane)| lane.carrier == Carrier::Local) {
            let mut routes = lane.pair.iter().chain(lane.offers.iter()).peekable();
            let over = |route: &Route| self.hosts.has_gone(&route.to) && !served.contains(route);
            if !lane.closing && routes.peek().is_some() && routes.all(over) {
                closing.push((*id, Reason::HostGone));
            }
        }
        let actions = closing.into_iter().map(|(lane, reason)| Action::CloseLane { lane, reason });
        self.actions.extend(actions);
    }

    /// What leads to a domain that is a host of ours now is placed anew. What is on a lane of its own stays there until the
    /// lane has finished, so that order doesn't change, unless the lane isn't up and has sent nothing.
    fn come_home(&mut self, former: &Hosts, now: Instant) {
        let hosts = Arc::clone(&self.hosts);
        let home = |route: &Route| hosts.serves(&route.to) && !former.serves(&route.to);
        let waiting = self.routes.iter().filter(|(route, state)| !state.is_placed() && home(route));
        let waiting: Vec<Route> = waiting.map(|(route, _)| route.clone()).collect();
        let mut leaving = Vec::new();
        for lane in self.lanes.values_mut() {
            let Carrier::Session(session) = lane.carrier else { continue };
            let shared = self.sessions.get(&session).is_some_and(SessionEntry::shares_lanes);
            if shared || !lane.up && !lane.ahead {
                leaving.extend(lane.routes.iter().filter(|route| home(route)).cloned());
                lane.routes.retain(|route| !home(route));
            }
        }
        self.detach_all(leaving, Again::AtOnce, Reason::PeerChanged, now);
        for route in waiting {
            self.leave(&route);
            if let Some(state) = self.routes.get_mut(&route) {
                state.placement = Placement::Unplaced;
            }
            self.place_early(&route, now);
        }
    }

    /// The last lane of a pair whose host is gone has ended, and so may the local one.
    pub(super) fn follow_gone(&mut self, pair: &Route) {
        if !self.hosts.has_gone(&pair.from) {
            return;
        }
        let of_pair =
            |lane: &Lane| matches!(lane.carrier, Carrier::Session(_)) && lane.pair.as_ref() == Some(pair);
        let elsewhere = self.lanes.values().any(of_pair);
        if let Some(lane) = self.local_lane_for(&pair.reversed()).filter(|_| !elsewhere) {
            self.actions.push(Action::CloseLane { lane, reason: Reason::HostGone });
        }
    }

    fn local_lane_for(&self, route: &Route) -> Option<LaneId> {
        match self.routes.get(route)?.placement {
            Placement::On(lane) => {
                let entry = self.lanes.get(&lane).filter(|entry| !entry.closing)?;
                (entry.pair.as_ref() == Some(route)).then_some(lane)
            }
            _ => None,
        }
    }

    /// The peer of `session` no longer serves `host`: its grant is over.
    pub fn host_is_gone(&mut self, session: SessionId, host: &Domain) {
        if let Some(session) = self.sessions.get_mut(&session).and_then(|entry| entry.session.as_mut()) {
            session.revoke_theirs(host);
        }
    }

    /// A later stream of `session` showed the peer's host list, which has changed.
    pub fn list_came(&mut self, session: SessionId, learned: &Learned) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        if let Some(session) = &mut entry.session {
            session.learn(learned.clone());
        }
        for peer in entry.pinned.clone() {
            if let Some(state) = self.peers.get_mut(&peer) {
                // A host that was gone, and is there again.
                state.refused.retain(|route, _| !learned.listed.contains(&route.to));
            }
        }
    }
}
