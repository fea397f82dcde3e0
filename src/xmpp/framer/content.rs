//! What is between tags, and end tags (XML 1.0 sections 2.4, 2.7 and 3.1).

use super::error::XmlError;
use super::{At, Framer, HEADER_NAME, Phase, reference};

impl Framer {
    /// Text in an element, as far as it is there. True if something else follows.
    pub(super) fn text(&mut self, bytes: &[u8]) -> Result<bool, XmlError> {
        loop {
            let Some(found) = memchr::memchr3(b'<', b'&', b'>', &bytes[self.position..]) else {
                self.position = bytes.len();
                return Ok(false);
            };
            self.position += found;
            match bytes[self.position] {
                b'<' => {
                    self.at = At::Markup;
                    self.position += 1;
                    return Ok(true);
                }
                b'&' => match reference::length(&bytes[self.position..])? {
                    Some(length) => self.position += length,
                    None => return Ok(false),
                },
                // What is before the text ends with `>` or `;`, so this looks no further back than it may.
                _ if bytes[..self.position].ends_with(b"]]") => return Err(XmlError::CdataEndInText),
                _ => self.position += 1,
            }
        }
    }

    /// `[CDATA[` behind `<!`, as far as it is there; everything else is forbidden. True if it is complete.
    pub(super) fn bang(&mut self, bytes: &[u8]) -> Result<bool, XmlError> {
        const OPENING: &[u8] = b"[CDATA[";
        let rest = &bytes[self.position..];
        if rest[0] == b'-' {
            return Err(XmlError::Comment);
        }
        if rest[0] != b'[' {
            return Err(XmlError::Doctype);
        }
        if self.open.is_empty() {
            return Err(if self.phase == Phase::Open {
                XmlError::TextBetweenStanzas
            } else {
                XmlError::HeaderExpected
            });
        }
        let there = rest.len().min(OPENING.len());
        if rest[..there] != OPENING[..there] {
            return Err(XmlError::BrokenMarkup);
        }
        if there < OPENING.len() {
            return Ok(false);
        }
        self.position += there;
        (self.at, self.mark) = (At::Cdata, self.position);
        Ok(true)
    }

    /// The content of a CDATA section, as far as it is there. True if it ends.
    pub(super) fn cdata(&mut self, bytes: &[u8]) -> bool {
        while let Some(found) = memchr::memchr(b'>', &bytes[self.position..]) {
            let end = self.position + found;
            self.position = end + 1;
            if bytes[self.mark..end].ends_with(b"]]") {
                self.at = At::Text;
                return true;
            }
        }
        self.position = bytes.len();
        false
    }

    /// The name of an end tag, as far as it is there.
    pub(super) fn end_tag_name(&mut self, bytes: &[u8]) -> Result<(), XmlError> {
        let name = self.open.last().map_or(HEADER_NAME, |name| name.of(bytes));
        let rest = &name[self.position - self.mark..];
        let there = rest.len().min(bytes.len() - self.position);
        if bytes[self.position..self.position + there] != rest[..there] {
            return Err(XmlError::MismatchedEndTag);
        }
        self.position += there;
        if there == rest.len() {
            self.at = At::EndTagTail;
        }
        Ok(())
    }
}
