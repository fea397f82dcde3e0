//! Elements as trees, for what is negotiated: features, SASL, dialback, multiplexing. Stanzas in transit never become
//! one; the framer has checked what is parsed here.

use super::escape::{escape_into, resolve, unescape_attribute};
use super::namespace;
use crate::reason::Reason;
use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, PrefixDeclaration, ResolveResult};

mod repeated;

pub use repeated::read;

/// Deepest nesting that is parsed: as deep as `limits.stanza_depth` may let the framer go. The bound keeps a hostile tree from
/// costing stack.
const DEPTH_MAX: usize = 1024;
/// Longest namespace name that is kept, in octets. None that means anything here is longer, and every element has one of its own: of a
/// few hundred kilobytes each, thousands of elements in the scope of one declaration would take gigabytes.
const NAMESPACE_BYTES_MAX: usize = 64;
/// Octets that a character takes at the most when it is written as a reference, `&#x0000002F;`.
const REFERENCE_BYTES_MAX: usize = 12;

/// An element with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    name: String,
    ns: String,
    attributes: Vec<(String, String)>,
    nodes: Vec<Node>,
}

/// What an element contains.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    /// `<name xmlns='ns'/>`
    #[must_use]
    pub fn new(name: impl Into<String>, ns: impl Into<String>) -> Self {
        Self { name: name.into(), ns: ns.into(), attributes: Vec::new(), nodes: Vec::new() }
    }

    /// Add an attribute without a prefix, or `xml:lang`.
    #[must_use]
    pub fn with_attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Add text.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.push_text(&text.into());
        self
    }

    /// Add a child.
    #[must_use]
    pub fn with_child(mut self, child: Element) -> Self {
        self.nodes.push(Node::Element(child));
        self
    }

    /// The name without a prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace; empty if there is none, or if it is one of more than 64 octets, which can't be any that is meant here.
    #[must_use]
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// Whether it is `name` in `ns`.
    #[must_use]
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }

    /// The value of the attribute `name`: one without a prefix, or `xml:lang`.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first child `name` in `ns`.
    #[must_use]
    pub fn child(&self, name: &str, ns: &str) -> Option<&Element> {
        self.children().find(|child| child.is(name, ns))
    }

    /// The children that are elements, in order.
    pub fn children(&self) -> impl Iterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(child) => Some(child),
            Node::Text(_) => None,
        })
    }

    /// The text directly in this element, white space and all.
    #[must_use]
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }

    fn push_text(&mut self, text: &str) {
        match self.nodes.last_mut() {
            Some(Node::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.nodes.push(Node::Text(text.to_owned())),
        }
    }

    /// Parse a frame of [`FrameKind::Element`](super::framer::FrameKind), or a stanza. The default namespace is the one
    /// of server streams; `stream` and `db` are bound as our own headers bind them. Attributes with a prefix are
    /// dropped, `xml:lang` excepted.
    ///
    /// # Errors
    /// [`Reason::NotWellFormed`] and the like for what the framer would have refused.
    pub fn parse(frame: &[u8]) -> Result<Self, Reason> {
        Self::parse_within(frame, namespace::SERVER)
    }

    /// The same for a stream with another content namespace, which is the default namespace there.
    ///
    /// # Errors
    /// As [`Element::parse`].
    pub fn parse_within(frame: &[u8], content: &str) -> Result<Self, Reason> {
        let text = std::str::from_utf8(frame).map_err(|_| Reason::NotWellFormed)?;
        let mut reader = NsReader::from_str(text);
        // The framer has bounded how many are in scope.
        reader.resolver_mut().set_max_namespace_bindings(usize::MAX);
        let header = [
            (PrefixDeclaration::Default, content),
            (PrefixDeclaration::Named("stream"), namespace::STREAM),
            (PrefixDeclaration::Named("db"), namespace::DIALBACK),
        ];
        for (prefix, name) in header {
            reader.resolver_mut().add(prefix, Namespace(name)).map_err(|_| Reason::InternalServerError)?;
        }
        let mut open: Vec<Element> = Vec::new();
        loop {
            let done = match reader.read_event().map_err(|_| Reason::NotWellFormed)? {
                Event::Start(tag) => {
                    if open.len() >= DEPTH_MAX {
                        return Err(Reason::StanzaTooDeep);
                    }
                    open.push(read_tag(&reader, &tag)?);
                    None
                }
                Event::Empty(tag) => Some(read_tag(&reader, &tag)?),
                Event::End(_) => open.pop(),
                Event::Text(text) => add_text(&mut open, &text.xml10_content()).map(|()| None)?,
                Event::CData(text) => add_text(&mut open, &text.xml10_content()).map(|()| None)?,
                Event::GeneralRef(reference) => {
                    let character = resolve(reference.as_bytes()).ok_or(Reason::RestrictedXml)?;
                    add_text(&mut open, character.encode_utf8(&mut [0; 4])).map(|()| None)?
                }
                Event::Eof => return Err(Reason::NotWellFormed),
                _ => return Err(Reason::RestrictedXml),
            };
            match (done, open.last_mut()) {
                (Some(element), Some(parent)) => parent.nodes.push(Node::Element(element)),
                (Some(element), None) => return Ok(element),
                (None, _) => {}
            }
        }
    }

    /// Append it to `out` as a first-level child of a server stream, or as content of one: `jabber:server` is the
    /// default namespace, and `stream` and `db` are bound, as [`StreamHeader`](super::header::StreamHeader) writes them.
    pub fn write_into(&self, out: &mut String) {
        self.write_within(out, namespace::SERVER);
    }

    /// What [`Element::write_into`] writes.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut out = String::new();
        self.write_into(&mut out);
        out
    }

    fn write_within(&self, out: &mut String, default: &str) {
        let (prefix, declared) = match self.ns.as_str() {
            namespace::STREAM => ("stream:", false),
            namespace::DIALBACK => ("db:", false),
            ns => ("", ns != default),
        };
        out.push('<');
        out.push_str(prefix);
        out.push_str(&self.name);
        if declared {
            write_attribute(out, "xmlns", &self.ns);
        }
        for (name, value) in &self.attributes {
            write_attribute(out, name, value);
        }
        if self.nodes.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        let default = if prefix.is_empty() { &self.ns } else { default };
        for node in &self.nodes {
            match node {
                Node::Element(child) => child.write_within(out, default),
                Node::Text(text) => escape_into(out, text),
            }
        }
        out.push_str("</");
        out.push_str(prefix);
        out.push_str(&self.name);
        out.push('>');
    }
}

/// Append ` name='value'`, the value escaped.
pub(crate) fn write_attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("='");
    escape_into(out, value);
    out.push('\'');
}

fn add_text(open: &mut [Element], text: &str) -> Result<(), Reason> {
    match open.last_mut() {
        Some(element) => {
            element.push_text(text);
            Ok(())
        }
        None => Err(Reason::BadFormat),
    }
}

fn read_tag(reader: &NsReader<&[u8]>, tag: &BytesStart<'_>) -> Result<Element, Reason> {
    let (ns, name) = reader.resolver().resolve_element(tag.name());
    let ns = match ns {
        ResolveResult::Bound(Namespace(ns)) => kept(ns),
        ResolveResult::Unbound => String::new(),
        ResolveResult::Unknown(_) => return Err(Reason::BadNamespacePrefix),
    };
    let mut element = Element::new(name.as_ref(), ns);
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| Reason::NotWellFormed)?;
        let name = attribute.key.0;
        if name == "xml:lang" || !(name == "xmlns" || name.contains(':')) {
            element.attributes.push((name.to_owned(), unescape_attribute(&attribute.value).into_owned()));
        }
    }
    Ok(element)
}

/// The namespace that an element keeps.
fn kept(raw: &str) -> String {
    if raw.len() > NAMESPACE_BYTES_MAX * REFERENCE_BYTES_MAX {
        return String::new();
    }
    let name = unescape_attribute(raw);
    if name.len() > NAMESPACE_BYTES_MAX { String::new() } else { name.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let element = Element::new("features", namespace::STREAM)
            .with_child(
                Element::new("mechanisms", namespace::SASL)
                    .with_child(Element::new("mechanism", namespace::SASL).with_text("EXTERNAL")),
            )
            .with_child(Element::new("result", namespace::DIALBACK).with_attribute("from", "a'<&>\".test"))
            .with_child(Element::new("iq", namespace::SERVER).with_text("]]> & \u{e9}"))
            .with_child(Element::new("none", "").with_child(Element::new("message", namespace::SERVER)));
        let xml = element.to_xml();
        assert!(xml.starts_with(
            "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>"
        ));
        assert_eq!(Element::parse(xml.as_bytes()).unwrap(), element);
    }

    #[test]
    fn prefixes_of_the_header_and_of_the_frame_resolve() {
        let xml = b"<db:result from='a.test' xml:lang='en' x:y='z' xmlns:x='urn:x'>k<![CDATA[e&]]>y&#33;<x:e/></db:result>";
        let element = Element::parse(xml).unwrap();
        assert!(element.is("result", namespace::DIALBACK));
        assert_eq!(element.text(), "ke&y!");
        assert_eq!((element.attribute("from"), element.attribute("y")), (Some("a.test"), None));
        assert_eq!(element.attribute("xml:lang"), Some("en"));
        assert!(element.child("e", "urn:x").is_some() && element.child("e", "").is_none());
    }

    #[test]
    fn a_long_namespace_is_not_kept_for_each_element_in_it() {
        let long = "n".repeat(200_000);
        let xml = format!("<x xmlns='{long}'>{}</x>", "<a/>".repeat(50_000));
        let element = Element::parse(xml.as_bytes()).unwrap();
        assert_eq!(element.children().count(), 50_000);
        assert!(element.children().all(|child| child.is("a", "")));
        let longest = "u".repeat(NAMESPACE_BYTES_MAX);
        let escaped = "&#x00000075;".repeat(NAMESPACE_BYTES_MAX);
        for written in [&longest, &escaped] {
            let element = Element::parse(format!("<x xmlns='{written}'/>").as_bytes()).unwrap();
            assert_eq!(element.ns(), longest);
        }
        assert_eq!(Element::parse(format!("<x xmlns='u{longest}'/>").as_bytes()).unwrap().ns(), "");
    }

    #[test]
    fn as_many_namespaces_are_in_scope_as_the_framer_lets_be() {
        let nested: String = (0..500).map(|n| format!("<a xmlns='u{n}'>")).collect();
        assert!(Element::parse(format!("{nested}{}", "</a>".repeat(500)).as_bytes()).is_ok());
        let declared: String = (0..1_000).map(|n| format!(" xmlns:p{n}='u{n}'")).collect();
        assert!(Element::parse(format!("<a{declared}/>").as_bytes()).is_ok());
    }

    #[test]
    fn what_is_no_element_is_refused() {
        for xml in [
            "",
            "text",
            "<a>",
            "</a>",
            "<a></b>",
            "<x:a/>",
            "<a>&nbsp;</a>",
            "<!--x--><a/>",
            "<a b='1' b='2'/>",
        ] {
            assert!(Element::parse(xml.as_bytes()).is_err(), "{xml}");
        }
        let deep = "<a>".repeat(DEPTH_MAX + 1) + &"</a>".repeat(DEPTH_MAX + 1);
        assert_eq!(Element::parse(deep.as_bytes()), Err(Reason::StanzaTooDeep));
    }
}
