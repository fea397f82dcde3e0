//! A machine behind a framer, as the shell has it, and a peer that says anything.

use fedmux::proto::stream::Violation;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::framer::{FrameKind, Framer, Progress, XmlLimits};
use fedmux::xmpp::header::StreamHeader;

use super::{End, Happening};
use crate::targets::choices::Choices;

const LIMITS: XmlLimits =
    XmlLimits { stanza_bytes: 16_384, negotiation_bytes: 8192, depth: 16, attributes: 16 };

/// Listen to a peer. The first octet says how long the pieces are in which its octets come; and its highest bit, that keys
/// that are asked about are said to be wrong.
pub(super) fn listen(end: &mut impl End, choices: &mut Choices<'_>) {
    let first = choices.byte();
    let mut line = Line::of(end);
    for piece in choices.rest().chunks(usize::from(first & 0x7F).max(1)) {
        line.hear(end, piece);
        while let Some((route, valid)) = end.question() {
            let valid = valid && first & 0x80 == 0;
            let outcome = if valid { Ok(()) } else { Err(fedmux::reason::Reason::DialbackInvalid) };
            line.happen(end, &Happening::Verified(route, outcome));
        }
        if let Some(h) = end.resumption() {
            line.happen(end, &Happening::Resumption(h));
        }
    }
    assert!(line.buffer.len() <= LIMITS.stanza_bytes, "more is kept than may be said");
}

/// What stands between the octets and the machine.
pub(super) struct Line {
    framer: Framer,
    buffer: Vec<u8>,
    /// What the machine said.
    pub(super) said: String,
    /// Stanzas that passed.
    pub(super) stanzas: usize,
}

impl Line {
    pub(super) fn of(end: &impl End) -> Self {
        let framer = Framer::of(end.content(), LIMITS);
        Self { framer, buffer: Vec::new(), said: String::new(), stanzas: 0 }
    }

    /// Octets come. After the end nothing is read any more.
    pub(super) fn hear(&mut self, end: &mut impl End, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
        while !end.is_over() {
            let consumed = match self.framer.next(&self.buffer) {
                Ok(Progress::More) => return,
                Ok(Progress::Skip(len)) => len,
                Ok(Progress::Frame(frame)) => {
                    let octets = self.buffer[..frame.len].to_vec();
                    if let Err(violation) = self.frame(end, frame.kind, &octets) {
                        self.said.push_str(&end.refuse(violation));
                    }
                    frame.len
                }
                Err(error) => {
                    self.said.push_str(&end.refuse(error.reason().into()));
                    0
                }
            };
            self.buffer.drain(..consumed);
        }
        self.buffer.clear();
    }

    fn frame(&mut self, end: &mut impl End, kind: FrameKind, octets: &[u8]) -> Result<(), Violation> {
        let happening = match kind {
            FrameKind::Stanza(_) if end.is_established() => {
                self.stanzas += 1;
                return Ok(());
            }
            FrameKind::Stanza(_) => Happening::Stanza,
            FrameKind::Element => Happening::Element(Element::parse_within(octets, end.content())?),
            FrameKind::End => Happening::End,
            FrameKind::Header => Happening::Header(StreamHeader::parse(octets)?),
        };
        self.happen(end, &happening);
        Ok(())
    }

    pub(super) fn happen(&mut self, end: &mut impl End, happening: &Happening) {
        let taken = end.take(happening);
        if taken.restart {
            self.framer.restart();
        }
        if taken.believed {
            self.framer.authenticated();
        }
        self.said.push_str(&taken.octets);
    }
}
