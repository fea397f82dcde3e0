//! Start tags (XML 1.0 section 3.1), read octet after octet: the state says what may come next, so that a tag can
//! arrive in any number of pieces without an octet being read twice.

use super::error::XmlError;
use super::names::{self, Kinds, QName};
use super::reference;
use super::scope::Scope;
use super::span::Span;
use crate::xmpp::stanza::Head;

/// What may come next in a start tag.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// More of the element's name.
    #[default]
    Name,
    /// White space, or the end of the tag: an attribute must be set apart.
    Gap,
    /// An attribute, or the end of the tag.
    Attribute,
    /// More of an attribute's name.
    Key,
    /// `=`
    Equals,
    /// A quotation mark.
    Quote,
    /// More of a value that ends with this quotation mark.
    Value(u8),
    /// `>` behind a `/`.
    Slash,
}

/// How a start tag ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// `>`: the element's content follows.
    Open,
    /// `/>`
    Empty,
}

/// Where a start tag stands, and what bounds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// 1 for a first-level child.
    pub(super) depth: u32,
    /// Most attributes, and most prefixes in scope.
    pub(super) attributes: usize,
}

/// A start tag that is being read.
#[derive(Debug, Default)]
pub(super) struct Tag {
    state: State,
    /// Where the present name or value began.
    mark: usize,
    /// What the present name is made of so far.
    kinds: Kinds,
    name: QName,
    key: QName,
    attributes: Vec<QName>,
    /// One bit for each hash of an attribute's name, so that most names need no comparison.
    seen: u64,
    has_prefixed: bool,
    default_namespace: Option<Span>,
    head: Head,
}

impl Tag {
    /// A tag begins; its name is at `at`.
    pub(super) fn begin(&mut self, at: usize) {
        self.state = State::Name;
        self.mark = at;
        self.kinds = Kinds::default();
        self.attributes.clear();
        self.seen = 0;
        self.has_prefixed = false;
        self.default_namespace = None;
    }

    /// The element's name.
    pub(super) fn name(&self) -> QName {
        self.name
    }

    /// The raw value of `xmlns`.
    pub(super) fn default_namespace(&self) -> Option<Span> {
        self.default_namespace
    }

    /// The attributes by which a stanza is routed, of the last tag at depth 1.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// A first-level child has ended: keep room for `entries`.
    pub(super) fn clear(&mut self, entries: usize) {
        self.head = Head::default();
        self.attributes.clear();
        self.attributes.shrink_to(entries);
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.attributes.capacity()
    }

    /// Resolve the prefixes of the attributes.
    pub(super) fn check_prefixes(&self, bytes: &[u8], scope: &mut Scope) -> Result<(), XmlError> {
        if self.has_prefixed { scope.check_attributes(bytes, &self.attributes) } else { Ok(()) }
    }

    /// Read on from `at`, until the tag or the input ends.
    pub(super) fn scan(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        scope: &mut Scope,
        place: Place,
    ) -> Result<Option<Closing>, XmlError> {
        loop {
            match self.state {
                State::Name | State::Key => {
                    *at = names::end(bytes, *at, &mut self.kinds);
                    if *at == bytes.len() {
                        return Ok(None);
                    }
                    self.end_name(bytes, at)?;
                }
                State::Value(quote) => {
                    let Some(end) = end_of_value(bytes, at, quote)? else { return Ok(None) };
                    self.attribute(bytes, Span::new(self.mark, end), scope, place)?;
                    self.state = State::Gap;
                }
                _ => {
                    self.skip_space(bytes, at);
                    let Some(&octet) = bytes.get(*at) else { return Ok(None) };
                    *at += 1;
                    match (self.state, octet) {
                        (State::Gap | State::Attribute, b'>') => return Ok(Some(Closing::Open)),
                        (State::Gap | State::Attribute, b'/') => self.state = State::Slash,
                        (State::Attribute, _) => {
                            *at -= 1;
                            (self.mark, self.kinds, self.state) = (*at, Kinds::default(), State::Key);
                        }
                        (State::Equals, b'=') => self.state = State::Quote,
                        (State::Quote, b'"' | b'\'') => (self.mark, self.state) = (*at, State::Value(octet)),
                        (State::Slash, b'>') => return Ok(Some(Closing::Empty)),
                        _ => return Err(XmlError::BrokenMarkup),
                    }
                }
            }
        }
    }

    /// A name ends at `at`.
    fn end_name(&mut self, bytes: &[u8], at: &mut usize) -> Result<(), XmlError> {
        let name = QName::new(bytes, self.mark, *at, self.kinds)?;
        if self.state == State::Name {
            (self.name, self.state) = (name, State::Gap);
            return Ok(());
        }
        (self.key, self.state) = (name, State::Equals);
        // What nearly always follows, without the detour through two states.
        if let [b'=', quote @ (b'\'' | b'"'), ..] = bytes[*at..] {
            *at += 2;
            (self.mark, self.state) = (*at, State::Value(quote));
        }
        Ok(())
    }

    /// White space may stand everywhere but inside `/>`, and sets attributes apart.
    fn skip_space(&mut self, bytes: &[u8], at: &mut usize) {
        while self.state != State::Slash && bytes.get(*at).is_some_and(|&octet| is_space(octet)) {
            *at += 1;
            if self.state == State::Gap {
                self.state = State::Attribute;
            }
        }
    }

    /// An attribute is complete.
    fn attribute(
        &mut self,
        bytes: &[u8],
        value: Span,
        scope: &mut Scope,
        place: Place,
    ) -> Result<(), XmlError> {
        let key = self.key;
        let raw = key.raw(bytes);
        if self.attributes.len() >= place.attributes {
            return Err(XmlError::TooManyAttributes);
        }
        let bit = 1_u64 << (hash(raw) % 64);
        if self.seen & bit != 0 && self.attributes.iter().any(|other| other.raw(bytes) == raw) {
            return Err(XmlError::DuplicateAttribute);
        }
        self.seen |= bit;
        self.attributes.push(key);
        match key.prefix(bytes) {
            Some(b"xmlns") => scope.declare(bytes, Some(key.local()), value, place)?,
            Some(_) => self.has_prefixed = true,
            None if raw == b"xmlns" => {
                scope.declare(bytes, None, value, place)?;
                self.default_namespace = Some(value);
            }
            None if place.depth == 1 => match raw {
                b"from" => self.head.from = Some(value),
                b"to" => self.head.to = Some(value),
                b"id" => self.head.id = Some(value),
                b"type" => self.head.type_ = Some(value),
                _ => {}
            },
            None => {}
        }
        Ok(())
    }
}

/// Where the value that goes on at `at` ends; `at` moves to where to read on.
fn end_of_value(bytes: &[u8], at: &mut usize, quote: u8) -> Result<Option<usize>, XmlError> {
    loop {
        let Some(found) = memchr::memchr3(quote, b'&', b'<', &bytes[*at..]) else {
            *at = bytes.len();
            return Ok(None);
        };
        *at += found;
        match bytes[*at] {
            b'<' => return Err(XmlError::BrokenMarkup),
            b'&' => match reference::length(&bytes[*at..])? {
                Some(length) => *at += length,
                None => return Ok(None),
            },
            _ => {
                *at += 1;
                return Ok(Some(*at - 1));
            }
        }
    }
}

/// `S` of XML 1.0 section 2.3.
pub(super) fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\n' | b'\r')
}

/// Tells most names apart by their length and ends.
fn hash(name: &[u8]) -> u32 {
    let end = |octet: Option<&u8>| u32::from(octet.copied().unwrap_or_default());
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    end(name.first()).wrapping_mul(7) ^ end(name.last()).wrapping_mul(3) ^ length
}
