//! The attacker: every message of its own is thrown by dice, out of all that it has seen.

use super::world::What;
use super::*;
use crate::proto::mux::authorize::{self, Authorization, Refused};
use crate::proto::mux::{iq, secret};
use crate::proto::stream::Learned;
use crate::xmpp::element::Element;

/// What the attacker has seen.
#[derive(Default)]
pub(super) struct Attacker {
    /// Secrets, and who was to return them.
    secrets: Vec<(String, Domain)>,
    /// Offers: id, from, to.
    offers: Vec<(String, String, String)>,
    streams: Vec<String>,
    texts: Vec<String>,
}

impl Attacker {
    /// Learn from octets.
    pub(super) fn hear(&mut self, octets: &str) {
        self.texts.push(octets.to_owned());
        let Ok(element) = Element::parse(octets.as_bytes()) else { return };
        match Authorization::parse(&element) {
            Ok(Some(Authorization::Secret { prover, secret })) => self.secrets.push((secret, prover)),
            Ok(Some(Authorization::Request { stream_id, .. })) => self.streams.push(stream_id),
            _ => {}
        }
        if let Some(MuxIq::Offer { id, from, to, secret }) = MuxIq::read(&element) {
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
            20..24 => {
                let ends = self.own_ends();
                let Some((conn, end)) = self.dice.pick(&ends).copied() else { return };
                let (from, to) = (self.some_name(), self.some_host().1);
                let mux = self.dice.percent(50);
                self.attacker_opens(conn, end, Route::new(from, to), mux);
            }
            24..26 => {
                let ends = self.own_ends();
                let Some((conn, end)) = self.dice.pick(&ends).copied() else { return };
                self.conns[conn].over[end] = true;
                self.send(conn, end, What::Ended);
            }
            26..30 => self.tenant_speaks(),
            30..55 => self.prove_something(),
            _ => {
                let octets = self.compose();
                self.say_anywhere(octets);
            }
        }
    }

    fn attacker_dials(&mut self) {
        let (relay, to) = self.some_host();
        let certificates = self.cast.certificates(ATTACKER).to_vec();
        let ours = Arc::clone(&certificates[self.dice.below(certificates.len())]);
        let Some(theirs) = self.cast.certificate(relay, &to) else { return };
        let names: Vec<_> = ours.exact.iter().cloned().collect();
        let from =
            if self.dice.percent(90) { names[self.dice.below(names.len())].clone() } else { self.any_name() };
        let conn = self.connect([ATTACKER, relay], [ours, theirs]);
        let mux = self.dice.percent(60);
        self.attacker_opens(conn, 0, Route::new(from, to), mux);
    }

    fn attacker_opens(&mut self, conn: usize, end: usize, route: Route, mux: bool) {
        let strand = self.strand(conn, end, route);
        self.send(conn, end, What::Opened { strand, mux });
    }

    /// The attacker's server behind relay 1 sends a stanza.
    fn tenant_speaks(&mut self) {
        let octets = self.compose();
        let to = self.any_name();
        let Ok(element) = Element::parse(octets.as_bytes()) else { return };
        // As `relay::carry` refuses it.
        let refused = iq::is_suspect(octets.as_bytes(), None) && iq::holds_mux(&element);
        if !refused && !self.cast.names(1).contains(&to) {
            self.stanza(1, &Route::new(domain(TENANT), to));
        }
    }

    fn say_anywhere(&mut self, octets: String) {
        let ends = self.own_ends();
        if let Some((conn, end)) = self.dice.pick(&ends).copied() {
            self.say(conn, end, octets);
        }
    }

    /// Say something on one of the streams of a connection.
    fn say(&mut self, conn: usize, end: usize, octets: String) {
        let strands = self.conns[conn].strands.len();
        if strands == 0 {
            return;
        }
        let strand = self.dice.below(strands);
        if let Some(iq) = Element::parse(octets.as_bytes()).ok().as_ref().and_then(MuxIq::read) {
            self.truth.iq_sent(conn, ATTACKER, &iq);
        }
        self.send(conn, end, What::Text { strand, octets });
    }

    /// Do what an honest relay would do to have a host of its own join a session of its own.
    fn prove_something(&mut self) {
        let ends = self.own_ends();
        let used = |(conn, _): &&(usize, usize)| !self.conns[*conn].strands.is_empty();
        let sessions: Vec<_> = ends.iter().filter(used).copied().collect();
        let Some((conn, end)) = self.dice.pick(&sessions).copied() else { return };
        let Strand { opener, route, stream_id } = &self.conns[conn].strands[0];
        let (ours, stream_id) = (if *opener == end { &route.from } else { &route.to }, stream_id.clone());
        let mut octets = String::new();
        authorize::write_request(&mut octets, &ours.clone(), &stream_id);
        // A second connection to the same relay, for another host.
        let relay = self.conns[conn].parties[1 - end];
        let fits = |(other, end): &&(usize, usize)| {
            let it = &self.conns[*other];
            *other != conn
                && it.parties[1 - end] == relay
                && it.strands.first().is_some_and(|s| s.opener == *end)
        };
        let seconds: Vec<_> = ends.iter().filter(fits).copied().collect();
        if let Some((second, end)) = self.dice.pick(&seconds).copied() {
            self.send(second, end, What::Text { strand: 0, octets });
        }
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

    /// One character is another one: any field of it.
    fn mutated(&mut self, mut text: String) -> String {
        let at = self.dice.below(text.len().max(1));
        if text.is_char_boundary(at) && text.is_char_boundary(at + 1) && at < text.len() {
            text.replace_range(at..=at, if self.dice.percent(50) { "A" } else { "w" });
        }
        text
    }

    fn compose(&mut self) -> String {
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
                iq::write_offer(&mut out, &id, &from, &to, &secret);
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
                    stream_id,
                    listed,
                };
                self.send(conn, end, What::Taken { strand, learned });
            }
            What::Taken { learned, .. } => self.attacker.streams.push(learned.stream_id),
            What::Text { octets, .. } => {
                self.attacker.hear(&octets);
                self.react(conn, end, &octets);
            }
            What::Refused { .. } | What::Closed { .. } => {}
            What::Ended => self.conns[conn].over[end] = true,
        }
    }

    /// Often enough the attacker does at once what the protocol asks for, so that the other side comes further.
    fn react(&mut self, conn: usize, end: usize, octets: &str) {
        let Ok(element) = Element::parse(octets.as_bytes()) else { return };
        if let Some(MuxIq::Offer { id, from, to, .. }) = MuxIq::read(&element)
            && self.dice.percent(60)
        {
            let mut out = String::new();
            iq::write_answer(&mut out, &id, &from, &to, true);
            return self.say(conn, end, out);
        }
        let Ok(Some(Authorization::Secret { prover, secret })) = Authorization::parse(&element) else {
            return;
        };
        // On every session where it could be right, and on any other one: as it should be, or with one thing wrong.
        for (conn, end) in self.own_ends() {
            let Some(Strand { opener, route, .. }) = self.conns[conn].strands.first() else { continue };
            let (ours, to) = if *opener == end { (&route.from, &route.to) } else { (&route.to, &route.from) };
            let (mut to, fits) = (to.clone(), *ours == prover);
            if !((fits && self.dice.percent(80)) || self.dice.percent(20)) {
                continue;
            }
            let (mut from, mut secret) = (prover.clone(), secret.clone());
            match self.dice.below(10) {
                0..2 => secret = self.mutated(secret),
                2..4 => from = self.own_name(),
                4 => to = self.some_host().1,
                _ => {}
            }
            let mut out = String::new();
            iq::write_offer(&mut out, "2", &from, &to, &secret);
            for _ in 0..=self.dice.below(2) {
                self.say(conn, end, out.clone());
            }
        }
    }
}
