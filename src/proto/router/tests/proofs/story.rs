//! What happens to the honest relays, one thing after the other.

use super::world::What;
use super::*;

impl World {
    /// One thing happens, and some time passes.
    pub(super) fn step(&mut self) {
        if self.attacker.waits && self.dice.percent(15) {
            self.reload();
        }
        match self.dice.below(100) {
            0..40 => self.honest_stanza(),
            40..88 => self.attack(),
            88..90 => self.reload(),
            90..93 => self.break_connection(),
            93..95 => {
                let relay = self.dice.below(2);
                let ids: Vec<_> = self.relays[relay].sessions.keys().copied().collect();
                if let Some(id) = self.dice.pick(&ids).copied() {
                    self.tell(relay, |router, now| router.session_retires(id, now));
                }
            }
            95..96 => self.restart(),
            96..98 => {
                let relay = self.dice.below(2);
                self.relays[relay].skew = [-600, -61, 0, 61, 600][self.dice.below(5)];
                self.touched = true;
            }
            98 => {
                let (relay, key) = (self.dice.below(2), self.dice.octets());
                let now = self.now;
                self.relays[relay].rotate(key, now);
            }
            _ => self.pass(seconds(12)),
        }
        let time = if self.dice.percent(10) { 5000 } else { 400 };
        let time = self.dice.next() % time;
        self.pass(Duration::from_millis(time));
    }

    fn honest_stanza(&mut self) {
        let relay = self.dice.below(2);
        let hosts: Vec<_> = self.cast.names(relay).into_iter().collect();
        let other = if self.dice.percent(80) { 1 - relay } else { ATTACKER };
        let others: Vec<_> = self.cast.names(other).into_iter().collect();
        let (Some(from), Some(to)) = (self.dice.pick(&hosts).cloned(), self.dice.pick(&others).cloned())
        else {
            return;
        };
        self.message(relay, &Route::new(from, to));
    }

    /// Every pair of the two honest relays talks, both ways, `rounds` times.
    pub(super) fn talk_all(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for relay in 0..2 {
                let (ours, theirs) = (self.cast.names(relay), self.cast.names(1 - relay));
                for from in &ours {
                    for to in &theirs {
                        self.message(relay, &Route::new(from.clone(), to.clone()));
                        let time = self.dice.next() % 300;
                        self.pass(Duration::from_millis(time));
                    }
                }
            }
            self.pass(seconds(5));
        }
    }

    fn break_connection(&mut self) {
        if self.conns.is_empty() {
            return;
        }
        let conn = self.dice.below(self.conns.len());
        // What is still under way may be seen first, or not.
        self.send(conn, 0, What::Ended);
        self.send(conn, 1, What::Ended);
    }

    /// A host is taken away from a relay, or is given back.
    fn reload(&mut self) {
        let party = self.dice.below(2);
        let all: Vec<_> = self.cast.names(party).into_iter().collect();
        let whole = all.iter().all(|name| self.relays[party].hosts.serves(name));
        let mut without = if whole { self.dice.pick(&all).cloned() } else { None };
        if self.attacker.waits && whole {
            let tempting = self.truth.awaited(self.now).chain([domain(SHARED)]);
            let tempting: Vec<_> = tempting.filter(|host| all.contains(host)).collect();
            without = self.dice.pick(&tempting).cloned().or(without);
        }
        self.touched = true;
        let former = Arc::clone(&self.relays[party].hosts);
        let hosts = self.relays[party].reload(&self.cast, party, without.as_ref());
        self.truth.reloaded(party, &former, &hosts);
        self.tell(party, |router, _| router.hosts_leave(&hosts));
        self.tell(party, |router, now| router.hosts_changed(hosts, now));
    }

    /// A relay dies and comes back, with the keys that it had or with new ones.
    fn restart(&mut self) {
        let party = self.dice.below(2);
        for conn in 0..self.conns.len() {
            for end in 0..2 {
                if self.conns[conn].parties[end] == party && !self.conns[conn].over[end] {
                    self.conns[conn].over[end] = true;
                    self.send(conn, end, What::Ended);
                }
            }
        }
        let old = &self.relays[party];
        let (life, skew, mut key) = (old.life + 1, old.skew, old.key);
        if self.dice.percent(50) {
            key = self.dice.octets();
        }
        self.relays[party] = Relay { skew, ..Relay::new(&self.cast, party, key, life) };
    }
}
