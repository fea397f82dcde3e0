//! The content namespace of stanzas where it stands written out, from one kind of stream to another (RFC 6120
//! section 4.8.3).
//!
//! Most stanzas leave it to the header of their stream, and then nothing is to be done: the header of the next stream
//! says it too. But it may be declared in the stanza, and then it must become that of the next stream. It is the
//! content's namespace on the stanza and on whatever in it belongs to the content: a `<body/>`, an `<error/>`. Inside
//! of a payload of another namespace it is that payload's own matter, and stays as it is. So does what is written with
//! a prefix: content has none (section 4.8.5), and a translated prefix could make two attributes one.
//!
//! There is no tree: the octets have passed the [framer](super::framer), so it takes a glance at each tag.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

use super::escape::unescape_attribute;
use super::namespace;

/// A translation of the content namespace.
#[derive(Debug)]
pub struct Rescoping {
    from: &'static str,
    to: &'static str,
    finder: memmem::Finder<'static>,
}

impl Rescoping {
    /// From a component's stream (XEP-0114) to a server's.
    #[must_use]
    pub fn component_to_server() -> Self {
        Self::new(namespace::COMPONENT_ACCEPT, namespace::SERVER)
    }

    /// From a server's stream to a component's.
    #[must_use]
    pub fn server_to_component() -> Self {
        Self::new(namespace::SERVER, namespace::COMPONENT_ACCEPT)
    }

    fn new(from: &'static str, to: &'static str) -> Self {
        Self { from, to, finder: memmem::Finder::new(from) }
    }

    /// Translate where it stands, to a name that is not longer. What the value loses follows it as white space, so that
    /// the stanza's length, and where its attributes stand, don't change.
    pub fn in_place(&self, stanzas: &mut [u8]) {
        debug_assert!(self.to.len() <= self.from.len());
        if !self.may_occur(stanzas) {
            return;
        }
        let mut declarations = Declarations::of(self.from);
        while let Some(value) = declarations.next(stanzas) {
            let quote = stanzas[value.end];
            let (name, rest) = stanzas[value.start..=value.end].split_at_mut(self.to.len());
            name.copy_from_slice(self.to.as_bytes());
            rest.fill(b' ');
            rest[0] = quote;
        }
    }

    /// Whole stanzas, one behind the other, translated.
    #[must_use]
    pub fn of<'a>(&self, stanzas: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.may_occur(stanzas) {
            return Cow::Borrowed(stanzas);
        }
        let mut declarations = Declarations::of(self.from);
        let mut translated = Vec::new();
        let mut copied = 0;
        while let Some(value) = declarations.next(stanzas) {
            translated.extend_from_slice(&stanzas[copied..value.start]);
            translated.extend_from_slice(self.to.as_bytes());
            copied = value.end;
        }
        if copied == 0 {
            return Cow::Borrowed(stanzas);
        }
        translated.extend_from_slice(&stanzas[copied..]);
        Cow::Owned(translated)
    }

    /// Whether it is worth a closer look. With references in it, the name may be written in many ways.
    fn may_occur(&self, stanzas: &[u8]) -> bool {
        self.finder.find(stanzas).is_some() || memchr::memchr(b'&', stanzas).is_some()
    }
}

/// Finds the declarations of one namespace on elements of the content.
struct Declarations {
    namespace: &'static str,
    at: usize,
    /// Open elements from the payload's outermost inwards; 0 outside of payloads.
    payload: usize,
}

impl Declarations {
    fn of(namespace: &'static str) -> Self {
        Self { namespace, at: 0, payload: 0 }
    }

    /// Where the next value stands that is the namespace.
    fn next(&mut self, octets: &[u8]) -> Option<Range<usize>> {
        loop {
            self.at += memchr::memchr(b'<', octets.get(self.at..)?)? + 1;
            match octets.get(self.at)? {
                b'!' => self.at += memmem::find(&octets[self.at..], b"]]>")?,
                b'/' => self.payload = self.payload.saturating_sub(1),
                _ => {
                    if let Some(declared) = self.start_tag(octets) {
                        return Some(declared);
                    }
                }
            }
        }
    }

    /// A start tag, whose name begins here: its declaration, if it is that of an element of the content.
    fn start_tag(&mut self, octets: &[u8]) -> Option<Range<usize>> {
        let name = name(octets, &mut self.at);
        let mut declared = None;
        while let Some((key, value)) = attribute(octets, &mut self.at) {
            if &octets[key] == b"xmlns" {
                declared = Some(value);
            }
        }
        let in_content_namespace =
            declared.as_ref().is_none_or(|value| is(&octets[value.clone()], self.namespace));
        if self.payload == 0 && in_content_namespace && !octets[name].contains(&b':') {
            return declared;
        }
        if octets.get(self.at) != Some(&b'/') {
            self.payload += 1;
        }
        None
    }
}

/// Whether a raw attribute value stands for `namespace`.
fn is(raw: &[u8], namespace: &str) -> bool {
    raw == namespace.as_bytes()
        || (raw.contains(&b'&')
            && std::str::from_utf8(raw).is_ok_and(|raw| unescape_attribute(raw) == namespace))
}

/// The name that begins at `at`, which moves behind it.
fn name(octets: &[u8], at: &mut usize) -> Range<usize> {
    let ends = |octet: &u8| matches!(octet, b' ' | b'\t' | b'\n' | b'\r' | b'=' | b'/' | b'>');
    let rest = octets.get(*at..).unwrap_or_default();
    let start = *at;
    *at += rest.iter().position(ends).unwrap_or(rest.len());
    start..*at
}

/// The next attribute of the tag in which `at` stands: its name and its raw value. `None` at the end of the tag, where
/// `at` then is.
fn attribute(octets: &[u8], at: &mut usize) -> Option<(Range<usize>, Range<usize>)> {
    skip_space(octets, at);
    if matches!(octets.get(*at)?, b'/' | b'>') {
        return None;
    }
    let key = name(octets, at);
    let quoted = octets.get(*at..)?.iter().position(|octet| matches!(octet, b'\'' | b'"'))?;
    let start = *at + quoted + 1;
    let end = start + memchr::memchr(octets[start - 1], octets.get(start..)?)?;
    *at = end + 1;
    Some((key, start..end))
}

fn skip_space(octets: &[u8], at: &mut usize) {
    while octets.get(*at).is_some_and(u8::is_ascii_whitespace) {
        *at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xmpp::element::Element;
    use crate::xmpp::framer::{FrameKind, Framer, Progress, XmlLimits};

    const ANY: XmlLimits = XmlLimits {
        stanza_bytes: usize::MAX,
        negotiation_bytes: usize::MAX,
        depth: usize::MAX,
        attributes: usize::MAX,
    };

    /// What a stream with this content namespace makes of a stanza; `None`: no stanza.
    fn framed(stanza: &[u8], content: &'static str) -> Option<Element> {
        let mut framer = Framer::of(content, ANY);
        let header =
            format!("<stream:stream xmlns='{content}' xmlns:stream='{}' version='1.0'>", namespace::STREAM);
        let Ok(Progress::Frame(_)) = framer.next(header.as_bytes()) else { panic!("no header") };
        framer.authenticated();
        match framer.next(stanza) {
            Ok(Progress::Frame(frame)) if matches!(frame.kind, FrameKind::Stanza(_)) => {
                assert_eq!(frame.len, stanza.len());
                Some(Element::parse_within(stanza, content).unwrap())
            }
            Ok(_) => None,
            Err(error) => panic!("{error} in {}", String::from_utf8_lossy(stanza)),
        }
    }

    fn inbound(stanza: &str) -> String {
        let mut octets = stanza.as_bytes().to_vec();
        Rescoping::component_to_server().in_place(&mut octets);
        assert_eq!(octets.len(), stanza.len());
        String::from_utf8(octets).unwrap()
    }

    fn outbound(stanza: &str) -> String {
        String::from_utf8(Rescoping::server_to_component().of(stanza.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn what_leaves_the_namespace_to_its_stream_stays_as_it_is() {
        for stanza in [
            "<message from='a' to='b'><body>jabber:server jabber:component:accept &amp;</body></message>",
            "<iq><q xmlns='jabber:server:dialback'/></iq>",
            "<iq><q xmlns='x' y='jabber:server'/><![CDATA[<a xmlns='jabber:server'/>]]></iq>",
        ] {
            assert_eq!(inbound(stanza), stanza);
            assert!(matches!(
                Rescoping::server_to_component().of(stanza.as_bytes()),
                Cow::Borrowed(same) if same == stanza.as_bytes()
            ));
        }
    }

    #[test]
    fn a_namespace_that_is_written_out_becomes_that_of_the_next_stream() {
        let to = "xmlns='jabber:server'          ";
        let cases = [
            ("<iq xmlns='jabber:component:accept' id='1'/>", format!("<iq {to} id='1'/>")),
            (
                "<iq id=\"1\" xmlns=\"jabber:component:accept\"/>",
                format!("<iq id=\"1\" {}/>", to.replace('\'', "\"")),
            ),
            (
                "<iq\n xmlns = 'jabber:component:accept'></iq>",
                "<iq\n xmlns = 'jabber:server'          ></iq>".into(),
            ),
            ("<iq xmlns='jabber:component&#58;accept'/>", format!("<iq {to}    />")),
            (
                "<message><error xmlns='jabber:component:accept'><text xmlns='x'/></error></message>",
                format!("<message><error {to}><text xmlns='x'/></error></message>"),
            ),
            (
                "<message><x xmlns='x'><y/></x><body xmlns='jabber:component:accept'>a</body></message>",
                format!("<message><x xmlns='x'><y/></x><body {to}>a</body></message>"),
            ),
        ];
        for (stanza, translated) in cases {
            assert_eq!(inbound(stanza), translated, "{stanza}");
            let returned = outbound(&translated);
            let expected = framed(stanza.as_bytes(), namespace::COMPONENT_ACCEPT).unwrap();
            assert_eq!(
                framed(returned.as_bytes(), namespace::COMPONENT_ACCEPT),
                Some(expected),
                "{returned}"
            );
            assert!(framed(translated.as_bytes(), namespace::SERVER).is_some(), "{translated}");
        }
    }

    #[test]
    fn inside_of_a_payload_or_with_a_prefix_it_stays_as_it_is() {
        for stanza in [
            "<message><f xmlns='urn:xmpp:forward:0'><message xmlns='NS'/></f><body/></message>",
            "<message><x:f xmlns:x='x' xmlns='NS'><a/></x:f></message>",
            "<message><f xmlns='x' xmlns:c='NS'><c:a b='/>'/></f></message>",
            "<message><f xmlns='x' a='>'><g/><g></g><message xmlns='NS'/></f></message>",
            "<message><f xmlns=''><message xmlns='NS'/></f></message>",
            "<message xmlns:c='NS' xmlns:d='jabber:client'><c:body c:x='' d:x=''/></message>",
        ] {
            let component = stanza.replace("NS", namespace::COMPONENT_ACCEPT);
            assert_eq!(inbound(&component), component);
            let server = stanza.replace("NS", namespace::SERVER);
            assert_eq!(outbound(&server), server);
        }
    }

    #[test]
    fn many_stanzas_are_translated_at_once() {
        let one = "<message xmlns='NS'><x xmlns='x'/><body>a</body></message><presence/><iq xmlns=\"NS\"/>";
        let many = one.repeat(3);
        let translated = many.replace("NS", namespace::COMPONENT_ACCEPT);
        assert_eq!(outbound(&many.replace("NS", namespace::SERVER)), translated);
    }

    #[test]
    fn octets_that_passed_no_check_do_no_harm() {
        let stanza = "<a xmlns='jabber:server' b=\"&lt;\"><![CDATA[x]]><c:d xmlns:c='jabber:server'/></a>";
        for end in 0..stanza.len() {
            for start in 0..end {
                let piece = &stanza.as_bytes()[start..end];
                let _whatever = Rescoping::server_to_component().of(piece);
                Rescoping::component_to_server().in_place(&mut piece.to_vec());
            }
        }
    }
}
