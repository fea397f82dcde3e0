use super::*;
use crate::reason::Reason;

const LIMITS: XmlLimits = XmlLimits { stanza_bytes: 1000, negotiation_bytes: 400, depth: 5, attributes: 8 };
const HEADER: &str = "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
                      xmlns:stream='http://etherx.jabber.org/streams' from='a.test' to='b.test' version='1.0'>";

/// Frames with their text, until the input is used up, and the error that ended it.
type Outcome = (Vec<(FrameKind, String, Head)>, Option<XmlError>);

/// Feed `document` in pieces of `piece` octets, as a connection would.
fn read_from(framer: &mut Framer, document: &[u8], piece: usize) -> Outcome {
    let (mut frames, mut start, mut end) = (Vec::new(), 0, 0);
    loop {
        match framer.next(&document[start..end]) {
            Ok(Progress::Frame(frame)) => {
                let text = String::from_utf8(document[start..start + frame.len].to_vec()).unwrap();
                frames.push((frame.kind, text, frame.head));
                start += frame.len;
            }
            Ok(Progress::Skip(octets)) => start += octets,
            Ok(Progress::More) if end == document.len() => return (frames, None),
            Ok(Progress::More) => end = document.len().min(end + piece),
            Err(error) => {
                assert_eq!(
                    framer.next(&document[start..end]),
                    Err(error),
                    "a framer that failed stays failed"
                );
                return (frames, Some(error));
            }
        }
    }
}

/// The same, checking that the cuts make no difference.
fn read(document: impl AsRef<[u8]>) -> Outcome {
    let document = document.as_ref();
    let outcome = read_from(&mut Framer::new(LIMITS), document, document.len());
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(read_from(&mut Framer::new(LIMITS), document, piece), outcome, "in pieces of {piece}");
    }
    outcome
}

fn kinds(outcome: &Outcome) -> Vec<FrameKind> {
    outcome.0.iter().map(|frame| frame.0).collect()
}

/// What becomes of `child` as a first-level child.
fn child(child: impl AsRef<[u8]>) -> Result<Vec<FrameKind>, XmlError> {
    let outcome = read([HEADER.as_bytes(), child.as_ref()].concat());
    match outcome.1 {
        None => Ok(kinds(&outcome)[1..].to_vec()),
        Some(error) => Err(error),
    }
}

fn header_error(document: &str) -> Option<XmlError> {
    read(document).1
}

const MESSAGE: FrameKind = FrameKind::Stanza(StanzaKind::Message);

#[test]
fn a_stream_is_framed() {
    let document = format!(
        "<?xml version='1.0'?>\n{HEADER}<stream:features/> <message from='a@a.test/x' to='b.test' id='&lt;1'><body>hi</body>\
         </message>\r\n<presence/><iq type='get'><q xmlns='urn:q'/></iq ></stream:stream >\n"
    );
    let outcome = read(&document);
    assert_eq!(outcome.1, None);
    let expected = [
        FrameKind::Header,
        FrameKind::Element,
        MESSAGE,
        FrameKind::Stanza(StanzaKind::Presence),
        FrameKind::Stanza(StanzaKind::Iq),
        FrameKind::End,
    ];
    assert_eq!(kinds(&outcome), expected);
    assert!(outcome.0.iter().all(|(_, text, _)| text.starts_with('<') && text.ends_with('>')));
    let (_, text, head) = &outcome.0[2];
    assert_eq!(head.from(text.as_bytes()).as_deref(), Some("a@a.test/x"));
    assert_eq!(head.to(text.as_bytes()).as_deref(), Some("b.test"));
    assert_eq!(head.id(text.as_bytes()).as_deref(), Some("<1"));
    assert_eq!(head.type_(text.as_bytes()), None);
    assert_eq!(outcome.0[3].2, Head::default(), "a head is not taken over from the stanza before");
    assert_eq!(outcome.0[4].2.type_(outcome.0[4].1.as_bytes()).as_deref(), Some("get"));
}

#[test]
fn the_head_is_that_of_the_stanza_and_not_of_what_it_contains() {
    let (frames, error) =
        read(format!("{HEADER}<message x:to='x' xmlns:x='urn:x'><f from='evil.test' to='e'/></message>"));
    assert_eq!((error, frames[1].2), (None, Head::default()));
}

#[test]
fn a_header_needs_its_prefix_and_its_namespaces() {
    let streams = "xmlns:stream='http://etherx.jabber.org/streams'";
    let cases = [
        (format!("<stream:stream xmlns='jabber:server' {streams}>"), None),
        (
            format!(" \r\n<?xml version='1.0' ?> <stream:stream {streams} xmlns=\"jabber:serve&#x72;\" >"),
            None,
        ),
        (format!("<stream:stream xmlns='jabber:client' {streams}>"), Some(XmlError::HeaderNamespace)),
        (format!("<stream:stream {streams}>"), Some(XmlError::HeaderNamespace)),
        (
            "<stream:stream xmlns='jabber:server' xmlns:stream='urn:x'>".into(),
            Some(XmlError::HeaderNamespace),
        ),
        ("<stream:stream xmlns='jabber:server'>".into(), Some(XmlError::UndeclaredPrefix)),
        (
            "<s:stream xmlns='jabber:server' xmlns:s='http://etherx.jabber.org/streams'>".into(),
            Some(XmlError::HeaderPrefix),
        ),
        ("<stream xmlns='http://etherx.jabber.org/streams'>".into(), Some(XmlError::HeaderPrefix)),
        (format!("<stream:features xmlns='jabber:server' {streams}>"), Some(XmlError::HeaderExpected)),
        (format!("<stream:stream xmlns='jabber:server' {streams}/>"), Some(XmlError::HeaderExpected)),
        (format!("<stream:stream xmlns='jabber:server' {streams} x:y=''>"), Some(XmlError::UndeclaredPrefix)),
        ("<html>".into(), Some(XmlError::HeaderExpected)),
        ("GET / HTTP/1.1".into(), Some(XmlError::HeaderExpected)),
        ("\u{FEFF}<stream:stream".into(), Some(XmlError::HeaderExpected)),
        ("</stream:stream>".into(), Some(XmlError::HeaderExpected)),
        ("<![CDATA[x]]>".into(), Some(XmlError::HeaderExpected)),
        ("<!DOCTYPE stream>".into(), Some(XmlError::Doctype)),
        ("<?xml version='1.0'?><?xml version='1.0'?>".into(), Some(XmlError::ProcessingInstruction)),
        ("<?xml version='1.0' encoding='latin1'?>".into(), Some(XmlError::UnsupportedEncoding)),
        (format!("<?xml {} version='1.0'?>", " ".repeat(400)), Some(XmlError::TooBig)),
    ];
    for (document, error) in cases {
        assert_eq!(header_error(&document), error, "{document}");
    }
}

#[test]
fn a_stream_restarts_with_a_header() {
    let mut framer = Framer::new(LIMITS);
    let (frames, error) = read_from(&mut framer, format!("{HEADER}<auth/>").as_bytes(), 5);
    assert_eq!((frames.len(), error), (2, None));
    // The next header is already half there when the restart is decided.
    assert_eq!(framer.next(b"<stream:str"), Ok(Progress::More));
    framer.restart();
    let header = "\n<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>";
    let (frames, error) = read_from(&mut framer, format!("{header}<db:result/>").as_bytes(), 5);
    assert_eq!((frames[0].0, frames.len()), (FrameKind::Header, 1));
    assert_eq!(error, Some(XmlError::UndeclaredPrefix), "the new header declares no db");
}

#[test]
fn a_stanza_is_message_presence_or_iq_in_the_content_namespace() {
    let cases = [
        ("<message/>", MESSAGE),
        ("<message xmlns='jabber:server'/>", MESSAGE),
        ("<message xmlns='jabber:client'/>", FrameKind::Element),
        ("<message xmlns=''/>", FrameKind::Element),
        ("<Message/>", FrameKind::Element),
        ("<x:message xmlns:x='jabber:server'/>", FrameKind::Element),
        ("<db:result>key</db:result>", FrameKind::Element),
        ("<stream:error><x xmlns='urn:x'/></stream:error>", FrameKind::Element),
    ];
    for (text, kind) in cases {
        assert_eq!(child(text), Ok(vec![kind]), "{text}");
    }
}

#[test]
fn a_stanza_declares_every_prefix_that_it_uses() {
    for text in [
        "<message xml:lang='en'/>",
        "<message x:y='' xmlns:x='urn:x'/>",
        "<message><x:a xmlns:x='urn:x'><x:b x:c=''/></x:a></message>",
        "<message><db:result xmlns:db='jabber:server:dialback'/></message>",
        "<message><a xmlns:xml='http://www.w3.org/XML/1998/namespace'/></message>",
        "<db:result><db:x stream:y=''/></db:result>",
    ] {
        assert!(child(text).is_ok(), "{text}");
    }
    for text in [
        "<message x:y=''/>",
        "<message><x:a/></message>",
        "<message><db:result/></message>",
        "<message stream:x=''/>",
        "<iq><stream:x/></iq>",
        "<message><x:a xmlns:x='urn:x'/><x:a/></message>",
        "<message><a><b xmlns:x='urn:x'/><c x:d=''/></a></message>",
        "<x:message/>",
        "<xmlns:a/>",
    ] {
        assert_eq!(child(text), Err(XmlError::UndeclaredPrefix), "{text}");
    }
}

#[test]
fn namespace_declarations_follow_their_rules() {
    for text in [
        "<message xmlns:x=''/>",
        "<message xmlns:xml='urn:x'/>",
        "<message xmlns:xmlns='urn:x'/>",
        "<message xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>",
        "<message xmlns:x='http://www.w3.org/2000/xmlns/'/>",
        "<message xmlns:x='http://www.w3.org/XML/1998/namespac&#x65;'/>",
        "<message xmlns='http://www.w3.org/XML/1998/namespace'/>",
        "<message xmlns='http://www.w3.org/2000/xmlns/'/>",
        "<message xmlns:x='urn: x'/>",
        "<message xmlns='a|b'/>",
        "<message xmlns:x='a&#x7c;b'/>",
        "<message><x xmlns='{x}'/></message>",
        "<message xmlns:x='x&#125;'/>",
        "<message xmlns:x='urn:&#10;x'/>",
        "<message xmlns='urn:\u{1}x'/>".replace('\u{1}', "\n").as_str(),
    ] {
        assert_eq!(child(text), Err(XmlError::BadNamespaceDeclaration), "{text}");
    }
}

#[test]
fn attributes_are_unique_as_written_and_as_expanded() {
    for text in [
        "<message a='' b='' a=''/>",
        "<message xmlns='jabber:server' xmlns='jabber:server'/>",
        "<message xmlns:x='urn:x' xmlns:y='urn:x' x:a='' y:a=''/>",
        "<message xmlns:x='urn:x'><b xmlns:y='urn:&#x78;' x:a='' c='' y:a=''/></message>",
        "<e xmlns:x='jabber:server:dialback' x:a='' db:a=''/>",
    ] {
        assert_eq!(child(text), Err(XmlError::DuplicateAttribute), "{text}");
    }
    for text in [
        "<message a='' A='' xmlns:a='urn:x' a:a=''/>",
        "<message xmlns:x='urn:x' xmlns:y='urn:y' x:a='' y:a=''/>",
        "<message xmlns:a='urn:x' xmlns:b='urn:xa' a:ab='' b:b=''/>",
        "<message><x xmlns='{x' xmlns:y='a&lt;b^`\\c'/></message>",
    ] {
        assert_eq!(child(text), Ok(vec![MESSAGE]), "{text}");
    }
}

#[test]
fn what_is_not_well_formed_is_refused() {
    let cases = [
        ("<message><a></message>", XmlError::MismatchedEndTag),
        ("<message></messag>", XmlError::MismatchedEndTag),
        ("<message></messagex>", XmlError::BrokenMarkup),
        ("</stream:features>", XmlError::MismatchedEndTag),
        ("<message></message x>", XmlError::BrokenMarkup),
        ("<message / >", XmlError::BrokenMarkup),
        ("<message a/>", XmlError::BrokenMarkup),
        ("<message a=b/>", XmlError::BrokenMarkup),
        ("<message a='1'b='2'/>", XmlError::BrokenMarkup),
        ("<message a='<'/>", XmlError::BrokenMarkup),
        ("<message a='&'/>", XmlError::BadReference),
        ("<message 'a'/>", XmlError::BadName),
        ("< message/>", XmlError::BadName),
        ("<message><:a/></message>", XmlError::BadName),
        ("<message>&</message>", XmlError::BadReference),
        ("<message>& </message>", XmlError::BadReference),
        ("<message>&;</message>", XmlError::BadReference),
        ("<message>&#;</message>", XmlError::BadReference),
        ("<message>&#0;</message>", XmlError::BadReference),
        ("<message>&#xD800;</message>", XmlError::BadReference),
        ("<message>&#x110000;</message>", XmlError::BadReference),
        ("<message>&#x0000000041;</message>", XmlError::BadReference),
        ("<message>&amp</message>", XmlError::BadReference),
        ("<message>]]></message>", XmlError::CdataEndInText),
        ("<message>a]]]></message>", XmlError::CdataEndInText),
        ("<message><![CDATA[]]>]]></message>", XmlError::CdataEndInText),
        ("<message><![cdata[]]></message>", XmlError::BrokenMarkup),
        ("<message>\u{1}</message>", XmlError::ForbiddenCharacter),
        ("<message>\u{FFFF}</message>", XmlError::ForbiddenCharacter),
    ];
    for (text, error) in cases {
        assert_eq!(child(text), Err(error), "{text}");
        assert_eq!(error.reason(), Reason::NotWellFormed);
    }
    assert_eq!(child(b"<message>\xC3\x28</message>"), Err(XmlError::NotUtf8));
}

#[test]
fn what_xmpp_restricts_is_refused() {
    let cases = [
        ("<!-- x -->", XmlError::Comment),
        ("<message><!-- x --></message>", XmlError::Comment),
        ("<message><?x y?></message>", XmlError::ProcessingInstruction),
        ("<?xml version='1.0'?>", XmlError::ProcessingInstruction),
        ("<!DOCTYPE x>", XmlError::Doctype),
        ("<message><!ENTITY x></message>", XmlError::Doctype),
        ("<message>&nbsp;</message>", XmlError::UnknownEntity),
        ("<message a='&averylongentityname", XmlError::UnknownEntity),
    ];
    for (text, error) in cases {
        assert_eq!(child(text), Err(error), "{text}");
        assert_eq!(error.reason(), Reason::RestrictedXml);
    }
}

#[test]
fn content_that_xml_allows_passes() {
    for text in [
        "<message><![CDATA[<&]]]]><![CDATA[>]]></message>",
        "<message><![CDATA[]]>]]</message>",
        "<message>]]&gt; &#93;]> ] ]> > &#x9;&#1114111;</message>",
        "<message a='>]]>\"' b=\"'&quot;\n\"/>",
        "<message\t\n a \r= '' ><b\n/></message\n>",
        "<message>\u{7f}\u{85}\u{1F600}\u{FEFF}</message>",
        "<message><\u{e9}t\u{e9} \u{5b57}=''/></message>",
    ] {
        assert_eq!(child(text), Ok(vec![MESSAGE]), "{text}");
    }
}

#[test]
fn between_stanzas_there_is_only_white_space() {
    for text in ["x", "&#32;", "<![CDATA[ ]]>"] {
        assert_eq!(child(text), Err(XmlError::TextBetweenStanzas), "{text}");
    }
    assert_eq!(child(HEADER), Err(XmlError::SecondHeader));
    assert_eq!(child("<s:stream xmlns:s='http://etherx.jabber.org/streams'/>"), Err(XmlError::SecondHeader));
    assert_eq!(child("</stream:stream> <message/>"), Err(XmlError::AfterEnd));
    assert_eq!(child("</stream:stream>x"), Err(XmlError::AfterEnd));
    assert_eq!(child(" \t\r\n"), Ok(vec![]));
}

#[test]
fn sizes_are_refused_where_they_are_passed() {
    let message =
        |octets: usize| format!("<message>{}</message>", "x".repeat(octets - "<message></message>".len()));
    for (authenticated, limit) in [(false, LIMITS.negotiation_bytes), (true, LIMITS.stanza_bytes)] {
        let framer = || {
            let mut framer = Framer::new(LIMITS);
            assert!(read_from(&mut framer, HEADER.as_bytes(), 400).1.is_none());
            if authenticated {
                framer.authenticated();
            }
            framer
        };
        for piece in [1, 100, 10_000] {
            let (frames, error) = read_from(&mut framer(), message(limit).repeat(2).as_bytes(), piece);
            assert_eq!((frames.len(), error), (2, None));
            let stream = message(limit) + &message(limit + 1);
            let (frames, error) = read_from(&mut framer(), stream.as_bytes(), piece);
            assert_eq!((frames.len(), error), (1, Some(XmlError::TooBig)));
        }
        let endless = message(limit + 1);
        assert_eq!(framer().next(&endless.as_bytes()[..limit - 1]), Ok(Progress::More));
        assert_eq!(
            framer().next(&endless.as_bytes()[..limit]),
            Err(XmlError::TooBig),
            "before the octet after the last"
        );
    }
}

#[test]
fn a_header_behind_a_restart_is_bounded_as_the_first_was() {
    let mut framer = Framer::new(LIMITS);
    assert!(read_from(&mut framer, HEADER.as_bytes(), 400).1.is_none());
    framer.authenticated();
    let stream = format!("<success/><stream:stream a='{}'>", "x".repeat(LIMITS.negotiation_bytes));
    let Ok(Progress::Frame(frame)) = framer.next(stream.as_bytes()) else { panic!("no frame") };
    framer.restart();
    assert_eq!(framer.next(&stream.as_bytes()[frame.len..]), Err(XmlError::TooBig));
}

#[test]
fn depth_and_attributes_are_bounded() {
    let deep =
        |depth: usize| format!("<message>{}{}</message>", "<a>".repeat(depth - 1), "</a>".repeat(depth - 1));
    assert_eq!(child(deep(5)), Ok(vec![MESSAGE]));
    assert_eq!(child(deep(6)), Err(XmlError::TooDeep));
    assert_eq!(child("<message><a><a><a><a><a/></a></a></a></a></message>"), Err(XmlError::TooDeep));
    let wide = |count: usize| (0..count).map(|n| format!(" a{n}=''")).collect::<String>();
    assert_eq!(child(format!("<message{}/>", wide(8))), Ok(vec![MESSAGE]));
    assert_eq!(child(format!("<message{}/>", wide(9))), Err(XmlError::TooManyAttributes));
    // Declarations in scope are bounded as well, but not those that went out of scope.
    let declared = |count: usize| (0..count).map(|n| format!(" xmlns:p{n}='urn:p'")).collect::<String>();
    assert_eq!(
        child(format!("<message{}><a{}/></message>", declared(5), declared(4))),
        Err(XmlError::TooManyAttributes)
    );
    assert_eq!(
        child(format!("<message><a{}/><a{}/></message>", declared(8), declared(8))),
        Ok(vec![MESSAGE])
    );
}

#[test]
fn an_idle_framer_is_small() {
    assert!(std::mem::size_of::<Framer>() <= 400, "{}", std::mem::size_of::<Framer>());
    let limits = XmlLimits { depth: 1000, attributes: 1000, ..LIMITS };
    let limits = XmlLimits { stanza_bytes: 100_000, negotiation_bytes: 100_000, ..limits };
    let mut framer = Framer::new(limits);
    let attributes: String = (0..500).map(|n| format!(" xmlns:p{n}='urn:p' p{n}:a{n}=''")).collect();
    let document =
        format!("{HEADER}<message>{}{}<x{attributes}/></message>", "<a>".repeat(900), "</a>".repeat(900));
    assert_eq!(read_from(&mut framer, document.as_bytes(), 1000).0.len(), 2);
    assert!(framer.open.capacity() <= ENTRIES_KEPT);
    assert!(framer.tag.capacity() <= ENTRIES_KEPT && framer.scope.capacity() <= 2 * ENTRIES_KEPT);
}

#[test]
fn a_framer_that_was_left_off_goes_on_as_if_it_had_not_been() {
    let stanza = "<message from='a@a' to='b@b'><body>x</body></message>";
    let mut framer = Framer::new(LIMITS);
    framer.authenticated();
    let mut input = format!("{HEADER}{stanza}");
    let mut found = Vec::new();
    for octets in [stanza, "</stream:stream>", "<"] {
        loop {
            match framer.next(input.as_bytes()) {
                Ok(Progress::Frame(frame)) => {
                    found.push(frame.kind);
                    input.drain(..frame.len);
                }
                Ok(Progress::More) => break,
                other => panic!("{other:?}"),
            }
        }
        framer = Framer::resume(framer.leave_off().unwrap(), LIMITS);
        input.push_str(octets);
    }
    let message = FrameKind::Stanza(StanzaKind::Message);
    assert_eq!(found, [FrameKind::Header, message, message, FrameKind::End]);
    assert_eq!(framer.next(b"<"), Err(XmlError::AfterEnd));
    assert!(framer.leave_off().is_none(), "it has failed");
}

#[test]
fn a_framer_is_not_left_off_in_the_middle_of_anything() {
    let mut framer = Framer::new(LIMITS);
    assert!(framer.leave_off().is_some());
    assert_eq!(framer.next(b"<stream:stream"), Ok(Progress::More));
    assert!(framer.leave_off().is_none());
}

#[test]
fn an_input_that_shrinks_is_not_read() {
    let mut framer = Framer::new(LIMITS);
    assert_eq!(framer.next(&HEADER.as_bytes()[..50]), Ok(Progress::More));
    assert_eq!(framer.next(b"<"), Ok(Progress::More));
}
