//! The outlets of a relay: when one is made, and when it is given up again.
//!
//! There are `limits.pairs` of them at the most, and no peer takes more of these than is left: a pair that it begins is refused
//! when those that it has begun, and that still stand, are more than the places left. Whoever holds a certificate for all names
//! below one could else take every place by a stanza of each. What our own servers send is never refused for this, nor what comes
//! back in a pair that one of them has begun; and of the last eighth of the places all peers together take none, from however many
//! addresses one comes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use prometheus::IntCounter;
use rustc_hash::FxHashMap;

use super::hub::{Control, Hub};
use super::mailbox::lock;
use super::outlet::{Left, Outlet};
use crate::proto::addresses::Network;
use crate::reason::Reason;
use crate::xmpp::route::Route;

/// Of so many places one is for what our own servers begin.
const KEPT: usize = 8;

/// What is for a peer whose stanzas come back may take so many times what is left: whoever is refused hears of it.
const ANSWERED: usize = 2;

/// Who begins a pair if it doesn't stand yet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Begins {
    /// One of our own servers; or something goes on that had begun.
    Ours,
    /// The peer at this address.
    Peer(IpAddr),
    /// Who answers the peer at this address.
    Answer(IpAddr),
}

impl Begins {
    /// Who begins the way back, on which what came is answered.
    pub(crate) fn answered(self) -> Self {
        match self {
            Self::Peer(address) => Self::Answer(address),
            other => other,
        }
    }
}

/// The outlets, by their routes.
#[derive(Debug, Default)]
pub(super) struct Outlets {
    by_route: FxHashMap<Route, Arc<Outlet>>,
    /// Of each peer that has begun a pair which stands: one of that pair's outlets holds another of these.
    begun: FxHashMap<Network, Arc<Network>>,
}

impl Outlets {
    pub(super) fn get(&self, route: &Route) -> Option<&Arc<Outlet>> {
        self.by_route.get(route)
    }

    pub(super) fn len(&self) -> usize {
        self.by_route.len()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<Outlet>> {
        self.by_route.values()
    }

    /// Whether there is a place for `route`, of `places`, for whoever begins it.
    fn has_place(&self, route: &Route, begins: Begins, places: usize) -> bool {
        let left = places.saturating_sub(self.len());
        let within = |peer, kept, times| {
            let left = left.saturating_sub(kept);
            left > 0 && self.begun_by(peer) <= left.saturating_mul(times) || self.is_ours(route)
        };
        left > 0
            && match begins {
                Begins::Ours => true,
                Begins::Peer(peer) => within(peer, places / KEPT, 1),
                // Half of what is kept: an answer leaves at once.
                Begins::Answer(peer) => within(peer, places / KEPT / 2, ANSWERED),
            }
    }

    /// How many pairs the peer there has begun.
    fn begun_by(&self, peer: IpAddr) -> usize {
        self.begun.get(&Network::of(peer)).map_or(0, |begun| Arc::strong_count(begun) - 1)
    }

    /// Whether the pair of `route` stands, and no peer has begun it.
    fn is_ours(&self, route: &Route) -> bool {
        self.by_route.get(&route.reversed()).is_some_and(|back| !back.is_begun_by_peer())
    }

    fn insert(&mut self, outlet: Arc<Outlet>, begins: Begins) {
        let route = outlet.route.clone();
        if let Begins::Peer(peer) | Begins::Answer(peer) = begins
            && !self.by_route.contains_key(&route.reversed())
        {
            let network = Network::of(peer);
            let begun = self.begun.entry(network).or_insert_with(|| Arc::new(network));
            outlet.set_begun_by(Arc::clone(begun));
        }
        self.by_route.insert(route, outlet);
    }

    /// The outlet of `route` is out of use. Its pair stands as long as the other direction does.
    pub(super) fn remove(&mut self, route: &Route) {
        let begun = self.by_route.remove(route).and_then(|outlet| outlet.take_begun_by());
        let Some(begun) = begun else { return };
        if let Some(back) = self.by_route.get(&route.reversed()) {
            back.set_begun_by(begun);
        } else if Arc::strong_count(&begun) == 2 {
            // This one and the table's.
            self.begun.remove(&*begun);
        }
    }
}

impl Hub {
    pub(super) fn known_outlet(&self, route: &Route) -> Option<Arc<Outlet>> {
        lock(&self.outlets).get(route).cloned()
    }

    pub(super) fn retire(&self, route: &Route, outlet: &Arc<Outlet>) {
        let mut outlets = lock(&self.outlets);
        if !outlet.retire_if_empty() {
            drop(outlets);
            self.let_linger(outlet);
        } else if outlets.get(route).is_some_and(|known| Arc::ptr_eq(known, outlet)) {
            outlets.remove(route);
        }
    }

    /// Take a retired outlet out of the table. Another one may have its place by now: what is in that would be lost with it.
    pub(super) fn forget_outlet(&self, outlet: &Arc<Outlet>) {
        let mut outlets = lock(&self.outlets);
        if outlets.get(&outlet.route).is_some_and(|known| Arc::ptr_eq(known, outlet)) {
            outlets.remove(&outlet.route);
        }
    }

    fn let_linger(&self, outlet: &Arc<Outlet>) {
        if outlet.begins_to_linger() {
            lock(&self.lingering).push(Arc::clone(outlet));
            self.acknowledger.attend_to_broken();
        }
    }

    /// The outlet of `route`, which goes on or which our own servers begin; made if there is none.
    ///
    /// # Errors
    /// [`Reason::TooMany`] if there are as many as `limits.pairs` allows.
    pub(crate) fn outlet(&self, route: &Route) -> Result<Arc<Outlet>, Reason> {
        self.begin(route, Begins::Ours)
    }

    /// The outlet of `route`; made if there is none, for whoever begins it.
    ///
    /// # Errors
    /// [`Reason::TooMany`] if there are as many as `limits.pairs` allows, or as many of the peer's as it leaves places.
    pub(crate) fn begin(&self, route: &Route, begins: Begins) -> Result<Arc<Outlet>, Reason> {
        let mut outlets = lock(&self.outlets);
        if let Some(outlet) = outlets.get(route) {
            return Ok(Arc::clone(outlet));
        }
        if !outlets.has_place(route, begins, self.limits.pairs) {
            self.metrics.limit_hit("pairs");
            return Err(Reason::TooMany);
        }
        let outlet = Outlet::new(route.clone(), self.limits.pair_queue_bytes, Arc::clone(&self.queued));
        let outlet = Arc::new(outlet.counting(self.traffic(route)));
        outlets.insert(Arc::clone(&outlet), begins);
        Ok(outlet)
    }

    /// What counts the stanzas of `route` by host, if the operator wants that.
    fn traffic(&self, route: &Route) -> Vec<[IntCounter; 2]> {
        let live = self.live();
        let ends = [(&route.from, "sent"), (&route.to, "received")];
        let named = ends.iter().filter(|(host, _)| live.settings.admin_name_hosts && live.hosts.serves(host));
        named.map(|(host, direction)| self.metrics.of_host(host, direction)).collect()
    }

    pub(super) fn detach(&self, control: &mut Control, route: &Route, now: Instant) {
        let mut outlets = lock(&self.outlets);
        let Some(outlet) = outlets.get(route).cloned() else { return };
        let left = outlet.detach();
        // In one step: nobody finds it in the table and lets it live on.
        if left == Left::Nothing {
            outlets.remove(route);
        }
        drop(outlets);
        match left {
            Left::Waiting => control.router.want(route, now),
            Left::Broken => control.router.want_resumed(route, now),
            Left::Held => control.router.unwanted(route),
            Left::UnderWay => {
                control.router.unwanted(route);
                self.let_linger(&outlet);
            }
            Left::Nothing => control.router.unwanted(route),
        }
    }
}
