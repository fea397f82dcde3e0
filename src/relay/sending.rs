//! The writing half of a lane: what its mailbox holds goes out, and what can't be known to have arrived is kept until it
//! is settled.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::io::Transmit;
use super::mailbox::{Mailbox, Next, lock};
use super::outlet::Outlet;
use crate::proto::queue::Run;
use crate::reason::Reason;

/// Stanzas that were handed to the transport, and the queue that they came from.
pub(crate) type Sent = (Run, Arc<Outlet>);

/// What a lane has sent, as far as somebody may still ask.
#[derive(Debug)]
pub(crate) struct Sending {
    /// What is being written: part of it may have left, and nobody knows how much.
    in_flight: Mutex<Option<Sent>>,
    /// Stanzas that were sent behind a pipelined negotiation: behind a refusal they weren't read.
    unconfirmed: Mutex<Option<Vec<Sent>>>,
    delivered: IntCounter,
    /// When something was last written, in milliseconds since `epoch`.
    written: AtomicU64,
    epoch: Instant,
}

impl Sending {
    /// `delivered` counts what was handed to the next hop. `pipelined`: not before the negotiation is confirmed.
    pub(crate) fn new(delivered: IntCounter, pipelined: bool) -> Arc<Self> {
        Arc::new(Self {
            in_flight: Mutex::new(None),
            unconfirmed: Mutex::new(pipelined.then(Vec::new)),
            delivered,
            written: AtomicU64::new(0),
            epoch: Instant::now(),
        })
    }

    /// Write until everything is said. The last octets may take `patience` to arrive.
    ///
    /// # Errors
    /// Why the other end takes nothing more.
    pub(crate) async fn write<T: Transmit>(
        &self,
        mailbox: &Arc<Mailbox>,
        transmit: &mut T,
        patience: Duration,
    ) -> Result<(), Reason> {
        loop {
            match mailbox.next() {
                Next::Octets(octets) => transmit.write(octets.into()).await?,
                Next::Stanzas(run, outlet) => {
                    let octets = run.octets.clone();
                    *lock(&self.in_flight) = Some((run, outlet));
                    transmit.write(octets).await?;
                    self.sent();
                }
                Next::Finish => {
                    transmit.finish(patience).await;
                    return Ok(());
                }
                Next::Wait => mailbox.woken().await,
            }
        }
    }

    /// What was in flight is handed over.
    fn sent(&self) {
        let Some((run, outlet)) = lock(&self.in_flight).take() else { return };
        match lock(&self.unconfirmed).as_mut() {
            Some(kept) => kept.push((run, outlet)),
            None => self.delivered(&run, &outlet),
        }
        let elapsed = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.written.store(elapsed, Ordering::Relaxed);
    }

    fn delivered(&self, run: &Run, outlet: &Outlet) {
        self.delivered.inc_by(run.counted() as u64);
        outlet.release(run);
    }

    /// When a stanza was last written.
    pub(crate) fn last_written(&self) -> Instant {
        self.epoch + Duration::from_millis(self.written.load(Ordering::Relaxed))
    }

    /// The negotiation is over: what was sent behind it was read.
    pub(crate) fn confirm(&self) {
        for (run, outlet) in lock(&self.unconfirmed).take().into_iter().flatten() {
            self.delivered(&run, &outlet);
        }
    }

    /// Writing is over. If the negotiation was never confirmed, what was sent behind it goes back to its queues; else
    /// what was in flight is left, and may have arrived or not.
    pub(crate) fn end(&self) -> Option<Sent> {
        let in_flight = lock(&self.in_flight).take();
        let Some(mut sent) = lock(&self.unconfirmed).take() else { return in_flight };
        sent.extend(in_flight);
        // Each run before those that were taken from the same queue after it.
        for (run, outlet) in sent.iter().rev() {
            outlet.put_back(run);
        }
        None
    }
}
