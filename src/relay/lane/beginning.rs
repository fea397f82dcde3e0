//! What a lane needs until it has begun, and not for as long as it stands: of very many lanes most stand, and are idle.

use std::time::Instant;

use super::Lane;
use crate::proto::stream::Learned;
use crate::relay::clock;
use crate::relay::session::openings::Turn;

/// See the module.
pub(super) struct Beginning {
    pub(super) started: Instant,
    /// What had come from the peer in its session by then.
    pub(super) heard: u64,
    /// Its turn to be opened, until it has an answer.
    pub(super) turn: Option<Turn>,
    /// What the negotiation has taught, until the stream is established.
    pub(super) learned: Option<Learned>,
    /// The broken stream that we ask to go on with here.
    pub(super) asks: Option<Box<str>>,
    /// The stream that the other end wants to go on with here, and what of it it has handled.
    pub(super) claim: Option<(String, u32)>,
    /// Since when we don't send because the other end may still turn stream management on.
    pub(super) waits_to_send: Option<Instant>,
}

impl Default for Beginning {
    fn default() -> Self {
        Self {
            started: clock::now(),
            heard: 0,
            turn: None,
            learned: None,
            asks: None,
            claim: None,
            waits_to_send: None,
        }
    }
}

impl Beginning {
    fn is_over(&self) -> bool {
        let Self { started: _, heard: _, turn, learned, asks, claim, waits_to_send } = self;
        turn.is_none() && learned.is_none() && asks.is_none() && claim.is_none() && waits_to_send.is_none()
    }
}

/// A lane waits no longer for the other end to turn stream management on. Whether it did.
pub(super) fn stop_waiting(beginning: &mut Option<Box<Beginning>>) -> bool {
    beginning.as_mut().is_some_and(|beginning| beginning.waits_to_send.take().is_some())
}

impl Lane {
    /// The same, in a session in which so much had come from the peer by now.
    pub(crate) fn having_heard(mut self, heard: u64) -> Self {
        self.beginning_mut().heard = heard;
        self
    }

    /// What it needs to begin; or, established, for something else that begins, as another pair of a shared stream does.
    pub(super) fn beginning_mut(&mut self) -> &mut Beginning {
        self.beginning.get_or_insert_default()
    }

    /// Give it up when nobody needs it any more.
    pub(super) fn forget_beginning(&mut self) {
        if self.carry.is_some() && self.beginning.as_ref().is_some_and(|beginning| beginning.is_over()) {
            self.beginning = None;
        }
    }

    pub(super) fn waits_to_send(&self) -> Option<Instant> {
        self.beginning.as_ref()?.waits_to_send
    }

    pub(super) fn take_asked(&mut self) -> Option<Box<str>> {
        self.beginning.as_mut()?.asks.take()
    }

    pub(super) fn take_claim(&mut self) -> Option<(String, u32)> {
        self.beginning.as_mut()?.claim.take()
    }
}
