//! What has to happen on a lane by when.

use std::time::Instant;

use super::beginning::stop_waiting;
use super::{Ended, Lane, Machine};
use crate::proto::admission::Side;
use crate::reason::Reason;
use crate::relay::clock;
use crate::relay::mailbox::Close;
use crate::relay::session::openings::Turn;

#[derive(Debug, Clone, Copy)]
pub(super) enum Deadline {
    Negotiation,
    Partial,
    /// The other end may still turn stream management on.
    Management,
    Idle,
}

impl Lane {
    /// The same, as one of many that are opened.
    pub(crate) fn in_turn(mut self, turn: Option<Turn>) -> Self {
        self.beginning_mut().turn = turn;
        self
    }

    /// The other end has answered.
    pub(super) fn answers(&mut self) {
        self.answered = true;
        if let Some(beginning) = &mut self.beginning
            && let (Some(turn), Some(session)) = (beginning.turn.take(), self.place.session())
        {
            session.openings.answered(turn, clock::now().saturating_duration_since(beginning.started));
        }
    }

    /// When something has to have happened, and what it means if it has not.
    pub(super) fn deadline(&self, partial: Option<Instant>) -> (Instant, Deadline) {
        let limits = &self.hub.limits;
        if let (None, Some(beginning)) = (&self.carry, &self.beginning) {
            let waits_for_header = matches!(self.machine, Machine::Initiating(_)) && !self.answered;
            let wait =
                if waits_for_header { limits.header_wait.min(limits.handshake) } else { limits.handshake };
            return (beginning.started + wait, Deadline::Negotiation);
        }
        if let Some(beginning) = &self.beginning
            && beginning.asks.is_some()
        {
            // Nothing of the pair leaves before it is answered whether a stream is resumed.
            return (beginning.started + limits.handshake, Deadline::Negotiation);
        }
        if let Some(since) = self.waits_to_send() {
            return (since + limits.enable_wait, Deadline::Management);
        }
        if let Some(since) = partial {
            // From its beginning: however slowly it trickles in, it doesn't hold its buffer for ever.
            return (since + limits.path_idle, Deadline::Partial);
        }
        (clock::now() + limits.lane_idle, Deadline::Idle)
    }

    pub(super) fn on_deadline(&mut self, deadline: Deadline) -> Option<Ended> {
        match deadline {
            Deadline::Negotiation | Deadline::Partial => {
                Some(Ended::Violated(Reason::NegotiationTimeout.into()))
            }
            Deadline::Management => {
                stop_waiting(&mut self.beginning);
                if self.place.side() == Side::Remote {
                    // It fell silent just when it should have spoken, and may be gone. On a lane of our own we learn what becomes
                    // of our stanzas, or that nobody will say.
                    self.hub.control(|router, now| router.lane_is_one_way(self.id, now));
                }
                self.mailbox.open();
                None
            }
            Deadline::Idle => {
                let idle = self.sending.last_written() + self.hub.limits.lane_idle <= clock::now();
                // What isn't handled would have to be answered for when the stream ends.
                let handled = self.inbound.as_ref().is_none_or(|inbound| inbound.is_handled());
                let idle = idle && handled && self.sending.unacknowledged() == 0;
                if idle && matches!(self.machine, Machine::Initiating(_)) {
                    self.hub.control(|router, _| router.lane_closing(self.id));
                    self.mailbox.close(Close::AfterQueue, Reason::Idle);
                }
                None
            }
        }
    }
}
