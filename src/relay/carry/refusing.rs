//! What a stream brought and doesn't go on.

use super::{Carry, Origin};
use crate::proto::queue::Mark;
use crate::reason::Reason;
use crate::relay::inbound::settle_one;
use crate::xmpp::route::Route;

impl Carry {
    /// Accept a single stanza, and answer it.
    pub(super) fn bounce(
        &mut self,
        route: &Route,
        stanza: &[u8],
        mark: Mark,
        reason: Reason,
    ) -> Result<(), Reason> {
        self.counters().accepted(mark.kind).inc();
        let origin = self.receive(1);
        self.answer(route, stanza, &[mark], &origin, reason)?;
        self.meter.charge(Some(route), 1, stanza.len());
        Ok(())
    }

    /// Answer stanzas, of which `origin` is that of the first.
    pub(super) fn answer(
        &self,
        route: &Route,
        run: &[u8],
        marks: &[Mark],
        origin: &Origin,
        reason: Reason,
    ) -> Result<(), Reason> {
        self.hub.bounce_run(route, run, marks, origin, reason, self.begins()).map_err(|first| {
            if let (Some((inbound, ticket)), Ok(first)) = (origin, u32::try_from(first)) {
                inbound.refuse_from(ticket.plus(first));
            }
            Reason::QueueFull
        })
    }

    /// Handle nothing more. The stream ends in good order, and its other end hears how much was handled.
    pub(super) fn leave(&self, reason: Reason) {
        if let Some(inbound) = &self.inbound {
            inbound.shut();
        }
        if let Some(stands) = &self.stands {
            self.hub.close_lane(stands.lane, reason);
        }
    }

    /// Accept a single stanza, and drop it.
    pub(super) fn discard(&mut self, mark: Mark, reason: Reason) {
        self.counters().accepted(mark.kind).inc();
        settle_one(&self.receive(1));
        self.hub.metrics.discarded(reason);
        self.meter.charge(None, 1, mark.len);
    }
}
