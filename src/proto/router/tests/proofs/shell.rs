//! What the shell of an honest relay does: the router's actions, and what arrives, as `relay::{hub, place, carry}` do.

use super::world::{Arrival, What};
use super::*;
use crate::proto::mux::authorize::Authorization;
use crate::proto::mux::verifier::Clocks;
use crate::xmpp::element::Element;

impl World {
    /// Tell a router something, and do what it says.
    pub(super) fn tell<T>(&mut self, relay: usize, tell: impl FnOnce(&mut Router, Instant) -> T) -> T {
        self.relays[relay].note_wishes();
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
                self.truth_of_dial(relay, session, &route, second);
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
            Action::BounceAllButAnswers { route, .. } => {
                me.outlets.remove(&route);
                me.router.unwanted(&route);
            }
            Action::CloseLane { lane, reason } => {
                me.router.lane_closing(lane);
                let Some((conn, strand)) = me.lanes.get(&lane).map(|line| (line.conn, line.strand)) else {
                    return;
                };
                let end = usize::from(self.conns[conn].parties[0] != relay);
                self.send(conn, end, What::Closed { strand, gone: reason == Reason::HostGone });
                let at = now + Duration::from_millis(200);
                self.arrive(at, Arrival::On { conn, end, what: What::Closed { strand, gone: false } });
            }
            Action::MakeSecret { first, host } => self.make_secret(relay, first, &host),
            Action::Post { lane, octets } => self.post(relay, lane, octets),
            Action::Granted { session, host, until, ours, .. } => {
                self.granted(relay, session, host, until, ours)
            }
            Action::ProofRefused { session, host, reason } => {
                self.truth.refusals += 1;
                me.remember(session, host, reason);
            }
            Action::LimitHit { limit } => {
                self.truth.limits.insert(limit);
            }
            Action::ProofStarted { .. } | Action::ClockStepped { .. } => {}
            Action::CloseSession { session, .. } => {
                let Some((conn, end)) = me.sessions.get(&session).map(|held| (held.conn, held.end)) else {
                    return;
                };
                self.send(conn, end, What::Ended);
                self.arrive(now, Arrival::On { conn, end, what: What::Ended });
            }
        }
    }

    fn make_secret(&mut self, relay: usize, first: SessionId, host: &Domain) {
        let nonce = self.dice.octets();
        let clocks = Clocks { now: self.now, unix: self.unix(relay) };
        self.relays[relay].router.make_secret(first, host, nonce, clocks);
        for action in self.relays[relay].router.actions() {
            if let Action::Post { lane, octets } = &action {
                self.secret_made(relay, first, host, *lane, octets);
            }
            self.carry_out(relay, action);
        }
    }

    /// Only a stanza of our own server makes us dial, and for a proof only one to or from that very host.
    fn truth_of_dial(&self, relay: usize, session: SessionId, route: &Route, second: bool) {
        let mut wanted = self.relays[relay].wanted.iter();
        let good = wanted.any(|wants| match second {
            false => wants == route,
            true => wants.to == route.to || wants.from == route.from,
        });
        assert!(good, "relay {relay} dials {route}, and no server of its own asked for it");
        let me = &self.relays[relay];
        let begun = me.router.proofs.iter().find(|(_, proof)| proof.second == session);
        if let Some((key, _)) = begun.filter(|_| second) {
            let pinned = me.sessions.get(&key.0).map(|held| held.pinned.as_slice()).unwrap_or_default();
            let known = |peer: &PeerId| me.refused.contains(&(*peer, key.1.clone()));
            let again = !pinned.is_empty() && pinned.iter().all(known);
            assert!(!again, "relay {relay} tries {key:?} again, which was refused");
        }
    }

    fn dial(&mut self, relay: usize, peer: PeerId, ids: (SessionId, LaneId), route: Route, second: bool) {
        let meant = if peer == PEER { 1 - relay } else { ATTACKER };
        let party = self.redirected(meant, relay);
        let ours = self.cast.certificate(relay, &route.from);
        let mut theirs = self.cast.certificate(party, &route.to);
        if party == ATTACKER && self.dice.percent(30) {
            theirs = self.dice.pick(self.cast.certificates(ATTACKER)).cloned();
        }
        // As `identity::verifier` refuses a server whose certificate doesn't name it, or has ended.
        let theirs = theirs.filter(|shown| shown.covers(&route.to) && shown.not_after > self.wall(relay));
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
            let facts = Facts { second, ..held.machine.facts().clone() };
            held.machine = Session::new(facts).with_grants_max(self.relays[relay].limits.grants);
        }
        let mux = held.machine.wants().mux;
        let strand = self.strand(conn, 0, route);
        self.relays[relay].sessions.insert(ids.0, held);
        self.relays[relay].lanes.insert(ids.1, Line { conn, strand, scope: None });
        self.send(conn, 0, What::Opened { strand, mux });
    }

    pub(super) fn held(&mut self, relay: usize, conn: usize, end: usize, mut pinned: Vec<PeerId>) -> Held {
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
        let machine = Session::new(facts).with_grants_max(self.relays[relay].limits.grants);
        let left = machine.not_after().duration_since(self.wall(relay)).unwrap_or_default();
        Held { conn, end, machine, first: None, checked: ([None; 2], 0), pinned, ends: self.now + left }
    }

    /// A secret is on its way to the other end of `lane`: the rules by which it may be.
    fn secret_made(&mut self, relay: usize, first: SessionId, host: &Domain, lane: LaneId, octets: &str) {
        let element = Element::parse(octets.as_bytes()).unwrap();
        let Some(Authorization::Secret { prover, secret }) = Authorization::parse(&element).unwrap() else {
            return;
        };
        let me = &self.relays[relay];
        let Some(held) = me.sessions.get(&first) else {
            panic!("a secret for {host} on a session that is gone")
        };
        // On a stream that is gone it reaches nobody.
        let Some(line) = me.lanes.get(&lane) else { return };
        let (one, two) = (&self.conns[held.conn], &self.conns[line.conn]);
        let end = usize::from(two.parties[0] != relay);
        assert!(two.certificates[1 - end].covers(host), "a secret for {host} to who isn't proven for it");
        assert!(one.certificates[1 - held.end].covers(&prover), "{prover} isn't proven by certificate");
        assert!(
            held.conn != line.conn && !me.hosts.serves(host),
            "a secret for {host}, a host of ours or of S1"
        );
        assert!(held.machine.is_multiplexed(), "a secret for a session without mux");
        assert!(one.goes_both_ways(held), "a secret for a session that goes one way");
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
            second: line.conn,
            holder: two.parties[1 - end],
            host: host.clone(),
            prover,
            asker: anchor.ours,
            at: self.now,
            unix: self.unix(relay),
            not_after: two.certificates[1 - end].not_after,
            used: false,
        };
        let allowed = self.relays[relay].limits.proofs();
        self.truth.secret_made(secret, made, allowed);
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
                let held = &self.relays[relay].sessions[&session];
                assert!(held.machine.is_multiplexed(), "returned without mux");
                assert!(self.conns[conn].goes_both_ways(held), "returned where no answer can come");
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
            self.names_session(relay, (conn, strand), &octets);
        }
        if octets.starts_with("<iq type='result'") {
            self.truth.result_sent(conn, relay);
        }
        let end = usize::from(self.conns[conn].parties[0] != relay);
        self.send(conn, end, What::Text { strand, octets });
    }

    /// A relay asks for a secret with which the session of the stream that it names is to speak for a host of its own.
    fn names_session(&mut self, relay: usize, (second, strand): (usize, usize), octets: &str) {
        let element = Element::parse(octets.as_bytes()).unwrap();
        let named = element.attribute("stream").unwrap();
        let of = |held: &&Held| {
            held.first.is_some_and(|first| self.conns[held.conn].strands[first].stream_id == named)
        };
        let firsts = self.relays[relay].sessions.values().filter(of).map(|held| held.conn).collect();
        let host = self.conns[second].strands[strand].route.from.clone();
        self.truth.named.insert((second, host), firsts);
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

    /// Grants of a session have ended: as `relay::session::end_grants`.
    pub(super) fn grants_end(&mut self, relay: usize, session: SessionId, wall: SystemTime) {
        if let Some(held) = self.relays[relay].sessions.get_mut(&session) {
            held.machine.end_grants(wall);
            self.touched = true;
            self.tell(relay, |router, now| router.grants_end(session, wall, now));
        }
    }

    /// The other end no longer serves `host`: as `relay::proofs::host_is_gone`.
    pub(super) fn host_is_gone(&mut self, relay: usize, conn: usize, host: &Domain) {
        let Some(session) = self.relays[relay].session_of(conn) else { return };
        if let Some(held) = self.relays[relay].sessions.get_mut(&session) {
            held.machine.revoke_theirs(host);
        }
        self.truth.granted.remove(&(conn, relay, host.clone()));
        self.touched = true;
        self.tell(relay, |router, _| router.host_is_gone(session, host));
    }

    /// A message from one of our servers.
    pub(super) fn message(&mut self, relay: usize, route: &Route) {
        self.forward(relay, route, format!("<message from='{}' to='{}'/>", route.from, route.to));
    }

    /// A stanza of one of our servers is to go on.
    pub(super) fn forward(&mut self, relay: usize, route: &Route, octets: String) {
        truth::forwarded(&octets);
        let hosts = &self.relays[relay].hosts;
        if hosts.has_gone(&route.from) || hosts.has_gone(&route.to) {
            // As `relay::hub` bounces it.
            return;
        }
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

    pub(super) fn flush_lane(&mut self, relay: usize, lane: LaneId) {
        let outlets = self.relays[relay].outlets.iter();
        let routes: Vec<_> =
            outlets.filter(|(_, outlet)| outlet.lane == Some(lane)).map(|(route, _)| route.clone()).collect();
        for route in routes {
            self.flush(relay, &route);
        }
    }
}
