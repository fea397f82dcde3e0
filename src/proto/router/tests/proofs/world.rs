//! The world: connections between three parties, what travels on them, and time.

use super::*;
use crate::proto::stream::Learned;
use crate::xmpp::element::Element;
use attacker::Attacker;
use cast::UNIX;

/// A connection. Its ends: 0 dialled, 1 accepted.
pub(super) struct Conn {
    pub(super) parties: [usize; 2],
    pub(super) certificates: [Arc<CertifiedNames>; 2],
    pub(super) exporters: [[u8; 32]; 2],
    pub(super) strands: Vec<Strand>,
    /// What the end was told in the host list.
    pub(super) listed: [Vec<Domain>; 2],
    /// The dialler was told that secrets are made for who asks.
    pub(super) authorizes: bool,
    /// The end has seen it go.
    pub(super) over: [bool; 2],
}

impl Conn {
    /// Whether both ends speak on the stream that `held` began with.
    pub(super) fn goes_both_ways(&self, held: &Held) -> bool {
        held.first.is_some_and(|first| self.strands[first].bidi)
    }
}

/// A stream of a connection.
pub(super) struct Strand {
    pub(super) opener: usize,
    /// The pair, in the initiating entity's direction.
    pub(super) route: Route,
    pub(super) stream_id: String,
    /// Both ends speak on it.
    pub(super) bidi: bool,
}

/// What travels on a connection.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// The opener's side of the negotiation, whole.
    Opened {
        strand: usize,
        mux: bool,
    },
    /// It was believed.
    Taken {
        strand: usize,
        learned: Learned,
    },
    /// It was not.
    Refused {
        strand: usize,
    },
    /// An element or a stanza.
    Text {
        strand: usize,
        octets: String,
    },
    /// With `host-gone`, or not.
    Closed {
        strand: usize,
        gone: bool,
    },
    Ended,
}

/// What arrives, and where.
#[derive(Debug, Clone)]
pub(super) enum Arrival {
    On { conn: usize, end: usize, what: What },
    DialFailed { relay: usize, life: u64, session: SessionId },
}

pub(super) struct World {
    pub(super) cast: Cast,
    pub(super) everybody: BTreeSet<Domain>,
    pub(super) relays: Vec<Relay>,
    pub(super) conns: Vec<Conn>,
    pub(super) attacker: Attacker,
    pub(super) truth: Truth,
    pub(super) dice: Dice,
    pub(super) now: Instant,
    began: Instant,
    arriving: BTreeMap<(Instant, u64), Arrival>,
    /// When the last thing arrives at each end of each stream: they are delivered in order.
    last: BTreeMap<(usize, usize, usize), Instant>,
    next: u64,
    /// With faults and an attacker.
    pub(super) hostile: bool,
    /// The attacker sits at the honest relays' addresses too: pins tell nothing.
    pub(super) same_address: bool,
    /// The attacker overhears IQs of the honest: the ids, and the secrets that come back.
    pub(super) leaks: bool,
    /// A session came up or an offer was judged since the last check: nothing else changes what is believed.
    pub(super) touched: bool,
}

impl World {
    pub(super) fn new(seed: u64, hostile: bool) -> Self {
        let mut dice = Dice(seed);
        let cast = Cast::new(&mut dice, hostile);
        let now = Instant::now();
        let relays = (0..2).map(|party| Relay::new(&cast, party, dice.octets(), 0)).collect();
        let (same_address, leaks) = (hostile && dice.percent(50), hostile && dice.percent(30));
        Self {
            everybody: cast.everybody(),
            cast,
            relays,
            conns: Vec::new(),
            attacker: Attacker::new(dice.below(2)),
            truth: Truth::default(),
            dice,
            now,
            began: now,
            arriving: BTreeMap::new(),
            last: BTreeMap::new(),
            next: 0,
            hostile,
            same_address,
            leaks,
            touched: false,
        }
    }

    pub(super) fn unix(&self, relay: usize) -> u64 {
        let passed = (self.now - self.began).as_secs();
        (UNIX + passed).saturating_add_signed(self.relays[relay].skew)
    }

    /// The same as a time.
    pub(super) fn wall(&self, relay: usize) -> SystemTime {
        SystemTime::UNIX_EPOCH + seconds(self.unix(relay))
    }

    pub(super) fn arrive(&mut self, at: Instant, what: Arrival) {
        self.next += 1;
        self.arriving.insert((at, self.next), what);
    }

    /// `end` of a connection sends. Streams keep their order, unless the attacker is at one end; some things are lost and
    /// some come twice.
    pub(super) fn send(&mut self, conn: usize, end: usize, what: What) {
        let mut at = self.now + Duration::from_millis(20 + self.dice.next() % 80);
        if self.hostile && self.dice.percent(4) {
            at += seconds(self.dice.next() % 15);
        }
        let (What::Opened { strand, .. }
        | What::Taken { strand, .. }
        | What::Refused { strand }
        | What::Text { strand, .. }
        | What::Closed { strand, .. }) = what
        else {
            return self.arrive(at, Arrival::On { conn, end: 1 - end, what });
        };
        if !self.conns[conn].parties.contains(&ATTACKER) {
            let last = self.last.entry((conn, end, strand)).or_insert(at);
            at = at.max(*last);
            *last = at;
        }
        if let What::Text { octets, .. } = &what {
            // What is said on a second connection is for who holds it alone: there a secret is good for whoever has it.
            if octets.starts_with("<iq") {
                let overhears = self.leaks && self.dice.percent(40);
                if overhears {
                    self.attacker.hear(octets);
                }
                if self.hostile && self.dice.percent(20) {
                    self.answer_before((conn, end, strand), octets, overhears);
                }
            }
            if self.hostile && self.dice.percent(2) {
                return;
            }
            if self.hostile && self.dice.percent(3) {
                let again = at + Duration::from_millis(self.dice.next() % 20_000);
                self.arrive(again, Arrival::On { conn, end: 1 - end, what: what.clone() });
            }
        }
        self.arrive(at, Arrival::On { conn, end: 1 - end, what });
    }

    /// A secret comes back from relay 0 to relay 1, and the attacker's server answers before it is there.
    fn answer_before(&mut self, (conn, end, strand): (usize, usize, usize), octets: &str, overhears: bool) {
        let Conn { parties, strands, .. } = &self.conns[conn];
        let iq = Element::parse(octets.as_bytes()).ok().as_ref().and_then(MuxIq::read);
        if let Some(MuxIq::Offer { id, .. }) = iq.filter(|_| (parties[end], parties[1 - end]) == (0, 1)) {
            let route = strands[strand].route.clone();
            self.tenant_answers(&route, overhears.then_some(id));
        }
    }

    /// A new connection.
    pub(super) fn connect(&mut self, parties: [usize; 2], certificates: [Arc<CertifiedNames>; 2]) -> usize {
        let exporters = [self.dice.octets(), self.dice.octets()];
        let listed = [Vec::new(), Vec::new()];
        self.conns.push(Conn {
            parties,
            certificates,
            exporters,
            strands: Vec::new(),
            listed,
            authorizes: false,
            over: [false; 2],
        });
        self.conns.len() - 1
    }

    pub(super) fn strand(&mut self, conn: usize, opener: usize, route: Route) -> usize {
        let stream_id = self.dice.identifier();
        self.conns[conn].strands.push(Strand { opener, route, stream_id, bidi: true });
        self.conns[conn].strands.len() - 1
    }

    /// Time passes, and everything happens that is due.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..10_000 {
            let arrival = self.arriving.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.relays.iter().filter_map(|relay| relay.router.deadline()).min();
            let Some(next) = [arrival, deadline].into_iter().flatten().min().filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            self.end_what_is_over();
            if arrival == Some(next) {
                if let Some((_, what)) = self.arriving.pop_first() {
                    self.arrives(what);
                }
            } else {
                for relay in 0..2 {
                    self.tell(relay, |router, now| router.tick(now));
                }
            }
            self.check();
        }
        panic!("the world never rests");
    }

    /// Sessions end with their certificates, by the clock that does not jump; grants with theirs, by the one that does.
    fn end_what_is_over(&mut self) {
        for relay in 0..2 {
            let wall = self.wall(relay);
            let over = |held: &Held| held.machine.next_grant_end().is_some_and(|end| end <= wall);
            let sessions = &self.relays[relay].sessions;
            let grants: Vec<_> = sessions.iter().filter(|(_, h)| over(h)).map(|(id, _)| *id).collect();
            let late: Vec<_> =
                sessions.values().filter(|h| h.ends <= self.now).map(|h| (h.conn, h.end)).collect();
            for id in grants {
                self.grants_end(relay, id, wall);
            }
            for (conn, end) in late {
                self.ended(relay, conn, end);
            }
        }
    }

    fn check(&mut self) {
        if std::mem::take(&mut self.touched) {
            // What was granted may have ended already: the shell is told of grants.
            self.end_what_is_over();
            for party in 0..2 {
                let wall = self.wall(party);
                self.truth.check(party, &mut self.relays[party], &self.conns, &self.everybody, wall);
            }
        }
    }

    fn arrives(&mut self, what: Arrival) {
        match what {
            Arrival::DialFailed { relay, life, session } => {
                if self.relays[relay].life == life {
                    self.tell(relay, |router, now| router.dial_failed(session, Reason::HandshakeFailed, now));
                }
            }
            Arrival::On { conn, end, what } => {
                if self.conns[conn].over[end] {
                    return;
                }
                match self.conns[conn].parties[end] {
                    ATTACKER => self.attacker_hears(conn, end, what),
                    relay => self.relay_hears(relay, conn, end, what),
                }
            }
        }
    }
}
