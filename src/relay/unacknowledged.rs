//! Stanzas that were sent and not acknowledged when their lane ended, and whose stream can't be resumed: whether they were
//! handled is known to nobody.
//!
//! Messages and presence are sent again, with the time at which they first came (XEP-0203), or come back if the operator
//! prefers that (`policy.uncertain`); an IQ request comes back, because whoever sent it can ask again. What went again, and whose lanes
//! break for `limits.hold` from then on, comes back too. What a second lane ended
//! over whose other end was there and acknowledged nothing comes back too, and so does what is so large that with the time it would be
//! larger than any stanza may be. A duplicate or a false error is possible here, silence is not, and each such stanza is counted.

use std::sync::Arc;
use std::time::SystemTime;

use tracing::{debug, warn};

use super::broken::{Certainty, by_outlet};
use super::clock;
use super::hub::Hub;
use super::inbound::{Run, Waited};
use super::outlet::Outlet;
use super::sending::SentRun;
use super::settings::Uncertain;
use crate::proto::bounce;
use crate::proto::queue::Wait;
use crate::reason::Reason;
use crate::xmpp::delay;

impl Hub {
    /// A lane ended with these stanzas unacknowledged. They go back to the heads of their queues, or to their senders.
    pub(crate) fn unacknowledged(self: &Arc<Self>, left: Vec<SentRun>, certainty: Certainty) {
        for (outlet, stanzas) in by_outlet(left) {
            debug!(pair = %outlet.route, stanzas = stanzas.len(), ?certainty, "stanzas unacknowledged");
            self.unacknowledged_of(&outlet, stanzas, certainty);
        }
    }

    fn unacknowledged_of(self: &Arc<Self>, outlet: &Arc<Outlet>, stanzas: Vec<Waited>, certainty: Certainty) {
        // When the relay ends there is nobody who would send them again.
        let bounces = self.live().settings.policy.uncertain == Uncertain::Bounce || self.is_ending();
        let (mut again, mut back, mut poison) = (Vec::new(), Vec::new(), Vec::new());
        let wanted = stanzas.into_iter().filter(|stanza| !self.acknowledger.drops(outlet, stanza));
        for (at, mut stanza) in wanted.enumerate() {
            if at == 0 && certainty == (Certainty::Unknown { by_the_lane: true }) {
                // An error of our own making is none: nobody could be told, and whoever refused it was full.
                if stanza.mark.struck && !stanza.mark.ours {
                    poison.push(stanza);
                    continue;
                }
                stanza.mark.struck = true;
            }
            if certainty == Certainty::Unhandled {
                again.push(stanza);
                continue;
            }
            if certainty == Certainty::Ignored && std::mem::replace(&mut stanza.mark.struck, true) {
                // A third time would be no better.
                if fate(&stanza, true) == Fate::Back {
                    self.metrics.custody.uncertain("bounced");
                }
                back.push(stanza);
                continue;
            }
            // Whose lanes break one after the other, it went again once, and has its time from then on.
            let is_over =
                stanza.mark.delayed && self.limits.holds().of(stanza.mark, stanza.since) <= clock::now();
            if is_over && !stanza.mark.ours {
                if is_answerable(&stanza) {
                    self.metrics.custody.uncertain("bounced");
                }
                back.push(stanza);
                continue;
            }
            match fate(&stanza, bounces) {
                Fate::Ours => again.push(stanza),
                Fate::Again => match self.delayed(outlet, stanza) {
                    // What comes twice says so. This one can't, and its sender is told that it may not have arrived.
                    Err(stanza) if is_answerable(&stanza) => {
                        self.metrics.custody.uncertain("bounced");
                        back.push(stanza);
                    }
                    // Nobody would hear of it if it didn't go: silence would be worse than a second one that doesn't say so.
                    Ok(stanza) | Err(stanza) => {
                        self.metrics.custody.uncertain("resent");
                        again.push(stanza);
                    }
                },
                Fate::Back => {
                    self.metrics.custody.uncertain("bounced");
                    back.push(stanza);
                }
            }
        }
        if !again.is_empty() {
            self.put_back(outlet, Run::of(again));
        }
        for (stanzas, reason) in [(back, Reason::Unacknowledged), (poison, Reason::PoisonStanza)] {
            if reason == Reason::PoisonStanza && !stanzas.is_empty() {
                warn!(pair = %outlet.route, %reason, advice = reason.advice(), "two lanes ended at one stanza");
            }
            stanzas.iter().for_each(|stanza| outlet.release_one(stanza));
            self.bounce_all(&outlet.route, &stanzas, reason);
        }
    }

    /// Stanzas of `outlet` that a lane took are to be sent again. Its route may have left that lane long before. Of a relay that ends
    /// only answers are: another lane might not be there in time, and nobody would hear of the rest.
    pub(super) fn put_back(self: &Arc<Self>, outlet: &Arc<Outlet>, run: Run) {
        let (mut run, mut outlet) = (Some(run), Arc::clone(outlet));
        if self.is_ending()
            && let Some(taken) = run.take()
        {
            let (answers, back): (Vec<_>, Vec<_>) = taken.stanzas().partition(|stanza| stanza.mark.ours);
            run = (!answers.is_empty()).then(|| Run::of(answers));
            back.iter().for_each(|stanza| outlet.release_one(stanza));
            self.bounce_all(&outlet.route, &back, Reason::Draining);
        }
        while let Some(back) = run.take().and_then(|run| outlet.put_back(run)) {
            // Whoever retired it takes it out of the map, unless that was done already.
            self.forget_outlet(&outlet);
            match self.outlet(&outlet.route) {
                Ok(fresh) => (run, outlet) = (Some(back), fresh),
                Err(reason) => {
                    let stanzas: Vec<Waited> = back.stanzas().collect();
                    stanzas.iter().for_each(|stanza| outlet.release_one(stanza));
                    return self.bounce_all(&outlet.route, &stanzas, reason);
                }
            }
        }
        self.want_if_waiting(&outlet);
    }

    /// The stanza with the time at which it came, said once however often it is sent again. It waits anew: how long it was under
    /// way says nothing about how long its next hop is away. But only the first time: else a next hop that ends each of its streams at
    /// it would get it again for ever.
    ///
    /// # Errors
    /// The stanza without the time, if there is no room for it: its next hop may take as much as we do, and no more, and end the
    /// stream over what is larger.
    fn delayed(&self, outlet: &Outlet, mut stanza: Waited) -> Result<Waited, Waited> {
        if stanza.mark.delayed {
            return Ok(stanza);
        }
        let now = clock::now();
        let route = &outlet.route;
        let by = if self.live().hosts.serves(&route.from) { &route.from } else { &route.to };
        let came = clock::wall()
            .checked_sub(now.saturating_duration_since(stanza.since))
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let octets = delay::stamp(&stanza.octets, by, came);
        let Some(octets) = octets else { return Ok(Waited { since: now, ..stanza }) };
        if octets.len() > self.limits.stanza_bytes {
            // So is it, though it can't say so.
            stanza.mark.delayed = true;
            return Err(Waited { since: now, ..stanza });
        }
        outlet.grown(octets.len() - stanza.octets.len());
        stanza.mark.delayed = true;
        Ok(Waited { octets, since: now, ..stanza })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// An error of our own making: it answers somebody, and does no harm twice.
    Ours,
    Again,
    Back,
}

fn fate(stanza: &Waited, bounces: bool) -> Fate {
    if stanza.mark.ours {
        return Fate::Ours;
    }
    if stanza.mark.wait != Wait::Iq && !bounces {
        return Fate::Again;
    }
    if is_answerable(stanza) { Fate::Back } else { Fate::Again }
}

/// Whether an error may answer it.
fn is_answerable(stanza: &Waited) -> bool {
    bounce::read(&stanza.octets)
        .is_some_and(|(kind, head)| bounce::may_answer(kind, head.type_(&stanza.octets).as_deref()))
}
