//! What became of each stanza that a server sent: the judge of a history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::relay::mailbox::lock;
use crate::xmpp::element::Element;
use crate::xmpp::namespace as ns;
use crate::xmpp::route::Route;

/// Stands in what the attacker sends.
pub(super) const EVIL: &str = "evil";

/// Numbered stanzas of each pair, and who has heard of them.
#[derive(Debug, Default)]
pub(super) struct Account(Mutex<Pairs>);

type Pairs = BTreeMap<String, Pair>;

/// Numbers of stanzas, by their pairs.
pub(super) type Stanzas = Vec<(String, Vec<u64>)>;

#[derive(Debug, Default)]
struct Pair {
    sent: u64,
    /// With whether one of its copies said that it may be a second one.
    delivered: BTreeMap<u64, bool>,
    last: Option<u64>,
    bounced: BTreeSet<u64>,
    /// Their own server answers for them, or was killed with them.
    answered: BTreeSet<u64>,
    /// Came behind later ones and didn't say so, which is right only if they come back besides: then nobody knew of them.
    behind: BTreeSet<u64>,
    twice: u64,
    /// Came behind later ones, and said so.
    late: u64,
    evil: u64,
}

/// What became of all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) bounced: u64,
    pub(super) answered: u64,
    pub(super) twice: u64,
    pub(super) late: u64,
    pub(super) evil: u64,
}

fn name(from: &str, to: &str) -> String {
    format!("{from} to {to}")
}

impl Account {
    /// The number of the next stanza of `route`.
    pub(super) fn next(&self, route: &Route) -> u64 {
        let mut pairs = lock(&self.0);
        let pair = pairs.entry(name(route.from.as_str(), route.to.as_str())).or_default();
        pair.sent += 1;
        tracing::trace!(%route, id = pair.sent - 1, "sent");
        pair.sent - 1
    }

    /// A server that serves `domains` got `stanza`. `state_lost`: somebody has forgotten what was handled and what wasn't, so that
    /// what is sent again may be late.
    pub(super) fn note(&self, stanza: &Element, domains: &[String], state_lost: bool) {
        let (from, to) = (stanza.attribute("from").unwrap(), stanza.attribute("to").unwrap());
        let domain = |address: &str| address.rsplit('@').next().unwrap().to_owned();
        let (from, to) = (domain(from), domain(to));
        assert!(domains.contains(&to), "a stanza for {to} came to the server of {domains:?}");
        let mut pairs = lock(&self.0);
        if stanza.child(EVIL, ns::SERVER).is_some() {
            assert!(from == "m.test", "the attacker spoke for {from}, to {to}");
            pairs.entry(name(&from, &to)).or_default().evil += 1;
            return;
        }
        let id: u64 = stanza.attribute("id").unwrap().parse().unwrap();
        if stanza.attribute("type") == Some("error") {
            let pair = pairs.entry(name(&to, &from)).or_default();
            assert!(id < pair.sent, "an error for {to} answers what was never sent");
            pair.bounced.insert(id);
            tracing::trace!(from, to, id, "came back");
            return;
        }
        let name = name(&from, &to);
        let pair = pairs.entry(name.clone()).or_default();
        assert!(id < pair.sent, "{name}: {id} came and was never sent");
        let late = stanza.child("delay", "urn:xmpp:delay").is_some();
        tracing::trace!(from, to, id, late, "arrived");
        if let Some(said) = pair.delivered.get_mut(&id) {
            pair.twice += 1;
            *said |= late;
            assert!(*said, "{name}: {id} came twice, and nobody said so");
        } else {
            // What comes back because nobody knew may still arrive, by the connection that was given up, at any time, and before
            // the word that it comes back.
            let behind = pair.last > Some(id);
            if behind && !(late && state_lost) {
                pair.behind.insert(id);
            }
            pair.late += u64::from(behind);
            pair.last = pair.last.max(Some(id));
            pair.delivered.insert(id, late);
        }
    }

    /// The server of `route.from` answers for these itself: their stream broke before they were acknowledged.
    pub(super) fn answered(&self, route: &Route, ids: impl IntoIterator<Item = u64>) {
        let ids: Vec<u64> = ids.into_iter().collect();
        tracing::trace!(%route, ?ids, "answered for by their server");
        let mut pairs = lock(&self.0);
        pairs.entry(name(route.from.as_str(), route.to.as_str())).or_default().answered.extend(ids);
    }

    /// Stanzas that came behind later ones, and of which nobody was told that they may not have arrived.
    pub(super) fn disordered(&self) -> Stanzas {
        let pairs = lock(&self.0);
        let disordered = pairs.iter().map(|(name, pair)| {
            let uncertain = |id: &&u64| pair.bounced.contains(id) || pair.answered.contains(id);
            (name.clone(), pair.behind.iter().filter(|id| !uncertain(id)).copied().collect::<Vec<_>>())
        });
        disordered.filter(|(_, ids)| !ids.is_empty()).collect()
    }

    /// Stanzas of which nobody has heard.
    pub(super) fn silent(&self) -> Stanzas {
        let pairs = lock(&self.0);
        let silent = pairs.iter().map(|(name, pair)| {
            let heard = |id: &u64| {
                pair.delivered.contains_key(id) || pair.bounced.contains(id) || pair.answered.contains(id)
            };
            (name.clone(), (0..pair.sent).filter(|id| !heard(id)).collect::<Vec<_>>())
        });
        silent.filter(|(_, ids)| !ids.is_empty()).collect()
    }

    pub(super) fn sums(&self) -> Sums {
        lock(&self.0).values().fold(Sums::default(), |sums, pair| Sums {
            sent: sums.sent + pair.sent,
            delivered: sums.delivered + pair.delivered.len() as u64,
            bounced: sums.bounced + pair.bounced.len() as u64,
            answered: sums.answered + pair.answered.len() as u64,
            twice: sums.twice + pair.twice,
            late: sums.late + pair.late,
            evil: sums.evil + pair.evil,
        })
    }
}
