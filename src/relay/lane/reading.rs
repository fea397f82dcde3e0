//! How far the XML of a lane is read. Between stanzas next to nothing is kept of that: there are very many lanes, and few are being
//! read at a time.

use bytes::{Buf as _, BytesMut};

use super::{Ended, Lane};
use crate::proto::stream::Violation;
use crate::xmpp::framer::{FrameKind, Framer, LeftOff, Progress, XmlLimits};

/// How far it is.
#[derive(Debug)]
pub(super) struct Reading {
    /// While something is read.
    at_work: Option<Box<AtWork>>,
    /// Where it goes on else.
    left_off: LeftOff,
}

#[derive(Debug)]
struct AtWork {
    framer: Framer,
    /// So many octets from where it stands were listened to ([`super::listening`]).
    listened: usize,
}

impl Reading {
    /// Nothing has come of a stream with this content namespace.
    pub(super) fn new(content: &'static str) -> Self {
        Self { at_work: None, left_off: LeftOff::at_the_beginning(content) }
    }

    fn at_work(&mut self, limits: impl FnOnce() -> XmlLimits) -> &mut AtWork {
        let left_off = self.left_off;
        self.at_work.get_or_insert_with(|| {
            Box::new(AtWork { framer: Framer::resume(left_off, limits()), listened: 0 })
        })
    }

    /// Another framer that begins where this one began with what it is reading.
    pub(super) fn scout(&self, limits: XmlLimits) -> Framer {
        let left_off = self.at_work.as_ref().map_or(self.left_off, |work| work.framer.began());
        Framer::resume(left_off, limits)
    }
}

impl Lane {
    pub(super) fn framer(&mut self) -> &mut Framer {
        &mut self.reading.at_work(|| self.hub.xml_limits()).framer
    }

    /// The acknowledgements in the first `octets` of what comes next were heard.
    pub(super) fn listened(&mut self, octets: usize) {
        self.reading.at_work(|| self.hub.xml_limits()).listened = octets;
    }

    /// Whether those in the first `octets` were.
    pub(super) fn has_listened(&self, octets: usize) -> bool {
        self.reading.at_work.as_ref().is_some_and(|work| octets <= work.listened)
    }

    /// So many octets were dealt with.
    pub(super) fn dealt_with(&mut self, octets: usize) {
        if let Some(work) = &mut self.reading.at_work {
            work.listened = work.listened.saturating_sub(octets);
        }
    }

    /// Take every whole frame out of `buffer`.
    pub(super) async fn frames(&mut self, buffer: &mut BytesMut) -> Result<Option<Ended>, Violation> {
        let mut at = 0;
        let ended = self.frames_from(buffer, &mut at).await;
        buffer.advance(at);
        self.dealt_with(at);
        self.rest(buffer.is_empty());
        ended
    }

    async fn frames_from(
        &mut self,
        buffer: &mut BytesMut,
        at: &mut usize,
    ) -> Result<Option<Ended>, Violation> {
        let mut ended = None;
        while ended.is_none() {
            match self.framer().next(&buffer[*at..]).map_err(|error| error.reason())? {
                Progress::More => break,
                Progress::Skip(len) => {
                    let begun = std::mem::replace(at, *at + len);
                    self.flush(buffer, begun).await?;
                }
                Progress::Frame(frame) => {
                    let begun = std::mem::replace(at, *at + frame.len);
                    if let (Some(rescoping), FrameKind::Stanza(_)) = (&self.rescoping, frame.kind) {
                        rescoping.in_place(&mut buffer[begun..*at]);
                    }
                    ended = self.frame(buffer, begun, frame).await?;
                    if let Some((previd, h)) = self.take_claim() {
                        Box::pin(self.resume_theirs(&previd, h)).await?;
                    }
                }
            }
        }
        self.flush(buffer, *at).await?;
        Ok(ended)
    }

    /// What came and is complete was read; `is_all`: there is nothing else.
    pub(super) fn rest(&mut self, is_all: bool) {
        if is_all
            && let Some(left_off) = self.reading.at_work.as_ref().and_then(|work| work.framer.leave_off())
        {
            self.reading = Reading { at_work: None, left_off };
        }
        self.forget_beginning();
        if let Some(carry) = &mut self.carry {
            carry.rest();
        }
    }
}
