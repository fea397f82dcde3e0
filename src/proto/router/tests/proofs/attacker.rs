//! The attacker: every message of its own is thrown by dice, out of all that it has seen.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::world::{Arrival, What};
use super::*;
use crate::proto::mux::authorize::{self, Authorization, Refused};
use crate::proto::mux::{iq, secret};
use crate::proto::stream::Learned;
use crate::xmpp::element::Element;

/// What the attacker has seen.
#[derive(Default)]
pub(super) struct Attacker {
    /// The relay that it mostly talks to.
    target: usize,
    /// Secrets, and who was to return them.
    secrets: Vec<(String, Domain)>,
    /// Offers: id, from, to.
    offers: Vec<(String, String, String)>,
    streams: Vec<String>,
    texts: Vec<String>,
}

impl Attacker {
    pub(super) fn new(target: usize) -> Self {
        Self { target, ..Self::default() }
    }

    /// Learn from octets.
    pub(super) fn hear(&mut self, octets: &str) {
        self.texts.push(octets.to_owned());
        let Ok(element) = Element::parse(octets.as_bytes()) else { return };
        match Authorization::parse(&element) {
            Ok(Some(Authorization::Secret { prover, secret })) => self.secrets.push((secret, prover)),
            Ok(Some(Authorization::Request { stream_id, .. })) => self.streams.push(stream_id),
            _ => {}
        }
        if let Some(MuxIq::Offer { id, from, to, secret, .. }) = MuxIq::read(&element) {
            if let Ok(prover) = Domain::parse(&from) {
                self.secrets.push((secret, prover));
            }
            self.offers.push((id, from, to));
        }
    }
}

impl World {
    /// To whom a connection meant for `meant` really leads: the network is the attacker's.
    pub(super) fn redirected(&mut self, meant: usize, dialler: usize) -> usize {
        match self.dice.below(100) {
            0..12 if self.hostile => ATTACKER,
            12..18 if self.hostile => 1 - dialler,
            _ => meant,
        }
    }

    fn any_name(&mut self) -> Domain {
        let all: Vec<_> = self.everybody.iter().cloned().collect();
        all[self.dice.below(all.len())].clone()
    }

    fn own_name(&mut self) -> Domain {
        let all: Vec<_> = self.cast.names(ATTACKER).into_iter().collect();
        all[self.dice.below(all.len())].clone()
    }

    /// A name, mostly of the attacker's own.
    fn some_name(&mut self) -> Domain {
        if self.dice.percent(75) { self.own_name() } else { self.any_name() }
    }

    fn some_host(&mut self) -> (usize, Domain) {
        let relay = self.dice.below(2);
        let all: Vec<_> = self.cast.names(relay).into_iter().collect();
        (relay, all[self.dice.below(all.len())].clone())
    }

    /// The attacker's ends of connections that it believes to be open.
    fn own_ends(&self) -> Vec<(usize, usize)> {
        let ends = self.conns.iter().enumerate().flat_map(|(n, conn)| {
            (0..2).filter(|end| conn.parties[*end] == ATTACKER && !conn.over[*end]).map(move |end| (n, end))
        });
        // The newest are the most interesting.
        let mut ends: Vec<_> = ends.collect();
        let keep = ends.len().saturating_sub(8);
        ends.split_off(keep)
    }

    /// The attacker does something.
    pub(super) fn attack(&mut self) {
        match self.dice.below(100) {
            0..20 => self.attacker_dials(),
            20..30 => self.attacker_opens_another(),
            30..32 => {
                let ends = self.own_ends();
                let Some((conn, end)) = self.dice.pick(&ends).copied() else { return };
                self.conns[conn].over[end] = true;
                self.send(conn, end, What::Ended);
            }
            32..37 => self.tenant_speaks(),
            37..60 => self.prove_something(),
            60..75 => self.hand_something(),
            _ => {
                let octets = self.compose();
                self.say_anywhere(octets);
            }
        }
    }

    fn attacker_dials(&mut self) {
        // Proofs need several connections to the same relay: mostly it is this one.
        let relay = if self.dice.percent(75) { self.attacker.target } else { self.dice.below(2) };
        let all: Vec<_> = self.cast.names(relay).into_iter().collect();
        let to = if self.dice.percent(50) { all[0].clone() } else { all[self.dice.below(all.len())].clone() };
        let certificates = self.cast.certificates(ATTACKER).to_vec();
        let ours = Arc::clone(&certificates[self.dice.below(certificates.len())]);
        let Some(theirs) = self.cast.certificate(relay, &to) else { return };
        let names: Vec<_> = ours.exact.iter().cloned().collect();
        let from =
            if self.dice.percent(90) { names[self.dice.below(names.len())].clone() } else { self.any_name() };
        let conn = self.connect([ATTACKER, relay], [ours, theirs]);
        let mux = self.dice.percent(75);
        self.attacker_opens(conn, 0, Route::new(from, to), mux);
    }

    /// One more stream: for a pair that the connection's certificates prove, or that somebody may have joined, or any.
    fn attacker_opens_another(&mut self) {
        let ends = self.own_ends();
        let Some((conn, end)) = self.dice.pick(&ends).copied() else { return };
        let names: Vec<_> = self.conns[conn].certificates[1 - end].exact.iter().cloned().collect();
        let to = self.dice.pick(&names).filter(|_| self.dice.percent(80)).cloned();
        let to = to.unwrap_or_else(|| self.some_host().1);
        let (from, mux) = (self.some_name(), self.dice.percent(50));
        self.attacker_opens(conn, end, Route::new(from, to), mux);
    }

    fn attacker_opens(&mut self, conn: usize, end: usize, route: Route, mux: bool) {
        let strand = self.strand(conn, end, route);
        self.send(conn, end, What::Opened { strand, mux });
    }

    /// Somewhere: mostly where the pair of the stream is that of the stanza.
    fn say_anywhere(&mut self, octets: String) {
        let ends = self.own_ends();
        if let Some((conn, end)) = self.dice.pick(&ends).copied() {
            self.say(conn, end, octets, Duration::ZERO);
        }
    }

    /// Say something on one of the streams of a connection, perhaps later.
    fn say(&mut self, conn: usize, end: usize, octets: String, after: Duration) {
        let strands = &self.conns[conn].strands;
        if strands.is_empty() {
            return;
        }
        let element = Element::parse(octets.as_bytes()).ok();
        let of = |name: &str| Domain::parse(element.as_ref()?.attribute(name)?).ok();
        let back = of("from").zip(of("to")).map(|(from, to)| Route::new(to, from));
        let fits =
            |route: &Route| back.as_ref().is_some_and(|back| *route == *back || route.reversed() == *back);
        let fitting: Vec<_> = (0..strands.len()).filter(|n| fits(&strands[*n].route)).collect();
        let any = self.dice.below(strands.len());
        let strand = self.dice.pick(&fitting).filter(|_| self.dice.percent(85)).copied().unwrap_or(any);
        if let Some(iq) = element.as_ref().and_then(MuxIq::read) {
            self.truth.iq_sent(conn, ATTACKER, &iq);
        }
        let what = What::Text { strand, octets };
        if after.is_zero() {
            self.send(conn, end, what);
        } else {
            self.arrive(self.now + after, Arrival::On { conn, end: 1 - end, what });
        }
    }

    /// What an end of a connection is called there, and the other end, on a stream.
    fn called(strand: &Strand, end: usize) -> (Domain, Domain) {
        let Route { from, to } = strand.route.clone();
        if strand.opener == end { (from, to) } else { (to, from) }
    }

    /// Do what an honest relay would do to have a host of its own join a session of its own; often with one thing wrong.
    fn prove_something(&mut self) {
        let ends = self.own_ends();
        let used = |(conn, _): &&(usize, usize)| !self.conns[*conn].strands.is_empty();
        let sessions: Vec<_> = ends.iter().filter(used).copied().collect();
        let Some((conn, end)) = self.dice.pick(&sessions).copied() else { return };
        let Strand { stream_id, .. } = &self.conns[conn].strands[0];
        let (mut prover, mut stream_id) =
            (Self::called(&self.conns[conn].strands[0], end).0, stream_id.clone());
        match self.dice.below(10) {
            0 => prover = self.own_name(),
            1 => stream_id = self.dice.pick(&self.attacker.streams).cloned().unwrap_or_default(),
            _ => {}
        }
        let mut octets = String::new();
        authorize::write_request(&mut octets, &prover, &stream_id);
        // A stream of another connection with the same relay, for another host.
        let relay = self.conns[conn].parties[1 - end];
        let fits = |(other, end): &&(usize, usize)| {
            let it = &self.conns[*other];
            *other != conn && it.parties[1 - end] == relay && !it.strands.is_empty()
        };
        let seconds: Vec<_> = ends.iter().filter(fits).copied().collect();
        if relay != ATTACKER && (seconds.is_empty() || self.dice.percent(25)) {
            return self.attacker_dials_second(relay, &octets);
        }
        if let Some((second, end)) = self.dice.pick(&seconds).copied() {
            let strands = self.conns[second].strands.len();
            let strand = if self.dice.percent(40) { 0 } else { self.dice.below(strands) };
            for _ in 0..=self.dice.below(5) / 4 {
                self.send(second, end, What::Text { strand, octets: octets.clone() });
            }
        }
    }

    /// A connection for one more host of the attacker's, on which `request` follows.
    fn attacker_dials_second(&mut self, relay: usize, request: &str) {
        let theirs = Arc::clone(&self.cast.certificates(relay)[0]);
        let Some(ours) = self.dice.pick(self.cast.certificates(ATTACKER)).cloned() else { return };
        let (Some(host), Some(to)) = (ours.exact.first().cloned(), theirs.exact.first().cloned()) else {
            return;
        };
        let conn = self.connect([ATTACKER, relay], [ours, theirs]);
        let mux = self.dice.percent(20);
        self.attacker_opens(conn, 0, Route::new(host, to), mux);
        let what = What::Text { strand: 0, octets: request.to_owned() };
        self.arrive(self.now + Duration::from_millis(150), Arrival::On { conn, end: 1, what });
    }

    /// Do what an honest relay would do to let a host of the other end's join a session with it.
    fn hand_something(&mut self) {
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

    fn hand(&mut self, conn: usize, end: usize, strand: usize, prover: &Domain) {
        // One that another relay had made for the same prover, or any.
        let known = self.attacker.secrets.iter().rev().filter(|(_, of)| of == prover).take(3);
        let known: Vec<_> = known.map(|(secret, _)| secret.clone()).collect();
        let known = self.dice.pick(&known).filter(|_| self.dice.percent(60)).cloned();
        let secret = known.unwrap_or_else(|| self.some_secret().0);
        let mut octets = String::new();
        authorize::write_secret(&mut octets, prover, &secret);
        self.send(conn, end, What::Text { strand, octets });
    }

    fn some_secret(&mut self) -> (String, Domain) {
        let recent = self.attacker.secrets.len().saturating_sub(6);
        let (text, prover) = match self.dice.pick(&self.attacker.secrets[recent..]).cloned() {
            Some(known) if self.dice.percent(85) => known,
            _ => {
                let made = secret::SecretKeys::new([self.dice.octets()]);
                let name = self.any_name();
                let binding = secret::Binding {
                    dialled: secret::Dialled::ByProver,
                    verifier: self.any_name(),
                    host: name.clone(),
                    prover: name.clone(),
                    stream_id: String::new(),
                    first: [0; 32],
                    second: [0; 32],
                };
                (made.make(&binding, u64::MAX, &self.dice.octets()).unwrap_or_default(), name)
            }
        };
        (if self.dice.percent(20) { self.mutated(text) } else { text }, prover)
    }

    /// One octet of one field is another one, or the field is that of another secret.
    fn mutated(&mut self, text: String) -> String {
        let Ok(mut octets) = URL_SAFE_NO_PAD.decode(&text) else { return text };
        // Version, role, key id, expiry, nonce and HMAC, as `mux::secret` lays them out.
        let fields = [0..1, 1..2, 2..10, 10..18, 18..34, 34..66];
        let field = fields[self.dice.below(fields.len())].clone();
        let other =
            self.dice.pick(&self.attacker.secrets).and_then(|(other, _)| URL_SAFE_NO_PAD.decode(other).ok());
        let other = other.filter(|other| other.len() == octets.len());
        if octets.len() != 66 {
            return text;
        }
        match other.filter(|_| field.len() > 2 && self.dice.percent(30)) {
            Some(other) => octets[field.clone()].copy_from_slice(&other[field]),
            None => octets[field.start + self.dice.below(field.len())] ^= 1 << self.dice.below(8),
        }
        URL_SAFE_NO_PAD.encode(octets)
    }

    pub(super) fn compose(&mut self) -> String {
        let mut out = String::new();
        match self.dice.below(100) {
            0..40 => {
                let (secret, prover) = self.some_secret();
                let from = if self.dice.percent(80) { prover } else { self.any_name() };
                let to = self.some_host().1;
                let id = match self.dice.pick(&self.attacker.offers).cloned() {
                    Some((id, ..)) if self.dice.percent(50) => id,
                    _ => "1".to_owned(),
                };
                let host = self.any_name();
                out = self.offer(&id, (&from, &to), &host, &secret);
            }
            40..55 => {
                let Some((id, from, to)) = self.dice.pick(&self.attacker.offers).cloned() else { return out };
                let granted = self.dice.percent(80);
                let from = if self.dice.percent(80) { from } else { self.any_name().to_string() };
                let to = if self.dice.percent(70) { to } else { self.some_name().to_string() };
                iq::write_answer(&mut out, &id, &from, &to, granted);
            }
            55..65 => {
                let prover = self.any_name();
                let stream = self.dice.pick(&self.attacker.streams).cloned().unwrap_or_default();
                authorize::write_request(&mut out, &prover, &stream);
            }
            65..75 => {
                let (secret, prover) = self.some_secret();
                let prover = if self.dice.percent(50) { prover } else { self.any_name() };
                authorize::write_secret(&mut out, &prover, &secret);
            }
            75 => authorize::write_refused(&mut out, Refused::Busy),
            76..78 => authorize::write_refused(&mut out, Refused::NoSession),
            78..90 => {
                let (from, to) = (self.some_name(), self.some_host().1);
                out = format!("<message from='{from}' to='{to}'/>");
            }
            _ => out = self.dice.pick(&self.attacker.texts).cloned().unwrap_or_default(),
        }
        out
    }

    /// Something arrives at the attacker.
    pub(super) fn attacker_hears(&mut self, conn: usize, end: usize, what: What) {
        match what {
            What::Opened { strand, mux } => {
                if self.dice.percent(8) {
                    return self.send(conn, end, What::Refused { strand });
                }
                // A list may name anybody, and an id may be one that was seen elsewhere.
                let listed = self.everybody.clone();
                let listed: Vec<_> = listed.into_iter().filter(|_| self.dice.percent(60)).collect();
                if let Some(id) = self.dice.pick(&self.attacker.streams).cloned()
                    && self.dice.percent(30)
                {
                    self.conns[conn].strands[strand].stream_id = id;
                }
                let stream_id = self.conns[conn].strands[strand].stream_id.clone();
                let learned = Learned {
                    mux: mux && self.dice.percent(80),
                    pipelining: self.dice.percent(50),
                    authorize: self.dice.percent(80),
                    sm: false,
                    stream_id,
                    listed,
                };
                self.send(conn, end, What::Taken { strand, learned });
            }
            What::Taken { learned, .. } => self.attacker.streams.push(learned.stream_id),
            What::Text { strand, octets } => {
                self.attacker.hear(&octets);
                self.react((conn, end, strand), &octets);
            }
            What::Refused { .. } | What::Closed { .. } => {}
            What::Ended => self.conns[conn].over[end] = true,
        }
    }

    /// Often enough the attacker does at once what the protocol asks for, so that the other side comes further: as it
    /// should be, or with one thing wrong.
    fn react(&mut self, (conn, end, strand): (usize, usize, usize), octets: &str) {
        let Ok(element) = Element::parse(octets.as_bytes()) else { return };
        if let Some(MuxIq::Offer { id, from, to, .. }) = MuxIq::read(&element) {
            if self.dice.percent(80) {
                self.answer(conn, end, &id, (from, to));
            }
            return;
        }
        match Authorization::parse(&element) {
            Ok(Some(Authorization::Secret { prover, secret })) => {
                let host = Self::called(&self.conns[conn].strands[strand], end).0;
                self.return_everywhere(&prover, &host, &secret);
            }
            Ok(Some(Authorization::Request { prover, .. })) if self.dice.percent(70) => {
                self.hand(conn, end, strand, &prover);
            }
            _ => {}
        }
    }

    fn answer(&mut self, mut conn: usize, mut end: usize, id: &str, (mut from, mut to): (String, String)) {
        let (mut granted, mut times, mut after) = (true, 1, Duration::ZERO);
        match self.dice.below(12) {
            0 => (granted, times) = (false, 2),
            1 => times = 2,
            2 => after = seconds(5 + self.dice.next() % 15),
            3..6 => {
                let (relay, ends) = (self.conns[conn].parties[1 - end], self.own_ends());
                let same = |(conn, end): &&(usize, usize)| self.conns[*conn].parties[1 - end] == relay;
                let ends: Vec<_> = ends.iter().filter(same).copied().collect();
                (conn, end) = self.dice.pick(&ends).copied().unwrap_or((conn, end));
            }
            6..8 => {
                // From another name, as another stream allows.
                if let Some(strand) = self.dice.pick(&self.conns[conn].strands) {
                    let (ours, theirs) = Self::called(strand, end);
                    (to, from) = (ours.to_string(), theirs.to_string());
                }
            }
            _ => {}
        }
        for time in 0..times {
            let mut out = String::new();
            iq::write_answer(&mut out, id, &from, &to, granted ^ (time > 0 && !granted));
            self.say(conn, end, out, after + seconds(time));
        }
    }

    /// It need not say for which host it takes the secret.
    fn offer(&mut self, id: &str, (from, to): (&Domain, &Domain), host: &Domain, secret: &str) -> String {
        let mut out = String::new();
        iq::write_offer(&mut out, id, from, to, host, secret);
        if self.dice.percent(60) { out.replacen(&format!(" host='{host}'"), "", 1) } else { out }
    }

    /// On every session where it could be right, and on others.
    fn return_everywhere(&mut self, prover: &Domain, host: &Domain, secret: &str) {
        for (conn, end) in self.own_ends() {
            let Some(first) = self.conns[conn].strands.first() else { continue };
            let (ours, mut to) = Self::called(first, end);
            if !((ours == *prover && self.dice.percent(80)) || self.dice.percent(20)) {
                continue;
            }
            let (mut from, mut secret, mut after) = (prover.clone(), secret.to_owned(), Duration::ZERO);
            match self.dice.below(12) {
                0..2 => secret = self.mutated(secret),
                2..5 => {
                    // From and to other names, as another stream allows.
                    if let Some(strand) = self.dice.pick(&self.conns[conn].strands) {
                        (from, to) = Self::called(strand, end);
                    }
                }
                5 => to = self.some_host().1,
                6 => after = seconds(8 + self.dice.next() % 8),
                _ => {}
            }
            let out = self.offer("2", (&from, &to), host, &secret);
            for again in 0..=self.dice.next() % 2 {
                self.say(conn, end, out.clone(), after + seconds(again));
            }
            if self.dice.percent(30) {
                // And then as it should be, if that still helps.
                let (ours, to) = Self::called(&self.conns[conn].strands[0], end);
                let out = self.offer("3", (&ours, &to), host, &secret);
                self.say(conn, end, out, after + seconds(2));
            }
        }
    }
}
