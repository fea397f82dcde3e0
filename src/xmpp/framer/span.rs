//! Places in the caller's buffer.

use std::ops::Range;

/// Octets of a frame, counted from its first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// `start..end`. A frame is smaller than 4 GiB: the limits see to that.
    pub(in crate::xmpp) fn new(start: usize, end: usize) -> Self {
        Self { start: saturate(start), end: saturate(end) }
    }

    /// The octets.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Where it ends.
    pub(super) fn end(self) -> u32 {
        self.end
    }

    /// The part before `at`.
    pub(super) fn before(self, at: u32) -> Self {
        Self { start: self.start, end: at }
    }

    /// The part behind the octet at `at`.
    pub(super) fn after(self, at: u32) -> Self {
        Self { start: at + 1, end: self.end }
    }

    /// The octets of `frame`.
    pub(super) fn of(self, frame: &[u8]) -> &[u8] {
        &frame[self.range()]
    }
}

/// Frames are bounded far below this, see `XmlLimits`.
fn saturate(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
