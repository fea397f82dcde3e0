//! Stanzas that can't go on: their senders are told (RFC 6120 section 8.3; what stands in the answer is
//! [`crate::proto::bounce`]'s to say), and what may not be answered is counted.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tracing::info;

use super::clock;
use super::hub::{Control, Hub};
use super::inbound::{Origin, Waited, settle_one};
use super::mailbox::lock;
use super::outlet::Pushed;
use crate::proto::bounce;
use crate::proto::queue::Mark;
use crate::reason::Reason;
use crate::xmpp::route::Route;

impl Hub {
    /// Answer stanzas of `route` that can't go on. `octets` holds them one behind the other.
    /// `origin`: that of the first.
    pub(crate) fn bounce_run(
        self: &Arc<Self>,
        route: &Route,
        octets: &[u8],
        marks: &[Mark],
        origin: &Origin,
        reason: Reason,
    ) {
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
        self.bounce_all(route, &stanzas, reason);
    }

    /// Answer stanzas of `route` that can't go on.
    pub(crate) fn bounce_all(self: &Arc<Self>, route: &Route, stanzas: &[Waited], reason: Reason) {
        let back = route.reversed();
        if self.answer(route, &back, stanzas, reason) {
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
        if self.answer(route, &back, stanzas, reason) {
            control.router.want(&back, now);
        }
    }

    /// Put the answers into the queue of `back`. Whether that has to be wanted. It takes no lock that others wait for: a
    /// flood is answered at length.
    fn answer(&self, route: &Route, back: &Route, stanzas: &[Waited], reason: Reason) -> bool {
        if stanzas.is_empty() {
            return false;
        }
        let live = self.live();
        let by = if live.hosts.serves(&route.from) { &route.from } else { &route.to };
        info!(pair = %route, %reason, stanzas = stanzas.len(), advice = reason.advice(), "stanzas could not go on");
        self.budgets.bounced(route, stanzas.len(), live.settings.limits.rates, clock::now());
        let (mut reader, mut error) = (bounce::Reader::new(), String::new());
        let mut wanted = false;
        for Waited { octets: stanza, mark, origin, .. } in stanzas {
            let taken_back = origin.as_ref().is_some_and(|(from, ticket)| from.is_taken_back(*ticket));
            if mark.ours || taken_back {
                // An error answers nobody's stanza twice, and was accepted from nobody.
                if !mark.ours {
                    self.metrics.discarded(Reason::TakenBack);
                }
                settle_one(origin);
                continue;
            }
            error.clear();
            let written = reader
                .read(stanza)
                .is_some_and(|(kind, head)| bounce::write(&mut error, kind, head, stanza, reason, by));
            let pushed = if written { self.push_answer(back, error.as_bytes(), origin) } else { None };
            if let Some(pushed) = pushed {
                wanted |= pushed == Pushed::Wanted;
                self.metrics.bounced(reason);
            } else {
                self.metrics.discarded(reason);
                settle_one(origin);
            }
        }
        wanted
    }

    /// `None`: there is no room for it.
    fn push_answer(&self, back: &Route, error: &[u8], origin: &Origin) -> Option<Pushed> {
        loop {
            let outlet = self.outlet(back).ok()?;
            match outlet.push_answer(error, origin.clone(), clock::now()) {
                Pushed::Full(_) => return None,
                // Whoever retired it takes it out of the map, unless that was done already.
                Pushed::Retired => drop(lock(&self.outlets).remove(back)),
                pushed @ (Pushed::Taken | Pushed::Wanted) => return Some(pushed),
            }
        }
    }
}
