//! The prover's side of a proof: a secret that was handed to a host of ours on a second connection comes back on the
//! session that is to speak for the host (XEP-0451 section 3.2).

use std::time::{Instant, SystemTime};

use super::proofs::{Anchor, Proof, Role};
use super::{Action, LaneId, Router, SessionEntry, SessionId};
use crate::proto::mux::iq;
use crate::proto::mux::secret::Dialled;
use crate::proto::mux::verifier::ANSWER_WAIT;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// What one connection hands to us takes no more than one of so many shares of `limits.secrets_returned`: others have hosts to prove
/// too.
const SHARES: usize = 16;

/// A secret that we returned, whose answer is awaited.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) first: SessionId,
    pub(super) second: SessionId,
    host: Domain,
    prover: Domain,
    verifier: Domain,
    not_after: SystemTime,
    pub(super) until: Instant,
    /// The proof was our wish, and stands in the list of those under way.
    own: bool,
    secret: String,
    /// Further sessions of the same two domains, where it is returned next if this one doesn't take it: each end may
    /// have begun while only one of two was up.
    others: Vec<(SessionId, LaneId)>,
}

impl Router {
    /// On S2 a secret was handed to us, for the host of ours of `pair` (in the initiating entity's direction); it is to
    /// come back where we are `prover`. `id` is a fresh IQ id.
    pub fn secret_received(
        &mut self,
        second: SessionId,
        pair: &Route,
        prover: &Domain,
        secret: &str,
        id: String,
        now: Instant,
    ) {
        let (host, verifier) =
            if self.hosts.serves(&pair.to) { (&pair.to, &pair.from) } else { (&pair.from, &pair.to) };
        let known = self.sessions.get(&second).and_then(|entry| {
            let facts = entry.session.as_ref().filter(|session| session.ours_by_certificate(host))?.facts();
            Some((facts.ours.not_after, facts.dialled))
        });
        // Where we asked, it is for the session that we named, and where we dialled it comes for no other reason: asked for
        // something that is forgotten by now, it goes nowhere. Else several may match: first the one that takes new lanes,
        // at both ends alike.
        let named = self.asked_for(second, host);
        let may_come_unasked = known.is_some_and(|(_, dialled)| !dialled);
        let fits = |(first, entry): (&SessionId, &SessionEntry)| {
            let (_, anchor) = entry.as_first()?;
            let lane = entry.by_route.get(&anchor.route()).copied()?;
            let fits = match named {
                Some(named) => named == *first,
                None => may_come_unasked && *first != second && anchor.theirs == *verifier,
            };
            (fits && anchor.ours == *prover).then_some((entry.exporter, *first, lane))
        };
        let mut firsts: Vec<_> = self.sessions.iter().filter_map(fits).collect();
        firsts.sort_unstable_by_key(|(exporter, ..)| std::cmp::Reverse(*exporter));
        let mut others: Vec<_> = firsts.into_iter().map(|(_, first, lane)| (first, lane)).collect();
        let from_here = self.returned.values().filter(|returned| returned.second == second).count();
        let limit = self.limits.secrets_returned;
        if self.returned.len() >= limit || from_here > limit / SHARES {
            self.actions.push(Action::LimitHit { limit: "secrets_returned" });
            return match named {
                // It rests, and is asked for again.
                Some(first) => self.proof_failed(&(first, host.clone()), Reason::MuxBusy, now),
                None => self.refused(Some(second), Some(host.clone()), Reason::MuxBusy),
            };
        }
        let (Some((not_after, _)), Some((first, lane))) = (known, others.pop()) else {
            return self.refused(Some(second), Some(host.clone()), Reason::MuxAddress);
        };
        let Some(Anchor { theirs: verifier, .. }) =
            self.sessions.get(&first).and_then(|first| first.anchor.clone())
        else {
            return;
        };
        let own = self.proofs.contains_key(&(first, host.clone()));
        if !own {
            self.actions.push(Action::ProofStarted { role: Role::Prover });
        }
        let until = now + ANSWER_WAIT;
        let (host, prover, secret) = (host.clone(), prover.clone(), secret.to_owned());
        let returned =
            Returned { first, second, host, prover, verifier, not_after, until, own, secret, others };
        self.return_secret(id, lane, returned);
    }

    /// The session for which we asked on `second` that `host` join it.
    fn asked_for(&self, second: SessionId, host: &Domain) -> Option<SessionId> {
        let mut asked = self.proofs.iter().filter(|(_, proof)| proof.second == second && proof.is_our_wish());
        asked.find(|((_, of), _)| of == host).map(|((first, _), _)| *first)
    }

    fn return_secret(&mut self, id: String, lane: LaneId, returned: Returned) {
        let mut octets = String::new();
        let Returned { prover, verifier, host, secret, .. } = &returned;
        iq::write_offer(&mut octets, &id, prover, verifier, host, secret);
        self.returned.insert(id, returned);
        self.actions.push(Action::Post { lane, octets });
    }

    /// The peer answers a secret that we returned. Whether one of ours waits for that.
    pub(super) fn answered(
        &mut self,
        first: SessionId,
        id: &str,
        (from, to): (&str, &str),
        granted: bool,
        now: Instant,
    ) -> bool {
        let is = |text: &str, domain: &Domain| Domain::parse(text).is_ok_and(|parsed| parsed == *domain);
        let matches = self.returned.get(id).is_some_and(|returned| {
            returned.first == first && is(from, &returned.verifier) && is(to, &returned.prover)
        });
        // An answer to nothing of ours, or from somebody else: without effect.
        let Some(mut returned) = matches.then(|| self.returned.remove(id)).flatten() else { return false };
        if !granted && let Some((first, lane)) = returned.others.pop() {
            returned.first = first;
            self.return_secret(format!("{id}-"), lane, returned);
            return true;
        }
        let key = (first, returned.host.clone());
        if granted {
            self.taken(returned, now);
        } else {
            self.not_taken(&key, returned.own, Reason::MuxRefused, now);
        }
        true
    }

    /// The peer opens a stream to `host` in the session `first`. If its answer to our secret for that host is awaited,
    /// this is one: the answer goes on another stream, and streams overtake each other.
    pub fn host_called(&mut self, first: SessionId, host: &Domain, now: Instant) {
        let mut awaited = self.returned.iter();
        let awaited = awaited.find(|(_, returned)| returned.first == first && returned.host == *host);
        let id = awaited.map(|(id, _)| id.clone());
        if let Some(returned) = id.and_then(|id| self.returned.remove(&id)) {
            self.taken(returned, now);
        }
    }

    /// The peer took the secret: the session speaks for our host.
    fn taken(&mut self, returned: Returned, now: Instant) {
        let Returned { first, second, host, not_after, own, .. } = returned;
        let Some(session) = self.sessions.get_mut(&first).and_then(|entry| entry.session.as_mut()) else {
            return;
        };
        if let Err(reason) = session.grant_ours(host.clone(), not_after) {
            return self.not_taken(&(first, host), own, reason, now);
        }
        self.granted(first, &host, not_after, true, now);
        let unasked = Proof::new(second, LaneId(0), Dialled::ByVerifier, now, now);
        self.proofs.entry((first, host.clone())).or_insert(unasked);
        self.joined(first, &host, now);
    }

    /// A secret that we returned led to nothing. Where the peer wished for the proof, there is no other trace of it.
    fn not_taken(&mut self, key: &(SessionId, Domain), own: bool, reason: Reason, now: Instant) {
        if own {
            self.proof_failed(key, reason, now);
        } else {
            self.refused(Some(key.0), Some(key.1.clone()), reason);
        }
    }

    /// Secrets whose answers did not come in time.
    pub(super) fn expire_returned(&mut self, now: Instant) {
        let late: Vec<_> = self.returned.extract_if(|_, returned| returned.until <= now).collect();
        for (_, Returned { first, host, own, .. }) in late {
            self.not_taken(&(first, host), own, Reason::MuxTimeout, now);
        }
    }
}
