//! Proofs that a limit stopped, at either end, and that are tried again: on the second connection that they have, each
//! time a little later. Without it the host would stay there for as long as it has something to say.

use std::time::Instant;

use super::proofs::{Proof, Purpose};
use super::{Router, SessionId};
use crate::proto::mux::verifier::ANSWER_WAIT;
use crate::xmpp::domain::Domain;

/// A proof that rests.
#[derive(Debug)]
pub(super) struct Rested {
    proof: Proof,
    /// When it goes on.
    pub(super) at: Instant,
}

impl Rested {
    /// The second connection that it has.
    pub(super) fn second(&self) -> SessionId {
        self.proof.second
    }
}

impl Router {
    /// A limit stopped `proof`. Whoever dialled its second connection tries again; the other end is asked again.
    pub(super) fn rest(&mut self, key: &(SessionId, Domain), proof: Proof, now: Instant) {
        let second = self.sessions.get(&proof.second);
        if second.is_some_and(|entry| entry.dialled && entry.session.is_some()) {
            let at = now + self.jitter.after(proof.stopped, &self.limits);
            let proof = Proof { stopped: proof.stopped.saturating_add(1), ..proof };
            self.again.insert(key.clone(), Rested { proof, at });
        }
    }

    /// Go on with what has rested for long enough. What has joined its session in the meantime is forgotten.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let due: Vec<_> =
            self.again.iter().filter(|(_, rested)| rested.at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            let Some(Rested { proof, .. }) = self.again.remove(&key) else { continue };
            let (first, host) = &key;
            let has_joined = self
                .sessions
                .get(first)
                .and_then(|entry| entry.session.as_ref())
                .is_none_or(|session| session.theirs_proven(host) || session.ours_proven(host));
            let retiring = |id: &SessionId| self.sessions.get(id).is_none_or(|entry| entry.retiring);
            if has_joined || retiring(first) || retiring(&proof.second) || self.proofs.contains_key(&key) {
                continue;
            }
            if !self.may_begin(*first) {
                self.rest(&key, proof, now);
                continue;
            }
            let (second, dialled) = (proof.second, proof.dialled);
            if let Some(entry) = self.sessions.get_mut(&second) {
                entry.purpose = Purpose::Proof { first: *first, host: host.clone(), dialled };
            }
            self.proofs.insert(key, Proof { until: now + ANSWER_WAIT, asked: false, ..proof });
            self.second_up(second, now);
        }
    }
}
