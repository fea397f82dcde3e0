//! Whatever happens in whatever order: no panic, and nobody is believed who wasn't authenticated.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::proto::stream_management::element as management;

/// Something that may happen.
#[derive(Debug, Clone)]
enum Happens {
    Header { from: usize, to: usize, id: bool },
    Element(usize),
    Stanza,
    End,
    Verified { from: usize, to: usize, valid: bool },
    Resumption(Option<u32>),
}

const DOMAINS: [&str; 3] = ["a.test", "b.test", "c.test"];

static ELEMENTS: LazyLock<Vec<Element>> =
    LazyLock::new(|| elements().iter().map(|text| Element::parse(text.as_bytes()).unwrap()).collect());

fn elements() -> Vec<String> {
    let mut all = vec![
        bidi::REQUEST.to_owned(),
        mux::REQUEST.to_owned(),
        sasl_external::SUCCESS.to_owned(),
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>".to_owned(),
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>".to_owned(),
        "<stream:features/>".to_owned(),
        "<stream:error><host-gone xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>".to_owned(),
        "<x xmlns='urn:x'/>".to_owned(),
        "<enabled xmlns='urn:xmpp:sm:3' id='1' resume='true'/>".to_owned(),
        "<resume xmlns='urn:xmpp:sm:3' previd='1' h='0'/>".to_owned(),
        "<resumed xmlns='urn:xmpp:sm:3' previd='1' h='0'/>".to_owned(),
        "<failed xmlns='urn:xmpp:sm:3'/>".to_owned(),
        "<a xmlns='urn:xmpp:sm:3' h='1'/>".to_owned(),
        management::ENABLE.to_owned(),
        management::REQUEST.to_owned(),
        format!("<stream:features>{}</stream:features>", management::FEATURE),
    ];
    let mut features = String::new();
    let offered = crate::proto::features::Features { external: true, bidi: true, ..Default::default() };
    crate::proto::features::Features { mux: Some(vec![]), ..offered }.write(&mut features);
    all.push(features);
    for from in DOMAINS {
        all.push(auth(from));
        for to in DOMAINS {
            all.push(format!("<db:result from='{from}' to='{to}'>key</db:result>"));
            for kind in ["valid", "invalid", "error"] {
                all.push(format!("<db:result from='{from}' to='{to}' type='{kind}'/>"));
                all.push(format!("<db:verify from='{from}' to='{to}' id='1' type='{kind}'/>"));
            }
        }
    }
    all
}

fn happens() -> impl Strategy<Value = Happens> {
    let (domains, count) = (0..DOMAINS.len(), ELEMENTS.len());
    prop_oneof![
        3 => (domains.clone(), domains.clone(), any::<bool>())
            .prop_map(|(from, to, id)| Happens::Header { from, to, id }),
        8 => (0..count).prop_map(Happens::Element),
        1 => Just(Happens::Stanza),
        1 => Just(Happens::End),
        3 => (domains.clone(), domains, any::<bool>())
            .prop_map(|(from, to, valid)| Happens::Verified { from, to, valid }),
        1 => any::<Option<u32>>().prop_map(Happens::Resumption),
    ]
}

/// What an observer knows of a receiving entity, from its inputs and its notices alone.
#[derive(Default)]
struct Observer {
    pair: Option<Route>,
    external: Option<Route>,
    open: BTreeSet<Route>,
    believed: BTreeSet<Route>,
}

impl Observer {
    fn before(&mut self, event: &Event<'_>) {
        match event {
            Event::Header { header, .. } => {
                if let (None, Some(from), Some(to)) = (&self.pair, &header.from, &header.to) {
                    self.pair = Some(Route::new(from.clone(), to.clone()));
                }
                if self.external.is_some() {
                    self.believed.extend(self.external.clone());
                }
            }
            Event::KeyVerified { route, outcome: Ok(()) } if self.open.contains(route) => {
                self.believed.insert(route.clone());
            }
            _ => {}
        }
    }

    fn after(&mut self, event: &Event<'_>, end: &End, from: usize) {
        if let Event::KeyVerified { route, .. } = event {
            self.open.remove(route);
        }
        for notice in &end.notices[from..] {
            match notice {
                Notice::VerifyKey { route, .. } => drop(self.open.insert(route.clone())),
                Notice::Restart => {
                    self.open.clear();
                    self.external = self.pair.clone();
                }
                Notice::Proven { route, .. } => {
                    assert!(self.believed.contains(route), "{route} was never proven");
                }
                _ => {}
            }
        }
    }
}

fn play(end: &mut End, all: &[Happens], mut observe: impl FnMut(&mut End, &Event<'_>, bool)) {
    for happens in all {
        let mut header = StreamHeader::new(None, None, None);
        let event = match happens {
            Happens::Header { from, to, id } => {
                header.from = Some(domain(DOMAINS[*from]));
                header.to = Some(domain(DOMAINS[*to]));
                header.id = id.then(|| "1".to_owned());
                Event::Header { header: &header, fresh_id: "1" }
            }
            Happens::Element(index) => Event::Element(&ELEMENTS[*index]),
            Happens::Stanza => Event::Stanza,
            Happens::End => Event::End,
            Happens::Resumption(h) => Event::Resumption { h: *h },
            Happens::Verified { from, to, valid } => Event::KeyVerified {
                route: route(DOMAINS[*from], DOMAINS[*to]),
                outcome: if *valid { Ok(()) } else { Err(Reason::DialbackInvalid) },
            },
        };
        observe(end, &event, true);
        let again = match &event {
            Event::Header { header, fresh_id } => Event::Header { header, fresh_id },
            Event::Element(element) => Event::Element(element),
            Event::Stanza => Event::Stanza,
            Event::End => Event::End,
            Event::Resumption { h } => Event::Resumption { h: *h },
            Event::KeyVerified { route, outcome } => {
                Event::KeyVerified { route: route.clone(), outcome: *outcome }
            }
        };
        let refused = end.handle(again).is_err();
        observe(end, &event, false);
        let over = refused || end.ended().is_some();
        assert!(!over || !end.is_established(), "a stream that is over is not established");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_receiving_entity_believes_nobody_who_was_not_authenticated(
        all in prop::collection::vec(happens(), 0..24), external: bool, dialback: bool,
    ) {
        let offers = Offers { external, dialback, ..EXTERNAL };
        let told = Told { offers: Ok(offers), dialback: |_| Ok(DialbackOffer::Verify), ..Told::default() };
        let (mut observer, mut seen) = (Observer::default(), 0);
        let mut end = End::receiving(told);
        play(&mut end, &all, |end, event, before| {
            if before {
                observer.before(event);
            } else {
                observer.after(event, end, seen);
                seen = end.notices.len();
            }
        });
        prop_assert!(!end.is_established() || !end.proven().is_empty());
        prop_assert!(external || observer.external.is_none(), "EXTERNAL was granted, and not offered");
    }

    #[test]
    fn an_initiating_entity_is_established_for_its_own_pair_after_success_or_a_result_for_it(
        all in prop::collection::vec(happens(), 0..24), flight: bool, dialback: bool,
    ) {
        let (with_keys, _) = dialling_back();
        let wants = if flight { pipelined() } else if dialback { with_keys } else { PLAIN };
        let mut end = End::initiating(wants);
        let (mut granted, mut asked) = (false, false);
        play(&mut end, &all, |end, event, before| {
            if before {
                asked |= end.outgoing.contains("<db:result from='a.test' to='b.test'>");
                if let Event::Element(element) = event {
                    let ours = element.attribute("from") == Some("b.test") && element.attribute("to") == Some("a.test");
                    let valid = ours && element.name() == "result" && element.attribute("type") == Some("valid");
                    granted |= element.is("success", ns::SASL) || (asked && valid);
                }
            }
            assert!(granted || !end.is_established());
        });
        prop_assert!(end.proven().iter().all(|(route, _)| *route == a_to_b()));
    }
}
