//! The local side: the attacker's own server behind relay 1, and what the servers behind a relay are handed.

use super::*;
use crate::proto::admission::{Direction, Proven, Scope, Side, admit};
use crate::proto::mux::iq;
use crate::xmpp::element::Element;
use crate::xmpp::stanza::domain_of;

/// How many ids the attacker tries, from 0 up, where it can't know one.
const IDS_GUESSED: u32 = 32;

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
        self.tenant_says(octets);
    }

    /// A secret comes back between the attacker's own name and one of relay 0, which it sees by the streams that are
    /// there. Its server says `result` at once: under every id that could be guessed, and under the one that it overheard.
    pub(super) fn tenant_answers(&mut self, route: &Route, overheard: Option<String>) {
        let to = match [&route.from, &route.to].map(|name| name.as_str() == TENANT) {
            [true, false] => &route.to,
            [false, true] => &route.from,
            _ => return,
        };
        let guessed = (0..IDS_GUESSED).map(|number| format!("{}{number:032x}", iq::ID_PREFIX));
        for id in overheard.into_iter().chain(guessed) {
            let mut octets = String::new();
            iq::write_answer(&mut octets, &id, to.as_str(), TENANT, true);
            self.tenant_says(octets);
        }
    }

    fn tenant_says(&mut self, octets: String) {
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
