//! Hosts outside of a session's certificates: proven by mux secrets, so that they join the session (XEP-0451 section 3.2).
//!
//! A first session S1 stands between v, a domain of the verifier V, and p, one of the prover P, both proven there by
//! certificate. A further host n of P is proven on a second connection S2 by a certificate of its own. V hands a secret
//! over S2, P returns it on S1, and V lets S1 speak for n, both ways.
//!
//! ```text
//! a stanza waits to go TO n:     V dials S2 as (v -> n)   V: <mux host='p'>secret</mux>
//! a stanza waits to come FROM n: P dials S2 as (n -> v)   P: <authorize host='p' stream='s1'/>   V: <mux host='p'>...
//! then, on S1:                   P: <iq type='set' from='p' to='v'><mux>secret</mux></iq>        V: <iq type='result'/>
//! ```
//!
//! Nobody dials because of what a peer lists or asks for: only a stanza that waits makes us open S2. On S2 mux is not
//! negotiated, so that neither end takes it for a first session. What fails is the saving, never a stanza: a host that
//! can't be proven in time has a connection of its own, and that is remembered for a while.

use std::time::{Duration, Instant, SystemTime};

use super::{Action, Again, LaneId, PeerId, Router, SessionEntry, SessionId};
use crate::proto::mux::authorize::{self, Refused};
use crate::proto::mux::secret::Dialled;
use crate::proto::mux::verifier::ANSWER_WAIT;
use crate::proto::session::Session;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// How long it is remembered that a host could not be proven.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The pair that a first session was made for, and the id of its stream: what its secrets are bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Our domain of the first stream.
    pub ours: Domain,
    /// The peer's.
    pub theirs: Domain,
    /// The id in the receiving entity's last header of that stream.
    pub stream_id: String,
    /// Both ends may speak on it. Without that the answer to a secret could not come back.
    pub bidi: bool,
}

impl Anchor {
    /// From us to the peer.
    pub(super) fn route(&self) -> Route {
        Route::new(self.ours.clone(), self.theirs.clone())
    }
}

/// What a session was dialled for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To carry.
    Own,
    /// As the second connection of a proof.
    Proof { first: SessionId, host: Domain, dialled: Dialled },
}

/// What we are in a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A host of the peer's is proven to us.
    Verifier,
    /// A host of ours is proven to the peer.
    Prover,
}

impl Role {
    /// The word, as it stands in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verifier => "verifier",
            Self::Prover => "prover",
        }
    }
}

/// A proof under way.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) second: SessionId,
    /// Both ends dialled one, and this is the other.
    pub(super) other: Option<SessionId>,
    /// The lane of S2 on which its elements go.
    pub(super) lane: LaneId,
    pub(super) dialled: Dialled,
    /// When the host's own certificate ends, once it is known.
    pub(super) not_after: Option<SystemTime>,
    /// When it was wished for.
    pub(super) began: Instant,
    /// How often a limit has stopped it.
    pub(super) stopped: u32,
    /// S2 is up, and the secret was asked for or made there.
    pub(super) asked: bool,
    /// S2 is up, and waits until then for a rival of S1.
    pub(super) held: Option<Instant>,
    pub(super) until: Instant,
}

impl Proof {
    pub(super) fn new(
        second: SessionId,
        lane: LaneId,
        dialled: Dialled,
        began: Instant,
        until: Instant,
    ) -> Self {
        let (other, not_after, held) = (None, None, None);
        Self { second, other, lane, dialled, not_after, began, stopped: 0, asked: false, held, until }
    }

    /// Whether we dialled S2 to ask for a secret on it.
    pub(super) fn is_our_wish(&self) -> bool {
        // Who makes secrets knows when the host's certificate ends.
        self.dialled == Dialled::ByProver && self.not_after.is_none()
    }
}

impl SessionEntry {
    /// The session and its first stream, if further hosts may join it: multiplexed, both of its domains proven by
    /// certificate, and both ends speak on it.
    pub(super) fn as_first(&self) -> Option<(&Session, &Anchor)> {
        let (session, anchor) = (self.session.as_ref()?, self.anchor.as_ref()?);
        let certified =
            session.ours_by_certificate(&anchor.ours) && session.theirs_by_certificate(&anchor.theirs);
        (session.is_multiplexed() && anchor.bidi && certified).then_some((session, anchor))
    }
}

impl Router {
    /// The relay ends. Lanes close as soon as they have nothing to carry, those on which proofs go among them, and no peer that would
    /// dial for one is let in. So what waits for a proof now, and what comes from now on, has a connection of its own.
    pub fn drains(&mut self, now: Instant) {
        self.drains = true;
        self.turns.clear();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            self.place_waiting(peer, now);
        }
    }

    /// Whether `route`, which no session carries, waits for proofs; those that are missing are begun.
    pub(super) fn waits_for_proof(&mut self, route: &Route, peer: PeerId, now: Instant) -> bool {
        if self.drains {
            return false;
        }
        let Some(first) = self.first_session(route, peer, now) else { return false };
        let Some(missing) = self.sessions.get(&first).and_then(|entry| {
            let session = entry.session.as_ref()?;
            let to = (!session.theirs_proven(&route.to)).then(|| (route.to.clone(), Dialled::ByVerifier));
            let from = (!session.ours_proven(&route.from)).then(|| (route.from.clone(), Dialled::ByProver));
            Some(to.into_iter().chain(from).collect::<Vec<_>>())
        }) else {
            return false;
        };
        if missing.is_empty() {
            // Both are proven, and something else stands against it.
            return false;
        }
        if let Some(entry) = self.sessions.get_mut(&first) {
            entry.joining.insert(peer);
        }
        for (host, dialled) in missing {
            self.want_proof(first, peer, host, dialled, now);
        }
        true
    }

    /// The session that `route` could join if its hosts were proven: of several the one with the smallest exporter
    /// value, at both ends alike.
    fn first_session(&self, route: &Route, peer: PeerId, now: Instant) -> Option<SessionId> {
        let may = |id: SessionId, entry: &SessionEntry| {
            // What a limit stopped goes on by itself, on the second connection that it has.
            let forgotten = |host: &Domain| {
                !self.is_remembered(peer, host, now) && !self.again.contains_key(&(id, host.clone()))
            };
            let (session, _) = entry.as_first()?;
            let usable = !entry.retiring && self.may_join(entry, peer, &route.to);
            // Only who dialled was shown a list. Who was dialled sees one on S2, before it hands anything out.
            let listed = !session.facts().dialled || session.lists(&route.to);
            let to = session.theirs_proven(&route.to) || (listed && forgotten(&route.to));
            let from = session.ours_proven(&route.from) || forgotten(&route.from);
            (usable && to && from).then_some(entry.exporter)
        };
        self.sessions.iter().filter_map(|(id, entry)| Some((may(*id, entry)?, *id))).min().map(|(_, id)| id)
    }

    /// Whether it is remembered that `host` could not be proven to or by `peer`.
    pub(super) fn is_remembered(&self, peer: PeerId, host: &Domain, now: Instant) -> bool {
        self.unproven.get(&(peer, host.clone())).is_some_and(|until| *until > now)
    }

    pub(super) fn begin(
        &mut self,
        first: SessionId,
        peer: PeerId,
        host: Domain,
        dialled: Dialled,
        now: Instant,
    ) {
        let Some(anchor) = self.sessions.get(&first).and_then(|entry| entry.anchor.clone()) else { return };
        let route = match dialled {
            Dialled::ByVerifier => Route::new(anchor.ours, host.clone()),
            Dialled::ByProver => Route::new(host.clone(), anchor.theirs),
        };
        // The verifier is where its own records lead, whoever the stanza is for.
        let peer = self.known_peer(&route.to, peer);
        let purpose = Purpose::Proof { first, host: host.clone(), dialled };
        let (second, lane) = self.new_session(&route, peer, purpose);
        let until = now + self.limits.connect + ANSWER_WAIT;
        let proof = Proof::new(second, lane, dialled, now, until);
        self.proofs.insert((first, host), proof);
        let role = if dialled == Dialled::ByVerifier { Role::Verifier } else { Role::Prover };
        self.actions.push(Action::ProofStarted { role });
        self.order_dial(peer, (second, lane), route, true, now);
    }

    /// S2 is up at the end that dialled it: go on with its proof.
    pub(super) fn second_up(&mut self, second: SessionId, now: Instant) {
        let Some(entry) = self.sessions.get(&second).filter(|entry| entry.session.is_some()) else { return };
        let Purpose::Proof { first, host, dialled } = entry.purpose.clone() else { return };
        let key = (first, host.clone());
        let goes_on = |proof: &Proof| proof.second == second && !proof.asked;
        if !self.proofs.get(&key).is_some_and(goes_on) || self.waits_for_rival(&key, now) {
            return;
        }
        let Some(session) = self.sessions.get(&second).and_then(|entry| entry.session.as_ref()) else {
            return;
        };
        let anchor = self.sessions.get(&first).and_then(|first| first.anchor.clone());
        let (Some(anchor), Some(proof)) = (anchor, self.proofs.get_mut(&key)) else { return };
        proof.until = now + ANSWER_WAIT;
        proof.asked = true;
        match dialled {
            Dialled::ByVerifier if session.theirs_by_certificate(&host) && session.lists(&anchor.theirs) => {
                proof.not_after = Some(session.facts().theirs.not_after);
                self.actions.push(Action::MakeSecret { first, host });
            }
            Dialled::ByProver if session.ours_by_certificate(&host) && session.offers_authorization() => {
                let mut octets = String::new();
                authorize::write_request(&mut octets, &anchor.ours, &anchor.stream_id);
                let lane = proof.lane;
                self.actions.push(Action::Post { lane, octets });
            }
            _ => self.proof_failed(&key, Reason::MuxRefused, now),
        }
    }

    /// Say that a host has joined a session.
    pub(super) fn granted(
        &mut self,
        session: SessionId,
        host: &Domain,
        until: SystemTime,
        ours: bool,
        now: Instant,
    ) {
        let proof = self.proofs.get(&(session, host.clone()));
        let took = proof.map(|proof| now.saturating_duration_since(proof.began));
        self.actions.push(Action::Granted { session, host: host.clone(), until, ours, took });
    }

    /// Say that a proof came to nothing.
    pub(super) fn refused(&mut self, session: Option<SessionId>, host: Option<Domain>, reason: Reason) {
        if reason == Reason::TooMany {
            self.actions.push(Action::LimitHit { limit: "grants" });
        }
        self.actions.push(Action::ProofRefused { session, host, reason });
    }

    /// What was granted to `session` until `until` or before has ended. The pairs concerned leave it at once and find
    /// another way; lanes of their own finish, one that is shared with others goes on with those.
    pub fn grants_end(&mut self, session: SessionId, until: SystemTime, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        let ended = entry.session.as_mut().map(|session| session.end_grants(until)).unwrap_or_default();
        let shared = entry.shares_lanes();
        let concerns = |route: &Route| ended.contains(&route.from) || ended.contains(&route.to);
        let mut leaving = Vec::new();
        for id in &entry.lanes {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            let own = !shared && lane.pair.as_ref().is_some_and(concerns);
            leaving.extend(lane.routes.iter().filter(|route| concerns(route)).cloned());
            lane.routes.retain(|route| !concerns(route));
            if own && !lane.closing {
                let reason = Reason::CertificateExpired;
                self.actions.push(Action::CloseLane { lane: *id, reason });
            }
        }
        self.detach_all(leaving, Again::AtOnce, Reason::CertificateExpired, now);
        self.place_waiting_of(session, now);
    }

    /// The host has joined the first session: the second drains to it, and whatever waited for it is placed.
    pub(super) fn joined(&mut self, first: SessionId, host: &Domain, now: Instant) {
        if let Some(proof) = self.proofs.remove(&(first, host.clone())) {
            for second in [Some(proof.second), proof.other].into_iter().flatten() {
                self.session_retires(second, now);
            }
        }
        for peer in self.peers_with(first, host) {
            self.place_waiting_with(peer, host, now);
        }
        self.next_turn(first, now);
    }

    pub(super) fn place_waiting_of(&mut self, session: SessionId, now: Instant) {
        for peer in self.peers_of(session) {
            self.place_waiting(peer, now);
        }
    }

    /// S2, which would have led to `peers`, did not come to be. A connection of its own would fail alike, so what is
    /// learnt from it counts for every pair that would make the same one: those between the host and a domain that the
    /// first session proves by certificate. Its proof has failed, if that didn't go over to a connection of the peer's.
    pub(super) fn second_unreached(
        &mut self,
        second: SessionId,
        peers: &[PeerId],
        key: &(SessionId, Domain),
        reason: Reason,
        now: Instant,
    ) {
        let (first, host) = key;
        for peer in peers {
            let Some(state) = self.peers.get_mut(peer) else { continue };
            if !reason.is_permanent() {
                state.retry.failed(reason, now, &self.limits, &mut self.jitter);
                continue;
            }
            let session = self.sessions.get(first).and_then(|entry| entry.session.as_ref());
            let same = |route: &&Route| {
                (route.to == *host && session.is_none_or(|session| session.ours_by_certificate(&route.from)))
                    || (route.from == *host
                        && session.is_none_or(|session| session.theirs_by_certificate(&route.to)))
            };
            let refused: Vec<Route> = state.waiting.iter().filter(same).cloned().collect();
            for route in refused {
                self.remember_refusal(*peer, &route, reason, now);
            }
        }
        if self.proofs.get(key).is_some_and(|proof| proof.second == second) {
            self.proof_failed(key, reason, now);
        }
    }

    /// A proof came to nothing: the host has a connection of its own, for a while.
    pub(super) fn proof_failed(&mut self, key: &(SessionId, Domain), reason: Reason, now: Instant) {
        let Some(proof) = self.proofs.remove(key) else { return };
        let concerned = self.peers_with(key.0, &key.1);
        if let Some(entry) = self.sessions.get_mut(&proof.second) {
            entry.purpose = Purpose::Own;
        }
        // What passes by itself is soon forgotten; a peer that refused would only refuse again.
        let refused = reason.is_permanent()
            || matches!(reason, Reason::MuxRefused | Reason::MuxTimeout | Reason::TooMany);
        let remembered = if refused { REMEMBERED } else { self.limits.retry_min };
        if reason == Reason::MuxBusy {
            self.rest(key, proof, now);
        }
        for peer in &concerned {
            // What was learnt before may last longer.
            let until = self.unproven.entry((*peer, key.1.clone())).or_insert(now);
            *until = (*until).max(now + remembered);
        }
        self.refused(Some(key.0), Some(key.1.clone()), reason);
        for peer in concerned {
            self.place_waiting_with(peer, &key.1, now);
        }
        self.next_turn(key.0, now);
    }

    /// The peer refused to make a secret on S2. Where we have asked for none that says nothing.
    pub fn secret_refused(&mut self, second: SessionId, refused: Refused, now: Instant) {
        let mut asked = self.proofs.iter().filter(|(_, proof)| proof.second == second && proof.is_our_wish());
        let key = asked.next().map(|(key, _)| key.clone());
        if let Some(key) = key {
            self.proof_failed(&key, refused.reason(), now);
        }
    }

    /// What is late has failed.
    pub(super) fn expire_proofs(&mut self, now: Instant) {
        let late: Vec<_> =
            self.proofs.iter().filter(|(_, p)| p.until <= now).map(|(key, _)| key.clone()).collect();
        for key in late {
            self.proof_failed(&key, Reason::MuxTimeout, now);
        }
        self.expire_returned(now);
        self.ask_held(now);
        self.ask_again(now);
        self.unproven.retain(|_, until| *until > now);
    }

    /// A session is gone, and the proofs with it that were made for it.
    pub(super) fn forget_proofs(&mut self, session: SessionId) {
        self.proofs.retain(|(first, _), _| *first != session);
        self.again.retain(|(first, _), rested| *first != session && rested.second() != session);
        self.turns.remove(&session);
        self.returned.retain(|_, returned| returned.first != session);
    }

    pub(super) fn proof_deadline(&self) -> Option<Instant> {
        let proofs = self.proofs.values().map(|proof| proof.until);
        let returned = self.returned.values().map(|returned| returned.until);
        let held = self.proofs.values().filter(|proof| !proof.asked).filter_map(|proof| proof.held);
        proofs.chain(held).chain(returned).chain(self.again.values().map(|rested| rested.at)).min()
    }
}
