//! The verifier's side of a proof: a secret is handed to a host of the peer's on a second connection, and judged when it
//! comes back on the session that is to speak for the host (XEP-0451 section 3.2).

use std::time::{Duration, Instant, SystemTime};

use super::proofs::{Anchor, Proof, Role};
use super::{Action, LaneId, Router, SessionId};
use crate::proto::mux::authorize::{self, Refused};
use crate::proto::mux::iq::{self, MuxIq};
use crate::proto::mux::secret::{Binding, Dialled, NONCE_BYTES};
use crate::proto::mux::verifier::{ANSWER_WAIT, Clocks, Denied, Granted, Offer, Refusal};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

impl Router {
    /// Make the secret for a proof, and send it on S2. `nonce` is fresh.
    pub fn make_secret(&mut self, first: SessionId, host: &Domain, nonce: [u8; NONCE_BYTES], clocks: Clocks) {
        let key = (first, host.clone());
        let Some(Proof { second, lane, dialled, .. }) = self.proofs.get(&key) else { return };
        let (lane, dialled) = (*lane, *dialled);
        let Some(second) = self.sessions.get(second).map(|entry| entry.mux_exporter) else { return };
        let Some(entry) = self.sessions.get_mut(&first) else { return };
        let Some(anchor) = entry.anchor.clone() else { return };
        let binding = Binding {
            dialled,
            verifier: anchor.ours,
            host: host.clone(),
            prover: anchor.theirs.clone(),
            stream_id: anchor.stream_id,
            first: entry.mux_exporter,
            second,
        };
        match entry.verifier.ask(&self.keys, binding, nonce, clocks) {
            Ok(secret) => {
                let mut octets = String::new();
                authorize::write_secret(&mut octets, &anchor.theirs, &secret);
                self.actions.push(Action::Post { lane, octets });
            }
            Err(Denied { reason, limit }) => {
                self.actions.extend(limit.map(|limit| Action::LimitHit { limit }));
                if dialled == Dialled::ByProver {
                    self.refuse_secret(lane, Refused::Busy);
                }
                self.proof_failed(&key, reason, clocks.now);
            }
        }
    }

    fn refuse_secret(&mut self, lane: LaneId, refused: Refused) {
        let mut octets = String::new();
        authorize::write_refused(&mut octets, refused);
        self.actions.push(Action::Post { lane, octets });
    }

    /// On S2, which the peer dialled from its host `pair.from`: it asks for a secret with which its session with the
    /// stream `stream_id`, where it is `prover`, is to speak for that host.
    pub fn secret_requested(
        &mut self,
        second: SessionId,
        lane: LaneId,
        pair: &Route,
        prover: &Domain,
        stream_id: &str,
        now: Instant,
    ) {
        let host = pair.from.clone();
        let known = self.sessions.get(&second).and_then(|entry| {
            let session = entry.session.as_ref()?;
            // On a connection that we dialled the peer's list is what counts, and the secret comes unasked.
            let theirs = !session.facts().dialled && session.theirs_by_certificate(&host);
            theirs.then_some(session.facts().theirs.not_after)
        });
        let named = |anchor: &Anchor| anchor.stream_id == stream_id && anchor.theirs == *prover;
        let first = self.sessions.iter().find(|(id, entry)| {
            let live = entry.as_first().is_some_and(|(_, anchor)| named(anchor));
            **id != second && live && !entry.retiring
        });
        let has_joined = first.is_some_and(|(_, entry)| {
            entry.session.as_ref().is_some_and(|session| session.theirs_proven(&host))
        });
        let first = first.map(|(id, _)| *id);
        let own = first.and_then(|first| self.proofs.get(&(first, host.clone())));
        let own = own.map(|proof| (proof.second, proof.dialled, proof.not_after.is_some()));
        // What ends because its rules no longer hold proves nothing any more.
        let finishing = self.lanes.get(&lane).is_some_and(|lane| lane.closing);
        let refused = match own {
            _ if known.is_none() => Some(Refused::NotProven),
            _ if first.is_none() => Some(Refused::NoSession),
            // It has asked already.
            Some((_, Dialled::ByProver, _)) => Some(Refused::Busy),
            // We began it too, and the secret is on its way or has come back already: that answers this.
            Some((_, Dialled::ByVerifier, true)) => return,
            None if has_joined => return,
            _ if finishing => Some(Refused::Busy),
            _ => None,
        };
        let (None, Some(first)) = (refused, first) else {
            self.refuse_secret(lane, refused.unwrap_or(Refused::NoSession));
            // Whoever names none is told of as the one who asked, and no more often than others are.
            self.refused(first.or(Some(second)), Some(host), Reason::MuxNoRequest);
            return;
        };
        let other = own.map(|(second, ..)| second);
        let proof = Proof::new(second, lane, Dialled::ByProver, now, now + ANSWER_WAIT);
        let proof = Proof { other, not_after: known, asked: true, ..proof };
        if self.proofs.insert((first, host.clone()), proof).is_none() {
            self.actions.push(Action::ProofStarted { role: Role::Verifier });
        }
        self.actions.push(Action::MakeSecret { first, host });
    }

    /// An IQ of this protocol came on `lane` of the session `first`. Whether it had a use: a secret that is refused has none, nor
    /// has an answer that nobody waits for.
    pub fn mux_iq(&mut self, first: SessionId, lane: LaneId, iq: &MuxIq, clocks: Clocks) -> bool {
        match iq {
            MuxIq::Offer { id, from, to, host, secret } => {
                let judged = self.judge(first, Offer { from, to, host: host.as_deref(), secret }, clocks);
                let mut octets = String::new();
                iq::write_answer(&mut octets, id, from, to, judged.is_ok());
                // The grant stands before the peer hears of it: what follows the answer is already admitted.
                self.actions.push(Action::Post { lane, octets });
                let Ok(host) = judged else { return false };
                self.joined(first, &host, clocks.now);
                true
            }
            MuxIq::Answer { id, from, to, granted } => {
                self.answered(first, id, (from, to), *granted, clocks.now)
            }
        }
    }

    fn judge(&mut self, first: SessionId, offer: Offer<'_>, clocks: Clocks) -> Result<Domain, Reason> {
        let keys = std::sync::Arc::clone(&self.keys);
        let entry = self.sessions.get_mut(&first).ok_or(Reason::MuxNoRequest)?;
        let judged = entry.verifier.judge(&keys, offer, clocks).and_then(|Granted { host, .. }| {
            let mut granted = || {
                let proof = self.proofs.get(&(first, host.clone())).ok_or(Reason::MuxNoRequest)?;
                let until = proof.not_after.ok_or(Reason::MuxNoRequest)?;
                if until <= SystemTime::UNIX_EPOCH + Duration::from_secs(clocks.unix) {
                    // While the secret was out.
                    return Err(Reason::CertificateExpired);
                }
                let session = entry.session.as_mut().ok_or(Reason::MuxNoRequest)?;
                session.grant_theirs(host.clone(), until).map(|()| until)
            };
            match granted() {
                Ok(until) => Ok((host, until)),
                Err(reason) => Err(Refusal { host: Some(host), ..reason.into() }),
            }
        });
        match judged {
            Ok((host, until)) => {
                self.granted(first, &host, until, false, clocks.now);
                Ok(host)
            }
            Err(Refusal { reason, host, clock_step }) => {
                if let Some(seconds) = clock_step {
                    self.actions.push(Action::ClockStepped { seconds });
                }
                let key = host.map(|host| (first, host)).filter(|key| self.proofs.contains_key(key));
                match key {
                    Some(key) => self.proof_failed(&key, reason, clocks.now),
                    None => self.refused(Some(first), None, reason),
                }
                Err(reason)
            }
        }
    }
}
