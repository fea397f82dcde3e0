//! When to try a failed next hop again: back-off with jitter, so that a thousand relays don't return in one second.

use std::time::{Duration, Instant};

use crate::proto::limits::Limits;
use crate::reason::Reason;

/// What is remembered of a next hop's failures.
#[derive(Debug, Clone, Default)]
pub(super) struct Retry {
    failures: u32,
    /// Not before this.
    pub(super) at: Option<Instant>,
    /// When the first of an unbroken row of failures happened, and the last reason.
    down: Option<(Instant, Reason)>,
}

impl Retry {
    pub(super) fn failed(&mut self, reason: Reason, now: Instant, limits: &Limits, jitter: &mut Jitter) {
        // Of several attempts that were under way together the first one to fail counts for all.
        if self.may_try(now) {
            self.at = Some(now + jitter.after(self.failures, limits));
            self.failures = self.failures.saturating_add(1);
        }
        self.down = Some((self.down.map_or(now, |(since, _)| since), reason));
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Whether the last attempt failed.
    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Since when every attempt has failed, and why the last one did.
    pub(super) fn down(&self) -> Option<(Instant, Reason)> {
        self.down
    }

    /// There is a sign of life: the next attempt needn't wait.
    pub(super) fn hurry(&mut self) {
        self.at = None;
    }

    /// Whether an attempt may be made now.
    pub(super) fn may_try(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }

    /// Why a fresh stanza needn't wait: the hop has been down for so long that the next attempt won't help it.
    pub(super) fn long_down(&self, now: Instant, limits: &Limits) -> Option<Reason> {
        let (since, reason) = self.down?;
        (!self.may_try(now) && now.saturating_duration_since(since) > limits.hold).then_some(reason)
    }
}

/// A small generator: retries need spreading, not secrecy. Its seed is an argument, so that a history replays.
#[derive(Debug)]
pub(super) struct Jitter {
    state: u64,
    hurries: bool,
}

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed | 1, hurries: false }
    }

    /// There isn't much time: from now on each failure counts as the first.
    pub(super) fn hurry(&mut self) {
        self.hurries = true;
    }

    /// How long to wait after one more failure than `failures`: `retry_min`, doubled each time up to `retry_max`, of
    /// which between half and all is taken.
    pub(super) fn after(&mut self, failures: u32, limits: &Limits) -> Duration {
        let failures = if self.hurries { 0 } else { failures.min(16) };
        let wait = limits.retry_min.saturating_mul(1 << failures).min(limits.retry_max);
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let share = u32::try_from(self.state >> 40 & 0xffff).unwrap_or(0);
        wait / 2 + (wait / 2).mul_f64(f64::from(share) / 65_536.0)
    }
}
