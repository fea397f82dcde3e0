//! Stanzas that can't go on: their senders are told (RFC 6120 section 8.3; what stands in the answer is
//! [`crate::proto::bounce`]'s to say), and what may not be answered is counted.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tracing::info;

use super::attempts::Kind;
use super::clock;
use super::hub::{Control, Hub};
use super::inbound::{Origin, Waited, settle_one};
use super::outlet::Pushed;
use super::outlets::Begins;
use crate::proto::bounce;
use crate::proto::queue::{Mark, Wait};
use crate::reason::Reason;
use crate::xmpp::route::Route;

/// What became of answers.
#[derive(Debug, Clone, Copy, Default)]
struct Answered {
    /// Some wait.
    pushed: bool,
    /// Their queue has to be wanted.
    back: bool,
    /// That of the stanzas which could not be answered has to be.
    forth: bool,
    /// The first for which there was no room.
    overflown: Option<usize>,
}

impl Hub {
    /// Remember that what was for the remote end of `route` was given up.
    pub(crate) fn gave_up(&self, route: &Route, reason: Reason) {
        if self.live().hosts.serves(&route.to) {
            return;
        }
        let what = if reason == Reason::PolicyDenied { "policy" } else { "given-up" };
        let detail = || format!("stanzas from {} come back", route.from);
        self.attempts.note(Kind::Sending, &route.to, Some(&route.from), (what, detail), Err(reason));
    }

    /// Answer stanzas of `route` that are being read and can't go on. `octets` holds them one behind the other.
    /// `origin`: that of the first; `begins`: who begins their pair.
    ///
    /// # Errors
    /// If there is no room for all the answers, the first stanza that has none. It and those behind it aren't handled, as far as
    /// the stream can tell: that has to end.
    pub(crate) fn bounce_run(
        self: &Arc<Self>,
        route: &Route,
        octets: &[u8],
        marks: &[Mark],
        origin: &Origin,
        reason: Reason,
        begins: Begins,
    ) -> Result<(), usize> {
        let (mut rest, since) = (Bytes::copy_from_slice(octets), clock::now());
        let stanzas: Vec<Waited> = (0..)
            .zip(marks)
            .map(|(at, mark)| Waited {
                octets: rest.split_to(mark.len),
                mark: *mark,
                origin: origin.as_ref().map(|(inbound, ticket)| (Arc::clone(inbound), ticket.plus(at))),
                since,
            })
            .collect();
        let back = route.reversed();
        let answered = self.answer(route, &back, &stanzas, reason, (false, begins.answered()));
        if answered.back {
            self.want(&back);
        }
        if answered.forth {
            self.want(route);
        }
        answered.overflown.map_or(Ok(()), Err)
    }

    /// Answer stanzas of `route` that we held and that can't go on.
    pub(crate) fn bounce_all(self: &Arc<Self>, route: &Route, stanzas: &[Waited], reason: Reason) {
        let back = route.reversed();
        if self.answer(route, &back, stanzas, reason, (true, Begins::Ours)).back {
            self.want(&back);
        }
    }

    pub(super) fn bounce(
        &self,
        control: &mut Control,
        route: &Route,
        stanzas: &[Waited],
        reason: Reason,
        now: Instant,
    ) {
        let back = route.reversed();
        if self.answer(route, &back, stanzas, reason, (true, Begins::Ours)).back {
            control.router.want(&back, now);
        }
    }

    /// Answer what waits for `route`. `keeps`: what answers somebody itself goes on waiting, whoever made it.
    pub(super) fn bounce_queue(
        &self,
        control: &mut Control,
        route: &Route,
        reason: Reason,
        keeps: bool,
        now: Instant,
    ) {
        self.gave_up(route, reason);
        if let Some(outlet) = self.known_outlet(route) {
            let is_answer = |mark: Mark| mark.wait == Wait::Answer;
            let stanzas = if keeps { outlet.drain_all_but(is_answer) } else { outlet.drain() };
            self.bounce(control, route, &stanzas, reason, now);
            self.retire(route, &outlet);
            if outlet.has_waiting() {
                return;
            }
        }
        if keeps {
            control.router.unwanted(route);
        }
    }

    /// Put the answers into the queue of `back`. It takes no lock that others wait for: a flood is answered at length. `held`: the
    /// stanzas were in our custody, so that there is room for their answers. So are those of a stream that has ended while they
    /// were waiting for room, because its end answers for whatever came. `begins`: who begins the pair of the answers, if it has none yet.
    fn answer(
        &self,
        route: &Route,
        back: &Route,
        stanzas: &[Waited],
        reason: Reason,
        (held, begins): (bool, Begins),
    ) -> Answered {
        let mut answered = Answered::default();
        if stanzas.is_empty() {
            return answered;
        }
        let live = self.live();
        let by = if live.hosts.serves(&route.from) { &route.from } else { &route.to };
        info!(pair = %route, %reason, stanzas = stanzas.len(), advice = reason.advice(), "stanzas could not go on");
        self.budgets.bounced(route, stanzas.len(), live.settings.limits.rates, clock::now());
        let (mut reader, mut error) = (bounce::Reader::new(), String::new());
        for (at, Waited { octets: stanza, mark, origin, .. }) in stanzas.iter().enumerate() {
            if answered.overflown.is_some() && origin.is_some() {
                // Its sender sends it again, with those before it.
                self.metrics.discarded(Reason::QueueFull);
                continue;
            }
            let taken_back = origin.as_ref().is_some_and(|(from, ticket)| from.is_taken_back(*ticket));
            if mark.ours || taken_back {
                // An error answers nobody's stanza twice, and was accepted from nobody.
                if !mark.ours {
                    self.metrics.discarded(Reason::TakenBack);
                }
                settle_one(origin);
                continue;
            }
            let held = held || origin.as_ref().is_some_and(|(from, ticket)| from.is_answered_for(*ticket));
            error.clear();
            let written = reader
                .read(stanza)
                .is_some_and(|(kind, head)| bounce::write(&mut error, kind, head, stanza, reason, by));
            let ours = Mark { ours: true, wait: Wait::Answer, ..Mark::of(error.len()) };
            let pushed = match (written, reason) {
                (true, _) => self.push_anyway(back, error.as_bytes(), ours, origin, (held, begins)),
                // Nobody could be told. It goes on, though there is no room for more of its kind.
                (false, Reason::QueueFull) if !held => {
                    self.push_anyway(route, stanza, *mark, origin, (held, begins))
                }
                (false, _) => {
                    self.metrics.discarded(reason);
                    settle_one(origin);
                    continue;
                }
            };
            match pushed {
                Some(pushed) if written => {
                    answered.pushed = true;
                    answered.back |= pushed == Pushed::Wanted;
                    self.metrics.bounced(reason);
                }
                Some(pushed) => answered.forth |= pushed == Pushed::Wanted,
                None => {
                    self.metrics.discarded(Reason::QueueFull);
                    answered.overflown.get_or_insert(at);
                }
            }
        }
        if answered.pushed
            && let (Some(asked), Some(answers)) = (self.known_outlet(route), self.known_outlet(back))
        {
            answers.chokes(&asked);
        }
        answered
    }

    /// `None`: there is no room for it.
    fn push_anyway(
        &self,
        route: &Route,
        stanza: &[u8],
        mark: Mark,
        origin: &Origin,
        (held, begins): (bool, Begins),
    ) -> Option<Pushed> {
        loop {
            let outlet = self.begin(route, begins).ok()?;
            match outlet.push_anyway(stanza, mark, origin.clone(), held, clock::now()) {
                Pushed::Full(_) => return None,
                Pushed::Retired => self.forget_outlet(&outlet),
                pushed @ (Pushed::Taken | Pushed::Wanted) => return Some(pushed),
            }
        }
    }
}
