//! One XML stream of a simulated server or attacker: a machine of ours at one end of two pipes.

use bytes::{Buf as _, Bytes};

use super::pipe::{Ear, Mouth};
use crate::proto::limits::Limits;
use crate::proto::stream::initiating::{Bidi, Initiating, Manage, Pipelining, Wants};
use crate::proto::stream::receiving::{Authority, DialbackOffer, Offers, Receiving};
use crate::proto::stream::{Event, Notice, Outbox};
use crate::reason::Reason;
use crate::relay::io::{Receive as _, Transmit as _};
use crate::relay::random;
use crate::relay::read_buffer::ReadBuffer;
use crate::transport::quic::Code;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::framer::{FrameKind, Framer, Progress, XmlLimits};
use crate::xmpp::header::StreamHeader;
use crate::xmpp::route::Route;

#[derive(Debug)]
enum Machine {
    Opening(Initiating),
    Answering(Receiving),
}

/// Believes whoever comes.
#[derive(Debug)]
struct Trusting {
    mux: bool,
}

impl Authority for Trusting {
    fn offers(&self, _: &Route) -> Result<Offers, Reason> {
        Ok(Offers { external: true, sm: true, mux: self.mux, bidi: self.mux, ..Offers::default() })
    }
    fn host_list(&self) -> Vec<Domain> {
        Vec::new()
    }
    fn dialback(&self, _: &Route, _: &Route) -> Result<DialbackOffer, Reason> {
        Err(Reason::PolicyDenied)
    }
    fn made_key(&self, _: &Route, _: &str, _: &str) -> bool {
        false
    }
}

/// The stream.
#[derive(Debug)]
pub(super) struct Link {
    ear: Ear,
    mouth: Mouth,
    machine: Machine,
    framer: Framer,
    buffer: ReadBuffer,
    out: String,
    notices: std::collections::VecDeque<Notice>,
    mux: bool,
}

/// What came.
#[derive(Debug)]
pub(super) enum Heard {
    Stanza(Element),
    Notice(Notice),
    /// Nothing will come any more.
    Over,
}

impl Link {
    /// Open a stream for `route`. `mux`: as a relay does, not as a server.
    pub(super) fn open((mouth, ear): (Mouth, Ear), route: Route, mux: bool) -> Self {
        let wants = Wants {
            mux,
            bidi: if mux { Bidi::Offered } else { Bidi::Never },
            dialback: None,
            pipelining: Pipelining::Never,
            manage: Manage::Enable,
            sm_offered: false,
        };
        let mut out = Outbox::default();
        let machine = Machine::Opening(Initiating::start(route, wants, &mut out));
        Self { out: out.octets, ..Self::new((mouth, ear), machine, mux) }
    }

    /// Take a stream that was opened to us.
    pub(super) fn answer(halves: (Mouth, Ear), mux: bool) -> Self {
        Self::new(halves, Machine::Answering(Receiving::default()), mux)
    }

    fn new((mouth, ear): (Mouth, Ear), machine: Machine, mux: bool) -> Self {
        let limits = Limits::default();
        let limits = XmlLimits {
            stanza_bytes: limits.stanza_bytes,
            negotiation_bytes: limits.negotiation_bytes,
            depth: limits.stanza_depth,
            attributes: limits.element_attributes,
        };
        Self {
            ear,
            mouth,
            machine,
            framer: Framer::new(limits),
            buffer: ReadBuffer::default(),
            out: String::new(),
            notices: std::collections::VecDeque::new(),
            mux,
        }
    }

    /// The next thing that comes. Nothing is lost if it is dropped meanwhile.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Heard::Notice(notice);
            }
            match self.framer.next(&self.buffer) {
                Err(_) => return Heard::Over,
                Ok(Progress::Skip(len)) => self.buffer.advance(len),
                Ok(Progress::Frame(frame)) => {
                    let octets = self.buffer.split_to(frame.len).freeze();
                    if let Some(stanza) = self.frame(frame.kind, &octets) {
                        return stanza;
                    }
                }
                Ok(Progress::More) => {
                    if !self.out.is_empty() && self.flush().await.is_err() {
                        return Heard::Over;
                    }
                    if !matches!(self.ear.read(&mut self.buffer).await, Ok(1..)) {
                        return Heard::Over;
                    }
                }
            }
        }
    }

    fn frame(&mut self, kind: FrameKind, octets: &Bytes) -> Option<Heard> {
        let established = match &self.machine {
            Machine::Opening(machine) => machine.is_established(),
            Machine::Answering(machine) => machine.is_established(),
        };
        let header;
        let element;
        let event = match kind {
            FrameKind::Stanza(_) if established => {
                return Some(Heard::Stanza(Element::parse(octets).unwrap()));
            }
            FrameKind::Stanza(_) => Event::Stanza,
            FrameKind::Header => {
                let Ok(parsed) = StreamHeader::parse(octets) else { return Some(Heard::Over) };
                header = parsed;
                Event::Header { header: &header, fresh_id: &random::identifier().unwrap() }
            }
            FrameKind::Element => {
                let Ok(parsed) = Element::parse(octets) else { return Some(Heard::Over) };
                element = parsed;
                Event::Element(&element)
            }
            FrameKind::End => Event::End,
        };
        let mut out = Outbox::default();
        let handled = match &mut self.machine {
            Machine::Opening(machine) => machine.handle(event, &mut out),
            Machine::Answering(machine) => machine.handle(event, &Trusting { mux: self.mux }, &mut out),
        };
        self.out.push_str(&out.octets);
        for notice in out.notices {
            match notice {
                Notice::Restart => {
                    self.framer.restart();
                    self.framer.authenticated();
                }
                Notice::Proven { .. } => {
                    self.framer.authenticated();
                    self.notices.push_back(notice);
                }
                notice => self.notices.push_back(notice),
            }
        }
        handled.is_err().then_some(Heard::Over)
    }

    pub(super) fn say(&mut self, octets: &str) {
        self.out.push_str(octets);
    }

    /// Write what was said. Nothing is lost if it is dropped meanwhile, but what was written may be written again.
    pub(super) async fn flush(&mut self) -> Result<(), Reason> {
        let out = std::mem::take(&mut self.out);
        self.mouth.write(out.into()).await
    }

    /// Say no more.
    pub(super) async fn finish(&mut self) {
        if self.flush().await.is_ok() {
            self.mouth.finish(std::time::Duration::ZERO).await;
        }
    }

    /// Break it off.
    pub(super) fn reset(&mut self, code: Code) {
        self.mouth.reset(code);
    }
}
