//! Stream headers (RFC 6120 section 4.7): read as rxml reads them, or refused; what is written is read again.

use fedmux::xmpp::domain::Domain;
use fedmux::xmpp::framer::FrameKind;
use fedmux::xmpp::header::{STREAM_ID_BYTES_MAX, StreamHeader, StreamVersion};
use rxml::{AttrMap, Event, Namespace};

use super::oracle;

pub(super) fn run(input: &[u8]) {
    // What no framer has seen is refused at worst.
    let _unframed = StreamHeader::parse(input);
    for frame in oracle::read(input, |_| input.len()).frames {
        if frame.kind != FrameKind::Header {
            continue;
        }
        let attributes = attributes(&frame.bytes);
        match StreamHeader::parse(&frame.bytes) {
            Ok(header) => {
                compare(&header, &attributes);
                is_read_again(&header);
            }
            Err(reason) => assert!(may_be_refused(&attributes), "the framer let pass what is {reason}"),
        }
    }
}

fn attributes(header: &[u8]) -> AttrMap {
    let document = [header, b"</stream:stream>"].concat();
    let events = oracle::parse(&document).expect("what passes the framer is XML");
    let start = events.into_iter().find_map(|event| match event {
        Event::StartElement(_, _, attributes) => Some(attributes),
        _ => None,
    });
    start.expect("a header is a start tag")
}

fn plain<'a>(attributes: &'a AttrMap, name: &str) -> Option<&'a str> {
    attributes.get(Namespace::none(), name).map(String::as_str)
}

fn compare(header: &StreamHeader, attributes: &AttrMap) {
    let domain = |name| plain(attributes, name).map(|text| Domain::parse(text).expect("it was taken"));
    assert_eq!((&header.from, &header.to), (&domain("from"), &domain("to")));
    assert_eq!(header.id.as_deref(), plain(attributes, "id"));
    assert_eq!(
        header.version,
        plain(attributes, "version").map_or(StreamVersion::NONE, |text| version(text).expect("it was taken"))
    );
    let lang = attributes.get(Namespace::xml(), "lang").map(String::as_str);
    assert!(header.lang.is_none() || header.lang.as_deref() == lang);
}

/// A header that is XML is refused only for what its attributes say.
fn may_be_refused(attributes: &AttrMap) -> bool {
    let no_domain = |name| plain(attributes, name).is_some_and(|text| Domain::parse(text).is_err());
    let id = plain(attributes, "id").is_some_and(|id| id.len() > STREAM_ID_BYTES_MAX);
    let no_version = plain(attributes, "version").is_some_and(|text| version(text).is_none());
    no_domain("from") || no_domain("to") || id || no_version
}

fn version(text: &str) -> Option<StreamVersion> {
    let number = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
    let (major, minor) = text.split_once('.')?;
    Some(StreamVersion(number(major)?, number(minor)?))
}

fn is_read_again(header: &StreamHeader) {
    let xml = header.to_xml();
    let tag = xml.strip_prefix("<?xml version='1.0'?>").expect("a declaration comes first");
    let again = StreamHeader::parse(tag.as_bytes()).unwrap_or_else(|reason| panic!("{reason}: {xml}"));
    assert_eq!((&again.from, &again.to, again.version), (&header.from, &header.to, header.version));
    assert_eq!((&again.id, &again.lang), (&header.id, &header.lang), "{xml}");
    let outcome = oracle::read(xml.as_bytes(), |_| xml.len());
    assert_eq!((outcome.error, outcome.frames.len()), (None, 1), "{xml}");
}
