//! The negotiation half of an endpoint's XML stream (RFC 6120 section 4): headers and first-level elements.
//!
//! Read with quick-xml, and not with the relay's own framer: a mistake there would otherwise stand at both ends of
//! the demo and be seen at neither. What is left unread goes to `carry.rs` when negotiation is over.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::StreamError;
use crate::xmpp::namespace;

/// The whole of one stream's negotiation, up to a restart.
const NEGOTIATION_BYTES_MAX: usize = 65_536;

/// An XML stream under negotiation.
#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    /// What arrived since the stream began: always from its header on, which declares the prefixes.
    text: Vec<u8>,
    /// Items of `text` that were handed out.
    taken: usize,
    /// Where the last of them ends.
    consumed: usize,
}

/// An element with its descendants in one flat list: enough for negotiation, where nothing nests for a reason.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) namespace: String,
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    pub(super) text: String,
    descendants: Vec<Element>,
}

impl Element {
    /// Whether this is the element that the standard names so.
    pub(super) fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    /// An attribute without a prefix.
    pub(super) fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether such an element stands in it, with this text.
    pub(super) fn holds(&self, namespace: &str, name: &str, text: &str) -> bool {
        self.descendants.iter().any(|inner| inner.is(namespace, name) && inner.text.trim() == text)
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{}/>", self.name)?;
        match self.descendants.first() {
            Some(condition) => write!(f, " with <{}/>", condition.name),
            None => Ok(()),
        }
    }
}

/// What a stream is made of.
enum Item {
    Header(Element),
    Child(Element),
    End,
}

impl Wire {
    /// A stream on a fresh connection.
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, text: Vec::new(), taken: 0, consumed: 0 }
    }

    /// Send as it is.
    pub(super) async fn send(&mut self, text: &str) -> Result<(), StreamError> {
        Ok(self.socket.write_all(text.as_bytes()).await?)
    }

    /// The stream header.
    pub(super) async fn header(&mut self) -> Result<Element, StreamError> {
        match self.item().await? {
            Item::Header(header) if header.is(namespace::STREAM, "stream") => Ok(header),
            Item::Header(other) | Item::Child(other) => {
                Err(StreamError::Unexpected(format!("{other} instead of a stream header")))
            }
            Item::End => Err(StreamError::Closed("</stream:stream>".to_owned())),
        }
    }

    /// The next first-level element.
    pub(super) async fn child(&mut self) -> Result<Element, StreamError> {
        match self.item().await? {
            Item::Child(child) if child.is(namespace::STREAM, "error") => {
                Err(StreamError::Closed(child.to_string()))
            }
            Item::Header(child) | Item::Child(child) => Ok(child),
            Item::End => Err(StreamError::Closed("</stream:stream>".to_owned())),
        }
    }

    /// What follows is a new stream on the same connection (RFC 6120 section 4.3.3).
    pub(super) fn restart(&mut self) {
        self.text.drain(..self.consumed);
        (self.taken, self.consumed) = (0, 0);
    }

    /// The connection, and what was read beyond the last element.
    pub(super) fn into_parts(mut self) -> (TcpStream, Vec<u8>) {
        self.restart();
        (self.socket, self.text)
    }

    async fn item(&mut self) -> Result<Item, StreamError> {
        loop {
            // From the start each time: a negotiation is a few hundred octets.
            if let Some((item, end)) = items(&self.text)?.into_iter().nth(self.taken) {
                self.taken += 1;
                self.consumed = end;
                return Ok(item);
            }
            if self.text.len() > NEGOTIATION_BYTES_MAX {
                return Err(StreamError::Unexpected("more than 64 KiB of negotiation".to_owned()));
            }
            if self.socket.read_buf(&mut self.text).await? == 0 {
                return Err(StreamError::Closed("the end of the connection".to_owned()));
            }
        }
    }
}

/// Everything that is complete in the text of a stream, each with where it ends.
fn items(text: &[u8]) -> Result<Vec<(Item, usize)>, StreamError> {
    // What is cut within a character is complete up to there.
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default(),
    };
    let mut reader = NsReader::from_str(text);
    let mut items = Vec::new();
    let mut assembly = Assembly::default();
    loop {
        let (namespace, event) = match reader.read_resolved_event() {
            Ok(read) => read,
            // quick-xml's word for what is cut within a tag.
            Err(quick_xml::Error::Syntax(_)) => return Ok(items),
            Err(error) => return Err(StreamError::Unexpected(error.to_string())),
        };
        let complete = match event {
            Event::Eof => return Ok(items),
            Event::Start(start) if items.is_empty() => Some(Item::Header(element(&namespace, &start)?)),
            Event::Start(start) => {
                assembly.open(element(&namespace, &start)?);
                None
            }
            Event::Empty(start) => {
                assembly.open(element(&namespace, &start)?);
                assembly.close()
            }
            Event::End(_) => assembly.close(),
            Event::Text(text) => {
                assembly.text(&text);
                None
            }
            _ => None,
        };
        if let Some(item) = complete {
            items.push((item, usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)));
        }
    }
}

/// A first-level element that is being read.
#[derive(Default)]
struct Assembly {
    /// It and its descendants, in the order of their start tags.
    elements: Vec<Element>,
    depth: usize,
}

impl Assembly {
    fn open(&mut self, element: Element) {
        self.depth += 1;
        self.elements.push(element);
    }

    fn text(&mut self, text: &str) {
        // Of whatever was opened last: nothing in a negotiation mixes text and elements.
        if let Some(element) = self.elements.last_mut() {
            element.text.push_str(text);
        }
    }

    fn close(&mut self) -> Option<Item> {
        if self.depth > 1 {
            self.depth -= 1;
            return None;
        }
        let mut elements = std::mem::take(self).elements.into_iter();
        // Without an open element, it is the stream that is closed.
        let Some(child) = elements.next() else { return Some(Item::End) };
        Some(Item::Child(Element { descendants: elements.collect(), ..child }))
    }
}

fn element(namespace: &ResolveResult<'_>, start: &BytesStart<'_>) -> Result<Element, StreamError> {
    let unexpected = |error: &dyn std::fmt::Display| StreamError::Unexpected(error.to_string());
    let ResolveResult::Bound(namespace) = namespace else {
        return Err(StreamError::Unexpected("an element without a namespace".to_owned()));
    };
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| unexpected(&error))?;
        let value =
            attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| unexpected(&error))?;
        attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(Element {
        namespace: namespace.as_ref().to_owned(),
        name: start.local_name().as_ref().to_owned(),
        attributes,
        ..Element::default()
    })
}
