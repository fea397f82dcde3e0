//! Namespace prefixes in scope (Namespaces in XML sections 3 to 6).
//!
//! Prefixes of the stream header are in scope in negotiation elements, but not in stanzas: a stanza is forwarded
//! into another stream, whose header may not declare them.

use super::error::XmlError;
use super::names::QName;
use super::span::Span;
use super::tag::Place;
use crate::xmpp::{escape, namespace};
use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// Prefixes that the stream header declares, as far as they are in scope in the present first-level child.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Inherited {
    /// `stream`, bound to the streams namespace.
    pub(super) stream: bool,
    /// `db`, bound to the dialback namespace.
    pub(super) dialback: bool,
}

/// A prefix declared by an open element.
#[derive(Debug)]
struct Binding {
    prefix: Span,
    /// Tells nearly every other prefix apart without looking at its octets.
    prefix_hash: u64,
    name: Span,
    namespace: NamespaceHash,
    depth: u32,
}

/// The hash of a namespace name. It serves to find two attributes with the same expanded name: equal names have
/// equal hashes, and where hashes are equal the names are compared. Names can be long, and nobody shall find many that have
/// one hash and are compared again and again: it has a key.
type NamespaceHash = u64;

/// The key, and the hashes of what is in scope without a declaration.
struct Hashes {
    key: RandomState,
    xml: NamespaceHash,
    stream: NamespaceHash,
    dialback: NamespaceHash,
}

static HASHES: LazyLock<Hashes> = LazyLock::new(|| {
    let key = RandomState::new();
    let [xml, stream, dialback] =
        [namespace::XML, namespace::STREAM, namespace::DIALBACK].map(|name| key.hash_one(name.as_bytes()));
    Hashes { key, xml, stream, dialback }
});

/// The declarations in scope.
#[derive(Debug, Default)]
pub(super) struct Scope {
    bindings: Vec<Binding>,
    inherited: Inherited,
    /// Hashes of the expanded names of one element's attributes, and the names. Kept for its memory only.
    expanded: Vec<(u64, QName)>,
    declares_mux: bool,
}

impl Scope {
    /// A first-level child begins, or rather: it is known which.
    pub(super) fn inherit(&mut self, inherited: Inherited) {
        self.inherited = inherited;
    }

    /// A declaration; no `prefix` for the default namespace. No more prefixes may be in scope at once than one element
    /// may have attributes, so that looking one up stays cheap.
    pub(super) fn declare(
        &mut self,
        bytes: &[u8],
        prefix: Option<Span>,
        name: Span,
        place: Place,
    ) -> Result<(), XmlError> {
        let text = name.of(bytes);
        let reserved = reserved(text)?;
        self.declares_mux |= is_text(text, namespace::MUX);
        let Some(prefix) = prefix else {
            return if reserved.is_some() { Err(XmlError::BadNamespaceDeclaration) } else { Ok(()) };
        };
        match (prefix.of(bytes), reserved) {
            (b"xml", Some(namespace::XML)) => Ok(()),
            (b"xml" | b"xmlns", _) | (_, Some(_)) => Err(XmlError::BadNamespaceDeclaration),
            _ if text.is_empty() => Err(XmlError::BadNamespaceDeclaration),
            _ if self.bindings.len() >= place.attributes => Err(XmlError::TooManyAttributes),
            _ => {
                self.bindings.push(Binding {
                    prefix,
                    prefix_hash: fnv(FNV_START, prefix.of(bytes)),
                    name,
                    namespace: hash(text),
                    depth: place.depth,
                });
                Ok(())
            }
        }
    }

    /// The element at `depth` ends.
    pub(super) fn leave(&mut self, depth: u32) {
        while self.bindings.last().is_some_and(|binding| binding.depth >= depth) {
            self.bindings.pop();
        }
    }

    /// A first-level child has ended: keep room for `entries`.
    pub(super) fn clear(&mut self, entries: usize) {
        self.declares_mux = false;
        self.bindings.clear();
        self.expanded.clear();
        self.bindings.shrink_to(entries);
        self.expanded.shrink_to(entries);
    }

    /// Whether the namespace of stanza multiplexing was declared since the last [`Scope::clear`].
    pub(super) fn declares_mux(&self) -> bool {
        self.declares_mux
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bindings.capacity() + self.expanded.capacity()
    }

    /// The namespace that `prefix` stands for.
    pub(super) fn resolve(&self, bytes: &[u8], prefix: &[u8]) -> Result<NamespaceHash, XmlError> {
        if let Some(binding) = self.declared(bytes, prefix) {
            return Ok(binding.namespace);
        }
        match prefix {
            b"xml" => Ok(HASHES.xml),
            b"stream" if self.inherited.stream => Ok(HASHES.stream),
            b"db" if self.inherited.dialback => Ok(HASHES.dialback),
            _ => Err(XmlError::UndeclaredPrefix),
        }
    }

    /// Whether `prefix` stands for the namespace `name`.
    pub(super) fn is_bound(&self, bytes: &[u8], prefix: &[u8], name: &str) -> bool {
        match self.declared(bytes, prefix) {
            Some(binding) => is_text(binding.name.of(bytes), name),
            None => match prefix {
                b"stream" => self.inherited.stream && name == namespace::STREAM,
                b"db" => self.inherited.dialback && name == namespace::DIALBACK,
                _ => false,
            },
        }
    }

    fn declared(&self, bytes: &[u8], prefix: &[u8]) -> Option<&Binding> {
        let hash = fnv(FNV_START, prefix);
        let declares = |binding: &&Binding| binding.prefix_hash == hash && binding.prefix.of(bytes) == prefix;
        self.bindings.iter().rev().find(declares)
    }

    /// Resolve the prefixes of an element's attributes; no two of them may have the same expanded name.
    pub(super) fn check_attributes(&mut self, bytes: &[u8], attributes: &[QName]) -> Result<(), XmlError> {
        self.expanded.clear();
        for attribute in attributes {
            let Some(prefix) = attribute.prefix(bytes).filter(|prefix| *prefix != b"xmlns") else { continue };
            let namespace = self.resolve(bytes, prefix)?;
            // No name holds the octet between them.
            let expanded = fnv(fnv(namespace, &[0]), attribute.local().of(bytes));
            let is_it =
                |(hash, other): &(u64, QName)| *hash == expanded && self.are_one(bytes, *attribute, *other);
            if self.expanded.iter().any(is_it) {
                return Err(XmlError::DuplicateAttribute);
            }
            self.expanded.push((expanded, *attribute));
        }
        Ok(())
    }

    /// Whether two names with prefixes have the same expanded name.
    fn are_one(&self, bytes: &[u8], one: QName, other: QName) -> bool {
        let namespace = |name: QName| name.prefix(bytes).map(|prefix| self.namespace(bytes, prefix));
        one.local().of(bytes) == other.local().of(bytes) && namespace(one) == namespace(other)
    }

    /// The namespace name that a prefix in scope stands for.
    fn namespace<'a>(&self, bytes: &'a [u8], prefix: &[u8]) -> Cow<'a, str> {
        match self.declared(bytes, prefix) {
            Some(binding) => unescape(binding.name.of(bytes)),
            None => match prefix {
                b"stream" => Cow::Borrowed(namespace::STREAM),
                b"db" => Cow::Borrowed(namespace::DIALBACK),
                _ => Cow::Borrowed(namespace::XML),
            },
        }
    }
}

/// Whether a raw attribute value stands for `text`.
pub(super) fn is_text(raw: &[u8], text: &str) -> bool {
    raw == text.as_bytes() || (raw.contains(&b'&') && unescape(raw) == text)
}

/// What a namespace name may not be, and the two that are reserved (Namespaces in XML section 3).
fn reserved(name: &[u8]) -> Result<Option<&'static str>, XmlError> {
    let kinds = name.iter().fold(0, |kinds, &octet| kinds | KINDS[usize::from(octet)]);
    let text = if kinds & REFERENCE == 0 {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(unescape(name).into_owned().into_bytes())
    };
    if kinds & FORBIDDEN != 0
        || (kinds & REFERENCE != 0 && !text.iter().all(|&octet| KINDS[usize::from(octet)] & FORBIDDEN == 0))
    {
        return Err(XmlError::BadNamespaceDeclaration);
    }
    Ok([namespace::XML, namespace::XMLNS].into_iter().find(|reserved| reserved.as_bytes() == text.as_ref()))
}

fn unescape(raw: &[u8]) -> Cow<'_, str> {
    // The scanners only see valid UTF-8.
    std::str::from_utf8(raw).map_or(Cow::Borrowed(""), escape::unescape_attribute)
}

/// An octet that may not stand in a namespace name: expat refuses a name that holds the separator which its user chose, unless that
/// is a character of URIs, and with it the stream behind us. That is U+0001 in Prosody, a line feed in ejabberd, `|` in jabberd2, `}` in
/// Python's ElementTree and with it in slixmpp; a space elsewhere.
const FORBIDDEN: u8 = 1;
/// The beginning of a reference.
const REFERENCE: u8 = 2;

const KINDS: [u8; 256] = kinds();

const fn kinds() -> [u8; 256] {
    let mut kinds = [0; 256];
    let mut octet = 0_u8;
    while octet < 0x80 {
        kinds[octet as usize] = match octet {
            0..=0x20 | 0x7F | b'|' | b'}' => FORBIDDEN,
            b'&' => REFERENCE,
            _ => 0,
        };
        octet += 1;
    }
    kinds
}

/// The hash of the name that a raw value stands for.
fn hash(raw: &[u8]) -> NamespaceHash {
    if raw.contains(&b'&') { HASHES.key.hash_one(unescape(raw).as_bytes()) } else { HASHES.key.hash_one(raw) }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a of `octets` behind what `hash` stands for.
const fn fnv(mut hash: u64, octets: &[u8]) -> u64 {
    let mut at = 0;
    while at < octets.len() {
        hash = (hash ^ octets[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_choose_namespaces_of_one_hash() {
        // What FNV-1a takes for one another, and without a key it does so in every relay.
        let [one, other] = [b"8yn0iYCKYHlIj4-BwPqk", b"GReLUrM4wMqfg9yzV3KQ"];
        assert_eq!(fnv(FNV_START, one), fnv(FNV_START, other));
        assert_ne!(hash(one), hash(other));
        assert_eq!(hash(b"urn:x"), hash(b"urn:&#x78;"));
        assert_eq!(hash(namespace::XML.as_bytes()), HASHES.xml);
    }
}
