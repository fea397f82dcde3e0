//! Stanzas (RFC 6120 section 8) as they pass through: the few attributes that decide where they go, read from the
//! frame in which they arrived.

use super::escape::unescape_attribute;
use super::framer::Span;
use std::borrow::Cow;

/// Which of the three stanzas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StanzaKind {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
}

impl StanzaKind {
    /// The element's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }

    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"message" => Some(Self::Message),
            b"presence" => Some(Self::Presence),
            b"iq" => Some(Self::Iq),
            _ => None,
        }
    }
}

impl std::fmt::Display for StanzaKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a stanza's common attributes (RFC 6120 section 8.1) stand in its frame. The values are raw there; the
/// methods give what they stand for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// `from`
    pub from: Option<Span>,
    /// `to`
    pub to: Option<Span>,
    /// `id`
    pub id: Option<Span>,
    /// `type`
    pub type_: Option<Span>,
    /// Something in the stanza declares the namespace of stanza multiplexing (XEP-0451).
    pub declares_mux: bool,
}

impl Head {
    /// The sender's address. `frame` is the stanza that this head was read from.
    #[must_use]
    pub fn from(self, frame: &[u8]) -> Option<Cow<'_, str>> {
        value(self.from, frame)
    }

    /// The domain part of the sender's address, as [`domain_of`] has it.
    #[must_use]
    pub fn from_domain(self, frame: &[u8]) -> Option<Cow<'_, str>> {
        domain(self.from, frame)
    }

    /// The domain part of the recipient's address.
    #[must_use]
    pub fn to_domain(self, frame: &[u8]) -> Option<Cow<'_, str>> {
        domain(self.to, frame)
    }

    /// The recipient's address.
    #[must_use]
    pub fn to(self, frame: &[u8]) -> Option<Cow<'_, str>> {
        value(self.to, frame)
    }

    /// The stanza's identifier.
    #[must_use]
    pub fn id(self, frame: &[u8]) -> Option<Cow<'_, str>> {
        value(self.id, frame)
    }

    /// The stanza's type; what its absence means depends on the [`StanzaKind`].
    #[must_use]
    pub fn type_(self, frame: &[u8]) -> Option<Cow<'_, str>> {
        value(self.type_, frame)
    }
}

fn value(span: Option<Span>, frame: &[u8]) -> Option<Cow<'_, str>> {
    let raw = frame.get(span?.range())?;
    std::str::from_utf8(raw).ok().map(unescape_attribute)
}

/// In one pass over what stands before the resource, for it is done for every stanza.
fn domain(span: Option<Span>, frame: &[u8]) -> Option<Cow<'_, str>> {
    let raw = frame.get(span?.range())?;
    let (mut begin, mut end) = (None, raw.len());
    for (at, octet) in raw.iter().enumerate() {
        match octet {
            b'/' => {
                end = at;
                break;
            }
            b'@' if begin.is_none() => begin = Some(at + 1),
            // It may stand for one of those.
            b'&' | b'\t' | b'\n' | b'\r' => {
                let address = value(span, frame)?;
                return Some(Cow::Owned(domain_of(&address).to_owned()));
            }
            _ => {}
        }
    }
    std::str::from_utf8(&raw[begin.unwrap_or(0)..end]).ok().map(Cow::Borrowed)
}

/// The domain part of an address as it stands there, unchecked and not normalised (RFC 7622 section 3.2): what
/// follows the first `@` before any `/`, up to the first `/`.
#[must_use]
pub fn domain_of(address: &str) -> &str {
    let bare = address.split_once('/').map_or(address, |(bare, _)| bare);
    bare.split_once('@').map_or(bare, |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::{Head, Span, domain_of};

    #[test]
    fn the_domain_of_an_address_ends_at_the_first_slash_and_begins_at_the_first_at_before_it() {
        let cases = [
            ("a.test", "a.test"),
            ("u@a.test", "a.test"),
            ("u@a.test/r", "a.test"),
            ("a.test/r", "a.test"),
            ("a.test/u@b.test", "a.test"),
            ("a.test/x/u@b.test/y", "a.test"),
            ("u@a.test/b@c/d", "a.test"),
            ("u@b.test@a.test", "b.test@a.test"),
            ("", ""),
            ("/r", ""),
            ("@/", ""),
        ];
        for (address, domain) in cases {
            assert_eq!(domain_of(address), domain, "{address}");
            let head = Head { from: Some(Span::new(0, address.len())), ..Head::default() };
            assert_eq!(head.from_domain(address.as_bytes()).as_deref(), Some(domain), "{address}");
        }
    }

    #[test]
    fn references_in_an_address_are_resolved_before_its_domain_is_read() {
        for raw in ["u&#64;a.test/r", "u@a&#46;test", "u@a.test&#x2F;r", "u@a.test/&#64;b", "&apos;@a.test"] {
            let head = Head { to: Some(Span::new(0, raw.len())), ..Head::default() };
            assert_eq!(head.to_domain(raw.as_bytes()).as_deref(), Some("a.test"), "{raw}");
        }
    }
}
