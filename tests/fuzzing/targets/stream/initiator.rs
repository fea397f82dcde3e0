//! The initiating entity under watch: it opens a stream from `a.test` to `b.test`.

use std::sync::Arc;

use fedmux::proto::dialback::{Dialback, KeyMaker};
use fedmux::proto::features::Features;
use fedmux::proto::stream::initiating::{Bidi, Initiating, Manage, Pipelining, Wants};
use fedmux::proto::stream::{Notice, Outbox, Violation, refuse};
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;
use fedmux::xmpp::route::Route;

use super::managed::Initiating as Managed;
use super::receiver::SECRET;
use super::written::Written;
use super::{End, Happening, NOTICES_MAX, OCTETS_MAX, Taken, domain};
use crate::targets::choices::Choices;

/// The machine, and what is known of it from outside.
pub(super) struct Initiator {
    machine: Initiating,
    pub(super) wants: Wants,
    keys: Arc<KeyMaker>,
    written: Written,
    /// What it says before anything happens.
    opening: String,
    /// The id in the last header of the other end.
    id: Option<String>,
    /// What the other end offered before authentication.
    offered: Option<Features>,
    asked_auth: bool,
    asked_dialback: bool,
    succeeded: bool,
    restarted: bool,
    believed: bool,
    learned: bool,
    /// Stanzas may follow what was said.
    flows: bool,
    managed: Managed,
    over: bool,
}

impl Initiator {
    pub(super) fn new(choices: &mut Choices<'_>) -> Self {
        let bits = choices.byte();
        let bit = |n: u8| bits >> n & 1 == 1;
        let keys = Arc::new(KeyMaker::new(SECRET));
        let wants = Wants {
            mux: bit(0),
            bidi: [Bidi::Offered, Bidi::BesideMux, Bidi::Never][choices.below(3)],
            dialback: bit(1).then(|| Arc::clone(&keys)),
            pipelining: match (bit(2), bit(5)) {
                (true, _) => Pipelining::AtOnce,
                (_, true) => Pipelining::WhenOffered,
                _ => Pipelining::Never,
            },
            manage: if bit(4) { Manage::Resume { previd: "s".to_owned(), h: 1 } } else { Manage::Enable },
            sm_offered: bit(3),
        };
        let mut out = Outbox::default();
        let route = Route::new(domain("a.test"), domain("b.test"));
        let machine = Initiating::start(route, wants.clone(), &mut out);
        assert!(out.notices.is_empty());
        let at_once = wants.pipelining == Pipelining::AtOnce;
        let mut written = Written::new(ns::SERVER, if at_once { "auth" } else { "" });
        let said = written.read(&out.octets);
        let asked_auth = said.iter().any(|child| child.is("auth", ns::SASL));
        assert_eq!(asked_auth, at_once);
        let mut managed = Managed::new(&wants);
        managed.said(&said, at_once && wants.sm_offered, None);
        managed.agree(&machine, at_once);
        Self {
            machine,
            wants,
            keys,
            written,
            opening: out.octets,
            id: None,
            offered: None,
            asked_auth,
            asked_dialback: false,
            succeeded: false,
            restarted: false,
            believed: false,
            learned: false,
            flows: at_once,
            managed,
            over: false,
        }
    }

    pub(super) fn opening(&mut self) -> String {
        std::mem::take(&mut self.opening)
    }

    /// Whether an answer about stream management is waited for.
    pub(super) fn waits(&self) -> bool {
        self.managed.waits()
    }

    /// Whether the other end believes us from this event on.
    fn may_be_believed(&self, happening: &Happening) -> bool {
        let Some(element) = happening.element() else { return false };
        if self.succeeded {
            return self.restarted && element.is("features", ns::STREAM);
        }
        let result = Dialback::parse(element);
        let ours = |route: &Route| route == self.machine.route();
        self.asked_dialback
            && matches!(result, Ok(Some(Dialback::Result { route, valid: true })) if ours(&route))
    }

    fn before(&mut self, happening: &Happening) {
        match happening {
            Happening::Header(header) => {
                self.id.clone_from(&header.id);
                self.restarted |= self.succeeded;
            }
            Happening::Element(element) if self.offered.is_none() => {
                self.offered = Features::parse(element).ok();
            }
            _ => {}
        }
    }

    /// What it asked for, it may ask for.
    fn said(&mut self, children: &[Element], happening: &Happening) {
        for child in children {
            if child.is("auth", ns::SASL) {
                let offered = self.offered.as_ref().expect("authenticates before features");
                assert!(offered.external && !offered.starttls_required);
                assert!(!std::mem::replace(&mut self.asked_auth, true), "authenticates twice");
            }
            match Dialback::parse(child) {
                Ok(Some(Dialback::Request { route, key })) => {
                    assert!(self.wants.dialback.is_some() && !self.asked_dialback && !self.succeeded);
                    assert_eq!(&route, self.machine.route());
                    let id = self.id.as_deref().expect("a key is for an id");
                    assert!(self.keys.verify(&route, id, &key));
                    self.asked_dialback = true;
                }
                Ok(Some(Dialback::Result { valid, .. })) => {
                    assert!(!valid, "believes somebody on a stream of its own");
                    let asked = happening.element().map(Dialback::parse);
                    assert!(matches!(asked, Some(Ok(Some(Dialback::Request { .. })))));
                }
                Ok(None) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn notice(&mut self, notice: &Notice, happening: &Happening, believable: bool) {
        match notice {
            Notice::Restart => {
                let success = |element: &Element| element.is("success", ns::SASL);
                assert!(happening.element().is_some_and(success) && self.asked_auth && !self.succeeded);
                self.succeeded = true;
            }
            Notice::Ahead => {
                let offered = self.offered.as_ref().expect("goes ahead before features");
                assert!(offered.sm || self.wants.sm_offered, "nobody would acknowledge what follows");
                assert!(self.machine.is_pipelined() && !std::mem::replace(&mut self.flows, true));
            }
            Notice::Proven { route, bidi } => {
                self.flows = true;
                assert!(believable && !std::mem::replace(&mut self.believed, true));
                assert_eq!(route, self.machine.route());
                let offered = self.offered.as_ref().expect("believed before features");
                let wanted = match self.wants.bidi {
                    Bidi::Never => false,
                    Bidi::BesideMux => offered.bidi && offered.mux.is_some(),
                    Bidi::Offered => offered.bidi,
                };
                assert_eq!(*bidi, wanted);
            }
            Notice::Learned(learned) => {
                assert!(believable && !std::mem::replace(&mut self.learned, true));
                let offered = self.offered.as_ref().expect("believed before features");
                assert!(!learned.mux || (self.wants.mux && offered.mux.is_some() && self.succeeded));
            }
            Notice::Unsolicited => {
                let is_answer =
                    |element: &Element| element.ns() == ns::DIALBACK && element.attribute("type").is_some();
                assert!(happening.element().is_some_and(is_answer), "something else was passed over");
            }
            Notice::Management(told) => {
                assert!(self.believed);
                self.managed.told(told, happening);
            }
            Notice::Authorization { route, .. } => {
                assert!(self.believed && route == self.machine.route());
            }
            Notice::Ended(_) => {
                let error = |element: &Element| element.is("error", ns::STREAM);
                assert!(matches!(happening, Happening::End) || happening.element().is_some_and(error));
                self.over = true;
            }
            Notice::VerifyKey { .. } => panic!("nobody can be believed on a stream of our own"),
        }
    }
}

fn offers_management(element: &Element) -> bool {
    element.is("features", ns::STREAM) && element.child("sm", ns::STREAM_MANAGEMENT).is_some()
}

impl End for Initiator {
    fn content(&self) -> &'static str {
        ns::SERVER
    }

    fn take(&mut self, happening: &Happening) -> Taken {
        let mut out = Outbox::default();
        let was_pipelined = self.machine.is_pipelined();
        let handled = self.machine.handle(happening.event("not ours to give"), &mut out);
        if self.over {
            assert!(
                handled.is_ok() && out.octets.is_empty() && out.notices.is_empty(),
                "{happening:?} {out:?}"
            );
            return Taken::default();
        }
        assert!(out.octets.len() <= OCTETS_MAX && out.notices.len() <= NOTICES_MAX, "{happening:?} {out:?}");
        let believable = self.may_be_believed(happening);
        self.before(happening);
        let restart = out.notices.contains(&Notice::Restart);
        if restart && !was_pipelined {
            self.written.restart();
        }
        let goes_ahead = !was_pipelined && self.machine.is_pipelined();
        if goes_ahead {
            let offered = self.offered.as_ref().expect("goes ahead before features");
            assert!(offered.pipelining && offered.external, "{offered:?}");
            assert_eq!(self.wants.pipelining, Pipelining::WhenOffered);
            self.written.restarts_behind("auth");
        }
        let children = self.written.read(&out.octets);
        self.said(&children, happening);
        let offered = (believable && self.succeeded || goes_ahead)
            && (happening.element().is_some_and(offers_management) || goes_ahead && self.wants.sm_offered);
        self.managed.said(&children, offered, Some(happening));
        for notice in &out.notices {
            self.notice(notice, happening, believable);
        }
        assert!(!self.over || (handled.is_ok() && children.is_empty()), "{happening:?} is answered");
        if let Err(violation) = handled {
            out.octets.push_str(&self.refuse(violation));
        }
        assert_eq!(self.machine.is_established(), self.is_established(), "{happening:?}");
        if !self.over {
            self.managed.agree(&self.machine, self.flows);
        }
        let believed = out.notices.iter().any(|notice| matches!(notice, Notice::Proven { .. }));
        Taken { restart, believed, octets: out.octets }
    }

    fn refuse(&mut self, violation: Violation) -> String {
        self.over = true;
        let mut octets = String::new();
        refuse(&mut octets, violation, None);
        self.written.read(&octets);
        assert!(self.written.ended, "{octets}");
        octets
    }

    fn is_established(&self) -> bool {
        !self.over && self.believed
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn question(&mut self) -> Option<(Route, bool)> {
        None
    }
}
