//! Which of several addresses is dialled when (RFC 8305 section 5): the next one starts a moment after the one before, or
//! at once when one fails, and the first that is up ends the race.
//!
//! Pure: it is told what happened and what time it is, and says what to do. It knows its addresses by their index only.
//!
//! Two bounds are ours. At most [`IN_FLIGHT_MAX`] attempts are under way. And the whole race has a bound: so that
//! addresses that swallow packets can't use it up, an attempt that keeps another from starting is abandoned when it has
//! had its share.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::reason::Reason;

/// RFC 8305 section 8: Connection Attempt Delay.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Attempts under way at once: a name with many addresses doesn't make us knock at all of them.
pub const IN_FLIGHT_MAX: usize = 4;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Dial this address.
    Start(usize),
    /// Give up on this address, which is being dialled.
    Abandon(usize),
    /// This one is up, and the race is over.
    Won(usize),
    /// None came up, and the race is over. Of several reasons the one that tells most.
    Failed(Reason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Dialling { since: Instant },
    Over,
}

/// A race between addresses.
#[derive(Debug)]
pub struct Race {
    attempts: Vec<State>,
    /// Each attempt's share of the time, if others have to wait for it.
    share: Duration,
    delay: Duration,
    /// When the next attempt may start, if no failure comes before.
    next_start: Instant,
    deadline: Instant,
    most_telling: Option<Reason>,
    finished: bool,
    actions: VecDeque<Action>,
}

impl Race {
    /// A race between `count` addresses that takes `bound` at most. The first one starts at once.
    #[must_use]
    pub fn new(count: usize, bound: Duration, now: Instant) -> Self {
        let rounds = u32::try_from(count.div_ceil(IN_FLIGHT_MAX)).unwrap_or(u32::MAX).max(1);
        let spread = u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
        let delay = ATTEMPT_DELAY.min(bound / spread);
        // Those of the first round start one after the other, and so does every later one.
        let stagger = delay.saturating_mul(u32::try_from(IN_FLIGHT_MAX - 1).unwrap_or(0));
        let mut race = Self {
            attempts: vec![State::Waiting; count],
            share: bound.saturating_sub(stagger) / rounds,
            delay,
            next_start: now,
            deadline: now + bound,
            most_telling: None,
            finished: false,
            actions: VecDeque::new(),
        };
        race.go_on(now);
        race
    }

    /// What is to be done next; to be asked until there is nothing.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called; `None` when the race is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.finished {
            return None;
        }
        let next = self.waiting().is_some().then(|| match self.oldest() {
            Some((_, since)) if self.is_full() => self.next_start.max(since + self.share),
            _ => self.next_start,
        });
        Some(next.map_or(self.deadline, |next| next.min(self.deadline)))
    }

    /// The address at `index` was reached.
    pub fn handle_connected(&mut self, index: usize) {
        if self.finished || !self.is_dialling(index) {
            return;
        }
        self.attempts[index] = State::Over;
        self.abandon_all();
        self.finish(Action::Won(index));
    }

    /// The address at `index` could not be reached: the next one needn't wait.
    pub fn handle_failed(&mut self, index: usize, reason: Reason, now: Instant) {
        if self.finished || !self.is_dialling(index) {
            return;
        }
        self.attempts[index] = State::Over;
        self.note(reason);
        self.next_start = now;
        self.go_on(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.finished {
            self.go_on(now);
        }
    }

    fn go_on(&mut self, now: Instant) {
        if now >= self.deadline {
            self.note(Reason::ConnectionTimeout);
            self.abandon_all();
        }
        while let Some(index) = self.waiting().filter(|_| now < self.deadline && now >= self.next_start) {
            if self.is_full() {
                match self.oldest() {
                    Some((oldest, since)) if now >= since + self.share => {
                        self.note(Reason::ConnectionTimeout);
                        self.abandon(oldest);
                    }
                    _ => return,
                }
            }
            self.attempts[index] = State::Dialling { since: now };
            self.next_start = now + self.delay;
            self.actions.push_back(Action::Start(index));
        }
        if self.dialling().next().is_none() && (self.waiting().is_none() || now >= self.deadline) {
            self.finish(Action::Failed(self.most_telling.unwrap_or(Reason::NoRoute)));
        }
    }

    fn finish(&mut self, action: Action) {
        self.finished = true;
        self.actions.push_back(action);
    }

    fn abandon(&mut self, index: usize) {
        self.attempts[index] = State::Over;
        self.actions.push_back(Action::Abandon(index));
    }

    fn abandon_all(&mut self) {
        let dialling: Vec<usize> = self.dialling().map(|(index, _)| index).collect();
        for index in dialling {
            self.abandon(index);
        }
    }

    fn note(&mut self, reason: Reason) {
        self.most_telling = Some(self.most_telling.map_or(reason, |known| more_telling(known, reason)));
    }

    fn waiting(&self) -> Option<usize> {
        self.attempts.iter().position(|state| *state == State::Waiting)
    }

    fn dialling(&self) -> impl Iterator<Item = (usize, Instant)> {
        self.attempts.iter().enumerate().filter_map(|(index, state)| match state {
            State::Dialling { since } => Some((index, *since)),
            State::Waiting | State::Over => None,
        })
    }

    fn is_dialling(&self, index: usize) -> bool {
        matches!(self.attempts.get(index), Some(State::Dialling { .. }))
    }

    fn oldest(&self) -> Option<(usize, Instant)> {
        self.dialling().min_by_key(|(_, since)| *since)
    }

    fn is_full(&self) -> bool {
        self.dialling().count() >= IN_FLIGHT_MAX
    }
}

/// Of two reasons the one that tells more.
#[must_use]
pub fn more_telling(one: Reason, other: Reason) -> Reason {
    if telling(other) > telling(one) { other } else { one }
}

/// How much a reason tells: who answered and refused tells more than who never answered.
fn telling(reason: Reason) -> u8 {
    match reason {
        Reason::ConnectionTimeout | Reason::NoRoute => 0,
        Reason::ConnectionLost => 1,
        Reason::ConnectionRefused => 2,
        // What listens there is another service: more telling is what the XMPP server beside it said.
        Reason::HandshakeFailed | Reason::AlpnRefused => 3,
        reason if reason.is_permanent() => 5,
        _ => 4,
    }
}

#[cfg(test)]
mod tests;
