//! Framing and checking of a server stream in one pass (RFC 6120 sections 4 and 11; XML 1.0, fifth edition;
//! Namespaces in XML 1.0).
//!
//! A [`Framer`] reads a stream's octets in the caller's own buffer, however the network cut them, and says where the
//! stream header, each first-level child and the end tag stand. What it has let pass is well-formed and
//! namespace-well-formed, free of what RFC 6120 section 11.1 restricts, and, if it is a stanza, declares every prefix
//! it uses, so that its octets can be copied into any other server stream.
//!
//! - `chars`: valid UTF-8 of allowed characters, checked in bulk ahead of everything else;
//! - `tag`: start tags; `names`, `reference`, `declaration`: what they and text are made of;
//! - `content`: text, CDATA sections and end tags;
//! - `scope`: namespace prefixes;
//! - this file: what may stand where in a stream.
//!
//! Every octet is read once. The state between two calls is where the scan stands and offsets into the caller's
//! buffer, so an idle framer costs a few hundred octets, and a stanza costs no allocation.

mod chars;
mod content;
mod declaration;
mod error;
mod names;
mod reference;
mod scope;
mod span;
mod tag;
#[cfg(test)]
mod tests;

pub use error::XmlError;
pub use span::Span;

use super::namespace;
use super::stanza::{Head, StanzaKind};
use chars::Chars;
use scope::{Inherited, Scope, is_text};
use tag::{Closing, Place, Tag, is_space};

/// The tag name of a stream header; the prefix is fixed (RFC 6120 section 4.8.5).
const HEADER_NAME: &[u8] = b"stream:stream";
/// Entries that the stacks keep room for between stanzas, so that one deep stanza doesn't cost its memory for ever.
const ENTRIES_KEPT: usize = 16;

/// What bounds the XML of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XmlLimits {
    /// Largest first-level child once authenticated, in octets.
    pub stanza_bytes: usize,
    /// Largest XML declaration, stream header, and first-level child before authentication, in octets.
    pub negotiation_bytes: usize,
    /// Deepest nesting of elements, a first-level child being 1.
    pub depth: usize,
    /// Most attributes on an element, namespace declarations included; also most prefixes in scope.
    pub attributes: usize,
}

/// What [`Framer::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The input begins with a whole frame.
    Frame(Frame),
    /// The input begins with so many octets that mean nothing: white space, or an XML declaration.
    Skip(usize),
    /// What the input begins with isn't complete yet.
    More,
}

/// A part of the stream that is complete and has passed every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// Its length: the frame is `input[..len]`, to be dropped from the input before the next call.
    pub len: usize,
    /// Where the addresses of a stanza stand in it; empty for anything else.
    pub head: Head,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// The start tag of the stream.
    Header,
    /// A stanza.
    Stanza(StanzaKind),
    /// Any other first-level child.
    Element,
    /// The end tag of the stream.
    End,
}

/// How far the stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A stream header, perhaps behind an XML declaration.
    ExpectHeader { declaration: bool },
    /// First-level children.
    Open,
    /// Nothing but white space.
    Ended,
}

/// What the scan is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Between frames.
    Outside,
    /// Behind `<?`.
    Declaration,
    /// Text.
    Text,
    /// Behind `<`.
    Markup,
    /// Behind `<!`.
    Bang,
    /// A CDATA section whose content began at `mark`.
    Cdata,
    /// A start tag.
    StartTag,
    /// An end tag whose name began at `mark`.
    EndTag,
    /// An end tag behind its name.
    EndTagTail,
}

/// A framer that was left off between frames: a small part of its size.
#[derive(Debug, Clone, Copy)]
pub struct LeftOff {
    content: &'static str,
    authenticated: bool,
    phase: Phase,
    header: Inherited,
}

impl LeftOff {
    /// Before anything of a stream with this content namespace.
    #[must_use]
    pub fn at_the_beginning(content: &'static str) -> Self {
        let phase = Phase::ExpectHeader { declaration: true };
        Self { content, authenticated: false, phase, header: Inherited::default() }
    }
}

/// Reads one direction of one server stream. See the module.
#[derive(Debug)]
pub struct Framer {
    limits: XmlLimits,
    /// The content namespace of the stream (RFC 6120 section 4.8.2).
    content: &'static str,
    authenticated: bool,
    phase: Phase,
    /// Prefixes of the stream header that negotiation elements may use.
    header: Inherited,
    failed: Option<XmlError>,
    chars: Chars,
    at: At,
    position: usize,
    mark: usize,
    tag: Tag,
    scope: Scope,
    /// Names of the open elements; the stream's own is not among them.
    open: Vec<Span>,
    kind: FrameKind,
}

impl Framer {
    /// A server stream that begins with its header.
    #[must_use]
    pub fn new(limits: XmlLimits) -> Self {
        Self::of(namespace::SERVER, limits)
    }

    /// A stream with another content namespace: a component's.
    #[must_use]
    pub fn of(content: &'static str, limits: XmlLimits) -> Self {
        Self::resume(LeftOff::at_the_beginning(content), limits)
    }

    /// Go on where one was left off.
    #[must_use]
    pub fn resume(LeftOff { content, authenticated, phase, header }: LeftOff, limits: XmlLimits) -> Self {
        Self {
            limits,
            content,
            authenticated,
            phase,
            header,
            failed: None,
            chars: Chars::default(),
            at: At::Outside,
            position: 0,
            mark: 0,
            tag: Tag::default(),
            scope: Scope::default(),
            open: Vec::new(),
            kind: FrameKind::Element,
        }
    }

    /// The stream starts again behind the frame just consumed (RFC 6120 section 4.3.3): a header must come next, as at
    /// the beginning. White space before its XML declaration may still be the old stream's, and is skipped.
    pub fn restart(&mut self) {
        self.at = At::Outside;
        self.position = 0;
        self.open.clear();
        self.scope.clear(ENTRIES_KEPT);
        self.phase = Phase::ExpectHeader { declaration: true };
        self.header = Inherited::default();
    }

    /// From the next frame on, first-level children may be as large as stanzas may be.
    pub fn authenticated(&mut self) {
        self.authenticated = true;
    }

    /// Read on in `input`, which begins where the last frame or skip ended and continues what was there at the last
    /// call.
    ///
    /// # Errors
    /// [`XmlError`] at the first octet that may not stand where it stands. The stream can't be read any further: every
    /// later call fails with the same error.
    pub fn next(&mut self, input: &[u8]) -> Result<Progress, XmlError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let outcome = self.read(input);
        match outcome {
            Err(error) => self.failed = Some(error),
            Ok(Progress::More) => {}
            Ok(Progress::Skip(len) | Progress::Frame(Frame { len, .. })) => {
                self.chars.consume(len);
                self.position = 0;
                self.at = At::Outside;
            }
        }
        outcome
    }

    fn read(&mut self, input: &[u8]) -> Result<Progress, XmlError> {
        let limit = match self.phase {
            Phase::Open if self.authenticated => self.limits.stanza_bytes,
            _ => self.limits.negotiation_bytes,
        };
        let limit = limit.min(u32::MAX as usize);
        if input.len() < self.chars.clean() {
            return Ok(Progress::More);
        }
        loop {
            let clean = &input[..self.chars.clean().min(limit)];
            if let Some(progress) = self.scan(clean)? {
                return Ok(progress);
            }
            if !self.chars.advance(input, limit)? {
                return Ok(Progress::More);
            }
        }
    }

    /// Read on until a frame or the clean input ends.
    fn scan(&mut self, bytes: &[u8]) -> Result<Option<Progress>, XmlError> {
        loop {
            let Some(&octet) = bytes.get(self.position) else { return Ok(None) };
            match self.at {
                // Most tags follow another at once.
                At::Text if octet == b'<' => {
                    self.position += 1;
                    self.at = At::Markup;
                }
                At::Text => {
                    if !self.text(bytes)? {
                        return Ok(None);
                    }
                }
                At::Markup => self.markup(octet)?,
                At::StartTag => {
                    let place = self.place();
                    let Some(closing) = self.tag.scan(bytes, &mut self.position, &mut self.scope, place)?
                    else {
                        return Ok(None);
                    };
                    if self.start_tag(bytes, closing)? {
                        return Ok(Some(self.frame()));
                    }
                }
                At::EndTag => self.end_tag_name(bytes)?,
                At::EndTagTail => {
                    self.position += 1;
                    if octet == b'>' {
                        if self.end_tag() {
                            return Ok(Some(self.frame()));
                        }
                    } else if !is_space(octet) {
                        return Err(XmlError::BrokenMarkup);
                    }
                }
                At::Outside => {
                    if let Some(skip) = self.outside(bytes)? {
                        return Ok(Some(skip));
                    }
                }
                At::Bang => {
                    if !self.bang(bytes)? {
                        return Ok(None);
                    }
                }
                At::Cdata => {
                    if !self.cdata(bytes) {
                        return Ok(None);
                    }
                }
                At::Declaration => {
                    let Some(found) = memchr::memchr(b'>', &bytes[self.position..]) else {
                        self.position = bytes.len();
                        return Ok(None);
                    };
                    let end = self.position + found;
                    declaration::check(&bytes[2..end])?;
                    self.phase = Phase::ExpectHeader { declaration: false };
                    return Ok(Some(Progress::Skip(end + 1)));
                }
            }
        }
    }

    fn frame(&mut self) -> Progress {
        let head = match self.kind {
            FrameKind::Stanza(_) => Head { declares_mux: self.scope.declares_mux(), ..self.tag.head() },
            _ => Head::default(),
        };
        let frame = Frame { kind: self.kind, len: self.position, head };
        self.tag.clear(ENTRIES_KEPT);
        self.scope.clear(ENTRIES_KEPT);
        self.open.shrink_to(ENTRIES_KEPT);
        Progress::Frame(frame)
    }

    /// Where what is being read began: another framer can go on there.
    #[must_use]
    pub fn began(&self) -> LeftOff {
        let Self { content, authenticated, phase, header, .. } = *self;
        LeftOff { content, authenticated, phase, header }
    }

    /// Leave off between frames, where nothing is kept of what was read; in the middle of one `None`.
    #[must_use]
    pub fn leave_off(&self) -> Option<LeftOff> {
        let between = self.at == At::Outside && self.chars.clean() == 0 && self.failed.is_none();
        between.then(|| self.began())
    }

    fn place(&self) -> Place {
        Place { depth: depth(&self.open) + 1, attributes: self.limits.attributes }
    }

    /// Between frames: white space, or the beginning of a tag.
    fn outside(&mut self, bytes: &[u8]) -> Result<Option<Progress>, XmlError> {
        let spaces = bytes.iter().position(|&octet| !is_space(octet)).unwrap_or(bytes.len());
        if spaces > 0 {
            return Ok(Some(Progress::Skip(spaces)));
        }
        match (bytes[0], self.phase) {
            (_, Phase::Ended) => Err(XmlError::AfterEnd),
            (b'<', _) => {
                self.position = 1;
                self.at = At::Markup;
                Ok(None)
            }
            (_, Phase::ExpectHeader { .. }) => Err(XmlError::HeaderExpected),
            (_, Phase::Open) => Err(XmlError::TextBetweenStanzas),
        }
    }

    /// The octet behind `<`.
    fn markup(&mut self, octet: u8) -> Result<(), XmlError> {
        let is_header = self.phase != Phase::Open;
        match octet {
            b'/' if is_header => return Err(XmlError::HeaderExpected),
            b'/' => (self.at, self.mark) = (At::EndTag, self.position + 1),
            b'!' => self.at = At::Bang,
            b'?' if self.phase == (Phase::ExpectHeader { declaration: true }) => self.at = At::Declaration,
            b'?' => return Err(XmlError::ProcessingInstruction),
            _ => {
                if self.open.len() >= self.limits.depth {
                    return Err(XmlError::TooDeep);
                }
                self.tag.begin(self.position);
                self.at = At::StartTag;
                return Ok(());
            }
        }
        self.position += 1;
        Ok(())
    }

    /// A start tag is complete. True if it completes a frame.
    fn start_tag(&mut self, bytes: &[u8], closing: Closing) -> Result<bool, XmlError> {
        if self.open.is_empty() {
            if self.phase != Phase::Open {
                return self.stream_header(bytes, closing).map(|()| true);
            }
            self.first_level_child(bytes);
        }
        self.tag.check_prefixes(bytes, &mut self.scope)?;
        let name = self.tag.name();
        if let Some(prefix) = name.prefix(bytes) {
            self.scope.resolve(bytes, prefix)?;
            // What a prefix stands for may be long to read, and elements many: it is read for one at the most.
            if self.open.is_empty()
                && name.local().of(bytes) == b"stream"
                && self.scope.is_bound(bytes, prefix, namespace::STREAM)
            {
                return Err(XmlError::SecondHeader);
            }
        }
        self.at = At::Text;
        self.open.push(name.whole());
        Ok(closing == Closing::Empty && self.end_tag())
    }

    /// The start tag of a first-level child: what is it?
    fn first_level_child(&mut self, bytes: &[u8]) {
        let in_content_namespace =
            self.tag.default_namespace().is_none_or(|declared| is_text(declared.of(bytes), self.content));
        let stanza = StanzaKind::from_name(self.tag.name().raw(bytes)).filter(|_| in_content_namespace);
        self.kind = stanza.map_or(FrameKind::Element, FrameKind::Stanza);
        self.scope.inherit(if stanza.is_some() { Inherited::default() } else { self.header });
    }

    /// RFC 6120 sections 4.7 and 4.8.
    fn stream_header(&mut self, bytes: &[u8], closing: Closing) -> Result<(), XmlError> {
        self.scope.inherit(Inherited::default());
        self.tag.check_prefixes(bytes, &mut self.scope)?;
        let name = self.tag.name();
        if name.local().of(bytes) != b"stream" || closing == Closing::Empty {
            return Err(XmlError::HeaderExpected);
        }
        if name.raw(bytes) != HEADER_NAME {
            return Err(XmlError::HeaderPrefix);
        }
        self.scope.resolve(bytes, b"stream")?;
        let has_content_namespace =
            self.tag.default_namespace().is_some_and(|declared| is_text(declared.of(bytes), self.content));
        if !self.scope.is_bound(bytes, b"stream", namespace::STREAM) || !has_content_namespace {
            return Err(XmlError::HeaderNamespace);
        }
        self.header =
            Inherited { stream: true, dialback: self.scope.is_bound(bytes, b"db", namespace::DIALBACK) };
        self.phase = Phase::Open;
        self.kind = FrameKind::Header;
        Ok(())
    }

    /// An element ends. True if that completes a frame.
    fn end_tag(&mut self) -> bool {
        self.scope.leave(depth(&self.open));
        if self.open.pop().is_none() {
            self.phase = Phase::Ended;
            self.kind = FrameKind::End;
        }
        self.at = At::Text;
        self.open.is_empty()
    }
}

fn depth(open: &[Span]) -> u32 {
    u32::try_from(open.len()).unwrap_or(u32::MAX)
}
