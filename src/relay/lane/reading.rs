//! How far the XML of a lane is read. Between stanzas next to nothing is kept of that: there are very many lanes, and few are being
//! read at a time.

use super::Lane;
use crate::xmpp::framer::{Framer, LeftOff, XmlLimits};

/// How far it is.
#[derive(Debug)]
pub(super) struct Reading {
    /// While something is read.
    framer: Option<Box<Framer>>,
    /// Where it goes on else.
    left_off: LeftOff,
}

impl Reading {
    /// Nothing has come of a stream with this content namespace.
    pub(super) fn new(content: &'static str) -> Self {
        Self { framer: None, left_off: LeftOff::at_the_beginning(content) }
    }

    fn framer(&mut self, limits: impl FnOnce() -> XmlLimits) -> &mut Framer {
        let left_off = self.left_off;
        self.framer.get_or_insert_with(|| Box::new(Framer::resume(left_off, limits())))
    }
}

impl Lane {
    pub(super) fn framer(&mut self) -> &mut Framer {
        self.reading.framer(|| self.hub.xml_limits())
    }

    /// What came and is complete was read; `is_all`: there is nothing else.
    pub(super) fn rest(&mut self, is_all: bool) {
        if is_all && let Some(left_off) = self.reading.framer.as_ref().and_then(|framer| framer.leave_off()) {
            self.reading = Reading { framer: None, left_off };
        }
        self.forget_beginning();
        if let Some(carry) = &mut self.carry {
            carry.rest();
        }
    }
}
