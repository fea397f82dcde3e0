//! The data path of one stream: each stanza is held against the stream's scope, and runs of stanzas for one route are
//! copied once into that route's outlet.
//!
//! A route whose outlet is full pauses reading for at most `limits.read_pause`; then reading goes on, and what finds no
//! room bounces, at once, until something has left that outlet. Acknowledgements and closings travel in-band, so two full directions would else wait for each other for
//! ever, and unread lanes would eat the session's credit until every lane stalls.

use std::sync::Arc;
use std::time::Instant;

use memchr::memmem;
use rustc_hash::FxHashMap;

use super::hub::Hub;
use super::mailbox::lock;
use super::outlet::{LITTLE_BYTES, Outlet, Pushed};
use super::proofs::unix_seconds;
use super::shared::SessionShared;
use crate::metrics::SideCounters;
use crate::proto::admission::{Direction, Proven, Scope, Side, admit};
use crate::proto::hosts::Hosts;
use crate::proto::mux::iq::{self, MuxIq};
use crate::proto::mux::verifier::Clocks;
use crate::proto::queue::Mark;
use crate::proto::router::LaneId;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::namespace as ns;
use crate::xmpp::route::Route;
use crate::xmpp::stanza::{Head, StanzaKind, domain_of};

/// Outlets that one stream remembers; over that it forgets them all and looks them up again.
const KNOWN_MAX: usize = 1024;

/// The data path of one stream.
#[derive(Debug)]
pub(crate) struct Carry {
    hub: Arc<Hub>,
    /// The hosts as they were at `generation`. A lane of a single pair keeps them to its end: when its host is taken away
    /// it is closed in good order, and what the peer had sent by then still goes through.
    hosts: Arc<Hosts>,
    generation: u64,
    scope: Scope,
    origin: Option<Origin>,
    mux: memmem::Finder<'static>,
    counters: SideCounters,
    /// Outlets by the domains as they stand on the wire, admitted under the present scope.
    known: FxHashMap<(Box<str>, Box<str>), Arc<Outlet>>,
    last: Option<(Box<str>, Box<str>, Arc<Outlet>)>,
    marks: Vec<Mark>,
    /// Where the run of stanzas for the last outlet begins in the reader's buffer.
    start: usize,
}

/// Where a stream of the remote side stands.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) session: Arc<SessionShared>,
    pub(crate) lane: LaneId,
    /// What the stream was authenticated for, and whether we opened it.
    pub(crate) route: Route,
    pub(crate) initiating: bool,
}

/// What is to become of a stanza.
enum Judged {
    Carry(Arc<Outlet>),
    Bounce(Route, Reason),
}

impl Carry {
    /// `origin`: on the remote side.
    pub(crate) fn new(hub: &Arc<Hub>, scope: Scope, origin: Option<Origin>) -> Self {
        let counters = hub.metrics.data.side(scope.side).clone();
        Self {
            hub: Arc::clone(hub),
            // In this order: what is newer than its number is only looked up once more.
            generation: hub.generation(),
            hosts: Arc::clone(&hub.live().hosts),
            scope,
            origin,
            mux: memmem::Finder::new(ns::MUX),
            counters,
            known: FxHashMap::default(),
            last: None,
            marks: Vec::new(),
            start: 0,
        }
    }

    /// What may pass has changed: everything is judged anew.
    pub(crate) fn rescope(&mut self, scope: Scope) {
        self.scope = scope;
        self.known.clear();
        self.last = None;
    }

    /// The configuration has changed.
    fn reconsider(&mut self) {
        self.generation = self.hub.generation();
        if self.scope.pair.is_none() {
            self.hosts = Arc::clone(&self.hub.live().hosts);
            self.known.clear();
            self.last = None;
        }
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Take the stanza at `buffer[at..at + len]`. Stanzas before it that go elsewhere are pushed on first.
    pub(crate) async fn take(
        &mut self,
        buffer: &[u8],
        at: usize,
        len: usize,
        kind: StanzaKind,
        head: Head,
    ) -> Result<(), Reason> {
        if self.generation != self.hub.generation() {
            self.flush(buffer, at).await;
            self.reconsider();
        }
        let stanza = &buffer[at..at + len];
        let mark = Mark { len, iq: kind == StanzaKind::Iq, ours: false };
        let (Some(from), Some(to)) = (head.from(stanza), head.to(stanza)) else {
            return Err(Reason::ImproperAddressing);
        };
        let (from, to) = (domain_of(&from), domain_of(&to));
        // One search over the octets; everybody else's stanzas go on at once.
        if self.mux.find(stanza).is_some() || head.id(stanza).is_some_and(|id| id.starts_with(iq::ID_PREFIX))
        {
            self.flush(buffer, at).await;
            if self.relays_own(stanza, kind, from, to)? {
                return Ok(());
            }
        }
        if let Some((known_from, known_to, _)) = &self.last
            && **known_from == *from
            && **known_to == *to
        {
            if self.marks.is_empty() {
                self.start = at;
            }
            self.marks.push(mark);
            return Ok(());
        }
        self.flush(buffer, at).await;
        match self.judge(from, to)? {
            Judged::Carry(outlet) => {
                self.last = Some((from.into(), to.into(), outlet));
                self.start = at;
                self.marks.push(mark);
            }
            Judged::Bounce(route, reason) => {
                self.counters.accepted.inc();
                self.hub.bounce_run(&route, stanza, &[mark], reason);
            }
        }
        Ok(())
    }

    /// Deal with a stanza that may be the relay's own: connection authorization (XEP-0451 section 3.2). Such stanzas are
    /// never forwarded either way: from a peer they are for us, and from our own server, which may have been handed a
    /// secret by somebody, they are refused. Whether it was one.
    fn relays_own(&mut self, stanza: &[u8], kind: StanzaKind, from: &str, to: &str) -> Result<bool, Reason> {
        let element = Element::parse(stanza)?;
        let said = if kind == StanzaKind::Iq { MuxIq::read(&element) } else { None };
        if said.is_none() && !iq::holds_mux(&element) {
            return Ok(false);
        }
        let domain = |text: &str| Domain::parse(text).map_err(|_| Reason::ImproperAddressing);
        let route = Route::new(domain(from)?, domain(to)?);
        admit(&self.scope, &self.hosts, Direction::Inbound, &route.from, &route.to)?;
        self.counters.accepted.inc();
        match (&self.origin, said) {
            (Some(Origin { session, lane, .. }), Some(said)) => {
                self.hub.metrics.discarded(Reason::MuxOwn);
                let unix = unix_seconds();
                self.hub.control(|router, now| router.mux_iq(session.id, *lane, &said, Clocks { now, unix }));
            }
            (Some(_), None) => self.hub.metrics.discarded(Reason::MuxOwn),
            (None, _) => {
                let mark = Mark { len: stanza.len(), iq: kind == StanzaKind::Iq, ours: false };
                self.hub.bounce_run(&route, stanza, &[mark], Reason::MuxOwn);
            }
        }
        Ok(true)
    }

    fn judge(&mut self, from: &str, to: &str) -> Result<Judged, Reason> {
        let key = (Box::from(from), Box::from(to));
        if let Some(outlet) = self.known.get(&key) {
            return Ok(Judged::Carry(Arc::clone(outlet)));
        }
        let domain = |text: &str| Domain::parse(text).map_err(|_| Reason::ImproperAddressing);
        let (from, to) = (domain(from)?, domain(to)?);
        let mut admitted = admit(&self.scope, &self.hosts, Direction::Inbound, &from, &to);
        if admitted.is_err() && self.has_grown() {
            admitted = admit(&self.scope, &self.hosts, Direction::Inbound, &from, &to);
        }
        let route = Route::new(from, to);
        match admitted {
            Ok(()) => {}
            // Our own server may ask for what the operator doesn't want; that is an answer, not a violation.
            Err(Reason::PolicyDenied) if self.scope.side == Side::Local => {
                return Ok(Judged::Bounce(route, Reason::PolicyDenied));
            }
            // Other pairs go on, on a stream that several share.
            Err(Reason::HostGone) if self.scope.pair.is_none() => {
                return Ok(Judged::Bounce(route, Reason::HostGone));
            }
            Err(reason) => return Err(reason),
        }
        match self.hub.outlet(&route) {
            Ok(outlet) => {
                if self.known.len() >= KNOWN_MAX {
                    self.known.clear();
                }
                self.known.insert(key, Arc::clone(&outlet));
                Ok(Judged::Carry(outlet))
            }
            Err(reason) => Ok(Judged::Bounce(route, reason)),
        }
    }

    /// A stream that carries every pair of its session learns of grants that were made since it was authenticated.
    /// Whether it may have.
    fn has_grown(&mut self) -> bool {
        let Some(Origin { session, route, initiating, .. }) = &self.origin else { return false };
        if self.scope.pair.is_some() || !matches!(self.scope.theirs, Proven::Session(..)) {
            return false;
        }
        let scope = lock(&session.machine).scope(route, *initiating);
        self.rescope(scope);
        true
    }

    /// Push the run that ends at `buffer[..end]` to its outlet.
    pub(crate) async fn flush(&mut self, buffer: &[u8], end: usize) {
        if self.marks.is_empty() {
            return;
        }
        let marks = std::mem::take(&mut self.marks);
        let run = &buffer[self.start..end];
        self.counters.accepted.inc_by(marks.len() as u64);
        self.counters.bytes.inc_by(run.len() as u64);
        self.push(run, &marks).await;
        self.marks = marks;
        self.marks.clear();
    }

    async fn push(&mut self, mut run: &[u8], mut marks: &[Mark]) {
        // The first attempt is with everything, and if there is no room for that, with a little of it.
        let mut piece = marks.len();
        while !marks.is_empty() {
            let Some((_, _, outlet)) = &self.last else { return };
            let outlet = Arc::clone(outlet);
            let room = outlet.room();
            tokio::pin!(room);
            // From here on no shrinking is missed, whatever happens between the push and the wait.
            room.as_mut().enable();
            let len = octets(&marks[..piece]);
            match outlet.push(&run[..len], &marks[..piece], Instant::now()) {
                pushed @ (Pushed::Taken | Pushed::Wanted) => {
                    if pushed == Pushed::Wanted {
                        self.hub.want(&outlet.route);
                    }
                    (run, marks) = (&run[len..], &marks[piece..]);
                    piece = marks.len();
                }
                Pushed::Retired => {
                    self.known.clear();
                    match self.hub.outlet(&outlet.route) {
                        Ok(fresh) => self.replace_last(fresh),
                        Err(reason) => return self.hub.bounce_run(&outlet.route, run, marks, reason),
                    }
                }
                Pushed::Full(_) if piece > a_little(marks) => piece = a_little(marks),
                Pushed::Full(since) => {
                    let until = since + self.hub.limits.read_pause;
                    if tokio::time::timeout_at(until.into(), room).await.is_err() {
                        self.hub.metrics.limit_hit("pair_queue_bytes");
                        return self.hub.bounce_run(&outlet.route, run, marks, Reason::QueueFull);
                    }
                    piece = marks.len();
                }
            }
        }
    }

    fn replace_last(&mut self, outlet: Arc<Outlet>) {
        if let Some((_, _, last)) = &mut self.last {
            *last = outlet;
        }
    }
}

fn octets(marks: &[Mark]) -> usize {
    marks.iter().map(|mark| mark.len).sum()
}

/// How many stanzas from the first make a little, which a queue may have room for when it has none for all.
fn a_little(marks: &[Mark]) -> usize {
    let mut left = LITTLE_BYTES;
    let fitting = marks.iter().take_while(|mark| {
        let fits = mark.len <= left;
        left = left.saturating_sub(mark.len);
        fits
    });
    fitting.count().max(1)
}
