//! One direction of a stream: octets arrive in order, each piece when its path lets it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::dice::Dice;
use crate::reason::Reason;
use crate::relay::clock;
use crate::relay::io::{Receive, Transmit};
use crate::relay::mailbox::lock;
use crate::relay::read_buffer::ReadBuffer;
use crate::transport::quic::Code;

/// How long until a lost piece is sent again.
const RECOVERY_MILLIS: Range<u64> = 20..200;

/// The way between two places.
#[derive(Debug)]
pub(super) struct Path(Mutex<Weather>);

#[derive(Debug)]
struct Weather {
    dice: Dice,
    /// One way, in milliseconds.
    delay: Range<u64>,
    /// Pieces of a hundred that are lost, and sent again.
    loss: u64,
    /// Nothing arrives before.
    down_until: Option<Instant>,
}

impl Path {
    pub(super) fn new(dice: Dice, delay: Range<u64>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Weather { dice, delay, loss: 0, down_until: None })))
    }

    /// When what is sent now arrives.
    pub(super) fn due(&self) -> Instant {
        let Weather { dice, delay, loss, down_until } = &mut *lock(&self.0);
        let mut left = clock::now().max(down_until.unwrap_or_else(clock::now));
        while dice.chance(*loss) {
            left += dice.millis(RECOVERY_MILLIS);
        }
        left + dice.millis(delay.clone())
    }

    pub(super) fn lose(&self, percent: u64) {
        lock(&self.0).loss = percent;
    }

    pub(super) fn cut(&self, until: Instant) {
        lock(&self.0).down_until = Some(until);
    }

    /// Whether something that is sent now comes to arrive at all before long.
    pub(super) fn lives(&self) -> bool {
        lock(&self.0).down_until.is_none_or(|until| until <= clock::now())
    }

    /// Where to cut what is sent, if at all.
    fn cut_at(&self, len: usize) -> usize {
        let dice = &mut lock(&self.0).dice;
        if len > 1 && dice.chance(30) { 1 + dice.below(len - 1) } else { len }
    }
}

#[derive(Debug)]
enum End {
    Finished,
    Broken(Reason),
}

/// One direction.
#[derive(Debug)]
pub(super) struct Pipe {
    state: Mutex<State>,
    readable: Notify,
    writable: Notify,
    path: Arc<Path>,
    window: usize,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<(Instant, Bytes)>,
    held: usize,
    last: Option<Instant>,
    /// What the reader meets behind the pieces, or at once, and when.
    end: Option<(Instant, End)>,
    /// The writer may write no more from then on.
    stopped: Option<(Instant, Reason)>,
    /// Whoever writes, or reads, was killed: it says nothing any more.
    dead: [bool; 2],
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Mouth(Arc<Pipe>);

/// The receiving half.
#[derive(Debug)]
pub(super) struct Ear(Arc<Pipe>);

/// A direction with room for `window` octets that were sent and not read.
pub(super) fn pipe(path: &Arc<Path>, window: usize) -> (Mouth, Ear) {
    let pipe = Arc::new(Pipe {
        state: Mutex::default(),
        readable: Notify::new(),
        writable: Notify::new(),
        path: Arc::clone(path),
        window,
    });
    (Mouth(Arc::clone(&pipe)), Ear(pipe))
}

impl Pipe {
    /// The writer is told, at `at`, that it can write no more.
    pub(super) fn stop(&self, at: Instant, reason: Reason) {
        let mut state = lock(&self.state);
        state.stopped.get_or_insert((at, reason));
        drop(state);
        self.writable.notify_one();
    }

    /// The reader finds it broken at `at`; what hasn't arrived by then never will.
    pub(super) fn break_off(&self, at: Instant, reason: Reason) {
        let mut state = lock(&self.state);
        if matches!(state.end, Some((before, End::Broken(_))) if before <= at) {
            return;
        }
        state.pieces.retain(|(due, _)| *due <= at);
        state.end = Some((at, End::Broken(reason)));
        drop(state);
        self.readable.notify_one();
    }

    fn finish(&self) {
        let due = self.path.due();
        let mut state = lock(&self.state);
        if state.end.is_none() && !state.dead[0] {
            let due = state.last.map_or(due, |last| last.max(due));
            state.end = Some((due, End::Finished));
        }
        drop(state);
        self.readable.notify_one();
    }

    /// Its writer (0) or reader (1) was killed.
    pub(super) fn kill(&self, which: usize) {
        lock(&self.state).dead[which] = true;
    }

    fn put(&self, mut octets: Bytes) -> Result<Bytes, Option<Instant>> {
        let mut state = lock(&self.state);
        if let Some((at, _)) = state.stopped
            && at <= clock::now()
        {
            return Err(None);
        }
        if state.held >= self.window && !octets.is_empty() {
            return Err(state.stopped.map(|(at, _)| at).or(Some(clock::now() + Duration::from_secs(3600))));
        }
        let piece = octets.split_to(self.path.cut_at(octets.len()));
        let due = self.path.due();
        let due = state.last.map_or(due, |last| last.max(due));
        state.last = Some(due);
        state.held += piece.len();
        if state.end.is_none() && !state.dead[0] {
            state.pieces.push_back((due, piece));
        }
        drop(state);
        self.readable.notify_one();
        Ok(octets)
    }

    fn get(&self, buffer: &mut BytesMut) -> Result<Result<usize, Reason>, Instant> {
        let (mut state, now) = (lock(&self.state), clock::now());
        if let Some((at, End::Broken(reason))) = state.end
            && at <= now
        {
            return Ok(Err(reason));
        }
        match state.pieces.front() {
            Some((due, _)) if *due <= now => {
                let Some((_, piece)) = state.pieces.pop_front() else { return Err(now) };
                state.held = state.held.saturating_sub(piece.len());
                drop(state);
                self.writable.notify_one();
                buffer.extend_from_slice(&piece);
                Ok(Ok(piece.len()))
            }
            front => {
                let next = front.map(|(due, _)| *due);
                match &state.end {
                    Some((at, End::Finished)) if next.is_none() && *at <= now => Ok(Ok(0)),
                    end => {
                        let end = end.as_ref().map(|(at, _)| *at);
                        Err(next.into_iter().chain(end).min().unwrap_or(now + Duration::from_secs(36_000)))
                    }
                }
            }
        }
    }

    fn is_read(&self) -> bool {
        let state = lock(&self.state);
        state.pieces.is_empty() || state.dead[1]
    }
}

impl Mouth {
    pub(super) fn pipe(&self) -> &Arc<Pipe> {
        &self.0
    }
}

impl Transmit for Mouth {
    async fn write(&mut self, mut octets: Bytes) -> Result<(), Reason> {
        while !octets.is_empty() {
            match self.0.put(octets.clone()) {
                Ok(rest) => octets = rest,
                Err(None) => {
                    let stopped = lock(&self.0.state).stopped;
                    return Err(stopped.map_or(Reason::ConnectionLost, |(_, reason)| reason));
                }
                Err(Some(until)) => {
                    let _either = tokio::time::timeout_at(until.into(), self.0.writable.notified()).await;
                }
            }
        }
        Ok(())
    }

    async fn finish(&mut self, patience: Duration) {
        self.0.finish();
        let read = async {
            while !self.0.is_read() {
                self.0.writable.notified().await;
            }
        };
        let _either = tokio::time::timeout(patience, read).await;
    }

    fn reset(&mut self, code: Code) {
        if !lock(&self.0.state).dead[0] {
            self.0.break_off(self.0.path.due(), of_code(code));
        }
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl Receive for Ear {
    async fn read(&mut self, buffer: &mut ReadBuffer) -> Result<usize, Reason> {
        loop {
            match self.0.get(buffer) {
                Ok(read) => return read,
                Err(until) => {
                    let _either = tokio::time::timeout_at(until.into(), self.0.readable.notified()).await;
                }
            }
        }
    }

    async fn stop(&mut self, code: Code, _patience: Duration) {
        if !lock(&self.0.state).dead[1] {
            self.0.stop(self.0.path.due(), of_code(code));
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        if !lock(&self.0.state).dead[1] {
            self.0.stop(self.0.path.due(), Reason::ConnectionLost);
        }
    }
}

/// What the other end makes of a code.
fn of_code(code: Code) -> Reason {
    match code {
        Code::Done => Reason::ConnectionLost,
        Code::Refused => Reason::ExternalRefused,
        Code::Framing => Reason::FramingNotSpoken,
        Code::Limit => Reason::TooMany,
        Code::Violation => Reason::PolicyViolation,
    }
}
