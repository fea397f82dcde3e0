//! Reading a stream as a connection would, and checking what the framer said about it with rxml.

use fedmux::xmpp::framer::{FrameKind, Framer, Progress, XmlError, XmlLimits};
use fedmux::xmpp::stanza::Head;
use rxml::{AttrMap, Event, Namespace, Options, Parse, Parser, WithOptions};

/// Small, so that generated streams reach them.
const LIMITS: XmlLimits =
    XmlLimits { stanza_bytes: 4000, negotiation_bytes: 2000, depth: 12, attributes: 16 };

#[derive(Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) bytes: Vec<u8>,
    pub(crate) head: Head,
}

/// What the framer made of a stream.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) frames: Vec<Frame>,
    pub(crate) error: Option<XmlError>,
}

/// Feed `stream` to a framer; `piece(n)` is the length of the n-th piece. Larger stanzas are allowed behind the first
/// element called `success`.
pub(crate) fn read(stream: &[u8], piece: impl Fn(usize) -> usize) -> Outcome {
    read_within(LIMITS, stream, piece)
}

/// The same within other limits.
pub(crate) fn read_within(limits: XmlLimits, stream: &[u8], piece: impl Fn(usize) -> usize) -> Outcome {
    let mut framer = Framer::new(limits);
    let (mut start, mut end, mut pieces) = (0, 0, 0);
    let mut frames = Vec::new();
    loop {
        match framer.next(&stream[start..end]) {
            Ok(Progress::Frame(frame)) => {
                let bytes = stream[start..start + frame.len].to_vec();
                start += frame.len;
                if bytes.starts_with(b"<success") {
                    framer.authenticated();
                }
                frames.push(Frame { kind: frame.kind, bytes, head: frame.head });
            }
            Ok(Progress::Skip(octets)) => {
                assert!(octets > 0);
                start += octets;
            }
            Ok(Progress::More) if end == stream.len() => return Outcome { frames, error: None },
            Ok(Progress::More) => {
                end = stream.len().min(end + piece(pieces).max(1));
                pieces += 1;
            }
            Err(error) => return Outcome { frames, error: Some(error) },
        }
    }
}

impl Outcome {
    /// Whether rxml sees in every frame what the framer said is there. A stanza is put into a stream that isn't its
    /// own and declares no prefix.
    pub(crate) fn verify(&self) -> Result<(), String> {
        let mut header: &[u8] = b"";
        for frame in &self.frames {
            match frame.kind {
                FrameKind::Header => {
                    header = &frame.bytes;
                    parse(&[header, b"</stream:stream>"].concat())?;
                }
                FrameKind::End => drop(parse(&[header, &frame.bytes].concat())?),
                FrameKind::Element => {
                    drop(parse_child(&[header, &frame.bytes, b"</stream:stream>"].concat())?)
                }
                FrameKind::Stanza(kind) => {
                    let (name, attributes) =
                        parse_child(&[b"<s xmlns='jabber:server'>", &frame.bytes[..], b"</s>"].concat())?;
                    if name != ("jabber:server".to_owned(), kind.as_str().to_owned()) {
                        return Err(format!("{name:?} is no {kind}"));
                    }
                    let (head, bytes) = (frame.head, &frame.bytes[..]);
                    for (name, value) in [
                        ("from", head.from(bytes)),
                        ("to", head.to(bytes)),
                        ("id", head.id(bytes)),
                        ("type", head.type_(bytes)),
                    ] {
                        let expected = attributes.get(Namespace::none(), name);
                        if expected.map(String::as_str) != value.as_deref() {
                            return Err(format!("{name} is {expected:?}, not {value:?}"));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn parse(document: &[u8]) -> Result<Vec<Event>, String> {
    let mut parser = Parser::with_options(Options { max_token_length: 1 << 16, ..Options::default() });
    // XML 1.0 section 2.11 does this before parsing; rxml 0.14 refuses a space behind a bare carriage return.
    let document = std::str::from_utf8(document).map_err(|error| error.to_string())?;
    let document = document.replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let mut rest = document.as_bytes();
    loop {
        match parser.parse(&mut rest, true) {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return Ok(events),
            Err(error) => return Err(format!("{error:?} in {document}")),
        }
    }
}

/// Parse a document whose root has exactly one child and no text of its own; that child's name and attributes.
fn parse_child(document: &[u8]) -> Result<((String, String), AttrMap), String> {
    let (mut depth, mut child) = (0, None);
    for event in parse(document)? {
        match event {
            Event::StartElement(_, (namespace, name), attributes) => {
                if depth == 1
                    && child.replace(((namespace.to_string(), name.to_string()), attributes)).is_some()
                {
                    return Err("two children in one frame".to_owned());
                }
                depth += 1;
            }
            Event::EndElement(_) => depth -= 1,
            Event::Text(..) if depth == 1 => return Err("text around a child".to_owned()),
            Event::Text(..) | Event::XmlDeclaration(..) => {}
        }
    }
    child.ok_or_else(|| "no child in a frame".to_owned())
}
