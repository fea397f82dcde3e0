//! What arrives at an honest relay, as `relay::{lane, place, carry}` deal with it.

use super::world::What;
use super::*;
use crate::proto::admission::{Direction, Proven, admit};
use crate::proto::mux::authorize::Authorization;
use crate::proto::mux::iq;
use crate::proto::mux::verifier::Clocks;
use crate::proto::session::StreamAuthority;
use crate::proto::stream::receiving::Authority as _;
use crate::xmpp::element::Element;
use crate::xmpp::stanza::domain_of;

impl World {
    /// Something arrives at an honest relay.
    pub(super) fn relay_hears(&mut self, relay: usize, conn: usize, end: usize, what: What) {
        match what {
            What::Opened { strand, mux } => self.opened(relay, conn, end, strand, mux),
            What::Taken { strand, learned } => {
                let mine = self.conns[conn].strands[strand].opener == end;
                let Some(lane) = self.relays[relay].lane_of(conn, strand).filter(|_| mine) else { return };
                self.conns[conn].listed[end].extend(learned.listed.iter().cloned());
                self.conns[conn].authorizes |= learned.authorize;
                self.proven(relay, conn, lane, learned);
                self.tell(relay, |router, now| router.lane_established(lane, now));
                self.flush_lane(relay, lane);
            }
            What::Refused { strand } => {
                let mine = self.conns[conn].strands[strand].opener == end;
                let Some(lane) = self.relays[relay].lane_of(conn, strand).filter(|_| mine) else { return };
                let me = &self.relays[relay];
                let up = me.session_of(conn).is_none_or(|id| me.sessions[&id].first.is_some());
                if !up {
                    return self.ended(relay, conn, end);
                }
                if self.relays[relay].lanes.remove(&lane).is_some_and(|line| line.scope.is_none()) {
                    let failure = LaneFailure::Other(Reason::InvalidFrom);
                    self.tell(relay, |router, now| router.lane_failed(lane, failure, now));
                } else {
                    self.tell(relay, |router, now| router.lane_down(lane, Reason::ConnectionLost, now));
                }
            }
            What::Text { strand, octets } => {
                if let Some(lane) = self.relays[relay].lane_of(conn, strand)
                    && !self.heard(relay, conn, lane, &octets)
                {
                    self.relays[relay].lanes.remove(&lane);
                    self.tell(relay, |router, now| router.lane_down(lane, Reason::InvalidFrom, now));
                    self.send(conn, end, What::Closed { strand, gone: false });
                }
            }
            What::Closed { strand, gone } => {
                let Strand { opener, route, .. } = &self.conns[conn].strands[strand];
                let host = (*opener == end && gone).then(|| route.to.clone());
                if let Some(lane) = self.relays[relay].lane_of(conn, strand) {
                    self.relays[relay].lanes.remove(&lane);
                    host.into_iter().for_each(|host| self.host_is_gone(relay, conn, &host));
                    self.tell(relay, |router, now| router.lane_down(lane, Reason::ConnectionLost, now));
                }
            }
            What::Ended => self.ended(relay, conn, end),
        }
    }

    pub(super) fn ended(&mut self, relay: usize, conn: usize, end: usize) {
        self.conns[conn].over[end] = true;
        self.send(conn, end, What::Ended);
        let me = &mut self.relays[relay];
        me.lanes.retain(|_, line| line.conn != conn);
        if let Some(session) = me.session_of(conn) {
            me.sessions.remove(&session);
            self.tell(relay, |router, now| router.session_down(session, Reason::ConnectionLost, now));
        }
    }

    /// The other end opened a stream.
    fn opened(&mut self, relay: usize, conn: usize, end: usize, strand: usize, mux: bool) {
        let Strand { opener, route, stream_id, .. } = &self.conns[conn].strands[strand];
        let (route, stream_id) = (route.clone(), stream_id.clone());
        if *opener == end || self.relays[relay].lane_of(conn, strand).is_some() {
            return;
        }
        let session = match self.relays[relay].session_of(conn) {
            Some(session) => session,
            None if self.conns[conn].certificates[1 - end].not_after <= self.wall(relay) => {
                // As `identity::verifier` refuses it.
                return self.send(conn, end, What::Refused { strand });
            }
            None => {
                let peer = usize::from(self.conns[conn].parties[1 - end] == ATTACKER);
                let held = self.held(relay, conn, end, vec![PeerId(peer)]);
                let session = self.relays[relay].router.fresh_session();
                self.relays[relay].sessions.insert(session, held);
                session
            }
        };
        self.calls(relay, conn, session, &route.to);
        let held = &self.relays[relay].sessions[&session];
        let authority = StreamAuthority { session: &held.machine, first: held.first.is_none() };
        if authority.offers(&route).is_err() {
            return self.send(conn, end, What::Refused { strand });
        }
        let listed = authority.host_list();
        let lane = self.relays[relay].router.fresh_lane();
        self.relays[relay].lanes.insert(lane, Line { conn, strand, scope: None });
        let learned = Learned { mux, stream_id: stream_id.clone(), ..Learned::default() };
        self.proven(relay, conn, lane, learned);
        let theirs = Learned { mux, pipelining: true, authorize: true, sm: true, stream_id, listed };
        self.send(conn, end, What::Taken { strand, learned: theirs });
        let (back, bidi) = (route.reversed(), self.conns[conn].strands[strand].bidi);
        self.tell(relay, |router, now| router.peer_lane_up(session, lane, &back, bidi, now));
        self.flush_lane(relay, lane);
    }

    /// The other end's header names `host`: as `relay::place::header_came`.
    fn calls(&mut self, relay: usize, conn: usize, session: SessionId, host: &Domain) {
        let me = &self.relays[relay];
        if me.hosts.serves(host) && !me.sessions[&session].machine.ours_proven(host) {
            let awaited = |me: &Relay| me.router.returned.keys().cloned().collect::<BTreeSet<String>>();
            let before = awaited(me);
            self.truth.calling = Some((conn, host.clone()));
            self.touched = true;
            self.tell(relay, |router, now| router.host_called(session, host, now));
            self.truth.calling = None;
            self.truth.taken = false;
            for answered in before.difference(&awaited(&self.relays[relay])) {
                self.truth.called(answered);
            }
        }
    }

    /// The other end of a stream is believed.
    fn proven(&mut self, relay: usize, conn: usize, lane: LaneId, learned: Learned) {
        let me = &mut self.relays[relay];
        let (Some(id), Some(line)) = (me.session_of(conn), me.lanes.get_mut(&lane)) else { return };
        let Strand { opener, route, bidi, .. } = &self.conns[conn].strands[line.strand];
        let Some(held) = me.sessions.get_mut(&id) else { return };
        let (stream_id, multiplexed) = (learned.stream_id.clone(), held.machine.is_multiplexed());
        held.machine.learn(learned);
        let initiating = *opener == held.end;
        line.scope = Some(held.machine.scope(route, initiating));
        let is_first = held.first.is_none();
        held.first.get_or_insert(line.strand);
        if is_first || held.machine.is_multiplexed() != multiplexed {
            let (ours, theirs) = if initiating { (&route.from, &route.to) } else { (&route.to, &route.from) };
            let anchor = Anchor { ours: ours.clone(), theirs: theirs.clone(), stream_id, bidi: *bidi };
            let [exporter, mux_exporter] = self.conns[conn].exporters;
            let facts = SessionFacts {
                pinned: held.pinned.clone(),
                place: place("192.0.2.1:5269"),
                exporter,
                mux_exporter,
                anchor,
            };
            let machine = held.machine.clone();
            self.touched = true;
            self.tell(relay, |router, now| router.session_up(id, machine, facts, now));
        }
    }

    /// Octets come on an established stream. Whether they are tolerated.
    fn heard(&mut self, relay: usize, conn: usize, lane: LaneId, octets: &str) -> bool {
        let me = &self.relays[relay];
        let (Some(session), Some(line)) = (me.session_of(conn), me.lanes.get(&lane)) else { return true };
        let Some(scope) = line.scope.clone() else { return true };
        let Ok(element) = Element::parse(octets.as_bytes()) else { return false };
        let Strand { opener, bidi, route, .. } = &self.conns[conn].strands[line.strand];
        let held = &me.sessions[&session];
        let initiating = *opener == held.end;
        // What follows from the session's grants is looked at for each stanza.
        let follows = matches!(scope.theirs, Proven::Session(..));
        let scope = if follows { held.machine.scope(route, initiating) } else { scope };
        if initiating && !bidi {
            // Nothing may come back on it (RFC 6120 section 4.5).
            return false;
        }
        let route = route.clone();
        if !matches!(element.name(), "iq" | "message") {
            return self.authorization(relay, session, lane, &route, &element);
        }
        let of = |name: &str| element.attribute(name).and_then(|text| Domain::parse(domain_of(text)).ok());
        let (Some(from), Some(to)) = (of("from"), of("to")) else { return false };
        match admit(&scope, &me.hosts, Direction::Inbound, &from, &to) {
            Ok(()) => {}
            // The other end may not have noticed yet: it is dropped, and the stream goes on.
            Err(Reason::InvalidFrom) if scope.theirs.has_ended(&from) => return true,
            Err(Reason::HostUnknown) if scope.ours.has_ended(&to) => return true,
            Err(_) => return false,
        }
        match tenant::relays_own(&element) {
            Some(Some(said)) => self.mux_iq(relay, conn, (session, lane), &said),
            Some(None) => {}
            None => {
                let now = (self.now, self.wall(relay));
                self.truth.stanza_taken(relay, &me.sessions[&session], &self.conns, &from, now);
                self.delivered(&to, octets);
            }
        }
        true
    }

    /// An IQ of connection authorization came on a connection.
    fn mux_iq(&mut self, relay: usize, conn: usize, (session, lane): (SessionId, LaneId), said: &MuxIq) {
        let clocks = Clocks { now: self.now, unix: self.unix(relay) };
        self.touched = true;
        self.truth.judging = Some((conn, said.clone()));
        let before = self.relays[relay].record(self.now);
        self.tell(relay, |router, _| router.mux_iq(session, lane, said, clocks));
        let me = &self.relays[relay];
        self.truth.judged(relay, me, session, clocks, &before);
    }

    fn authorization(
        &mut self,
        relay: usize,
        id: SessionId,
        lane: LaneId,
        pair: &Route,
        element: &Element,
    ) -> bool {
        match Authorization::parse(element) {
            Ok(Some(Authorization::Request { prover, stream_id })) => {
                let conn = self.relays[relay].sessions[&id].conn;
                self.truth.asking = Some((conn, prover.clone(), stream_id.clone()));
                self.tell(relay, |router, now| {
                    router.secret_requested(id, lane, pair, &prover, &stream_id, now)
                });
            }
            Ok(Some(Authorization::Secret { prover, secret })) => {
                let iq = format!("{}{}", iq::ID_PREFIX, self.dice.identifier());
                let host = if self.relays[relay].hosts.serves(&pair.to) { &pair.to } else { &pair.from };
                let held = &self.relays[relay].sessions[&id];
                let certificate = &self.conns[held.conn].certificates[held.end];
                self.truth.asked_for(&iq, host, held.conn, certificate, &secret, self.now);
                self.tell(relay, |router, now| router.secret_received(id, pair, &prover, &secret, iq, now));
            }
            Ok(Some(Authorization::Refused(refused))) => {
                self.tell(relay, |router, now| router.secret_refused(id, refused, now))
            }
            Ok(None) | Err(_) => return false,
        }
        true
    }
}
