//! The outlets of a relay: when one is made, and when it is given up again.

use std::sync::Arc;
use std::time::Instant;

use prometheus::IntCounter;

use super::hub::{Control, Hub};
use super::mailbox::lock;
use super::outlet::{Left, Outlet};
use crate::reason::Reason;
use crate::xmpp::route::Route;

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

    /// The outlet of `route`; made if there is none.
    ///
    /// # Errors
    /// [`Reason::TooMany`] if there are as many as `limits.pairs` allows.
    pub(crate) fn outlet(&self, route: &Route) -> Result<Arc<Outlet>, Reason> {
        let mut outlets = lock(&self.outlets);
        if let Some(outlet) = outlets.get(route) {
            return Ok(Arc::clone(outlet));
        }
        if outlets.len() >= self.limits.pairs {
            self.metrics.limit_hit("pairs");
            return Err(Reason::TooMany);
        }
        let outlet = Outlet::new(route.clone(), self.limits.pair_queue_bytes, Arc::clone(&self.queued));
        let outlet = Arc::new(outlet.counting(self.traffic(route)));
        outlets.insert(route.clone(), Arc::clone(&outlet));
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
        let Some(outlet) = self.known_outlet(route) else { return };
        match outlet.detach() {
            Left::Waiting => control.router.want(route, now),
            Left::Broken => control.router.want_resumed(route, now),
            Left::Held => control.router.unwanted(route),
            Left::UnderWay => {
                control.router.unwanted(route);
                self.let_linger(&outlet);
            }
            Left::Nothing => {
                control.router.unwanted(route);
                self.forget_outlet(&outlet);
            }
        }
    }
}
