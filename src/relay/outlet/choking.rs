//! Errors that answer what we held are never refused: that would be silence. So that they don't grow without bound where nobody
//! takes them, a route whose errors wait in too great a number takes nothing more.

use std::sync::Arc;

use super::{LITTLE_BYTES, OVERDRAFT, Outlet, OutletState};
use crate::relay::mailbox::lock;

impl Outlet {
    /// Answers to stanzas of `asked` wait here. If they are too many, `asked` takes nothing more until they have gone.
    pub(in crate::relay) fn chokes(&self, asked: &Arc<Self>) {
        if !self.is_overdrawn(&lock(&self.state)) {
            return;
        }
        lock(&asked.state).choked = true;
        let mut state = lock(&self.state);
        if self.is_overdrawn(&state) {
            state.chokes = Some(Arc::downgrade(asked));
            return;
        }
        drop(state);
        asked.breathe();
    }

    /// Octets that count for its bound; those among them that wait and that somebody sent; and the bound.
    #[cfg(test)]
    pub(in crate::relay) fn held_bytes(&self) -> (usize, usize, usize) {
        let state = lock(&self.state);
        (state.held(), state.queue.accepted_len(), self.limit)
    }

    fn is_overdrawn(&self, state: &OutletState) -> bool {
        let held = state.held();
        held > OVERDRAFT * self.limit || held > LITTLE_BYTES && self.total.is_overdrawn()
    }

    /// Something has left the queue. Whom it chokes no longer.
    pub(super) fn relieved(&self, state: &mut OutletState) -> Option<Arc<Self>> {
        state.chokes.as_ref()?;
        let low = if self.total.is_overdrawn() { LITTLE_BYTES } else { self.limit };
        if state.held() > low {
            return None;
        }
        state.chokes.take()?.upgrade()
    }

    /// Stanzas are taken again.
    pub(super) fn breathe(&self) {
        lock(&self.state).choked = false;
        self.room.notify_waiters();
    }
}
