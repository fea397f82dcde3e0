//! The receiving entity under watch.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fedmux::proto::dialback::{Dialback, KEY_BYTES_MAX, KeyMaker};
use fedmux::proto::stream::receiving::{Authority, DialbackOffer, Offers, Receiving, VERIFICATIONS_MAX};
use fedmux::proto::stream::{Notice, Outbox, Violation};
use fedmux::proto::stream_management::element::ID_BYTES_MAX;
use fedmux::proto::{bidi, mux};
use fedmux::reason::Reason;
use fedmux::xmpp::domain::Domain;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;
use fedmux::xmpp::route::Route;

use super::managed::Receiving as Managed;
use super::written::Written;
use super::{DOMAINS, End, Happening, NOTICES_MAX, OCTETS_MAX, Taken, domain};
use crate::targets::choices::Choices;

/// The secret of whoever opens streams here.
pub(super) const SECRET: &[u8] = b"secret";

/// Who may do what.
pub(super) struct Consent {
    pub(super) offers: Result<Offers, Reason>,
    /// What becomes of dialback requests, by the domain that they come from.
    pub(super) dialback: [Result<DialbackOffer, Reason>; DOMAINS.len()],
    hosts: Vec<Domain>,
    keys: KeyMaker,
}

impl Consent {
    fn new(choices: &mut Choices<'_>) -> Self {
        let bits = choices.byte();
        let bit = |n: u8| bits >> n & 1 == 1;
        let offers = Offers {
            external: bit(0),
            dialback: bit(1),
            bidi: bit(2),
            mux: bit(3),
            pipelining: bit(4),
            sm: bit(5),
        };
        let (verify, believe) = (Ok(DialbackOffer::Verify), Ok(DialbackOffer::Believe));
        let outcomes = [verify, believe, Err(Reason::PolicyDenied), verify];
        Self {
            offers: if bit(5) && bit(6) { Err(Reason::HostUnknown) } else { Ok(offers) },
            dialback: [(); DOMAINS.len()].map(|()| choices.of(&outcomes)),
            hosts: if bit(7) { DOMAINS.map(domain).into() } else { Vec::new() },
            keys: KeyMaker::new(SECRET),
        }
    }

    fn offered(&self) -> Offers {
        self.offers.unwrap_or_default()
    }
}

impl Authority for Consent {
    fn offers(&self, _: &Route) -> Result<Offers, Reason> {
        self.offers
    }
    fn host_list(&self) -> Vec<Domain> {
        self.hosts.clone()
    }
    fn dialback(&self, _: &Route, route: &Route) -> Result<DialbackOffer, Reason> {
        let known = DOMAINS.iter().position(|known| *known == route.from.as_str());
        known.map_or(Err(Reason::NotOurHost), |at| self.dialback[at])
    }
    fn made_key(&self, route: &Route, stream_id: &str, key: &str) -> bool {
        self.keys.verify(route, stream_id, key)
    }
}

/// Octets that an id may have when it is written back, every one of them escaped.
const RESUMED_MAX: usize = 6 * ID_BYTES_MAX;

/// The machine, and what is known of it from outside.
pub(super) struct Receiver {
    machine: Receiving,
    pub(super) consent: Consent,
    written: Written,
    events: usize,
    /// The pair of the first header.
    pair: Option<Route>,
    bidi: bool,
    mux: bool,
    /// `<success/>` was said, and the header that must follow has not come.
    restarting: bool,
    /// Keys that are being verified.
    open: Vec<Route>,
    questions: VecDeque<(Route, bool)>,
    believed: Vec<Route>,
    learned: bool,
    managed: Managed,
    over: bool,
}

impl Receiver {
    pub(super) fn new(choices: &mut Choices<'_>) -> Self {
        Self {
            machine: Receiving::default(),
            consent: Consent::new(choices),
            written: Written::new(ns::SERVER, "success"),
            events: 0,
            pair: None,
            bidi: false,
            mux: false,
            restarting: false,
            open: Vec::new(),
            questions: VecDeque::new(),
            believed: Vec::new(),
            learned: false,
            managed: Managed::default(),
            over: false,
        }
    }

    /// A dialback request of the other end, where such are taken.
    fn request(&self, happening: &Happening) -> Option<(Route, String)> {
        let dialback = Dialback::parse(happening.element()?);
        let takes = self.consent.offered().dialback && self.pair.is_some() && !self.restarting;
        match dialback {
            Ok(Some(Dialback::Request { route, key })) if takes => Some((route, key)),
            _ => None,
        }
    }

    fn decision(&self, route: &Route) -> Result<DialbackOffer, Reason> {
        self.consent.dialback(route, route)
    }

    /// For whom the other end may be believed from this event on.
    fn may_believe(&self, happening: &Happening) -> Option<Route> {
        match happening {
            Happening::Header(header) if self.restarting => {
                let pair = self.pair.clone()?;
                let same = header.from.as_ref() == Some(&pair.from) && header.to.as_ref() == Some(&pair.to);
                same.then_some(pair)
            }
            Happening::Verified(route, Ok(())) => self.open.contains(route).then(|| route.clone()),
            Happening::Element(_) => {
                let (route, _) = self.request(happening)?;
                (self.decision(&route) == Ok(DialbackOffer::Believe)).then_some(route)
            }
            _ => None,
        }
    }

    /// Whether EXTERNAL may succeed: it was offered, and the identity is the header's or none.
    fn may_succeed(&self, element: &Element) -> bool {
        let Some(pair) = &self.pair else { return false };
        let (text, negotiating) = (element.text(), self.believed.is_empty() && !self.restarting);
        let is_ours = match text.trim() {
            "" | "=" => true,
            text => STANDARD.decode(text).is_ok_and(|identity| {
                std::str::from_utf8(&identity)
                    .is_ok_and(|text| Domain::parse(text).as_ref() == Ok(&pair.from))
            }),
        };
        let mechanism = element.attribute("mechanism") == Some("EXTERNAL");
        negotiating && self.consent.offered().external && element.is("auth", ns::SASL) && mechanism && is_ours
    }

    fn notice(&mut self, notice: &Notice, happening: &Happening, believable: Option<&Route>) {
        let offered = self.consent.offered();
        match notice {
            Notice::Restart => {
                assert!(happening.element().is_some_and(|element| self.may_succeed(element)));
                self.restarting = true;
                self.open.clear();
            }
            Notice::Proven { route, bidi } => {
                assert_eq!(Some(route), believable, "believed without consent");
                assert_eq!(*bidi, self.bidi && offered.bidi);
                self.restarting = false;
                self.believed.push(route.clone());
            }
            Notice::Learned(learned) => {
                assert!(self.restarting && !std::mem::replace(&mut self.learned, true));
                assert_eq!(learned.mux, self.mux && offered.mux);
                assert_eq!(Some(&learned.stream_id), self.written.id.as_ref());
                self.managed.authenticated(offered.sm);
            }
            Notice::VerifyKey { route, stream_id, key } => {
                let asked = self.request(happening).expect("nobody asked");
                assert_eq!((route, key), (&asked.0, &asked.1));
                assert_eq!(Some(stream_id), self.written.id.as_ref());
                assert!(!key.is_empty() && key.len() <= KEY_BYTES_MAX);
                assert!(self.decision(route) == Ok(DialbackOffer::Verify) && !self.open.contains(route));
                self.open.push(route.clone());
                assert!(self.open.len() <= VERIFICATIONS_MAX);
                self.questions.push_back((route.clone(), self.consent.keys.verify(route, stream_id, key)));
            }
            Notice::Unsolicited => {
                let is_answer =
                    |element: &Element| element.ns() == ns::DIALBACK && element.attribute("type").is_some();
                assert!(happening.element().is_some_and(is_answer), "something else was passed over");
            }
            Notice::Management(told) => {
                assert!(!self.believed.is_empty());
                self.managed.told(told, happening);
            }
            Notice::Authorization { route, .. } => {
                assert!(offered.mux && !self.believed.is_empty() && Some(route) == self.pair.as_ref());
            }
            Notice::Ended(_) => {
                let error = |element: &Element| element.is("error", ns::STREAM);
                assert!(matches!(happening, Happening::End) || happening.element().is_some_and(error));
                self.over = true;
            }
            Notice::Ahead => panic!("it has nothing to send ahead"),
        }
    }

    /// What is said of success is said of what succeeded.
    fn said(&self, children: &[Element], happening: &Happening, notices: &[Notice]) {
        for child in children {
            if child.is("success", ns::SASL) {
                assert!(notices.contains(&Notice::Restart));
            }
            match Dialback::parse(child) {
                Ok(Some(Dialback::Result { route, valid: true })) => {
                    let proven =
                        |notice: &Notice| matches!(notice, Notice::Proven { route: of, .. } if *of == route);
                    assert!(notices.iter().any(proven), "{route} was told that it is believed");
                }
                Ok(Some(Dialback::Verified { valid: true, .. })) => {
                    let asked = happening.element().map(Dialback::parse);
                    let Some(Ok(Some(Dialback::Verify { route, stream_id, key }))) = asked else {
                        panic!("nobody asked for a key");
                    };
                    assert!(self.consent.keys.verify(&route, &stream_id, &key));
                }
                _ => {}
            }
        }
    }

    fn before(&mut self, happening: &Happening) {
        match happening {
            Happening::Header(header) if self.pair.is_none() => {
                let pair = header.from.clone().zip(header.to.clone());
                self.pair = pair.map(|(from, to)| Route::new(from, to));
            }
            Happening::Element(element) if self.believed.is_empty() && !self.restarting => {
                self.bidi |= bidi::is_request(element);
                self.mux |= mux::is_request(element);
            }
            _ => {}
        }
    }
}

impl End for Receiver {
    fn content(&self) -> &'static str {
        ns::SERVER
    }

    fn take(&mut self, happening: &Happening) -> Taken {
        self.events += 1;
        let fresh_id = format!("id-{}", self.events);
        let mut out = Outbox::default();
        let handled = self.machine.handle(happening.event(&fresh_id), &self.consent, &mut out);
        if self.over {
            assert!(
                handled.is_ok() && out.octets.is_empty() && out.notices.is_empty(),
                "{happening:?} {out:?}"
            );
            return Taken::default();
        }
        let most = if self.managed.is_resuming() { OCTETS_MAX + RESUMED_MAX } else { OCTETS_MAX };
        assert!(out.octets.len() <= most && out.notices.len() <= NOTICES_MAX, "{happening:?} {out:?}");
        let believable = self.may_believe(happening);
        self.before(happening);
        let children = self.written.read(&out.octets);
        self.said(&children, happening, &out.notices);
        self.managed.said(&children, happening);
        for notice in &out.notices {
            self.notice(notice, happening, believable.as_ref());
        }
        if let Happening::Verified(route, _) = happening {
            self.open.retain(|open| open != route);
        }
        assert!(!self.over || (handled.is_ok() && children.is_empty()), "{happening:?} is answered");
        match handled {
            Ok(()) if !self.over => {
                out.octets.push_str(&self.managed.answer());
                self.managed.agree(&self.machine);
            }
            Ok(()) => {}
            Err(violation) => out.octets.push_str(&self.refuse(violation)),
        }
        assert_eq!(self.machine.is_established(), self.is_established(), "{happening:?}");
        let tells = |wanted: fn(&Notice) -> bool| out.notices.iter().any(wanted);
        let believed = tells(|notice| matches!(notice, Notice::Proven { .. }));
        Taken { restart: tells(|notice| *notice == Notice::Restart), believed, octets: out.octets }
    }

    fn refuse(&mut self, violation: Violation) -> String {
        self.over = true;
        let mut octets = String::new();
        self.machine.refuse(violation, "last", &mut octets);
        self.written.read(&octets);
        assert!(self.written.ended, "{octets}");
        octets
    }

    fn is_established(&self) -> bool {
        !self.over && !self.believed.is_empty()
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn question(&mut self) -> Option<(Route, bool)> {
        self.questions.pop_front()
    }

    fn resumption(&mut self) -> Option<Option<u32>> {
        self.managed.resumption()
    }
}
