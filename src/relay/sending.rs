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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::outlet::TotalQueued;
    use super::*;
    use crate::proto::queue::Mark;
    use crate::transport::quic::Code;
    use crate::xmpp::domain::Domain;
    use crate::xmpp::route::Route;

    /// A transport that takes everything.
    struct Taken(Vec<u8>);

    impl Transmit for Taken {
        async fn write(&mut self, octets: Bytes) -> Result<(), Reason> {
            self.0.extend_from_slice(&octets);
            Ok(())
        }
        async fn finish(&mut self, _: Duration) {}
        fn reset(&mut self, _: Code) {}
    }

    fn outlet(total: &Arc<TotalQueued>, name: &str, lane: &Arc<Mailbox>, stanzas: &[&[u8]]) -> Arc<Outlet> {
        let route = Route::new(Domain::parse(name).unwrap(), Domain::parse("b.test").unwrap());
        let outlet = Arc::new(Outlet::new(route, 1 << 20, Arc::clone(total)));
        outlet.attach(lane);
        for stanza in stanzas {
            outlet.push(stanza, &[Mark { len: stanza.len(), iq: false, ours: false }], Instant::now());
        }
        outlet
    }

    #[tokio::test]
    async fn what_was_sent_behind_a_refused_flight_goes_back_to_its_own_queue_in_order() {
        let (total, lane) = (Arc::new(TotalQueued::new(1 << 20)), Arc::new(Mailbox::default()));
        let large = [b'2'; 20_000];
        let one = outlet(&total, "a.test", &lane, &[b"1", &large, b"3"]);
        let other = outlet(&total, "c.test", &lane, &[b"x", b"y"]);
        let delivered = IntCounter::new("delivered", "x").unwrap();
        let sending = Sending::new(delivered.clone(), true);
        lane.open();
        let mut taken = Taken(Vec::new());
        let writing = sending.write(&lane, &mut taken, Duration::ZERO);
        let _for_ever = tokio::time::timeout(Duration::from_millis(1), writing).await;
        assert_eq!((taken.0.len(), total.stanzas(), delivered.get()), (20_004, 5, 0));
        assert!(sending.end().is_none());
        let waiting = |outlet: &Outlet| outlet.drain().iter().map(|w| w.octets[0]).collect::<Vec<u8>>();
        assert_eq!((waiting(&one), waiting(&other)), (b"123".to_vec(), b"xy".to_vec()));
        assert_eq!((total.bytes(), total.stanzas()), (0, 0));
    }

    #[tokio::test]
    async fn what_was_sent_behind_a_confirmed_flight_is_delivered() {
        let (total, lane) = (Arc::new(TotalQueued::new(1 << 20)), Arc::new(Mailbox::default()));
        let _outlet = outlet(&total, "a.test", &lane, &[b"1", b"2"]);
        let delivered = IntCounter::new("delivered", "x").unwrap();
        let sending = Sending::new(delivered.clone(), true);
        lane.open();
        let mut taken = Taken(Vec::new());
        let writing = sending.write(&lane, &mut taken, Duration::ZERO);
        let _for_ever = tokio::time::timeout(Duration::from_millis(1), writing).await;
        sending.confirm();
        assert_eq!((delivered.get(), total.stanzas()), (2, 0));
        assert!(sending.end().is_none());
    }
}
