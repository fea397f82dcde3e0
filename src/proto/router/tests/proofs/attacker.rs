//! The attacker: every message of its own is thrown by dice, out of all that it has seen.

use super::world::{Arrival, What};
use super::*;
use crate::proto::mux::authorize::Authorization;
use crate::proto::mux::iq;
use crate::proto::stream::Learned;
use crate::xmpp::element::Element;

/// What the attacker has seen.
#[derive(Default)]
pub(super) struct Attacker {
    /// The relay that it mostly talks to.
    pub(super) target: usize,
    /// It often uses what has joined a session as if a certificate proved it there, and says to servers what is for relays.
    pub(super) joins: bool,
    /// It waits for what the relays' configurations take away and give back; those often do, at the wrong moment.
    pub(super) waits: bool,
    /// Secrets, and who was to return them.
    pub(super) secrets: Vec<(String, Domain)>,
    /// Hosts of its own for which it has returned a secret, and on which connection.
    pub(super) returned: Vec<(usize, Domain)>,
    /// Secrets of its own hosts.
    pub(super) own: Vec<(Domain, String)>,
    /// Offers: id, from, to.
    pub(super) offers: Vec<(String, String, String)>,
    pub(super) streams: Vec<String>,
    pub(super) texts: Vec<String>,
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

    /// The attacker's ends of connections that it believes to be open.
    pub(super) fn own_ends(&self) -> Vec<(usize, usize)> {
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
        if self.attacker.waits && self.dice.percent(30) && self.take_what_nobody_serves() {
            return;
        }
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
            37..57 => self.prove_something(),
            57..60 => self.prove_everything(),
            60..75 => self.hand_something(),
            _ => {
                let octets = self.compose();
                self.say_anywhere(octets);
            }
        }
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
                self.conns[conn].strands[strand].bidi = self.dice.percent(95);
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
                self.attacker.own.push((host, secret));
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
            // Not from the bare domain.
            8 => to += "/r",
            _ => {}
        }
        for time in 0..times {
            let mut out = String::new();
            iq::write_answer(&mut out, id, &from, &to, granted ^ (time > 0 && !granted));
            self.say(conn, end, out, after + seconds(time));
        }
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
                7 => {
                    // One that was made for this host before.
                    let before = self.attacker.own.iter().rev().filter(|(of, _)| of == host).take(3);
                    let before: Vec<_> = before.map(|(_, secret)| secret.clone()).collect();
                    secret = self.dice.pick(&before).cloned().unwrap_or(secret);
                }
                _ => {}
            }
            self.attacker.returned.push((conn, host.clone()));
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
