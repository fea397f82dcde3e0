//! How many lanes the peer of a session may have open: few at first, and more as it opens them.
//!
//! QUIC makes room for a lane as soon as the peer may open it, whether it ever does or not. So that a session of few pairs costs
//! little, however many a peer may have by `limits.lanes`, it is given twice as many whenever it has half of what it may. A relay
//! that opens many at once begins with fewer ([`super::session::openings`]), and doubles them with each round trip as well: what it
//! may comes ahead of what it wants, and it waits for nothing.

use std::sync::Mutex;

use super::mailbox::lock;

/// Lanes that a peer may open when its session comes up.
const LANES_FIRST: u32 = 256;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Credit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Lanes of the peer that are open.
    open: u32,
    /// What it may; 0: its session isn't up, and it has what QUIC was told at the beginning.
    allowed: u32,
}

impl Credit {
    /// The session comes up. `unauthenticated`: what the peer may until now. `allow` is told what from now on.
    pub(crate) fn begin(&self, unauthenticated: u32, most: u32, allow: impl FnOnce(u32)) {
        let mut state = lock(&self.0);
        state.allowed = LANES_FIRST.max(unauthenticated).min(most);
        allow(state.allowed);
    }

    /// The peer has opened a lane. `allow` is told if it may have more from now on.
    pub(crate) fn opened(&self, most: u32, allow: impl FnOnce(u32)) {
        let mut state = lock(&self.0);
        state.open = state.open.saturating_add(1);
        if state.allowed > 0 && state.allowed < most && state.open >= state.allowed / 2 {
            state.allowed = state.allowed.saturating_mul(2).min(most);
            allow(state.allowed);
        }
    }

    /// A lane of the peer has ended.
    pub(crate) fn closed(&self) {
        let mut state = lock(&self.0);
        state.open = state.open.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u32; 0] = [];

    /// What a peer is told that opens `count` lanes.
    fn open(credit: &Credit, count: u32, most: u32) -> Vec<u32> {
        let mut told = Vec::new();
        (0..count).for_each(|_| credit.opened(most, |lanes| told.push(lanes)));
        told
    }

    #[test]
    fn a_peer_may_open_few_lanes_and_twice_as_many_whenever_it_has_half_of_them() {
        let (credit, mut told) = (Credit::default(), 0);
        assert_eq!(open(&credit, 8, 1000), NONE, "before the session is up");
        credit.begin(8, 1000, |lanes| told = lanes);
        assert_eq!(told, LANES_FIRST);
        assert_eq!(open(&credit, 119, 1000), NONE);
        assert_eq!(open(&credit, 1, 1000), [512]);
        assert_eq!(open(&credit, 127, 1000), NONE);
        assert_eq!(open(&credit, 745, 1000), [1000], "the limit");
    }

    #[test]
    fn a_peer_whose_lanes_end_needs_no_more_of_them() {
        let credit = Credit::default();
        credit.begin(8, 1000, |_| {});
        for _ in 0..1000 {
            assert_eq!(open(&credit, 1, 1000), NONE);
            credit.closed();
        }
    }

    #[test]
    fn no_limit_is_exceeded_and_nothing_taken_away() {
        for (unauthenticated, most, first) in [(8, 100, 100), (8, 8, 8), (900, 1000, 900)] {
            let (credit, mut told) = (Credit::default(), 0);
            credit.begin(unauthenticated, most, |lanes| told = lanes);
            assert_eq!(told, first);
        }
    }
}
