//! Both ends of a stream back to back: what one writes the other reads, through the framer, cut anywhere. What must hold
//! whatever happens is held by `tests/fuzzing/targets/stream`.

mod authenticating;
mod dialling_back;
mod ending;
mod managing;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::initiating::{Bidi, Initiating, Manage, Pipelining, Wants};
use super::receiving::{Authority, DialbackOffer, Offers, Receiving};
use super::*;
use crate::proto::dialback::{self, KeyMaker};
use crate::proto::{bidi, mux};
use crate::xmpp::framer::{FrameKind, Framer, Progress, XmlLimits};

const LIMITS: XmlLimits =
    XmlLimits { stanza_bytes: 65_536, negotiation_bytes: 16_384, depth: 32, attributes: 32 };

pub(super) fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

pub(super) fn route(from: &str, to: &str) -> Route {
    Route::new(domain(from), domain(to))
}

/// The pair that most streams here are for: `a.test` opens a stream to `b.test`.
pub(super) fn a_to_b() -> Route {
    route("a.test", "b.test")
}

/// An authority that a test fills in.
pub(super) struct Told {
    pub(super) offers: Result<Offers, Reason>,
    pub(super) hosts: Vec<Domain>,
    /// What becomes of dialback requests, by the domain that they come from.
    pub(super) dialback: fn(&Domain) -> Result<DialbackOffer, Reason>,
    pub(super) keys: Option<Arc<KeyMaker>>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            offers: Ok(EXTERNAL),
            hosts: vec![domain("b.test"), domain("rooms.b.test")],
            dialback: |_| Err(Reason::PolicyDenied),
            keys: None,
        }
    }
}

/// What a peer's session offers.
pub(super) const EXTERNAL: Offers =
    Offers { external: true, dialback: false, bidi: true, mux: true, pipelining: true, sm: true };
/// What our own servers are offered.
pub(super) const DIALBACK: Offers =
    Offers { external: false, dialback: true, bidi: true, mux: false, pipelining: false, sm: true };

impl Authority for Told {
    fn offers(&self, _: &Route) -> Result<Offers, Reason> {
        self.offers
    }
    fn host_list(&self) -> Vec<Domain> {
        self.hosts.clone()
    }
    fn dialback(&self, _: &Route, route: &Route) -> Result<DialbackOffer, Reason> {
        (self.dialback)(&route.from)
    }
    fn made_key(&self, route: &Route, stream_id: &str, key: &str) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.verify(route, stream_id, key))
    }
}

pub(super) enum Machine {
    Initiating(Initiating),
    Receiving(Receiving),
}

/// One end of a stream, with the part of a shell that matters: a framer in front, and refusals written.
pub(super) struct End {
    pub(super) machine: Machine,
    pub(super) told: Told,
    framer: Framer,
    buffer: Vec<u8>,
    /// What the other end has not read yet.
    pub(super) outgoing: String,
    pub(super) notices: Vec<Notice>,
    /// Stanzas that came once the stream was established.
    pub(super) stanzas: Vec<String>,
    pub(super) violation: Option<Violation>,
    pub(super) ids: Vec<String>,
}

impl End {
    fn new(machine: Machine, told: Told, outgoing: String) -> Self {
        Self {
            machine,
            told,
            framer: Framer::new(LIMITS),
            buffer: Vec::new(),
            outgoing,
            notices: Vec::new(),
            stanzas: Vec::new(),
            violation: None,
            ids: Vec::new(),
        }
    }

    pub(super) fn initiating(wants: Wants) -> Self {
        Self::initiating_for(a_to_b(), wants)
    }

    pub(super) fn initiating_for(route: Route, wants: Wants) -> Self {
        let mut out = Outbox::default();
        let machine = Initiating::start(route, wants, &mut out);
        assert!(out.notices.is_empty());
        Self::new(Machine::Initiating(machine), Told::default(), out.octets)
    }

    pub(super) fn receiving(told: Told) -> Self {
        Self::new(Machine::Receiving(Receiving::default()), told, String::new())
    }

    pub(super) fn is_established(&self) -> bool {
        match &self.machine {
            Machine::Initiating(machine) => machine.is_established(),
            Machine::Receiving(machine) => machine.is_established(),
        }
    }

    /// Octets arrive. After a violation, or the end, nothing is read any more.
    pub(super) fn read(&mut self, octets: &[u8]) {
        if self.is_over() {
            return;
        }
        self.buffer.extend_from_slice(octets);
        loop {
            let progress = match self.framer.next(&self.buffer) {
                Ok(progress) => progress,
                Err(error) => return self.refuse(error.reason().into()),
            };
            let consumed = match progress {
                Progress::More => return,
                Progress::Skip(len) => len,
                Progress::Frame(frame) => {
                    let octets = self.buffer[..frame.len].to_vec();
                    if let Err(violation) = self.frame(frame.kind, &octets) {
                        return self.refuse(violation);
                    }
                    frame.len
                }
            };
            self.buffer.drain(..consumed);
        }
    }

    fn frame(&mut self, kind: FrameKind, octets: &[u8]) -> Result<(), Violation> {
        match kind {
            FrameKind::Stanza(_) if self.is_established() => {
                self.stanzas.push(String::from_utf8(octets.to_vec()).unwrap());
                Ok(())
            }
            FrameKind::Stanza(_) => self.handle(Event::Stanza),
            FrameKind::Element => {
                let element = Element::parse(octets)?;
                self.handle(Event::Element(&element))
            }
            FrameKind::End => self.handle(Event::End),
            FrameKind::Header => {
                let header = StreamHeader::parse(octets)?;
                if let Some(id) = &header.id {
                    self.ids.push(id.clone());
                }
                let fresh_id = format!("id-{}", self.notices.len() + self.outgoing.len());
                self.handle(Event::Header { header: &header, fresh_id: &fresh_id })
            }
        }
    }

    pub(super) fn handle(&mut self, event: Event<'_>) -> Result<(), Violation> {
        let mut out = Outbox::default();
        let handled = match &mut self.machine {
            Machine::Initiating(machine) => machine.handle(event, &mut out),
            Machine::Receiving(machine) => machine.handle(event, &self.told, &mut out),
        };
        self.outgoing.push_str(&out.octets);
        for notice in out.notices {
            match notice {
                Notice::Restart => self.framer.restart(),
                Notice::Proven { .. } => self.framer.authenticated(),
                _ => {}
            }
            self.notices.push(notice);
        }
        handled
    }

    fn refuse(&mut self, violation: Violation) {
        match &mut self.machine {
            Machine::Initiating(_) => refuse(&mut self.outgoing, violation, None),
            Machine::Receiving(machine) => machine.refuse(violation, "last", &mut self.outgoing),
        }
        self.violation = Some(violation);
    }

    /// The server that was asked about a key has answered.
    pub(super) fn key_verified(&mut self, route: Route, outcome: Result<(), Reason>) {
        if let Err(violation) = self.handle(Event::KeyVerified { route, outcome }) {
            self.refuse(violation);
        }
    }

    pub(super) fn ended(&self) -> Option<Option<Reason>> {
        let mut ends = self.notices.iter().filter_map(|notice| match notice {
            Notice::Ended(reason) => Some(*reason),
            _ => None,
        });
        let end = ends.next();
        assert!(ends.next().is_none(), "a stream ends once");
        end
    }

    fn is_over(&self) -> bool {
        self.violation.is_some() || self.ended().is_some()
    }

    /// The routes that the other end is believed for, and whether with bidi.
    pub(super) fn proven(&self) -> BTreeSet<(Route, bool)> {
        let proven = self.notices.iter().filter_map(|notice| match notice {
            Notice::Proven { route, bidi } => Some((route.clone(), *bidi)),
            _ => None,
        });
        proven.collect()
    }

    pub(super) fn learned(&self) -> Learned {
        let learned = self.notices.iter().find_map(|notice| match notice {
            Notice::Learned(learned) => Some(learned.clone()),
            _ => None,
        });
        learned.unwrap_or_default()
    }

    /// The dialback keys that are to be verified: pair, stream, key.
    pub(super) fn asked(&self) -> Vec<(Route, String, String)> {
        let asked = self.notices.iter().filter_map(|notice| match notice {
            Notice::VerifyKey { route, stream_id, key } => {
                Some((route.clone(), stream_id.clone(), key.clone()))
            }
            _ => None,
        });
        asked.collect()
    }
}

/// Let both ends talk until both are silent. `cuts`: into pieces of which sizes, in turn, the octets are cut.
pub(super) fn talk(one: &mut End, other: &mut End, cuts: &[usize]) {
    let mut sizes = cuts.iter().copied().cycle();
    loop {
        let (there, back) = (std::mem::take(&mut one.outgoing), std::mem::take(&mut other.outgoing));
        if there.is_empty() && back.is_empty() {
            return;
        }
        for (octets, reader) in [(there, &mut *other), (back, &mut *one)] {
            let mut octets = octets.as_bytes();
            while !octets.is_empty() {
                let (piece, rest) = octets.split_at(octets.len().min(sizes.next().unwrap_or(1).max(1)));
                reader.read(piece);
                octets = rest;
            }
        }
    }
}

/// Talk without cuts.
pub(super) fn meet(one: &mut End, other: &mut End) {
    talk(one, other, &[usize::MAX]);
}

/// What a peer says to an end that it has opened a stream to; the answer.
pub(super) fn say(end: &mut End, octets: &str) -> String {
    end.read(octets.as_bytes());
    std::mem::take(&mut end.outgoing)
}

/// A header of the initiating entity.
pub(super) fn header(from: &str, to: &str) -> String {
    StreamHeader::new(Some(domain(from)), Some(domain(to)), None).to_xml()
}

/// A header of the receiving entity.
pub(super) fn answer(from: &str, to: &str, id: &str) -> String {
    StreamHeader::new(Some(domain(from)), Some(domain(to)), Some(id.to_owned())).to_xml()
}

pub(super) fn auth(from: &str) -> String {
    let mut out = String::new();
    sasl_external::write_auth(&mut out, &domain(from));
    out
}

pub(super) const PLAIN: Wants = Wants {
    mux: true,
    bidi: Bidi::Offered,
    dialback: None,
    pipelining: Pipelining::Never,
    manage: Manage::Enable,
    sm_offered: false,
};

pub(super) fn pipelined() -> Wants {
    Wants { mux: false, pipelining: Pipelining::AtOnce, ..PLAIN }
}

/// Wants of the first stream of a connection.
pub(super) fn first() -> Wants {
    Wants { pipelining: Pipelining::WhenOffered, ..PLAIN }
}

/// Wants of a stream to one of our own servers, with the secret from which keys are made.
pub(super) fn dialling_back() -> (Wants, Arc<KeyMaker>) {
    let keys = Arc::new(KeyMaker::new(b"secret"));
    (Wants { mux: false, dialback: Some(Arc::clone(&keys)), ..PLAIN }, keys)
}
