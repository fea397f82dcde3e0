//! What a machine says: it is read as the other end would, and every bit of it makes sense.

use fedmux::xmpp::element::Element;
use fedmux::xmpp::framer::{FrameKind, Framer, Progress, XmlLimits};
use fedmux::xmpp::header::StreamHeader;

/// Nothing that is bounded elsewhere reaches these.
pub(super) const LIMITS: XmlLimits =
    XmlLimits { stanza_bytes: 65_536, negotiation_bytes: 65_536, depth: 64, attributes: 64 };

/// Reads what one end says.
pub(super) struct Written {
    framer: Framer,
    /// A new document begins behind a first-level child of this name.
    restart_behind: &'static str,
    /// The id in the last header.
    pub(super) id: Option<String>,
    pub(super) ended: bool,
}

impl Written {
    pub(super) fn new(content: &'static str, restart_behind: &'static str) -> Self {
        Self { framer: Framer::of(content, LIMITS), restart_behind, id: None, ended: false }
    }

    /// From now on a new document begins behind a first-level child of this name.
    pub(super) fn restarts_behind(&mut self, name: &'static str) {
        self.restart_behind = name;
    }

    /// A new document begins.
    pub(super) fn restart(&mut self) {
        self.framer.restart();
    }

    /// Read what was said; the first-level children in it.
    pub(super) fn read(&mut self, octets: &str) -> Vec<Element> {
        let mut rest = octets.as_bytes();
        let mut children = Vec::new();
        while !rest.is_empty() {
            assert!(!self.ended, "something behind the end: {octets}");
            let len = match self.framer.next(rest) {
                Ok(Progress::Frame(frame)) => {
                    self.frame(frame.kind, &rest[..frame.len], &mut children);
                    frame.len
                }
                Ok(Progress::Skip(len)) => len,
                other => panic!("{other:?} in {octets}"),
            };
            rest = &rest[len..];
        }
        children
    }

    fn frame(&mut self, kind: FrameKind, octets: &[u8], children: &mut Vec<Element>) {
        match kind {
            FrameKind::Header => {
                self.id = StreamHeader::parse(octets).expect("a header of ours is one").id;
            }
            FrameKind::Element => {
                let element = Element::parse(octets).expect("an element of ours is one");
                if element.name() == self.restart_behind {
                    self.restart();
                }
                children.push(element);
            }
            FrameKind::End => self.ended = true,
            FrameKind::Stanza(kind) => panic!("no machine of a stream says {kind}"),
        }
    }
}
