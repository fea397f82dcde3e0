//! Stanzas that leave before the stream is established, behind a negotiation that has left as a whole (XEP-0305).

use super::{Lane, Machine};

impl Lane {
    /// All of the negotiation has left: stanzas follow it, and are kept until it is confirmed. The router is told first, so that
    /// none of them goes another way from then on.
    pub(super) fn go_ahead(&mut self) {
        let Machine::Initiating(machine) = &self.machine else { return };
        self.sending.go_ahead(machine.is_managed());
        if machine.may_send() {
            self.hub.control(|router, _| router.lane_goes_ahead(self.id));
            self.mailbox.open();
        }
    }
}
