//! The local side: the attacker's own server behind relay 1, and what the servers behind a relay are handed.

use super::*;
use crate::proto::admission::{Direction, Proven, Scope, Side, admit};
use crate::proto::mux::iq;
use crate::xmpp::element::Element;
use crate::xmpp::stanza::domain_of;

/// What `relay::carry` decides of each stanza: `None`, it goes on; else it is the relay's own, and goes nowhere.
pub(super) fn relays_own(stanza: &Element) -> Option<Option<MuxIq>> {
    let said = if stanza.name() == "iq" { MuxIq::read(stanza) } else { None };
    (said.is_some() || iq::holds_mux(stanza)).then_some(said)
}

impl World {
    /// The attacker's server says something to its relay.
    pub(super) fn tenant_speaks(&mut self) {
        let mut octets = self.compose();
        if self.dice.percent(70)
            && let Some(from) =
                Element::parse(octets.as_bytes()).ok().and_then(|e| e.attribute("from").map(str::to_owned))
        {
            octets = octets.replacen(&format!("from='{from}'"), &format!("from='{TENANT}'"), 1);
        }
        let Ok(element) = Element::parse(octets.as_bytes()) else { return };
        let of = |name: &str| element.attribute(name).and_then(|text| Domain::parse(domain_of(text)).ok());
        let (Some(from), Some(to)) = (of("from"), of("to")) else { return };
        let (theirs, ours) = (Proven::only(domain(TENANT)), Proven::Any);
        let scope = Scope { side: Side::Local, theirs, ours, pair: None };
        if !matches!(element.name(), "iq" | "message")
            || admit(&scope, &self.relays[1].hosts, Direction::Inbound, &from, &to).is_err()
        {
            return;
        }
        match relays_own(&element) {
            Some(_) => self.truth.not_allowed += 1,
            None if self.relays[1].hosts.serves(&to) => self.delivered(&to, &octets),
            None => self.forward(1, &Route::new(from, to), octets),
        }
    }

    /// A stanza is handed to the server of a host of ours.
    pub(super) fn delivered(&mut self, to: &Domain, octets: &str) {
        truth::forwarded(octets);
        if to.as_str() == TENANT {
            self.attacker.hear(octets);
        }
    }
}
