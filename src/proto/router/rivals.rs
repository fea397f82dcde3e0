//! Which of two first sessions a host joins, where both ends dialled at the same moment.
//!
//! The second connection of a proof is good for whichever session the prover then names: it is dialled at once, and what
//! waits for its pair flows on it as soon as it is up. Only then is it decided which session the secret is for, and by then
//! the rival is mostly up as well: it was begun before. Of the two the one with the smaller exporter value wins, which is
//! where new lanes go, so that a host is proven once and not on both. An attempt of our own that is still under way is
//! waited for, for as long as the second connection itself has taken and no longer.

use std::time::Instant;

use super::proofs::Purpose;
use super::{Router, SessionEntry, SessionId};
use crate::proto::mux::secret::Dialled;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

impl SessionEntry {
    /// Whether some peer could be reached by either.
    fn is_rival_of(&self, other: &Self) -> bool {
        self.pinned.iter().any(|peer| other.pinned.contains(peer))
    }
}

impl Router {
    /// `winner` has come up. What was begun for a rival that loses to it, and not asked for yet, is for `winner` now.
    pub(super) fn proofs_follow(&mut self, winner: SessionId, now: Instant) {
        let Some(entry) = self.sessions.get(&winner).filter(|entry| !entry.retiring) else { return };
        if entry.as_first().is_none() {
            return;
        }
        let loses = |other: &SessionEntry| entry.exporter < other.exporter && entry.is_rival_of(other);
        let losers = self.sessions.iter().filter(|(_, other)| loses(other)).map(|(id, _)| *id);
        for loser in losers.collect::<Vec<_>>() {
            // What waits for its turn there is looked at anew.
            self.turns.remove(&loser);
            let begun = self.proofs.iter().filter(|((first, _), proof)| *first == loser && !proof.asked);
            let hosts: Vec<Domain> = begun.map(|((_, host), _)| host.clone()).collect();
            for host in hosts {
                self.follow(loser, winner, host, now);
            }
        }
    }

    /// The proof of `host` for `loser` is one for `winner`, if that is possible.
    fn follow(&mut self, loser: SessionId, winner: SessionId, host: Domain, now: Instant) {
        let (old, new) = ((loser, host.clone()), (winner, host.clone()));
        let Some(proof) = self.proofs.get(&old) else { return };
        let first = self.sessions.get(&winner).and_then(SessionEntry::as_first);
        let Some((session, anchor)) = first else { return };
        let (is_proven, fits) = match proof.dialled {
            // The prover finds the session by the pair of v, which the second connection was dialled from, and p.
            Dialled::ByVerifier => {
                let same = self.sessions.get(&loser).and_then(|entry| entry.anchor.as_ref());
                let listed = !session.facts().dialled || session.lists(&host);
                let fits = listed && same.is_some_and(|same| same.ours == anchor.ours);
                (session.theirs_proven(&host), fits)
            }
            Dialled::ByProver => (session.ours_proven(&host), true),
        };
        let second = proof.second;
        if is_proven {
            self.proofs.remove(&old);
            self.session_retires(second, now);
            return;
        }
        if !fits || self.proofs.contains_key(&new) || !self.may_begin(winner) {
            return;
        }
        if let Some(proof) = self.proofs.remove(&old) {
            if let Some(entry) = self.sessions.get_mut(&second) {
                entry.purpose = Purpose::Proof { first: winner, host, dialled: proof.dialled };
            }
            self.proofs.insert(new, proof);
        }
    }

    /// Whether the second connection of the proof `key`, which is up, waits for a rival of its session.
    pub(super) fn waits_for_rival(&mut self, key: &(SessionId, Domain), now: Instant) -> bool {
        let Some(first) = self.sessions.get(&key.0) else { return false };
        let under_way = |entry: &SessionEntry| {
            entry.session.is_none() && entry.purpose == Purpose::Own && entry.is_rival_of(first)
        };
        let any = self.sessions.values().any(under_way);
        let Some(proof) = self.proofs.get_mut(key).filter(|proof| !proof.asked && any) else { return false };
        let until = *proof.held.get_or_insert(now + now.saturating_duration_since(proof.began));
        until > now
    }

    /// The connection `second` is gone. What was held there comes to nothing.
    pub(super) fn held_lost(&mut self, second: SessionId, reason: Reason, now: Instant) {
        let mut held = self.proofs.iter().filter(|(_, proof)| !proof.asked && proof.held.is_some());
        let key = held.find(|(_, proof)| proof.second == second).map(|(key, _)| key.clone());
        if let Some(key) = key {
            self.proof_failed(&key, reason, now);
        }
    }

    /// A session is up or did not come to be, or time has passed: what waited for it goes on.
    pub(super) fn ask_held(&mut self, now: Instant) {
        let held = self.proofs.values().filter(|proof| !proof.asked && proof.held.is_some());
        for second in held.map(|proof| proof.second).collect::<Vec<_>>() {
            self.second_up(second, now);
        }
    }
}
