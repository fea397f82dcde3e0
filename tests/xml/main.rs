//! The framer against generated and broken streams, with a slow, complete parser as the oracle.
//!
//! What passes here is also shown to expat, the parser of most XMPP servers:
//! `FEDMUX_EXPAT_CORPUS=stanzas cargo test --release --test xml -- --ignored`, then
//! `python3 tests/interop/expat_check.py stanzas`. `PROPTEST_CASES` says how many streams are made.

mod documents;
mod oracle;

use documents::Source;
use fedmux::xmpp::content::Rescoping;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::framer::{FrameKind, Framer, Progress, XmlLimits};
use fedmux::xmpp::header::StreamHeader;
use fedmux::xmpp::namespace as ns;
use oracle::read;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::io::Write;

fn choices() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600)
}

/// Whether `octets` are a stanza on a stream with this content namespace.
fn is_stanza(octets: &[u8], content: &'static str) -> bool {
    let any = usize::MAX;
    let limits = XmlLimits { stanza_bytes: any, negotiation_bytes: any, depth: any, attributes: any };
    let mut framer = Framer::of(content, limits);
    let header = format!("<stream:stream xmlns='{content}' xmlns:stream='{}'>", ns::STREAM);
    assert!(matches!(framer.next(header.as_bytes()), Ok(Progress::Frame(_))));
    framer.authenticated();
    match framer.next(octets) {
        Ok(Progress::Frame(frame)) => matches!(frame.kind, FrameKind::Stanza(_)) && frame.len == octets.len(),
        _ => false,
    }
}

/// Broken streams are cheap: more of them than proptest makes unasked.
fn config() -> Config {
    let config = Config::default();
    Config { cases: config.cases.max(2000), ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn valid_streams_are_framed_as_they_were_made(choices in choices(), piece in 1_usize..2000) {
        let mut source = Source::new(&choices);
        let children: Vec<String> = (0..3).map(|_| documents::first_level_child(&mut source)).collect();
        let stream = documents::stream(&mut source, children.iter().map(String::as_bytes));
        let outcome = read(&stream, |_| piece);
        prop_assert_eq!(outcome.error, None, "{}", String::from_utf8_lossy(&stream));
        let framed: Vec<&[u8]> = outcome.frames.iter().map(|frame| frame.bytes.as_slice()).collect();
        let made: Vec<&[u8]> = children.iter().map(|child| child.as_bytes()).collect();
        prop_assert_eq!(&framed[1..4], made.as_slice());
    }

    #[test]
    fn cuts_make_no_difference_and_what_passes_is_xml(choices in choices(), pieces in proptest::collection::vec(1_usize..40, 1..20)) {
        let stream = documents::broken_stream(&mut Source::new(&choices));
        let whole = read(&stream, |_| stream.len());
        prop_assert_eq!(&read(&stream, |_| 1), &whole);
        prop_assert_eq!(&read(&stream, |n| pieces[n % pieces.len()]), &whole);
        prop_assert_eq!(whole.verify(), Ok(()), "{}", String::from_utf8_lossy(&stream));
    }

    #[test]
    fn a_stanza_is_the_same_after_a_components_stream(choices in choices()) {
        let (there, back) = (Rescoping::server_to_component(), Rescoping::component_to_server());
        let stream = documents::broken_stream(&mut Source::new(&choices));
        let frames = read(&stream, |_| stream.len()).frames.into_iter();
        for frame in frames.filter(|frame| matches!(frame.kind, FrameKind::Stanza(_))) {
            let shown = String::from_utf8_lossy(&frame.bytes).into_owned();
            let mut octets = there.of(&frame.bytes).into_owned();
            prop_assert!(is_stanza(&octets, ns::COMPONENT_ACCEPT), "{}", shown);
            back.in_place(&mut octets);
            prop_assert!(is_stanza(&octets, ns::SERVER), "{}", shown);
            prop_assert_eq!(Element::parse(&octets), Element::parse(&frame.bytes), "{}", shown);
        }
    }

    #[test]
    fn what_passes_can_be_parsed_for_negotiation(choices in choices()) {
        let stream = documents::broken_stream(&mut Source::new(&choices));
        for frame in read(&stream, |_| stream.len()).frames {
            match frame.kind {
                FrameKind::Header => { let _ = StreamHeader::parse(&frame.bytes); }
                FrameKind::End => {}
                FrameKind::Stanza(_) | FrameKind::Element => {
                    let element = Element::parse(&frame.bytes);
                    prop_assert!(element.is_ok(), "{:?} {}", element, String::from_utf8_lossy(&frame.bytes));
                }
            }
        }
    }
}

#[test]
#[ignore = "writes stanzas that passed for tests/interop/expat_check.py; needs FEDMUX_EXPAT_CORPUS"]
fn what_passes_is_written_for_expat() {
    let path = std::env::var("FEDMUX_EXPAT_CORPUS").expect("FEDMUX_EXPAT_CORPUS names the file to write");
    let corpus = RefCell::new(std::io::BufWriter::new(std::fs::File::create(path).unwrap()));
    let write = |stream: &[u8]| {
        let frames = read(stream, |_| stream.len()).frames;
        for frame in frames.iter().filter(|frame| matches!(frame.kind, FrameKind::Stanza(_))) {
            let mut corpus = corpus.borrow_mut();
            corpus.write_all(&u32::try_from(frame.bytes.len()).unwrap().to_be_bytes()).unwrap();
            corpus.write_all(&frame.bytes).unwrap();
        }
    };
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&choices(), |choices| {
        write(&documents::broken_stream(&mut Source::new(&choices)));
        Ok(())
    });
    outcome.unwrap();
    // Every character of Unicode in a name, and of its first plane in text.
    for c in '\0'..=char::MAX {
        for name in [format!("{c}a"), format!("a{c}")] {
            write(&documents::around(&format!("<iq><{name} {name}=''/></iq>")));
        }
        if c < '\u{10000}' {
            write(&documents::around(&format!("<iq a='{c}'>{c}</iq>")));
        }
    }
    corpus.into_inner().flush().unwrap();
}
