//! Events of a small vocabulary, in any order, with elements that are part of some negotiation or parsed from any octets.

use std::sync::LazyLock;

use fedmux::proto::stream::receiving::VERIFICATIONS_MAX;
use fedmux::proto::{bidi, mux, sasl_external};
use fedmux::reason::Reason;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::header::{StreamHeader, StreamVersion};

use super::{DOMAINS, End, Happening, any_domain, any_route, domain};
use crate::targets::choices::Choices;

/// Events of one history. Enough to reach every bound of the machines several times over.
const EVENTS_MAX: usize = 16 * VERIFICATIONS_MAX;

/// What may be said on a stream that stands, of every protocol that is spoken on one, and of some that aren't.
pub(super) static ELEMENTS: LazyLock<Vec<Element>> = LazyLock::new(|| {
    let fixed = [
        bidi::REQUEST,
        mux::REQUEST,
        sasl_external::SUCCESS,
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>=</auth>",
        "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<stream:features/>",
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>",
        "<stream:features><mux xmlns='urn:xmpp:mux:0'><host>b.test</host><host>c.test</host></mux></stream:features>",
        "<stream:error><host-gone xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<mux xmlns='urn:xmpp:mux:0' host='c.test'>AQFKmIC6</mux>",
        "<authorize xmlns='urn:fedmux:mux-authorize:0' host='c.test' stream='id-1'/>",
        "<refused xmlns='urn:fedmux:mux-authorize:0' reason='busy'/>",
        "<enable xmlns='urn:xmpp:sm:3' resume='true'/>",
        "<enabled xmlns='urn:xmpp:sm:3' id='s' resume='true'/>",
        "<resume xmlns='urn:xmpp:sm:3' h='1' previd='s'/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<a xmlns='urn:xmpp:sm:3' h='4294967295'/>",
        "<x xmlns='urn:x'/>",
    ];
    let mut all: Vec<String> = fixed.map(str::to_owned).into();
    for offered in 0..16_u8 {
        let bit = |n: u8| offered >> n & 1 == 1;
        let mut features = String::new();
        let (external, dialback, bidi, mux) = (bit(0), bit(1), bit(2), bit(3).then(Vec::new));
        fedmux::proto::features::Features { external, dialback, bidi, mux, ..Default::default() }
            .write(&mut features);
        all.push(features);
    }
    for from in DOMAINS {
        let mut auth = String::new();
        sasl_external::write_auth(&mut auth, &domain(from));
        all.push(auth);
        for to in DOMAINS {
            all.push(format!("<db:result from='{from}' to='{to}'>key</db:result>"));
            all.push(format!("<db:verify from='{from}' to='{to}' id='id-1'>key</db:verify>"));
            for kind in ["valid", "invalid", "error"] {
                all.push(format!("<db:result from='{from}' to='{to}' type='{kind}'/>"));
                all.push(format!("<db:verify from='{from}' to='{to}' id='id-1' type='{kind}'/>"));
            }
        }
    }
    let managed = [
        "<enabled xmlns='urn:xmpp:sm:3' max='300'/>",
        "<resumed xmlns='urn:xmpp:sm:3' h='2' previd='s'/>",
        "<failed xmlns='urn:xmpp:sm:3' h='3'/>",
        "<failed xmlns='urn:xmpp:sm:3'/>",
        "<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>",
        "<stream:features><bidi xmlns='urn:xmpp:features:bidi'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>",
    ];
    all.extend(managed.map(str::to_owned));
    all.iter().map(|text| Element::parse(text.as_bytes()).expect("an element")).collect()
});

/// Let things happen to a machine.
pub(super) fn play(end: &mut impl End, choices: &mut Choices<'_>) {
    for _ in 0..EVENTS_MAX {
        if choices.is_over() {
            break;
        }
        if let Some(happening) = happening(end, choices) {
            end.take(&happening);
        }
    }
}

fn happening(end: &mut impl End, choices: &mut Choices<'_>) -> Option<Happening> {
    Some(match choices.below(16) {
        0 => Happening::Stanza,
        1 => Happening::End,
        2 => Happening::Verified(any_route(choices), any_outcome(choices)),
        3 => {
            // An answer to a key that was asked about.
            let (route, _) = end.question()?;
            Happening::Verified(route, any_outcome(choices))
        }
        4 => {
            // Many pairs want to be believed.
            let (from, to) = (choices.byte(), any_domain(choices));
            let text = format!("<db:result from='a{from}.test' to='{to}'>key</db:result>");
            Happening::Element(Element::parse(text.as_bytes()).expect("an element"))
        }
        5 | 6 => Happening::Header(any_header(choices)),
        7 => Happening::Header(StreamHeader::new(
            Some(domain("a.test")),
            Some(domain("b.test")),
            Some("1".to_owned()),
        )),
        8 => Happening::Header(StreamHeader::new(
            Some(domain("b.test")),
            Some(domain("a.test")),
            Some("1".to_owned()),
        )),
        9 => Happening::Element(Element::parse(choices.chunk()).ok()?),
        10 => Happening::Resumption(choices.flag().then(|| u32::from_be_bytes(choices.array()))),
        _ => Happening::Element(choices.of(&ELEMENTS)),
    })
}

fn any_outcome(choices: &mut Choices<'_>) -> Result<(), Reason> {
    choices.of(&[Ok(()), Err(Reason::DialbackInvalid), Err(Reason::DialbackTimeout)])
}

fn any_header(choices: &mut Choices<'_>) -> StreamHeader {
    let bits = choices.byte();
    let bit = |n: u8| bits >> n & 1 == 1;
    let mut header = StreamHeader::new(None, None, bit(0).then(|| "1".to_owned()));
    header.from = bit(1).then(|| any_domain(choices));
    header.to = bit(2).then(|| any_domain(choices));
    header.version = if bit(3) { StreamVersion(choices.byte().into(), 0) } else { StreamVersion::CURRENT };
    header
}
