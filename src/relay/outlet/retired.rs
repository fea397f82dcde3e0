//! Outlets that are retired leave the hub's table.

use std::sync::Arc;

use super::Outlet;
use crate::relay::hub::Hub;
use crate::relay::mailbox::lock;

impl Hub {
    /// Take a retired outlet out of the table. Another one may have its place by now: what is in that would be lost with it.
    pub(in crate::relay) fn forget_outlet(&self, outlet: &Arc<Outlet>) {
        let mut outlets = lock(&self.outlets);
        if outlets.get(&outlet.route).is_some_and(|known| Arc::ptr_eq(known, outlet)) {
            outlets.remove(&outlet.route);
        }
    }
}
