//! The loop in which a lane writes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use super::{REQUEST, Sending, run_of_own};
use crate::reason::Reason;
use crate::relay::acknowledging::Acknowledger;
use crate::relay::clock;
use crate::relay::io::{LAST_WORDS, Transmit};
use crate::relay::mailbox::{Mailbox, Next, lock};
use crate::relay::row::{self, Row};
use crate::relay::turns::Rank;

/// Writes of one lane, answers to a flood of requests say, after which it is everybody else's turn.
const IN_A_ROW: u32 = 16;

/// Where octets go.
pub(super) struct To<'a, T> {
    transmit: &'a mut T,
    /// Of the session, if there is one.
    row: Option<&'a Row>,
    /// As it last told the transport.
    rank: Rank,
}

impl<T: Transmit> To<'_, T> {
    /// Something is written for which the lane has so much under way.
    pub(super) fn takes_turn(&mut self, rank: Rank) {
        let Some(row) = self.row else { return };
        if !(rank.is_lowest() && self.rank.is_lowest()) {
            self.transmit.set_priority(row.turns.priority(rank));
            self.rank = rank;
        }
    }
}

impl Sending {
    /// Write until everything is said, in `row` with the other lanes of its session. Before the end both directions may take their
    /// time until everything is acknowledged: `limits.ack_wait`, and `limits.drain` if it is the relay that ends.
    ///
    /// What it takes to write is boxed: no lane holds it while there is nothing to write.
    ///
    /// # Errors
    /// Why the other end takes nothing more.
    pub(crate) fn write<'a, T: Transmit>(
        &'a self,
        mailbox: &'a Arc<Mailbox>,
        transmit: &'a mut T,
        row: Option<&'a Row>,
    ) -> impl Future<Output = Result<(), Reason>> + Send + 'a {
        let mut to = To { transmit, row, rank: Rank::default() };
        async move {
            let mut settling: Option<Instant> = None;
            // Stanzas that were found since the lane last had nothing to write.
            let mut found = 0;
            let mut writes = 0_u32;
            loop {
                writes = writes.wrapping_add(1);
                if writes.is_multiple_of(IN_A_ROW) {
                    tokio::task::yield_now().await;
                }
                let says = match mailbox.next(|| self.is_settled()) {
                    Next::Wait => None,
                    next => Some(Box::pin(self.say(&mut to, mailbox, next, &mut settling))),
                };
                match says {
                    Some(says) => match says.await? {
                        ControlFlow::Continue(stanzas) => found += stanzas,
                        ControlFlow::Break(()) => return Ok(()),
                    },
                    None => {
                        writes = 0;
                        // What comes alone leaves at once. Where several came together more is likely: what has come a moment after
                        // the last of them goes in one piece, and costs one call.
                        let busy = std::mem::take(&mut found) > 1;
                        let until = busy.then(|| clock::now() + self.acknowledger.linger);
                        mailbox.woken().await;
                        if let Some(until) = until.filter(|until| *until > clock::now()) {
                            Box::pin(tokio::time::sleep_until(until.into())).await;
                        }
                    }
                }
            }
        }
    }

    /// Write what is next. How many stanzas of a queue it was, or that everything is said.
    async fn say<T: Transmit>(
        &self,
        to: &mut To<'_, T>,
        mailbox: &Arc<Mailbox>,
        next: Next,
        settling: &mut Option<Instant>,
    ) -> Result<ControlFlow<(), u32>, Reason> {
        match next {
            Next::Octets(octets) => self.put(to, octets.into()).await?,
            Next::Own(octets) => {
                self.write_run(to, run_of_own(octets), None, mailbox).await?;
            }
            Next::Again(octets) => self.put(to, octets).await?,
            Next::Stanzas(run, outlet) => {
                let run = self.acknowledger.wanted(&outlet, run);
                if !run.is_empty() {
                    let found = self.write_run(to, run, Some(outlet), mailbox).await?;
                    return Ok(ControlFlow::Continue(found));
                }
            }
            Next::Acknowledge => {
                if let Some(answer) = self.answer(|inbound| Some(inbound.tell())) {
                    self.put(to, answer.into()).await?;
                }
            }
            Next::Request(when) => {
                if self.requests_still(when, mailbox) {
                    to.takes_turn(lock(&self.state).rank());
                    self.put(to, Bytes::from_static(REQUEST.as_bytes())).await?;
                }
            }
            Next::Settle => {
                if settling.is_none() {
                    self.request(to, mailbox).await?;
                }
                let begun = *settling.get_or_insert_with(clock::now);
                self.settle(mailbox, begun).await;
            }
            Next::Close(last_words) => {
                self.put(to, (self.last_answer() + &last_words).into()).await?;
            }
            Next::Finish => {
                to.transmit.finish(LAST_WORDS).await;
                return Ok(ControlFlow::Break(()));
            }
            Next::Wait => {}
        }
        Ok(ControlFlow::Continue(0))
    }

    /// Wait for what isn't acknowledged, since `begun`.
    async fn settle(&self, mailbox: &Mailbox, begun: Instant) {
        // A relay that ends breaks the lane off before that, for whatever reason it is closing, so that nothing is
        // promised which won't be kept.
        let Acknowledger { drain, ask_again: ack_wait, .. } = *self.acknowledger;
        let wait = || if self.acknowledger.ends() { drain * 2 } else { ack_wait };
        let woken = tokio::time::timeout_at((begun + wait()).into(), mailbox.woken());
        if woken.await.is_err() && begun + wait() <= clock::now() {
            mailbox.close_unsettled();
        }
    }

    /// Write octets, which the other end has to take within its time.
    pub(super) async fn put<T: Transmit>(&self, to: &mut To<'_, T>, octets: Bytes) -> Result<(), Reason> {
        let stands = || self.stands_in_row();
        self.cut.store(true, Ordering::Relaxed);
        let written = row::pass(to.row, stands, self.acknowledger.stall, to.transmit.write(octets)).await;
        self.cut.store(false, Ordering::Relaxed);
        written.unwrap_or(Err(Reason::Stalled))
    }

    /// The same for octets and what follows them at once.
    pub(super) async fn put_both<T: Transmit>(
        &self,
        to: &mut To<'_, T>,
        first: Bytes,
        then: Bytes,
    ) -> Result<(), Reason> {
        let stands = || self.stands_in_row();
        let write = to.transmit.write_both(first, then);
        self.cut.store(true, Ordering::Relaxed);
        let written = row::pass(to.row, stands, self.acknowledger.stall, write).await;
        self.cut.store(false, Ordering::Relaxed);
        written.unwrap_or(Err(Reason::Stalled))
    }
}
