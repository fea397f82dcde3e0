//! Outlets without a lane that can't be put out of use yet: somebody looks at them again.

use super::{Outlet, OutletState};
use crate::relay::mailbox::lock;

impl OutletState {
    /// Whether it is looked at again though nothing of it waits for a lane.
    fn lingers(&self) -> bool {
        self.lane.is_none() && (self.under_way > 0 || self.choked)
    }
}

impl Outlet {
    /// Whether a lane that it has left must still let go of something, or it takes nothing for now.
    pub(crate) fn lingers(&self) -> bool {
        let mut state = lock(&self.state);
        state.listed &= state.lingers();
        state.lingers()
    }

    /// The same, if it wasn't known.
    pub(crate) fn begins_to_linger(&self) -> bool {
        let mut state = lock(&self.state);
        let lingers = state.lingers();
        lingers && !std::mem::replace(&mut state.listed, true)
    }
}
