//! The data path of one stream: each stanza is held against the stream's scope, and runs of stanzas for one route are
//! copied once into that route's outlet.
//!
//! A route whose outlet is full pauses reading for at most `limits.read_pause`; then reading goes on, and what finds no
//! room bounces, at once, until something has left that outlet. Whoever is over a budget ([`super::budgets`]), that of such
//! errors among them, isn't read for a while. Acknowledgements and closings travel in-band, so two full directions would else wait for each other for
//! ever, and unread lanes would eat the session's credit until every lane stalls.

use std::sync::Arc;

use super::budgets::Meter;
use super::clock;
use super::hub::Hub;
use super::inbound::{Inbound, Origin};
use super::outlet::Outlet;
use super::outlets::Begins;
use super::proofs::unix_seconds;
use super::shared::SessionShared;
use crate::metrics::SideCounters;
use crate::proto::admission::{Direction, Proven, Scope, Side, admit};
use crate::proto::hosts::Hosts;
use crate::proto::mux::iq::{self, MuxIq};
use crate::proto::mux::verifier::Clocks;
use crate::proto::queue::{Mark, Wait};
use crate::proto::router::LaneId;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::route::Route;
use crate::xmpp::stanza::{Head, StanzaKind};

mod pushing;
mod refusing;
mod renewing;
mod way;

use way::{KNOWN_MAX, Known, Last, Way};

/// No session's grants have changed as often: the scope that a stream begins with may be older than it seems.
const NEVER: u64 = u64::MAX;

/// The data path of one stream.
#[derive(Debug)]
pub(crate) struct Carry {
    hub: Arc<Hub>,
    /// The hosts as they were at `generation`. A lane of a single pair whose host is taken away keeps those that it had: it is
    /// closed in good order, and what the peer had sent by then still goes through.
    hosts: Arc<Hosts>,
    generation: u64,
    scope: Scope,
    stands: Option<Place>,
    /// How often the grants of the session had changed when the scope was made.
    grants: u64,
    /// What the stream has brought of what its pairs, hosts and peer may.
    pub(crate) meter: Meter,
    /// Of a stream that several pairs share.
    known: Option<Box<Known>>,
    last: Option<Last>,
    marks: Vec<Mark>,
    /// Where the run of stanzas for the last outlet begins in the reader's buffer.
    start: usize,
    /// Under stream management: the stream's counters.
    inbound: Option<Arc<Inbound>>,
    /// So many stanzas of a resumed stream follow that came before it broke.
    here_already: u32,
}

/// Where a stream of the remote side stands.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) session: Arc<SessionShared>,
    pub(crate) lane: LaneId,
    /// What the stream was authenticated for, and whether we opened it.
    pub(crate) route: Route,
    pub(crate) initiating: bool,
}

/// What is to become of a stanza.
enum Judged {
    Carry(Way),
    Bounce(Route, Reason),
    /// Not answered either: whoever sent it may not speak for that domain any more, or may hear nothing.
    Drop(Reason),
    /// Nor handled: its stream ends before it, and whoever sent it sends it again on another one.
    Leave(Reason),
}

/// Whose grant has ended.
#[derive(Debug, Clone, Copy)]
enum Ended {
    /// That of the peer's host which a stanza comes from.
    Theirs,
    /// That of our host which it goes to.
    Ours,
    /// That of a domain of the peer's, which is a host of ours by now, on a stream that others share.
    Home,
}

impl Ended {
    /// A grant ends with the certificate of its host.
    const fn reason(self) -> Reason {
        match self {
            Self::Theirs | Self::Ours => Reason::CertificateExpired,
            Self::Home => Reason::InvalidFrom,
        }
    }
}

impl Carry {
    /// `stands`: on the remote side.
    pub(crate) fn new(hub: &Arc<Hub>, scope: Scope, stands: Option<Place>) -> Self {
        let meter = Meter::new(hub, scope.side, stands.as_ref().map(|it| it.session.address()));
        Self {
            hub: Arc::clone(hub),
            // In this order: what is newer than its number is only looked up once more.
            generation: hub.generation(),
            hosts: Arc::clone(&hub.live().hosts),
            scope,
            stands,
            grants: NEVER,
            meter,
            known: None,
            last: None,
            marks: Vec::new(),
            start: 0,
            inbound: None,
            here_already: 0,
        }
    }

    /// From here on stanzas are counted; the first `here_already` of them came before the stream was resumed.
    pub(crate) fn manage(&mut self, inbound: &Arc<Inbound>, here_already: u32) {
        self.inbound = Some(Arc::clone(inbound));
        self.here_already = here_already;
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Who begins a pair that the stream brings.
    fn begins(&self) -> Begins {
        self.stands.as_ref().map_or(Begins::Ours, |place| Begins::Peer(place.session.address()))
    }

    fn counters(&self) -> &SideCounters {
        self.hub.metrics.data.side(self.scope.side)
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
            self.flush(buffer, at).await?;
            self.renew();
        }
        if self.here_already > 0 {
            self.here_already -= 1;
            self.hub.metrics.custody.passed_over.inc();
            return Ok(());
        }
        if self.is_over() {
            return self.flush(buffer, at).await;
        }
        let stanza = &buffer[at..at + len];
        let mark = Mark { kind, wait: wait(kind, head, stanza), ..Mark::of(len) };
        let (Some(from), Some(to)) = (head.from_domain(stanza), head.to_domain(stanza)) else {
            return Err(Reason::ImproperAddressing);
        };
        let (from, to) = (&*from, &*to);
        // Everybody else's stanzas go on at once.
        let suspected = iq::suspects(stanza, head);
        let asks = mark.wait == Wait::Iq;
        if let Some(last) = &self.last
            && last.is(from, to)
            && !(asks && last.way.mute)
            && !suspected
            && !self.is_outdated()
        {
            if self.marks.is_empty() {
                self.start = at;
            }
            self.marks.push(mark);
            return Ok(());
        }
        // What came before was admitted before. It may have to wait for room, and meanwhile the stream may end, or what may pass change.
        self.flush(buffer, at).await?;
        if self.is_over() {
            return Ok(());
        }
        self.renew();
        if suspected && self.relays_own(stanza, mark, from, to)? {
            // It costs as much as a hundred others, and a read may bring hundreds of them: everybody has a turn in between.
            tokio::task::yield_now().await;
            return Ok(());
        }
        match self.judge(from, to)? {
            Judged::Carry(way) if asks && way.mute => {
                self.bounce(&way.outlet.route, stanza, mark, Reason::PolicyDenied)?;
            }
            Judged::Carry(way) => {
                self.last = Some(Last::new(from, to, way));
                self.start = at;
                self.marks.push(mark);
            }
            Judged::Bounce(route, reason) => self.bounce(&route, stanza, mark, reason)?,
            Judged::Drop(reason) => self.discard(mark, reason),
            Judged::Leave(reason) => self.leave(reason),
        }
        Ok(())
    }

    /// Whether we have ended the stream: the sender of what comes now learns that it isn't handled, and sends it again.
    fn is_over(&self) -> bool {
        self.inbound.as_ref().is_some_and(|inbound| inbound.is_closed())
    }

    /// Count stanzas that came. The origin of the first.
    fn receive(&self, count: usize) -> Origin {
        let inbound = self.inbound.as_ref()?;
        Some((Arc::clone(inbound), inbound.receive(count, clock::now())))
    }

    /// Deal with a stanza that may be the relay's own: connection authorization (XEP-0451 section 3.2). Such stanzas are never
    /// forwarded: from a peer they are for us, and our own server's, which was handed a secret, are refused. Whether it was one.
    fn relays_own(&mut self, stanza: &[u8], mark: Mark, from: &str, to: &str) -> Result<bool, Reason> {
        let element = Element::parse(stanza)?;
        let said = if element.name() == "iq" { MuxIq::read(&element) } else { None };
        if said.is_none() && !iq::holds_mux(&element) {
            return Ok(false);
        }
        let domain = |text: &str| Domain::parse(text).map_err(|_| Reason::ImproperAddressing);
        let route = Route::new(domain(from)?, domain(to)?);
        if let Some(ended) = self.admitted(&route)? {
            self.discard(mark, ended.reason());
            return Ok(true);
        }
        if self.stands.is_none() {
            self.bounce(&route, stanza, mark, Reason::MuxOwn)?;
            return Ok(true);
        }
        self.discard(mark, Reason::MuxOwn);
        if let (Some(Place { session, lane, .. }), Some(said)) = (&self.stands, said) {
            let clocks = |now| Clocks { now, unix: unix_seconds() };
            let useful = self.hub.control(|router, now| router.mux_iq(session.id, *lane, &said, clocks(now)));
            if !useful {
                self.meter.charge_in_vain(&route);
            }
        }
        Ok(true)
    }

    fn judge(&mut self, from: &str, to: &str) -> Result<Judged, Reason> {
        let key = (Box::from(from), Box::from(to));
        if let Some(way) = self.known.as_ref().and_then(|known| known.get(&key)) {
            return Ok(Judged::Carry(way.clone()));
        }
        let domain = |text: &str| Domain::parse(text).map_err(|_| Reason::ImproperAddressing);
        let (from, to) = (domain(from)?, domain(to)?);
        let route = Route::new(from, to);
        match self.admitted(&route) {
            Ok(None) => {}
            Ok(Some(Ended::Theirs)) => return Ok(self.too_late(&route)),
            Ok(Some(Ended::Home)) => return Ok(Judged::Drop(Ended::Home.reason())),
            Ok(Some(Ended::Ours)) => return Ok(Judged::Bounce(route, Ended::Ours.reason())),
            Err(Reason::PolicyDenied) => return Ok(self.denied(route)),
            // Other pairs go on, on a stream that several share. But one of our own servers has to answer for a host itself to which
            // we don't speak any more: its stream ends, and this stanza isn't handled.
            Err(Reason::HostGone) if self.scope.pair.is_none() && self.scope.side == Side::Remote => {
                return Ok(Judged::Bounce(route, Reason::HostGone));
            }
            Err(reason) => return Err(reason),
        }
        let mute = self.scope.side == Side::Local
            && !self.hosts.serves(&route.to)
            && self.hosts.policy(Direction::Inbound, &route.from, &route.to).is_err();
        match self.hub.begin(&route, self.begins()) {
            Ok(outlet) => {
                let way = Way { outlet, mute };
                // A lane of one pair needs to know no other than the last.
                if self.scope.pair.is_none() {
                    let known = self.known.get_or_insert_default();
                    if known.len() >= KNOWN_MAX {
                        known.clear();
                    }
                    known.insert(key, way.clone());
                }
                Ok(Judged::Carry(way))
            }
            Err(reason) => Ok(Judged::Bounce(route, reason)),
        }
    }

    /// A stanza of a host whose grant has ended: it was on its way then, or the peer's clock is behind ours. It is dropped, and nobody is
    /// told: the host is proven no longer. But a stream of that pair alone ends before it if its other end would hear that it is handled:
    /// the peer sends it on another one, or answers for it.
    fn too_late(&self, route: &Route) -> Judged {
        let alone = self.scope.pair.as_ref().is_some_and(|pair| pair == route || *pair == route.reversed());
        let reason = Ended::Theirs.reason();
        if alone && self.inbound.is_some() { Judged::Leave(reason) } else { Judged::Drop(reason) }
    }

    /// What the operator doesn't want is answered, and no violation: our own server can't know it, and on a stream of the
    /// remote side that stands, others or the other direction go on. To whom nothing may be said, nothing is said.
    fn denied(&self, route: Route) -> Judged {
        let silent = self.scope.side == Side::Remote
            && self.hosts.policy(Direction::Outbound, &route.to, &route.from).is_err();
        if self.scope.side == Side::Local {
            self.hub.gave_up(&route, Reason::PolicyDenied);
        }
        if silent { Judged::Drop(Reason::PolicyDenied) } else { Judged::Bounce(route, Reason::PolicyDenied) }
    }

    /// Ask the one function that decides. What it refuses is a violation of the peer's, unless a grant of the session has
    /// ended, or our hosts have changed: the peer may not have noticed yet, and whatever else the stream carries goes on.
    fn admitted(&self, route: &Route) -> Result<Option<Ended>, Reason> {
        let Scope { theirs, ours, .. } = &self.scope;
        match admit(&self.scope, &self.hosts, Direction::Inbound, &route.from, &route.to) {
            Ok(()) => Ok(None),
            Err(Reason::InvalidFrom) if theirs.has_ended(&route.from) => Ok(Some(Ended::Theirs)),
            Err(Reason::InvalidFrom) if self.comes_home(&route.from) => Ok(Some(Ended::Home)),
            Err(Reason::HostUnknown) if ours.has_ended(&route.to) => Ok(Some(Ended::Ours)),
            Err(reason) => Err(reason),
        }
    }

    /// Whether `from`, which the certificates of this stream of several pairs prove, is a host of ours since a change of the
    /// configuration: its own server speaks for it.
    fn comes_home(&self, from: &Domain) -> bool {
        let Scope { side, pair, theirs, .. } = &self.scope;
        let shared = *side == Side::Remote && pair.is_none() && matches!(theirs, Proven::Session(..));
        shared && self.hosts.has_come(from) && theirs.covers(from)
    }

    /// Push the run that ends at `buffer[..end]` to its outlet.
    ///
    /// # Errors
    /// [`Reason::QueueFull`] if there is room neither for it nor for the answers that say so: the stream has to end.
    pub(crate) async fn flush(&mut self, buffer: &[u8], end: usize) -> Result<(), Reason> {
        if self.marks.is_empty() {
            return Ok(());
        }
        if self.is_over() {
            self.marks.clear();
            return Ok(());
        }
        let marks = std::mem::take(&mut self.marks);
        let run = &buffer[self.start..end];
        let origin = self.receive(marks.len());
        if !self.push_at_once(run, &marks, &origin) {
            // It is rare, and its state is large: not in each lane at all times.
            Box::pin(self.push(run, &marks, origin)).await?;
        }
        if let Some(Last { way: Way { outlet, .. }, .. }) = &self.last {
            self.meter.charge(Some(&outlet.route), marks.len(), run.len());
        }
        self.marks = marks;
        self.marks.clear();
        Ok(())
    }

    /// There is nothing to read: no room is kept.
    pub(crate) fn rest(&mut self) {
        if self.marks.is_empty() {
            self.marks = Vec::new();
        }
    }

    fn replace_last(&mut self, outlet: Arc<Outlet>) {
        if let Some(Last { way, .. }) = &mut self.last {
            way.outlet = outlet;
        }
    }
}

/// How long a stanza may wait.
fn wait(kind: StanzaKind, head: Head, stanza: &[u8]) -> Wait {
    match (kind, head.type_(stanza).as_deref()) {
        (_, Some("error" | "result")) => Wait::Answer,
        (StanzaKind::Iq, _) => Wait::Iq,
        (StanzaKind::Message, Some("groupchat")) => Wait::Groupchat,
        (StanzaKind::Message | StanzaKind::Presence, _) => Wait::Other,
    }
}
