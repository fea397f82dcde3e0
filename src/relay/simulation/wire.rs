//! A connection between two relays: streams that both open, until it is closed, lost, or one of its ends is killed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::pipe::{Ear, Mouth, Path, Pipe, pipe};
use crate::reason::Reason;
use crate::relay::clock;
use crate::relay::mailbox::lock;
use crate::relay::streams::Streams;
use crate::transport::quic::Code;

/// The connection.
#[derive(Debug)]
pub(super) struct Wire {
    /// The relays at its ends.
    pub(super) between: [usize; 2],
    state: Mutex<State>,
    arrived: [Notify; 2],
    path: Arc<Path>,
    window: usize,
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    /// Streams on their way to each end.
    incoming: [VecDeque<(Instant, Mouth, Ear)>; 2],
    closed: [Option<(Instant, Reason)>; 2],
    dead: [bool; 2],
    /// Each direction of its streams, and who writes it.
    pipes: Vec<(usize, Weak<Pipe>)>,
}

/// One end of it.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) wire: Arc<Wire>,
    side: usize,
}

impl Wire {
    /// Both ends of a connection; `between[0]` dialled.
    pub(super) fn ends(between: [usize; 2], path: &Arc<Path>, window: usize) -> [End; 2] {
        let wire = Arc::new(Self {
            between,
            state: Mutex::default(),
            arrived: Default::default(),
            path: Arc::clone(path),
            window,
            since: clock::now(),
        });
        [0, 1].map(|side| End { wire: Arc::clone(&wire), side })
    }

    /// The end `side` finds it gone at `at`; what hasn't arrived by then never will.
    pub(super) fn lose(&self, side: usize, at: Instant, reason: Reason) {
        let mut state = lock(&self.state);
        if !matches!(state.closed[side], Some((before, _)) if before <= at) {
            state.closed[side] = Some((at, reason));
        }
        state.incoming[side].retain(|(due, ..)| *due <= at);
        for (writer, pipe) in &state.pipes {
            let Some(pipe) = pipe.upgrade() else { continue };
            if *writer == side {
                pipe.stop(at, reason);
            } else {
                pipe.break_off(at, reason);
            }
        }
        drop(state);
        self.arrived[side].notify_one();
    }

    /// The relay at `side` is killed: it says nothing any more, not even that it is gone.
    pub(super) fn kill(&self, side: usize) {
        let mut state = lock(&self.state);
        state.dead[side] = true;
        for (writer, pipe) in &state.pipes {
            if let Some(pipe) = pipe.upgrade() {
                pipe.kill(usize::from(*writer != side));
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).closed.iter().all(|closed| matches!(closed, Some((at, _)) if *at <= clock::now()))
    }

    /// Break one of its streams, as whoever wrote `choice` directions of streams ago.
    pub(super) fn reset_one(&self, choice: usize) -> bool {
        let mut state = lock(&self.state);
        state.pipes.retain(|(_, pipe)| pipe.strong_count() > 1);
        let count = state.pipes.len();
        let Some(pipe) = (count > 0).then(|| choice % count).and_then(|at| state.pipes[at].1.upgrade())
        else {
            return false;
        };
        drop(state);
        pipe.break_off(self.path.due(), Reason::ConnectionLost);
        pipe.stop(self.path.due(), Reason::ConnectionLost);
        true
    }
}

impl End {
    fn gone(&self, state: &State) -> Result<(), Reason> {
        match state.closed[self.side] {
            Some((at, reason)) if at <= clock::now() => Err(reason),
            _ => Ok(()),
        }
    }
}

impl Streams for End {
    type Transmit = Mouth;
    type Receive = Ear;

    async fn open(&self) -> Result<(Mouth, Ear), Reason> {
        let (to, from) = (pipe(&self.wire.path, self.wire.window), pipe(&self.wire.path, self.wire.window));
        let due = self.wire.path.due();
        let mut state = lock(&self.wire.state);
        self.gone(&state)?;
        let other = 1 - self.side;
        state.pipes.retain(|(_, pipe)| pipe.strong_count() > 0);
        state.pipes.push((self.side, Arc::downgrade(to.0.pipe())));
        state.pipes.push((other, Arc::downgrade(from.0.pipe())));
        let closed = state.closed[other].is_some();
        if !state.dead[self.side] && !closed {
            state.incoming[other].push_back((due, from.0, to.1));
        }
        drop(state);
        self.wire.arrived[other].notify_one();
        Ok((to.0, from.1))
    }

    async fn accept(&self) -> Result<(Mouth, Ear), Reason> {
        loop {
            let until = {
                let mut state = lock(&self.wire.state);
                self.gone(&state)?;
                let now = clock::now();
                let incoming = &mut state.incoming[self.side];
                // Streams overtake each other.
                if let Some(at) = incoming.iter().position(|(due, ..)| *due <= now)
                    && let Some((_, mouth, ear)) = incoming.remove(at)
                {
                    return Ok((mouth, ear));
                }
                let next = incoming.iter().map(|(due, ..)| *due).min();
                let end = state.closed[self.side].map(|(at, _)| at);
                next.into_iter().chain(end).min().unwrap_or(now + Duration::from_secs(36_000))
            };
            let arrived = self.wire.arrived[self.side].notified();
            let _either = tokio::time::timeout_at(until.into(), arrived).await;
        }
    }

    fn close(&self, code: Code) {
        let dead = lock(&self.wire.state).dead[self.side];
        if dead {
            return;
        }
        let theirs = match code {
            Code::Done => Reason::Idle,
            Code::Limit => Reason::TooMany,
            Code::Violation => Reason::PolicyViolation,
            Code::Refused | Code::Framing => Reason::ConnectionLost,
        };
        self.wire.lose(self.side, clock::now(), Reason::Idle);
        self.wire.lose(1 - self.side, self.wire.path.due(), theirs);
    }

    fn closed(&self) -> Option<Reason> {
        self.gone(&lock(&self.wire.state)).err()
    }

    fn heard(&self) -> u64 {
        let silent = lock(&self.wire.state).dead[1 - self.side] || !self.wire.path.lives();
        // A peer that lives is heard all the time.
        if silent {
            0
        } else {
            u64::try_from((clock::now() - self.wire.since).as_micros()).unwrap_or(u64::MAX)
        }
    }
}
