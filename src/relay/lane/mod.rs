//! One XML stream as a task: its machine is fed frame by frame until it is established, then its stanzas are carried.
//!
//! Reading and writing go on side by side in the one task; neither waits for the other. Whatever ends the stream, its end
//! is told to the router once ([`super::guard`]).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use tracing::{Instrument as _, debug};

use super::carry::{self, Carry};
use super::clock;
use super::hub::Hub;
use super::inbound::Inbound;
use super::io::{LAST_WORDS, Receive, Transmit};
use super::local::component::Components;
use super::mailbox::Mailbox;
use super::place::{Place, Proof};
use super::read_buffer::{Ear, LARGE_BYTES, ReadBuffer};
use super::sending::Sending;
use crate::proto::admission::{Proven, Side};
use crate::proto::component::Component;
use crate::proto::router::LaneId;
use crate::proto::stream::initiating::Initiating;
use crate::proto::stream::receiving::Receiving;
use crate::proto::stream::{Event, Notice, Outbox, Violation};
use crate::proto::stream_management::element::read_answer;
use crate::reason::Reason;
use crate::transport::quic::Code;
use crate::xmpp::content::Rescoping;
use crate::xmpp::element;
use crate::xmpp::framer::{Frame, FrameKind};
use crate::xmpp::header::StreamHeader;
use crate::xmpp::namespace as ns;
use crate::xmpp::route::Route;

mod ahead;
mod beginning;
mod deadline;
mod ending;
mod holding;
mod key_answers;
mod listening;
mod management;
mod reading;
mod told;

use beginning::Beginning;
use ending::Ended;
pub(crate) use ending::LaneEnd;
use key_answers::KeyAnswers;
use management::Resumable;
use reading::Reading;

/// A read that brought so much may not have been the last.
const MUCH: usize = LARGE_BYTES / 2;

/// Which end of the stream we are.
#[derive(Debug)]
pub(crate) enum Machine {
    Initiating(Initiating),
    Receiving(Receiving),
    /// The other end is a component.
    Component(Component),
}

impl Machine {
    /// The content namespace of the stream.
    fn content(&self) -> &'static str {
        match self {
            Self::Initiating(_) | Self::Receiving(_) => ns::SERVER,
            Self::Component(_) => ns::COMPONENT_ACCEPT,
        }
    }
}

/// One XML stream.
pub(crate) struct Lane {
    hub: Arc<Hub>,
    id: LaneId,
    mailbox: Arc<Mailbox>,
    place: Place,
    machine: Machine,
    reading: Reading,
    /// How stanzas become those of a server stream, if they aren't.
    rescoping: Option<Box<Rescoping>>,
    sending: Arc<Sending>,
    beginning: Option<Box<Beginning>>,
    /// Set once the stream is established.
    carry: Option<Carry>,
    /// The peer's stream header has come.
    answered: bool,
    /// An octet has come.
    heard: bool,
    /// Under stream management: the counters of what comes.
    inbound: Option<Arc<Inbound>>,
    /// How the stream may be resumed when it breaks.
    resumable: Option<Resumable>,
    /// What came last said how much is handled.
    heard_answer: bool,
    /// And it came along with what is dealt with now.
    heard_now: bool,
    /// So did what came last before the other end ended the stream: nothing beyond that is handled.
    said_all: bool,
    /// An answer came that nobody had asked for.
    unsolicited: bool,
    verified: KeyAnswers,
    /// What it had sent is in other hands.
    parted: bool,
}

impl Lane {
    pub(crate) fn new(
        hub: &Arc<Hub>,
        id: LaneId,
        mailbox: Arc<Mailbox>,
        place: Place,
        machine: Machine,
    ) -> Self {
        let (pipelined, managed, asks) = match &machine {
            Machine::Initiating(machine) => {
                (machine.is_pipelined(), machine.is_managed(), machine.resumes().map(Box::from))
            }
            Machine::Receiving(_) | Machine::Component(_) => (false, false, None),
        };
        asks.iter().for_each(|_| mailbox.resumes());
        let side = place.side();
        let delivered = hub.metrics.data.side(side).delivered.clone();
        let sending = Sending::new(delivered, &hub.acknowledger, side, pipelined, managed);
        Self {
            hub: Arc::clone(hub),
            id,
            mailbox,
            place,
            reading: Reading::new(machine.content()),
            rescoping: matches!(machine, Machine::Component(_))
                .then(|| Box::new(Rescoping::component_to_server())),
            machine,
            sending,
            beginning: Some(Box::new(Beginning { asks, ..Beginning::default() })),
            carry: None,
            answered: false,
            heard: false,
            inbound: None,
            resumable: None,
            heard_answer: false,
            heard_now: false,
            said_all: false,
            unsolicited: false,
            verified: KeyAnswers::default(),
            parted: false,
        }
    }

    /// Run the stream to its end, and `then` see to that. An async fn, or one that awaits this, would keep all that is handed to
    /// it twice (rust-lang/rust#62958), for each lane.
    #[allow(clippy::manual_async_fn, reason = "see above")]
    pub(crate) fn run<R: Receive, T: Transmit, E: Send>(
        mut self,
        receive: R,
        mut transmit: T,
        then: impl FnOnce(LaneEnd) -> E + Send,
    ) -> impl Future<Output = E> + Send {
        let mut ear = Ear { receive, buffer: ReadBuffer::default() };
        async move {
            let (mailbox, sending) = (Arc::clone(&self.mailbox), Arc::clone(&self.sending));
            let session = self.place.session();
            let (ended, said_all) = {
                let row = session.as_ref().map(|session| &session.row);
                let writer = sending.write(&mailbox, &mut transmit, row);
                tokio::pin!(writer);
                let (ended, mut wrote) = self.read_and_write(&mut ear, writer.as_mut()).await;
                self.conclude(ended);
                if wrote.is_none() && !matches!(ended, Ended::Lost(_)) && mailbox.closing().is_some() {
                    let last = Box::pin(self.unless_shut(tokio::time::timeout(LAST_WORDS, writer)));
                    wrote = last.await.and_then(Result::ok);
                }
                (ended, matches!(wrote, Some(Ok(()))))
            };
            if ended.is_for_room() {
                Box::pin(self.hear_out(&mut ear)).await;
            }
            // Only now: whoever is told to stop sending may well stop reading, and miss why.
            match ended {
                Ended::Violated(_) => {
                    if !said_all {
                        transmit.reset(Code::Violation);
                    }
                    Box::pin(self.unless_shut(ear.receive.stop(Code::Violation, LAST_WORDS))).await;
                }
                Ended::Unspoken => {
                    transmit.reset(Code::Framing);
                    Box::pin(self.unless_shut(ear.receive.stop(Code::Framing, LAST_WORDS))).await;
                }
                Ended::Closed(_) | Ended::Usurped => {
                    Box::pin(self.unless_shut(ear.receive.linger(LAST_WORDS))).await;
                }
                // To drop it finishes it, and in the middle of a stanza the other end takes that for a stanza that we cut off.
                Ended::Lost(_) if sending.is_cut() => transmit.reset(Code::Done),
                Ended::Lost(_) => {}
            }
            let reason = ended.reason();
            self.part(ended, sending.end(ended.is_refusal()));
            let broken_off = matches!(ended, Ended::Lost(reason) if reason != Reason::Draining);
            let pipelined = matches!(&self.machine, Machine::Initiating(machine) if machine.is_pipelined());
            let (established, answered) = (self.carry.is_some(), self.answered);
            let closed = self.heard && ended.is_said();
            let heard = self.beginning.as_ref().map_or(0, |beginning| beginning.heard);
            then(LaneEnd { reason, established, answered, closed, heard, pipelined, broken_off })
        }
    }

    /// Read until the stream ends, and write meanwhile. Why it ended, and how the writing did if it has.
    async fn read_and_write<R: Receive>(
        &mut self,
        ear: &mut Ear<R>,
        mut writer: Pin<&mut impl Future<Output = Result<(), Reason>>>,
    ) -> (Ended, Option<Result<(), Reason>>) {
        let (hub, mailbox) = (Arc::clone(&self.hub), Arc::clone(&self.mailbox));
        let reader = self.read(ear);
        tokio::pin!(reader);
        tokio::select! {
            biased;
            ended = &mut reader => (ended, None),
            wrote = &mut writer => {
                // Having finished, we carry what the other end still sends until it closes too. If it takes nothing
                // more, it has its time to say why. In either case, what was read and waits for room is seen to.
                let patience = if wrote.is_ok() { hub.limits.drain } else { LAST_WORDS };
                let read = Box::pin(tokio::time::timeout(patience + hub.limits.read_pause, reader)).await;
                let silent = || wrote.err().or_else(|| mailbox.closing()).unwrap_or(Reason::ConnectionLost);
                (read.unwrap_or_else(|_| Ended::by_us(silent())), Some(wrote))
            }
        }
    }

    async fn read<R: Receive>(&mut self, ear: &mut Ear<R>) -> Ended {
        let mailbox = Arc::clone(&self.mailbox);
        // Since when what is in the buffer is incomplete.
        let mut partial: Option<Instant> = None;
        loop {
            let before = ear.buffer.len();
            self.heard_now = false;
            // What it takes while there is something to do, no lane holds while there isn't.
            match Box::pin(self.frames(&mut ear.buffer)).await {
                Ok(None) => {}
                Ok(Some(ended)) => return ended,
                Err(violation) => return Ended::Violated(violation),
            }
            partial = match partial {
                _ if ear.buffer.is_empty() => None,
                Some(since) if ear.buffer.len() == before => Some(since),
                _ => Some(clock::now()),
            };
            if let Some(hold) = self.carry.as_mut().and_then(|carry| carry.meter.take_hold()) {
                let (begun, before) = (clock::now(), ear.buffer.len());
                if let Some(ended) = Box::pin(self.hold(hold, ear)).await {
                    return ended;
                }
                // The other end isn't to blame for that time.
                partial = partial.map(|since| since + clock::now().saturating_duration_since(begun));
                if ear.buffer.len() > before {
                    continue;
                }
            }
            let deadline = self.deadline(partial);
            // Octets that never cease to come don't outlast it either.
            if deadline.0 <= clock::now()
                && let Some(ended) = self.on_deadline(deadline.1)
            {
                return ended;
            }
            tokio::select! {
                biased;
                read = ear.receive.read(&mut ear.buffer) => match read {
                    Ok(0) => return self.on_finished(!ear.buffer.is_empty()),
                    Ok(_) if !self.speaks_xml(&ear.buffer) => return Ended::Unspoken,
                    // There may be as many again: others have their turn first.
                    Ok(MUCH..) => tokio::task::yield_now().await,
                    Ok(_) => {}
                    Err(reason) => return Ended::Lost(reason),
                },
                reason = mailbox.broken_off() => return Ended::by_us(reason),
                Some((route, outcome)) = self.verified.next() => {
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

    async fn flush(&mut self, buffer: &BytesMut, end: usize) -> Result<(), Violation> {
        match &mut self.carry {
            Some(carry) => Ok(carry.flush(buffer, end).await?),
            None => Ok(()),
        }
    }

    async fn frame(
        &mut self,
        buffer: &BytesMut,
        at: usize,
        frame: Frame,
    ) -> Result<Option<Ended>, Violation> {
        let heard_answer = std::mem::take(&mut self.heard_answer);
        if self.carry.is_none() && !matches!(self.machine, Machine::Initiating(_)) && self.mailbox.is_closed()
        {
            // We have ended the stream before it was established. Nothing that is pipelined behind its negotiation is handled:
            // the other end sends it elsewhere.
            return Ok(Some(Ended::Closed(self.mailbox.closing().unwrap_or(Reason::Idle))));
        }
        if let (FrameKind::Stanza(kind), Some(carry)) = (frame.kind, &mut self.carry) {
            if matches!(&self.machine, Machine::Receiving(machine) if machine.is_resuming()) {
                return Err(Reason::NotAuthorized.into());
            }
            if beginning::stop_waiting(&mut self.beginning) {
                // It has begun without: it won't turn it on any more.
                self.mailbox.open();
            }
            carry.take(buffer, at, frame.len, kind, frame.head).await?;
            return Ok(None);
        }
        self.flush(buffer, at).await?;
        let octets = &buffer[at..at + frame.len];
        match frame.kind {
            FrameKind::Header => {
                self.answers();
                let header = StreamHeader::parse(octets)?;
                // Whoever opened the stream doesn't name it.
                let fresh_id = match self.machine {
                    Machine::Initiating(_) => String::new(),
                    _ => super::random::identifier().ok_or(Reason::InternalServerError)?,
                };
                self.place.header_came(&self.hub, &header, self.carry.is_some());
                let handled = self.handle(Event::Header { header: &header, fresh_id: &fresh_id });
                if handled.is_ok() {
                    self.leave_session();
                }
                handled
            }
            FrameKind::Element => {
                if let Some(answer) = read_answer(octets) {
                    if self.has_listened(at + frame.len) {
                        // What follows it may have come much later.
                        self.heard_answer = true;
                        return Ok(None);
                    }
                    return self.handle(Event::Element(&answer));
                }
                let element = element::read(octets, self.machine.content())?;
                self.note(&element);
                let ended = self.handle(Event::Element(&element))?;
                self.said_all = heard_answer && self.is_refused_for_room(ended);
                Ok(ended)
            }
            FrameKind::Stanza(_) => self.handle(Event::Stanza),
            FrameKind::End => {
                self.said_all = heard_answer && self.is_last_word();
                self.handle(Event::End)
            }
        }
    }

    fn handle(&mut self, event: Event<'_>) -> Result<Option<Ended>, Violation> {
        let mut out = Outbox::default();
        let handled = match &mut self.machine {
            Machine::Initiating(machine) => machine.handle(event, &mut out),
            Machine::Receiving(machine) => {
                self.place.with_authority(&self.hub, |authority| machine.handle(event, authority, &mut out))
            }
            Machine::Component(machine) => {
                let live = self.hub.live();
                let components = Components { hub: &self.hub, live: &live, lane: self.id };
                let outcome = machine.handle(event, &components, &mut out.octets);
                self.mailbox.post(out.octets);
                return outcome.map(|outcome| self.on_outcome(outcome));
            }
        };
        self.mailbox.post(out.octets);
        let mut ended = None;
        for notice in out.notices {
            ended = self.on_notice(notice).or(ended);
        }
        handled.map(|()| ended)
    }

    fn on_notice(&mut self, notice: Notice) -> Option<Ended> {
        match notice {
            Notice::Restart => {
                self.framer().restart();
                self.framer().authenticated();
            }
            Notice::Ahead => self.go_ahead(),
            Notice::Learned(learned) => self.beginning_mut().learned = Some(learned),
            Notice::Proven { route, bidi } => {
                self.framer().authenticated();
                self.sending.confirm();
                debug!(parent: &self.place.span(), lane = self.id.0, pair = %route, bidi, "stream established");
                self.proven(&route, bidi);
            }
            Notice::VerifyKey { route, stream_id, key } => {
                let (hub, answers) = (Arc::clone(&self.hub), self.verified.sender());
                let side = self.place.side();
                let asking = async move {
                    let outcome = match side {
                        Side::Local => super::local::verify::ask(&hub, &route, &stream_id, &key).await,
                        Side::Remote => super::dialback::ask(&hub, &route, &stream_id, &key).await,
                    };
                    // The stream may be gone by now; then nobody waits.
                    let _nobody_waits = answers.send((route, outcome));
                };
                self.hub.tasks.spawn(asking.instrument(self.place.span()));
            }
            Notice::Authorization { route, authorization } => {
                self.place.authorization(&self.hub, self.id, &route, &authorization);
            }
            Notice::Management(managed) => {
                if let Err(violation) = self.on_management(managed) {
                    return Some(Ended::Violated(violation));
                }
            }
            Notice::Unsolicited => self.on_unsolicited(),
            Notice::Ended(None) => {
                self.other_end_closes(Reason::Idle);
                return Some(Ended::Closed(Reason::Idle));
            }
            Notice::Ended(Some(reason)) => {
                self.other_end_closes(reason);
                debug!(parent: &self.place.span(), lane = self.id.0, %reason, "the other end closed the stream with an error");
                return Some(Ended::Closed(reason));
            }
        }
        None
    }

    /// The other end is believed for `route`, in the initiating entity's direction: stanzas may flow.
    fn proven(&mut self, route: &Route, bidi: bool) {
        let initiating = matches!(self.machine, Machine::Initiating(_));
        let learned = self.beginning.as_mut().and_then(|it| it.learned.take()).unwrap_or_default();
        let known = self.carry.as_ref().map(Carry::scope);
        let proven = Proof { lane: self.id, route, bidi, initiating, learned: &learned, known };
        let mut scope = self.place.proven(&self.hub, &proven);
        if initiating && !bidi {
            // Without bidi nothing may come back on a stream that we opened (RFC 6120 section 4.5).
            scope.theirs = Proven::nothing();
        }
        match &mut self.carry {
            Some(carry) => carry.rescope(scope),
            None => {
                let stands = self.place.session().map(|session| carry::Place {
                    session,
                    lane: self.id,
                    route: route.clone(),
                    initiating,
                });
                self.carry = Some(Carry::new(&self.hub, scope, stands));
            }
        }
        match &self.machine {
            // Behind `<resume/>` nothing is sent before its answer.
            Machine::Initiating(machine) if !machine.may_send() => {}
            Machine::Initiating(machine) => {
                if machine.is_managed() {
                    self.sending.manage();
                }
                // The other end offered nothing to ask by: it has other software now, or another proof was used.
                self.give_up_resumption(None);
                self.mailbox.open();
            }
            Machine::Receiving(machine) if bidi && machine.may_be_managed() => {
                self.beginning_mut().waits_to_send = Some(clock::now());
            }
            _ if bidi => self.mailbox.open(),
            _ => {}
        }
    }
}
