//! Stanzas that can't go on: their senders are told (RFC 6120 section 8.3; what stands in the answer is
//! [`crate::proto::bounce`]'s to say), and what may not be answered is counted.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tracing::info;

use super::hub::{Control, Hub};
use super::mailbox::lock;
use super::outlet::Pushed;
use crate::proto::bounce;
use crate::proto::queue::{Mark, Waited};
use crate::reason::Reason;
use crate::xmpp::route::Route;

impl Hub {
    /// Answer stanzas of `route` that can't go on. `octets` holds them one behind the other.
    pub(crate) fn bounce_run(self: &Arc<Self>, route: &Route, octets: &[u8], marks: &[Mark], reason: Reason) {
        let mut rest = Bytes::copy_from_slice(octets);
        let stanzas: Vec<Waited> =
            marks.iter().map(|mark| Waited { octets: rest.split_to(mark.len), ours: mark.ours }).collect();
        self.bounce_all(route, &stanzas, reason);
    }

    /// Answer stanzas of `route` that can't go on.
    pub(crate) fn bounce_all(self: &Arc<Self>, route: &Route, stanzas: &[Waited], reason: Reason) {
        if stanzas.is_empty() {
            return;
        }
        let mut control = lock(&self.control);
        let now = Instant::now();
        self.bounce(&mut control, route, stanzas, reason, now);
        drop(control);
        self.control(|_, _| ());
    }

    pub(super) fn bounce(
        self: &Arc<Self>,
        control: &mut Control,
        route: &Route,
        stanzas: &[Waited],
        reason: Reason,
        now: Instant,
    ) {
        if stanzas.is_empty() {
            return;
        }
        let back = route.reversed();
        let by = if self.live().hosts.serves(&route.from) { &route.from } else { &route.to };
        info!(pair = %route, %reason, stanzas = stanzas.len(), advice = reason.advice(), "stanzas could not go on");
        for Waited { octets: stanza, ours } in stanzas {
            if *ours {
                // An error answers nobody's stanza twice, and was accepted from nobody.
                continue;
            }
            let mut error = String::new();
            let answered = bounce::read(stanza)
                .is_some_and(|(kind, head)| bounce::write(&mut error, kind, head, stanza, reason, by));
            if answered && self.push_answer(control, &back, error.as_bytes(), now) {
                self.metrics.bounced(reason);
            } else {
                self.metrics.discarded(reason);
            }
        }
    }

    fn push_answer(
        self: &Arc<Self>,
        control: &mut Control,
        back: &Route,
        error: &[u8],
        now: Instant,
    ) -> bool {
        loop {
            let Ok(outlet) = self.outlet(back) else { return false };
            match outlet.push_answer(error, now) {
                Pushed::Taken => return true,
                Pushed::Wanted => {
                    control.router.want(back, now);
                    return true;
                }
                Pushed::Full(_) => return false,
                Pushed::Retired => {
                    // Whoever retired it takes it out of the map, unless that was done already.
                    lock(&self.outlets).remove(back);
                }
            }
        }
    }
}
