//! Elements as trees: what the framer let pass is read, and is what rxml reads; what is written is read again. What no
//! framer has seen is refused at worst.

use fedmux::proto::stream_management::element::{
    ID_BYTES_MAX, Management, write_answer, write_enabled, write_resume, write_resumed,
};
use fedmux::xmpp::element::Element;
use fedmux::xmpp::framer::FrameKind;
use fedmux::xmpp::namespace as ns;
use rxml::{AttrMap, Event, Namespace};

use super::framer::HEADER;
use super::oracle;

pub(super) fn run(input: &[u8]) {
    let raw = Element::parse(input);
    let stream = [HEADER, input].concat();
    for frame in oracle::read(&stream, |_| stream.len()).frames {
        if !matches!(frame.kind, FrameKind::Element | FrameKind::Stanza(_)) {
            continue;
        }
        let element = Element::parse(&frame.bytes);
        let element = element.unwrap_or_else(|reason| panic!("the framer let pass what is {reason}"));
        let tree = Tree::read(&[HEADER, &frame.bytes, b"</stream:stream>"].concat());
        tree.compare(&element);
        is_read_again(&element);
        manages(&element);
        if frame.bytes == input {
            assert_eq!(raw.as_ref(), Ok(&element));
        }
    }
}

/// What rxml sees of an element.
#[derive(Default)]
struct Tree {
    name: (String, String),
    attributes: AttrMap,
    text: String,
    children: Vec<Tree>,
}

impl Tree {
    /// The only child of the root of `document`.
    fn read(document: &[u8]) -> Self {
        let mut open = vec![Self::default()];
        for event in oracle::parse(document).expect("what passes the framer is XML") {
            match event {
                Event::StartElement(_, (namespace, name), attributes) => {
                    let name = (namespace.to_string(), name.to_string());
                    open.push(Self { name, attributes, ..Self::default() });
                }
                Event::EndElement(_) => {
                    let done = open.pop().expect("an end has a start");
                    open.last_mut().expect("above the root").children.push(done);
                }
                Event::Text(_, text) => open.last_mut().expect("above the root").text.push_str(&text),
                Event::XmlDeclaration(..) => {}
            }
        }
        open.remove(0).children.remove(0).children.remove(0)
    }

    fn compare(&self, element: &Element) {
        // A longer one than any that is meant by somebody isn't kept.
        let namespace = if self.name.0.len() > 64 { "" } else { self.name.0.as_str() };
        assert_eq!((element.ns(), element.name()), (namespace, self.name.1.as_str()));
        assert_eq!(element.text(), self.text);
        for ((namespace, name), value) in self.attributes.iter() {
            let name: &str = name.as_ref();
            if *namespace == *Namespace::none() {
                assert_eq!(element.attribute(name), Some(value.as_str()), "{name}");
            } else if namespace.as_str() == ns::XML && name == "lang" {
                assert_eq!(element.attribute("xml:lang"), Some(value.as_str()));
            }
        }
        for name in ["from", "to", "id", "type", "host", "xmlns", "version"] {
            let expected = self.attributes.get(Namespace::none(), name).map(String::as_str);
            assert_eq!(element.attribute(name), expected, "{name}");
        }
        let children: Vec<&Element> = element.children().collect();
        assert_eq!(children.len(), self.children.len());
        for (tree, child) in self.children.iter().zip(children) {
            tree.compare(child);
        }
    }
}

/// Stream management (XEP-0198): its numbers are those that stand there, its ids are bounded, and what we write is read as
/// it was meant.
fn manages(element: &Element) {
    let read = Management::parse(element);
    let is_managing = element.ns() == ns::STREAM_MANAGEMENT;
    let Ok(Some(management)) = read else {
        assert_eq!(read.is_err(), is_managing, "{read:?}");
        return;
    };
    assert!(is_managing);
    // `None` within: what is no number.
    let digits = |h: &&str| h.bytes().all(|octet| octet.is_ascii_digit());
    let stands = element.attribute("h").map(|h| Some(h).filter(digits)?.parse::<u128>().ok());
    let mut written = String::new();
    match &management {
        Management::Answer { h } => {
            assert_eq!(stands, Some(Some((*h).into())));
            write_answer(&mut written, *h);
        }
        Management::Resume { previd, h } => {
            assert_eq!(stands, Some(Some((*h).into())));
            assert!(element.attribute("previd") == Some(previd) && previd.len() <= ID_BYTES_MAX);
            write_resume(&mut written, previd, *h);
        }
        Management::Resumed { h } => {
            assert_eq!(stands, Some(Some((*h).into())));
            write_resumed(&mut written, "s", *h);
        }
        Management::Failed { h } => return assert_eq!(stands, h.map(|h| Some(h.into()))),
        Management::Enabled { id: Some(id), max: Some(max) } => {
            assert!(element.attribute("id") == Some(id) && id.len() <= ID_BYTES_MAX);
            write_enabled(&mut written, Some((id, *max)));
        }
        Management::Enabled { .. } | Management::Enable { .. } | Management::Request => return,
    }
    let again = Element::parse(written.as_bytes()).unwrap_or_else(|reason| panic!("{reason}: {written}"));
    assert_eq!(Management::parse(&again), Ok(Some(management)), "{written}");
}

fn is_read_again(element: &Element) {
    let xml = element.to_xml();
    let again = Element::parse(xml.as_bytes()).unwrap_or_else(|reason| panic!("{reason}: {xml}"));
    assert_eq!(&again, element, "{xml}");
}
