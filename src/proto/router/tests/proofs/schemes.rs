//! What the attacker undertakes by itself: connections, streams, proofs of its own hosts and of others'.

use super::world::{Arrival, Strand, What};
use super::*;
use crate::proto::mux::authorize;
use crate::proto::mux::secret::SECRET_BYTES_MAX;

impl World {
    pub(super) fn attacker_dials(&mut self) {
        // Proofs need several connections to the same relay: mostly it is this one.
        let relay = if self.dice.percent(75) { self.attacker.target } else { self.dice.below(2) };
        let all: Vec<_> = self.cast.names(relay).into_iter().collect();
        let to = if self.dice.percent(50) { all[0].clone() } else { all[self.dice.below(all.len())].clone() };
        let certificates = self.cast.certificates(ATTACKER).to_vec();
        let which = if self.dice.percent(40) { 0 } else { self.dice.below(certificates.len()) };
        let ours = Arc::clone(&certificates[which]);
        let Some(theirs) = self.cast.certificate(relay, &to) else { return };
        let names: Vec<_> = ours.exact.iter().cloned().collect();
        let from =
            if self.dice.percent(90) { names[self.dice.below(names.len())].clone() } else { self.any_name() };
        let new = ([ATTACKER, relay], [ours, theirs], Route::new(from, to));
        let like = if self.dice.percent(35) { self.like_another() } else { None };
        let (parties, certificates, route) = like.unwrap_or(new);
        let conn = self.connect(parties, certificates);
        let mux = self.dice.percent(75);
        self.attacker_opens(conn, 0, route, mux);
    }

    /// Once more what the attacker has dialled, or that with another name at one end.
    fn like_another(&mut self) -> Option<([usize; 2], [Arc<CertifiedNames>; 2], Route)> {
        let (like, _) = self.own_session().filter(|(_, end)| *end == 0)?;
        let Conn { parties, certificates, strands, .. } = &self.conns[like];
        let (parties, certificates, mut route) = (*parties, certificates.clone(), strands[0].route.clone());
        let end = self.dice.below(4);
        if let Some(names) = certificates.get(end) {
            let names: Vec<_> = names.exact.iter().cloned().collect();
            let name = self.dice.pick(&names).cloned()?;
            *(if end == 0 { &mut route.from } else { &mut route.to }) = name;
        }
        Some((parties, certificates, route))
    }

    /// One more stream: like the first with another name at one end, or for a pair that the certificates prove, or that
    /// somebody may have joined, or any.
    pub(super) fn attacker_opens_another(&mut self) {
        let ends = self.own_ends();
        let Some((conn, end)) = self.dice.pick(&ends).copied() else { return };
        let [ours, theirs] = [end, 1 - end].map(|end| Arc::clone(&self.conns[conn].certificates[end]));
        let of = |names: &CertifiedNames| names.exact.iter().cloned().collect::<Vec<_>>();
        let first = self.conns[conn].strands.first().map(|first| Self::called(first, end));
        let (mut from, mut to) = first.unwrap_or_else(|| (self.some_name(), self.some_host().1));
        match self.dice.below(10) {
            0..4 => from = self.dice.pick(&of(&ours)).cloned().unwrap_or(from),
            4..6 => from = self.own_name(),
            6..8 => to = self.dice.pick(&of(&theirs)).cloned().unwrap_or(to),
            8 => to = self.some_host().1,
            _ => (from, to) = (self.some_name(), self.some_host().1),
        }
        let mux = self.dice.percent(50);
        self.attacker_opens(conn, end, Route::new(from, to), mux);
    }

    fn attacker_opens(&mut self, conn: usize, end: usize, route: Route, mux: bool) {
        let strand = self.strand(conn, end, route);
        self.conns[conn].strands[strand].bidi = self.dice.percent(95);
        self.send(conn, end, What::Opened { strand, mux });
    }

    /// What an end of a connection is called there, and the other end, on a stream.
    pub(super) fn called(strand: &Strand, end: usize) -> (Domain, Domain) {
        let Route { from, to } = strand.route.clone();
        if strand.opener == end { (from, to) } else { (to, from) }
    }

    /// A connection of the attacker's on which something was said.
    fn own_session(&mut self) -> Option<(usize, usize)> {
        let used = |(conn, _): &(usize, usize)| !self.conns[*conn].strands.is_empty();
        let sessions: Vec<_> = self.own_ends().into_iter().filter(used).collect();
        self.dice.pick(&sessions).copied()
    }

    /// To be asked for on a second connection: that the host of that connection join `conn`; often with one thing wrong.
    fn request(&mut self, conn: usize, end: usize) -> String {
        let Strand { stream_id, .. } = &self.conns[conn].strands[0];
        let (mut prover, mut stream_id) =
            (Self::called(&self.conns[conn].strands[0], end).0, stream_id.clone());
        match self.dice.below(12) {
            0 => prover = self.own_name(),
            1 => stream_id = self.dice.pick(&self.attacker.streams).cloned().unwrap_or_default(),
            2 => {
                // A name that may itself have joined there.
                let joined = self.attacker.returned.iter().filter(|(on, _)| *on == conn);
                let joined: Vec<_> = joined.map(|(_, host)| host.clone()).collect();
                prover = self.dice.pick(&joined).cloned().unwrap_or(prover);
            }
            _ => {}
        }
        let mut octets = String::new();
        authorize::write_request(&mut octets, &prover, &stream_id);
        octets
    }

    /// Do what an honest relay would do to have a host of its own join a session of its own; often with one thing wrong.
    pub(super) fn prove_something(&mut self) {
        if self.attacker.joins && self.dice.percent(60) {
            return self.use_what_joined();
        }
        let Some((conn, end)) = self.own_session() else { return };
        let request = self.request(conn, end);
        // A stream of another connection with the same relay, for another host.
        let relay = self.conns[conn].parties[1 - end];
        let fits = |(other, end): &(usize, usize)| {
            let it = &self.conns[*other];
            *other != conn && it.parties[1 - end] == relay && !it.strands.is_empty()
        };
        let seconds: Vec<_> = self.own_ends().into_iter().filter(fits).collect();
        if relay != ATTACKER && (seconds.is_empty() || self.dice.percent(30)) {
            let ours = self.dice.pick(self.cast.certificates(ATTACKER)).cloned();
            return ours.into_iter().for_each(|ours| self.attacker_dials_second(relay, ours, &request));
        }
        let Some((second, end)) = self.dice.pick(&seconds).copied() else { return };
        let strands = self.conns[second].strands.len();
        let strand = if self.dice.percent(40) { 0 } else { self.dice.below(strands) };
        let mut requests = vec![request; 1 + self.dice.below(5) / 4];
        // And perhaps to join another session with this relay as well.
        let others = self.own_ends().into_iter().filter(|(other, end)| {
            let it = &self.conns[*other];
            ![conn, second].contains(other) && it.parties[1 - end] == relay && !it.strands.is_empty()
        });
        let others: Vec<_> = others.collect();
        if self.dice.percent(40)
            && let Some((other, end)) = self.dice.pick(&others).copied()
        {
            requests.push(self.request(other, end));
        }
        for octets in requests {
            self.send(second, end, What::Text { strand, octets });
        }
    }

    /// What has joined one session by secret is to join another, with the first of them as its second connection.
    fn use_what_joined(&mut self) {
        let (ends, secret) = (self.own_ends(), self.some_secret().0);
        let Some((first, end)) = self.own_session() else { return };
        let (ours, theirs) = Self::called(&self.conns[first].strands[0], end);
        let (relay, request) = (self.conns[first].parties[1 - end], self.request(first, end));
        let mut handed = String::new();
        authorize::write_secret(&mut handed, &theirs, &secret);
        let end_of = |conn: usize| {
            let mut there = ends.iter().filter(|(other, _)| *other == conn && conn != first);
            there.find(|(_, end)| self.conns[conn].parties[1 - end] == relay).map(|(_, end)| *end)
        };
        let own = self
            .attacker
            .returned
            .iter()
            .map(|(conn, host)| (*conn, Route::new(host.clone(), theirs.clone()), &request));
        let others = self
            .truth
            .accepted
            .keys()
            .map(|(conn, host)| (*conn, Route::new(ours.clone(), host.clone()), &handed));
        let ways: Vec<_> = own
            .chain(others)
            .filter_map(|(conn, route, octets)| Some((conn, end_of(conn)?, route, octets.clone())))
            .collect();
        let Some((conn, end, route, octets)) = self.dice.pick(&ways).cloned() else { return };
        let strand = self.conns[conn].strands.len();
        self.attacker_opens(conn, end, route, false);
        let what = What::Text { strand, octets };
        self.arrive(self.now + Duration::from_millis(150), Arrival::On { conn, end: 1 - end, what });
    }

    /// The name that it shares is taken away from its owner for a while: it is to join a session there. Whether it is.
    pub(super) fn take_what_nobody_serves(&mut self) -> bool {
        let shared = domain(SHARED);
        let lacks = |relay: usize| {
            self.cast.names(relay).contains(&shared) && !self.relays[relay].hosts.serves(&shared)
        };
        let Some(relay) = (0..2).find(|relay| lacks(*relay)) else { return false };
        let alone =
            self.cast.certificates(ATTACKER).iter().find(|it| it.exact.len() == 1 && it.covers(&shared));
        let fits = |(conn, end): &(usize, usize)| {
            let Conn { parties, certificates, strands, .. } = &self.conns[*conn];
            parties[1 - end] == relay && !strands.is_empty() && !certificates[*end].covers(&shared)
        };
        let firsts: Vec<_> = self.own_ends().into_iter().filter(fits).collect();
        let (Some(alone), Some((conn, end))) = (alone.cloned(), self.dice.pick(&firsts).copied()) else {
            return false;
        };
        let request = self.request(conn, end);
        self.attacker_dials_second(relay, alone, &request);
        true
    }

    /// Every host of the attacker's is to join one session, at once.
    pub(super) fn prove_everything(&mut self) {
        let Some((conn, end)) = self.own_session() else { return };
        let (relay, request) = (self.conns[conn].parties[1 - end], self.request(conn, end));
        if relay != ATTACKER {
            for ours in self.cast.certificates(ATTACKER).to_vec() {
                self.attacker_dials_second(relay, ours, &request);
            }
        }
    }

    /// A connection for one more host of the attacker's, on which `request` follows; and for another of its certificate.
    fn attacker_dials_second(&mut self, relay: usize, ours: Arc<CertifiedNames>, request: &str) {
        let theirs = Arc::clone(&self.cast.certificates(relay)[0]);
        let Some(to) = theirs.exact.first().cloned() else { return };
        let hosts: Vec<_> = ours.exact.iter().cloned().collect();
        let conn = self.connect([ATTACKER, relay], [ours, theirs]);
        let (mux, more) = (self.dice.percent(20), if self.dice.percent(30) { 2 } else { 1 });
        for (strand, host) in hosts.into_iter().take(more).enumerate() {
            self.attacker_opens(conn, 0, Route::new(host, to.clone()), mux);
            let what = What::Text { strand, octets: request.to_owned() };
            self.arrive(self.now + Duration::from_millis(150), Arrival::On { conn, end: 1, what });
        }
    }

    /// Do what an honest relay would do to let a host of the other end's join a session with it.
    pub(super) fn hand_something(&mut self) {
        let ends = self.own_ends();
        let Some((conn, end)) = self.dice.pick(&ends).copied() else { return };
        let Some(first) = self.conns[conn].strands.first() else { return };
        let (verifier, prover) = Self::called(first, end);
        let relay = self.conns[conn].parties[1 - end];
        // Streams of other connections with the same relay, where the attacker has the same name.
        let fits = |(other, end): &(usize, usize)| {
            let (other, end, it) = (*other, *end, &self.conns[*other]);
            let there = other != conn && it.parties[1 - end] == relay;
            let same =
                it.strands.iter().enumerate().filter(|(_, strand)| Self::called(strand, end).0 == verifier);
            same.map(|(strand, _)| (other, end, strand)).filter(|_| there).collect::<Vec<_>>()
        };
        let seconds: Vec<_> = ends.iter().flat_map(fits).collect();
        if let Some((second, end, strand)) = self.dice.pick(&seconds).copied() {
            let prover = if self.dice.percent(90) { prover } else { self.any_name() };
            self.hand(second, end, strand, &prover);
        }
    }

    pub(super) fn hand(&mut self, conn: usize, end: usize, strand: usize, prover: &Domain) {
        // One that another relay had made for the same prover, or any.
        let known = self.attacker.secrets.iter().rev().filter(|(_, of)| of == prover).take(3);
        let known: Vec<_> = known.map(|(secret, _)| secret.clone()).collect();
        let known = self.dice.pick(&known).filter(|_| self.dice.percent(60)).cloned();
        let mut secret = known.unwrap_or_else(|| self.some_secret().0);
        if self.dice.percent(2) {
            secret = "A".repeat(SECRET_BYTES_MAX + 1);
        }
        let mut octets = String::new();
        authorize::write_secret(&mut octets, prover, &secret);
        self.send(conn, end, What::Text { strand, octets });
    }
}
