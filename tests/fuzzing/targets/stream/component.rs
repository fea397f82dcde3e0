//! The stream of a component (XEP-0114) under watch: the accepting side.

use std::cell::Cell;

use fedmux::proto::component::{Component, Outcome, Registry, Secret};
use fedmux::proto::stream::Violation;
use fedmux::reason::Reason;
use fedmux::xmpp::domain::Domain;
use fedmux::xmpp::namespace as ns;
use fedmux::xmpp::route::Route;

use super::written::Written;
use super::{End, Happening, OCTETS_MAX, Taken};
use crate::targets::choices::Choices;

/// One component, with or without another connection.
struct Known {
    secret: Secret,
    conflict: bool,
    connected: Cell<bool>,
}

impl Registry for Known {
    fn secret(&self, domain: &Domain) -> Option<&Secret> {
        (domain.as_str() == "c.test").then_some(&self.secret)
    }

    fn connect(&self, domain: &Domain) -> Result<(), Reason> {
        assert_eq!(domain.as_str(), "c.test");
        assert!(!self.connected.replace(true), "connected twice");
        if self.conflict { Err(Reason::ComponentConnected) } else { Ok(()) }
    }
}

pub(super) struct Acceptor {
    machine: Component,
    known: Known,
    written: Written,
    events: usize,
    established: bool,
    over: bool,
}

impl Acceptor {
    pub(super) fn new(choices: &mut Choices<'_>) -> Self {
        let secret = Secret::new("secret").expect("it isn't empty");
        let known = Known { secret, conflict: choices.flag(), connected: Cell::new(false) };
        Self {
            machine: Component::default(),
            known,
            written: Written::new(ns::COMPONENT_ACCEPT, ""),
            events: 0,
            established: false,
            over: false,
        }
    }

    /// Whether this is the handshake for the header that we sent.
    fn may_connect(&self, happening: &Happening) -> bool {
        let (Some(element), Some(id)) = (happening.element(), &self.written.id) else { return false };
        let right = element.text().trim() == self.known.secret.handshake(id);
        element.is("handshake", ns::COMPONENT_ACCEPT) && right && !self.known.conflict && !self.established
    }
}

impl End for Acceptor {
    fn content(&self) -> &'static str {
        ns::COMPONENT_ACCEPT
    }

    fn take(&mut self, happening: &Happening) -> Taken {
        self.events += 1;
        // Known beforehand, so that an input can hold the handshake for it.
        let fresh_id = format!("id-{}", self.events);
        let mut octets = String::new();
        let handled = self.machine.handle(happening.event(&fresh_id), &self.known, &mut octets);
        if self.over {
            assert!(handled == Ok(Outcome::Continue) && octets.is_empty(), "{happening:?} {octets}");
            return Taken::default();
        }
        assert!(octets.len() <= OCTETS_MAX);
        let may_connect = self.may_connect(happening);
        self.written.read(&octets);
        let connected = matches!(handled, Ok(Outcome::Connected(_)));
        assert_eq!(connected, may_connect, "{happening:?}");
        assert!(!connected || self.known.connected.get());
        self.established |= connected;
        match handled {
            Ok(Outcome::Ended(_)) => self.over = true,
            Ok(Outcome::Continue | Outcome::Connected(_)) => {}
            Err(violation) => octets.push_str(&self.refuse(violation)),
        }
        Taken { restart: false, believed: connected, octets }
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
        self.established && !self.over
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn question(&mut self) -> Option<(Route, bool)> {
        None
    }
}
