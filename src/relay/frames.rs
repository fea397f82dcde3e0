//! Frames of a short exchange, one by one: the clear text before TLS, and questions that carry no stanza.

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::io::of_io;
use crate::proto::stream::Event;
use crate::reason::Reason;
use crate::xmpp::element::Element;
use crate::xmpp::framer::{FrameKind, Framer, Progress, XmlLimits};
use crate::xmpp::header::StreamHeader;

/// What the other end said.
#[derive(Debug)]
pub(crate) enum Said {
    Header(StreamHeader),
    Element(Element),
    Stanza,
    End,
}

impl Said {
    /// For a machine; `fresh_id` is what a header of ours would carry.
    pub(crate) fn event<'a>(&'a self, fresh_id: &'a str) -> Event<'a> {
        match self {
            Self::Header(header) => Event::Header { header, fresh_id },
            Self::Element(element) => Event::Element(element),
            Self::Stanza => Event::Stanza,
            Self::End => Event::End,
        }
    }
}

/// Reads them.
pub(crate) struct Frames {
    framer: Framer,
    buffer: BytesMut,
}

impl Frames {
    pub(crate) fn new(limits: XmlLimits) -> Self {
        Self { framer: Framer::new(limits), buffer: BytesMut::new() }
    }

    /// Whether nothing was read beyond the last frame.
    pub(crate) fn is_drained(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`Reason::ConnectionLost`] at the end, or what is wrong with the XML.
    pub(crate) async fn next<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> Result<Said, Reason> {
        loop {
            match self.framer.next(&self.buffer).map_err(|error| error.reason())? {
                Progress::More => {
                    if from.read_buf(&mut self.buffer).await.map_err(|error| of_io(&error))? == 0 {
                        return Err(Reason::ConnectionLost);
                    }
                }
                Progress::Skip(len) => self.buffer.advance(len),
                Progress::Frame(frame) => {
                    let octets = self.buffer.split_to(frame.len);
                    return Ok(match frame.kind {
                        FrameKind::Header => Said::Header(StreamHeader::parse(&octets)?),
                        FrameKind::Element => Said::Element(Element::parse(&octets)?),
                        FrameKind::Stanza(_) => Said::Stanza,
                        FrameKind::End => Said::End,
                    });
                }
            }
        }
    }
}
