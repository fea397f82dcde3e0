//! One XML stream as a task: its machine is fed frame by frame until it is established, then its stanzas are carried.
//!
//! Reading and writing go on side by side in the one task; neither waits for the other. Whatever ends the stream, its end
//! is told to the router once ([`super::guard`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::carry::Carry;
use super::hub::Hub;
use super::io::{Receive, Transmit};
use super::mailbox::{Close, Mailbox, Next, Outlet, lock};
use super::place::{Place, Proof};
use crate::proto::admission::Proven;
use crate::proto::queue::Run;
use crate::proto::router::LaneId;
use crate::proto::stream::initiating::Initiating;
use crate::proto::stream::receiving::Receiving;
use crate::proto::stream::{Event, Learned, Notice, Outbox, Violation};
use crate::reason::Reason;
use crate::transport::quic::Code;
use crate::xmpp::element::Element;
use crate::xmpp::framer::{Frame, FrameKind, Framer, Progress};
use crate::xmpp::header::StreamHeader;
use crate::xmpp::route::Route;

/// How long the last octets of a refused stream may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Which end of the stream we are.
#[derive(Debug)]
pub(crate) enum Machine {
    Initiating(Initiating),
    Receiving(Receiving),
}

/// How a lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneEnd {
    pub(crate) reason: Reason,
    /// It had been established.
    pub(crate) established: bool,
    /// The peer's stream header had come.
    pub(crate) answered: bool,
}

/// One XML stream.
pub(crate) struct Lane {
    hub: Arc<Hub>,
    id: LaneId,
    mailbox: Arc<Mailbox>,
    place: Place,
    machine: Machine,
    framer: Framer,
    shared: Arc<Shared>,
    learned: Learned,
    /// Set once the stream is established.
    carry: Option<Carry>,
    answered: bool,
    verified: (mpsc::UnboundedSender<KeyAnswer>, mpsc::UnboundedReceiver<KeyAnswer>),
    started: Instant,
}

/// The answer of a host's server about a dialback key.
type KeyAnswer = (Route, Result<(), Reason>);

/// Stanzas that were handed to the transport, and the queue that they came from.
type Sent = (Run, Arc<Outlet>);

/// What the reading and the writing half of a lane share.
#[derive(Debug)]
struct Shared {
    /// Stanzas that were sent behind a pipelined negotiation: behind a refusal they weren't read.
    unconfirmed: Mutex<Option<Vec<Sent>>>,
    /// When something was last written, in milliseconds since `epoch`.
    written: AtomicU64,
    epoch: Instant,
}

impl Shared {
    fn new(pipelined: bool) -> Arc<Self> {
        Arc::new(Self {
            unconfirmed: Mutex::new(pipelined.then(Vec::new)),
            written: AtomicU64::new(0),
            epoch: Instant::now(),
        })
    }

    fn touch(&self) {
        let elapsed = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.written.store(elapsed, Ordering::Relaxed);
    }

    fn last_written(&self) -> Instant {
        self.epoch + Duration::from_millis(self.written.load(Ordering::Relaxed))
    }

    /// The negotiation is over: nothing that was sent needs to be kept.
    fn confirm(&self) {
        *lock(&self.unconfirmed) = None;
    }

    /// If the negotiation failed, what was sent behind it goes back to its queue. Whether it did.
    fn give_back(&self) -> bool {
        let Some(runs) = lock(&self.unconfirmed).take() else { return false };
        if let Some((_, outlet)) = runs.first() {
            let outlet = Arc::clone(outlet);
            let runs: Vec<Run> = runs.into_iter().map(|(run, _)| run).collect();
            outlet.put_back(&runs);
        }
        true
    }
}

impl Lane {
    pub(crate) fn new(
        hub: &Arc<Hub>,
        id: LaneId,
        mailbox: Arc<Mailbox>,
        place: Place,
        machine: Machine,
    ) -> Self {
        let pipelined = matches!(&machine, Machine::Initiating(machine) if machine.is_pipelined());
        Self {
            hub: Arc::clone(hub),
            id,
            mailbox,
            place,
            machine,
            framer: Framer::new(hub.xml_limits()),
            shared: Shared::new(pipelined),
            learned: Learned::default(),
            carry: None,
            answered: false,
            verified: mpsc::unbounded_channel(),
            started: Instant::now(),
        }
    }

    /// Run the stream to its end.
    pub(crate) async fn run<R: Receive, T: Transmit>(mut self, mut receive: R, mut transmit: T) -> LaneEnd {
        let (hub, mailbox, shared) =
            (Arc::clone(&self.hub), Arc::clone(&self.mailbox), Arc::clone(&self.shared));
        let counters = hub.metrics.data.side(self.place.side()).clone();
        let writer = write(&mailbox, &shared, &counters.delivered, &mut transmit);
        tokio::pin!(writer);
        let mut unsent: Option<Unsent> = None;
        let mut finished = false;
        let ended = {
            let reader = self.read(&mut receive);
            tokio::pin!(reader);
            tokio::select! {
                ended = &mut reader => Some(ended),
                wrote = &mut writer => {
                    finished = true;
                    unsent = wrote.err();
                    // We finished first: what the other end still sends is carried until it closes too.
                    match &unsent {
                        None => tokio::time::timeout(hub.limits.drain, &mut reader).await.ok(),
                        Some(_) => None,
                    }
                }
            }
        };
        let reason = match ended {
            Some(Ended::Violated(violation)) => {
                self.refuse(violation);
                receive.stop(Code::Violation);
                violation.reason
            }
            Some(Ended::Closed(reason)) => {
                mailbox.close(Close::Now, reason);
                reason
            }
            Some(Ended::Lost(reason)) => reason,
            None => {
                let failed = unsent.as_ref().map(|unsent| unsent.reason);
                failed.or_else(|| mailbox.closing()).unwrap_or(Reason::ConnectionLost)
            }
        };
        let gone = finished || matches!(ended, Some(Ended::Lost(_)));
        if !gone && mailbox.closing().is_some() {
            let _too_late = tokio::time::timeout(LAST_WORDS, &mut writer).await;
        }
        let pipelined = shared.give_back();
        if let Some((run, outlet)) = unsent.and_then(|unsent| unsent.run).filter(|_| !pipelined) {
            // Part of it may have left: whether it arrived is unknown, so its senders are told.
            let stanzas: Vec<_> = run.stanzas().collect();
            hub.bounce_all(&outlet.route, &stanzas, reason);
        }
        LaneEnd { reason, established: self.carry.is_some(), answered: self.answered }
    }

    async fn read<R: Receive>(&mut self, receive: &mut R) -> Ended {
        let mut buffer = BytesMut::new();
        loop {
            match self.frames(&mut buffer).await {
                Ok(None) => {}
                Ok(Some(ended)) => return ended,
                Err(violation) => return Ended::Violated(violation),
            }
            if buffer.is_empty() {
                buffer = BytesMut::new();
            }
            let deadline = self.deadline(!buffer.is_empty());
            tokio::select! {
                biased;
                read = receive.read(&mut buffer) => match read {
                    Ok(0) if buffer.is_empty() && self.mailbox.closing().is_some() => {
                        return Ended::Closed(Reason::Idle);
                    }
                    Ok(0) => return Ended::Lost(Reason::ConnectionLost),
                    Ok(_) => {}
                    Err(reason) => return Ended::Lost(reason),
                },
                Some((route, outcome)) = self.verified.1.recv() => {
                    if let Err(violation) = self.handle(Event::KeyVerified { route, outcome }) {
                        return Ended::Violated(violation);
                    }
                }
                () = tokio::time::sleep_until(deadline.0.into()) => {
                    if let Some(ended) = self.on_deadline(deadline.1) {
                        return ended;
                    }
                }
            }
        }
    }

    /// Take every whole frame out of `buffer`.
    async fn frames(&mut self, buffer: &mut BytesMut) -> Result<Option<Ended>, Violation> {
        let mut at = 0;
        let mut ended = None;
        while ended.is_none() {
            match self.framer.next(&buffer[at..]).map_err(|error| error.reason())? {
                Progress::More => break,
                Progress::Skip(len) => {
                    self.flush(buffer, at).await;
                    at += len;
                }
                Progress::Frame(frame) => {
                    ended = self.frame(buffer, at, frame).await?;
                    at += frame.len;
                }
            }
        }
        self.flush(buffer, at).await;
        buffer.advance(at);
        Ok(ended)
    }

    async fn flush(&mut self, buffer: &BytesMut, end: usize) {
        if let Some(carry) = &mut self.carry {
            carry.flush(buffer, end).await;
        }
    }

    async fn frame(
        &mut self,
        buffer: &BytesMut,
        at: usize,
        frame: Frame,
    ) -> Result<Option<Ended>, Violation> {
        if let (FrameKind::Stanza(kind), Some(carry)) = (frame.kind, &mut self.carry) {
            carry.take(buffer, at, frame.len, kind, frame.head).await?;
            return Ok(None);
        }
        self.flush(buffer, at).await;
        let octets = &buffer[at..at + frame.len];
        match frame.kind {
            FrameKind::Header => {
                self.answered = true;
                let header = StreamHeader::parse(octets)?;
                let fresh_id = super::random::identifier().ok_or(Reason::InternalServerError)?;
                self.place.header_came(&self.hub, &header, self.carry.is_some());
                self.handle(Event::Header { header: &header, fresh_id: &fresh_id })
            }
            FrameKind::Element => {
                let element = Element::parse(octets)?;
                self.handle(Event::Element(&element))
            }
            FrameKind::Stanza(_) => self.handle(Event::Stanza),
            FrameKind::End => self.handle(Event::End),
        }
    }

    fn handle(&mut self, event: Event<'_>) -> Result<Option<Ended>, Violation> {
        let mut out = Outbox::default();
        let handled = match &mut self.machine {
            Machine::Initiating(machine) => machine.handle(event, &mut out),
            Machine::Receiving(machine) => {
                self.place.with_authority(&self.hub, |authority| machine.handle(event, authority, &mut out))
            }
        };
        self.mailbox.post(&out.octets);
        let mut ended = None;
        for notice in out.notices {
            ended = self.on_notice(notice).or(ended);
        }
        handled.map(|()| ended)
    }

    fn on_notice(&mut self, notice: Notice) -> Option<Ended> {
        match notice {
            Notice::Restart => {
                self.framer.restart();
                self.framer.authenticated();
            }
            Notice::Learned(learned) => self.learned = learned,
            Notice::Proven { route, bidi } => {
                self.framer.authenticated();
                self.shared.confirm();
                debug!(lane = self.id.0, pair = %route, bidi, "stream established");
                self.proven(&route, bidi);
            }
            Notice::VerifyKey { route, stream_id, key } => {
                let (hub, answers) = (Arc::clone(&self.hub), self.verified.0.clone());
                self.hub.tasks.spawn(async move {
                    let outcome = super::local::verify::ask(&hub, &route, &stream_id, &key).await;
                    // The stream may be gone by now; then nobody waits.
                    let _nobody_waits = answers.send((route, outcome));
                });
            }
            Notice::Authorization { route, authorization } => {
                self.place.authorization(&self.hub, self.id, &route, &authorization);
            }
            Notice::Ended(None) => return Some(Ended::Closed(Reason::Idle)),
            Notice::Ended(Some(reason)) => {
                debug!(lane = self.id.0, %reason, "the other end closed the stream with an error");
                return Some(Ended::Closed(reason));
            }
        }
        None
    }

    /// The other end is believed for `route`, in the initiating entity's direction: stanzas may flow.
    fn proven(&mut self, route: &Route, bidi: bool) {
        let initiating = matches!(self.machine, Machine::Initiating(_));
        let known = self.carry.as_ref().map(Carry::scope);
        let proven = Proof { lane: self.id, route, bidi, initiating, learned: &self.learned, known };
        let mut scope = self.place.proven(&self.hub, &proven);
        if initiating && !bidi {
            // Without bidi nothing may come back on a stream that we opened (RFC 6120 section 4.5).
            scope.theirs = Proven::nothing();
        }
        match &mut self.carry {
            Some(carry) => carry.rescope(scope),
            None => {
                let origin = self.place.session().map(|session| (session, self.id));
                self.carry = Some(Carry::new(&self.hub, scope, origin));
            }
        }
        if initiating || bidi {
            self.mailbox.open();
        }
    }

    fn refuse(&mut self, violation: Violation) {
        let side = self.place.side();
        self.hub.metrics.refused(side, violation.reason);
        warn!(
            lane = self.id.0,
            ?side,
            peer = %self.place,
            reason = %violation.reason,
            advice = violation.reason.advice(),
            "stream refused"
        );
        let mut octets = String::new();
        match &mut self.machine {
            Machine::Initiating(_) => crate::proto::stream::refuse(&mut octets, violation, None),
            Machine::Receiving(machine) => {
                let fresh_id = super::random::identifier().unwrap_or_default();
                machine.refuse(violation, &fresh_id, &mut octets);
            }
        }
        self.mailbox.refuse(&octets, violation.reason);
    }

    /// When something has to have happened, and what it means if it has not.
    fn deadline(&self, partial: bool) -> (Instant, Deadline) {
        let limits = &self.hub.limits;
        if self.carry.is_none() {
            let waits_for_header = matches!(self.machine, Machine::Initiating(_)) && !self.answered;
            let wait =
                if waits_for_header { limits.header_wait.min(limits.handshake) } else { limits.handshake };
            return (self.started + wait, Deadline::Negotiation);
        }
        if partial {
            return (Instant::now() + limits.path_idle, Deadline::Partial);
        }
        (Instant::now() + limits.lane_idle, Deadline::Idle)
    }

    fn on_deadline(&mut self, deadline: Deadline) -> Option<Ended> {
        match deadline {
            Deadline::Negotiation => Some(Ended::Violated(Reason::NegotiationTimeout.into())),
            Deadline::Partial => Some(Ended::Violated(Reason::NegotiationTimeout.into())),
            Deadline::Idle => {
                let idle = self.shared.last_written() + self.hub.limits.lane_idle <= Instant::now();
                if idle && matches!(self.machine, Machine::Initiating(_)) {
                    self.hub.control(|router, _| router.lane_closing(self.id));
                    self.mailbox.close(Close::AfterQueue, Reason::Idle);
                }
                None
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Deadline {
    Negotiation,
    Partial,
    Idle,
}

/// Why reading ended.
#[derive(Debug, Clone, Copy)]
enum Ended {
    /// The other end violated the protocol, or a limit.
    Violated(Violation),
    /// The other end closed the stream.
    Closed(Reason),
    /// The connection is gone.
    Lost(Reason),
}

/// Why writing ended, and what was being written.
struct Unsent {
    reason: Reason,
    run: Option<Sent>,
}

async fn write<T: Transmit>(
    mailbox: &Arc<Mailbox>,
    shared: &Shared,
    delivered: &prometheus::IntCounter,
    transmit: &mut T,
) -> Result<(), Unsent> {
    loop {
        match mailbox.next() {
            Next::Octets(octets) => {
                transmit.write(octets.into()).await.map_err(|reason| Unsent { reason, run: None })?;
            }
            Next::Stanzas(run, outlet) => {
                let (octets, stanzas) = (run.octets.clone(), run.counted());
                if let Some(kept) = lock(&shared.unconfirmed).as_mut() {
                    kept.push((run.clone(), Arc::clone(&outlet)));
                }
                if let Err(reason) = transmit.write(octets).await {
                    return Err(Unsent { reason, run: Some((run, outlet)) });
                }
                delivered.inc_by(stanzas as u64);
                shared.touch();
            }
            Next::Finish => {
                transmit.finish(LAST_WORDS).await;
                return Ok(());
            }
            Next::Wait => mailbox.woken().await,
        }
    }
}
