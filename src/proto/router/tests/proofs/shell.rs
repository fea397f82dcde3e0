//! What the shell of an honest relay does: the router's actions, and what arrives, as `relay::{hub, place, carry}` do.

use super::world::{Arrival, What};
use super::*;
use crate::proto::admission::{Direction, admit};
use crate::proto::mux::authorize::Authorization;
use crate::proto::mux::iq;
use crate::proto::mux::verifier::Clocks;
use crate::proto::session::StreamAuthority;
use crate::proto::stream::receiving::Authority as _;
use crate::xmpp::element::Element;
use crate::xmpp::stanza::domain_of;

impl World {
    /// Tell a router something, and do what it says.
    pub(super) fn tell<T>(&mut self, relay: usize, tell: impl FnOnce(&mut Router, Instant) -> T) -> T {
        let told = tell(&mut self.relays[relay].router, self.now);
        for _ in 0..10_000 {
            let actions = self.relays[relay].router.actions();
            if actions.is_empty() {
                return told;
            }
            for action in actions {
                self.carry_out(relay, action);
            }
        }
        panic!("the router and its shell talk for ever");
    }

    fn carry_out(&mut self, relay: usize, action: Action) {
        let now = self.now;
        let me = &mut self.relays[relay];
        match action {
            Action::Dial { peer, session, lane, route, second, .. } => {
                self.truth_of_dial(relay, &route, second);
                self.dial(relay, peer, (session, lane), route, second);
            }
            Action::Find { .. } => unreachable!("every peer is configured"),
            Action::OpenLane { session, lane, route, .. } => {
                let Some((conn, end, mux)) =
                    me.sessions.get(&session).map(|s| (s.conn, s.end, s.machine.wants().mux))
                else {
                    return me.router.lane_down(lane, Reason::ConnectionLost, now);
                };
                let strand = self.strand(conn, end, route);
                self.relays[relay].lanes.insert(lane, Line { conn, strand, scope: None });
                self.send(conn, end, What::Opened { strand, mux });
            }
            Action::OpenLocal { lane, .. } => me.router.local_lane_established(lane, now),
            Action::Attach { route, lane } => {
                me.outlets.entry(route.clone()).or_default().lane = Some(lane);
                self.flush(relay, &route);
            }
            Action::Detach { route } => {
                let waits = me.outlets.get_mut(&route).is_some_and(|outlet| {
                    outlet.lane = None;
                    !outlet.waiting.is_empty()
                });
                if waits { me.router.want(&route, now) } else { me.router.unwanted(&route) }
            }
            Action::Expire { route, .. } => {
                me.outlets.remove(&route);
                me.router.rearm(&route, None, now);
            }
            Action::Bounce { route, .. } => drop(me.outlets.remove(&route)),
            Action::CloseLane { lane, .. } => {
                me.router.lane_closing(lane);
                let Some((conn, strand)) = me.lanes.get(&lane).map(|line| (line.conn, line.strand)) else {
                    return;
                };
                let end = usize::from(self.conns[conn].parties[0] != relay);
                self.send(conn, end, What::Closed { strand });
                let at = now + Duration::from_millis(200);
                self.arrive(at, Arrival::On { conn, end, what: What::Closed { strand } });
            }
            Action::MakeSecret { first, host } => {
                let nonce = self.dice.octets();
                let clocks = Clocks { now, unix: self.unix(relay) };
                self.relays[relay].router.make_secret(first, &host, nonce, clocks);
                for action in self.relays[relay].router.actions() {
                    if let Action::Post { lane, octets } = &action {
                        self.secret_made(relay, first, &host, *lane, octets);
                    }
                    self.carry_out(relay, action);
                }
            }
            Action::Post { lane, octets } => self.post(relay, lane, octets),
            Action::Granted { session, host, until, ours, .. } => {
                self.granted(relay, session, host, until, ours)
            }
            Action::ProofRefused { .. } => self.truth.refusals += 1,
            Action::ProofStarted { .. } | Action::LimitHit { .. } | Action::ClockStepped { .. } => {}
            Action::CloseSession { session, .. } => {
                let Some((conn, end)) = me.sessions.get(&session).map(|held| (held.conn, held.end)) else {
                    return;
                };
                self.send(conn, end, What::Ended);
                self.arrive(now, Arrival::On { conn, end, what: What::Ended });
            }
        }
    }

    /// Only a stanza of our own server makes us dial, and for a proof only one to or from that very host.
    fn truth_of_dial(&self, relay: usize, route: &Route, second: bool) {
        let mut wanted = self.relays[relay].wanted.iter();
        let good = wanted.any(|wants| match second {
            false => wants == route,
            true => wants.to == route.to || wants.from == route.from,
        });
        assert!(good, "relay {relay} dials {route}, and no server of its own asked for it");
    }

    fn dial(&mut self, relay: usize, peer: PeerId, ids: (SessionId, LaneId), route: Route, second: bool) {
        let meant = if peer == PEER { 1 - relay } else { ATTACKER };
        let party = self.redirected(meant, relay);
        let ours = self.cast.certificate(relay, &route.from);
        let mut theirs = self.cast.certificate(party, &route.to);
        if party == ATTACKER && self.dice.percent(30) {
            theirs = self.dice.pick(self.cast.certificates(ATTACKER)).cloned();
        }
        // As `identity::verifier` refuses a server whose certificate doesn't name it.
        let theirs = theirs.filter(|shown| shown.covers(&route.to));
        let life = self.relays[relay].life;
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            let at = self.now + Duration::from_millis(100);
            return self.arrive(at, Arrival::DialFailed { relay, life, session: ids.0 });
        };
        let conn = self.connect([relay, party], [ours, theirs]);
        let mut held = self.held(relay, conn, 0, vec![peer]);
        let Facts { second: marked, .. } = held.machine.facts().clone();
        assert!(!marked);
        if second {
            held.machine = Session::new(Facts { second, ..held.machine.facts().clone() });
        }
        let mux = held.machine.wants().mux;
        let strand = self.strand(conn, 0, route);
        self.relays[relay].sessions.insert(ids.0, held);
        self.relays[relay].lanes.insert(ids.1, Line { conn, strand, scope: None });
        self.send(conn, 0, What::Opened { strand, mux });
    }

    fn held(&mut self, relay: usize, conn: usize, end: usize, mut pinned: Vec<PeerId>) -> Held {
        if self.same_address {
            pinned = vec![PeerId(0), PeerId(1)];
        }
        let certificates = &self.conns[conn].certificates;
        let facts = Facts {
            hosts: Arc::clone(&self.relays[relay].hosts),
            theirs: Arc::clone(&certificates[1 - end]),
            ours: Arc::clone(&certificates[end]),
            dialled: end == 0,
            lanes: Lanes::PerPair,
            single: false,
            dialback: false,
            announce_all: false,
            second: false,
        };
        Held { conn, end, machine: Session::new(facts), up: false, checked: [None; 2], pinned }
    }

    /// A secret is on its way to the other end of `lane`: the rules by which it may be.
    fn secret_made(&mut self, relay: usize, first: SessionId, host: &Domain, lane: LaneId, octets: &str) {
        let element = Element::parse(octets.as_bytes()).unwrap();
        let Some(Authorization::Secret { prover, secret }) = Authorization::parse(&element).unwrap() else {
            return;
        };
        let me = &self.relays[relay];
        // On a stream that is gone it reaches nobody.
        let (Some(held), Some(line)) = (me.sessions.get(&first), me.lanes.get(&lane)) else { return };
        let (one, two) = (&self.conns[held.conn], &self.conns[line.conn]);
        let end = usize::from(two.parties[0] != relay);
        assert!(two.certificates[1 - end].covers(host), "a secret for {host} to who isn't proven for it");
        assert!(one.certificates[1 - held.end].covers(&prover), "{prover} isn't proven by certificate");
        assert!(
            held.conn != line.conn && !me.hosts.serves(host),
            "a secret for {host}, a host of ours or of S1"
        );
        assert!(held.machine.is_multiplexed(), "a secret for a session without mux");
        let anchor = me.router.sessions[&first].anchor.clone().unwrap();
        if two.strands[line.strand].opener == end {
            assert!(two.listed[0].contains(&prover), "{host} doesn't list {prover}");
            assert!(held.end == 1 || one.listed[0].contains(host), "{prover} doesn't list {host}");
        } else {
            // Who asks for itself needs no list, but dials, and says for which session.
            assert_eq!(end, 1, "a secret was asked for where the verifier had dialled");
            let named = Some((line.conn, prover.clone(), anchor.stream_id));
            assert_eq!(self.truth.asking, named, "a secret for another session than was named");
        }
        let made = truth::Made {
            verifier: relay,
            life: me.life,
            first: held.conn,
            holder: two.parties[1 - end],
            host: host.clone(),
            prover,
            asker: anchor.ours,
            at: self.now,
            unix: self.unix(relay),
            not_after: two.certificates[1 - end].not_after,
            used: false,
        };
        self.truth.secret_made(secret, made);
    }

    fn post(&mut self, relay: usize, lane: LaneId, octets: String) {
        let Some((conn, strand)) = self.relays[relay].lanes.get(&lane).map(|line| (line.conn, line.strand))
        else {
            return;
        };
        if let Some(iq) = Element::parse(octets.as_bytes()).ok().as_ref().and_then(MuxIq::read) {
            let route = &self.conns[conn].strands[strand].route;
            if let MuxIq::Offer { from, to, .. } = &iq {
                let session = self.relays[relay].session_of(conn).unwrap();
                assert!(
                    self.relays[relay].sessions[&session].machine.is_multiplexed(),
                    "returned without mux"
                );
                let pair = [route, &route.reversed()].map(|r| (r.from.to_string(), r.to.to_string()));
                assert!(
                    pair.contains(&(from.clone(), to.clone())),
                    "{octets} was returned on a stream of {route}"
                );
            }
            self.truth.relay_sends(conn, relay, &iq, &self.conns, self.now);
            self.truth.iq_sent(conn, relay, &iq);
        }
        if octets.starts_with("<authorize") {
            assert!(self.conns[conn].authorizes, "asked for a secret where none is made");
        }
        if octets.starts_with("<iq type='result'") {
            self.truth.result_sent(conn, relay);
        }
        let end = usize::from(self.conns[conn].parties[0] != relay);
        self.send(conn, end, What::Text { strand, octets });
    }

    fn granted(&mut self, relay: usize, session: SessionId, host: Domain, until: SystemTime, ours: bool) {
        let times = (self.now, self.unix(relay));
        let me = &mut self.relays[relay];
        let life = me.life;
        let Some(held) = me.sessions.get_mut(&session) else { return };
        let (conn, end) = (held.conn, held.end);
        if ours {
            held.machine.grant_ours(host.clone(), until).unwrap();
            let verifier = self.conns[conn].parties[1 - end];
            self.truth.joined((conn, verifier), &host, until, self.now);
        } else {
            held.machine.grant_theirs(host.clone(), until).unwrap();
            let Conn { parties, certificates, .. } = &self.conns[conn];
            let holder = parties[1 - end];
            self.truth.judge((conn, holder), (relay, life), &host, until, &certificates[1 - end], times);
        }
    }

    /// A message from one of our servers.
    pub(super) fn message(&mut self, relay: usize, route: &Route) {
        self.forward(relay, route, format!("<message from='{}' to='{}'/>", route.from, route.to));
    }

    /// A stanza of one of our servers is to go on.
    pub(super) fn forward(&mut self, relay: usize, route: &Route, octets: String) {
        truth::forwarded(&octets);
        self.relays[relay].wanted.insert(route.clone());
        let outlet = self.relays[relay].outlets.entry(route.clone()).or_default();
        outlet.waiting.push(octets);
        if outlet.lane.is_none() {
            self.tell(relay, |router, now| router.want(route, now));
        }
        self.flush(relay, route);
    }

    fn flush(&mut self, relay: usize, route: &Route) {
        let me = &mut self.relays[relay];
        let Some(outlet) = me.outlets.get_mut(route) else { return };
        let Some(line) = outlet.lane.and_then(|lane| me.lanes.get(&lane)).filter(|line| line.scope.is_some())
        else {
            if outlet.lane.is_some() && me.hosts.serves(&route.to) {
                outlet.waiting.clear();
            }
            return;
        };
        let (conn, strand) = (line.conn, line.strand);
        let waiting = std::mem::take(&mut outlet.waiting);
        let end = usize::from(self.conns[conn].parties[0] != relay);
        for octets in waiting.into_iter().take(3) {
            self.send(conn, end, What::Text { strand, octets });
        }
    }

    fn flush_lane(&mut self, relay: usize, lane: LaneId) {
        let outlets = self.relays[relay].outlets.iter();
        let routes: Vec<_> =
            outlets.filter(|(_, outlet)| outlet.lane == Some(lane)).map(|(route, _)| route.clone()).collect();
        for route in routes {
            self.flush(relay, &route);
        }
    }

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
                let up =
                    self.relays[relay].session_of(conn).is_none_or(|id| self.relays[relay].sessions[&id].up);
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
                    self.send(conn, end, What::Closed { strand });
                }
            }
            What::Closed { strand } => {
                if let Some(lane) = self.relays[relay].lane_of(conn, strand) {
                    self.relays[relay].lanes.remove(&lane);
                    self.tell(relay, |router, now| router.lane_down(lane, Reason::ConnectionLost, now));
                }
            }
            What::Ended => self.ended(relay, conn, end),
        }
    }

    fn ended(&mut self, relay: usize, conn: usize, end: usize) {
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
        let Strand { opener, route, stream_id } = &self.conns[conn].strands[strand];
        let (route, stream_id) = (route.clone(), stream_id.clone());
        if *opener == end || self.relays[relay].lane_of(conn, strand).is_some() {
            return;
        }
        let session = match self.relays[relay].session_of(conn) {
            Some(session) => session,
            None => {
                let peer = usize::from(self.conns[conn].parties[1 - end] == ATTACKER);
                let held = self.held(relay, conn, end, vec![PeerId(peer)]);
                let session = self.relays[relay].router.fresh_session();
                self.relays[relay].sessions.insert(session, held);
                session
            }
        };
        let held = &self.relays[relay].sessions[&session];
        let authority = StreamAuthority { session: &held.machine, first: !held.up };
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
        let back = route.reversed();
        self.tell(relay, |router, now| router.peer_lane_up(session, lane, &back, true, now));
        self.flush_lane(relay, lane);
    }

    /// The other end of a stream is believed.
    fn proven(&mut self, relay: usize, conn: usize, lane: LaneId, learned: Learned) {
        let me = &mut self.relays[relay];
        let (Some(id), Some(line)) = (me.session_of(conn), me.lanes.get_mut(&lane)) else { return };
        let Strand { opener, route, .. } = &self.conns[conn].strands[line.strand];
        let Some(held) = me.sessions.get_mut(&id) else { return };
        let (stream_id, multiplexed) = (learned.stream_id.clone(), held.machine.is_multiplexed());
        held.machine.learn(learned);
        let initiating = *opener == held.end;
        line.scope = Some(held.machine.scope(route, initiating));
        if !std::mem::replace(&mut held.up, true) || held.machine.is_multiplexed() != multiplexed {
            let (ours, theirs) = if initiating { (&route.from, &route.to) } else { (&route.to, &route.from) };
            let anchor = Anchor { ours: ours.clone(), theirs: theirs.clone(), stream_id, bidi: true };
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
        let route = self.conns[conn].strands[line.strand].route.clone();
        if !matches!(element.name(), "iq" | "message") {
            return self.authorization(relay, session, lane, &route, &element);
        }
        let of = |name: &str| element.attribute(name).and_then(|text| Domain::parse(domain_of(text)).ok());
        let (Some(from), Some(to)) = (of("from"), of("to")) else { return false };
        if admit(&scope, &me.hosts, Direction::Inbound, &from, &to).is_err() {
            return false;
        }
        match tenant::relays_own(&element) {
            Some(Some(said)) => self.mux_iq(relay, conn, (session, lane), &said),
            Some(None) => {}
            None => {
                self.truth.stanza_taken(relay, &me.sessions[&session], &self.conns, &from);
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
        self.tell(relay, |router, _| router.mux_iq(session, lane, said, clocks));
        self.truth.judged(relay, self.relays[relay].life, clocks);
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
