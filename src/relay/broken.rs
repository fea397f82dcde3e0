//! Streams that broke: what was sent on them and isn't acknowledged is kept until the stream is resumed (XEP-0198 section
//! 5), or until it is clear that it won't be.
//!
//! A stream that we opened is kept by the outlet of its route, which is wanted at once: the lane that is opened for it
//! resumes the stream. One that the peer opened is found by its id; meanwhile nothing else leaves in the other direction,
//! for `limits.resume_wait` at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tracing::{debug, info};

use super::clock;
use super::held::Held;
use super::hub::Hub;
use super::inbound::Inbound;
use super::io::LAST_WORDS;
use super::mailbox::{Mailbox, lock};
use super::outlet::Outlet;
use super::sending::{SentRun, Unacknowledged};
use super::shared::SessionShared;
use crate::proto::session::Lanes;
use crate::proto::stream::initiating::Manage;
use crate::proto::stream_management::resumption::{Claim, Resumptions};
use crate::reason::Reason;
use crate::xmpp::route::Route;

/// How long a lane that still lives may take to let go of a stream that is resumed elsewhere. On a path that is dead it has its last words
/// first, which nobody takes, in both directions.
pub(super) const LET_GO: Duration = LAST_WORDS.saturating_mul(2).saturating_add(Duration::from_secs(1));

/// What is left of a stream that broke.
#[derive(Debug)]
pub(crate) struct Broken {
    /// The id under which it may be resumed.
    pub(crate) id: Arc<str>,
    /// What was sent.
    pub(crate) sent: Unacknowledged,
    /// What came the other way.
    pub(crate) inbound: Option<Arc<Inbound>>,
    /// What the other end was told of that when we asked to resume.
    pub(crate) told: u32,
    /// It can't be resumed any more.
    pub(crate) until: Instant,
    /// Several pairs share it.
    pub(crate) shared: bool,
    /// A lane is asking for it.
    pub(crate) asked: bool,
    /// The outlet that waits for it, if the peer opened the stream.
    pub(crate) holds: Option<Arc<Outlet>>,
}

/// Whether an outlet keeps a stream that broke; it comes back if not.
#[derive(Debug)]
pub(crate) enum Kept {
    Here,
    /// It keeps as many as it may.
    Full(Broken),
    /// It is out of use.
    Retired(Broken),
}

/// The streams that broke.
#[derive(Debug)]
pub(crate) struct BrokenStreams {
    /// Of those that peers opened: where each is.
    pub(crate) theirs: Resumptions<Arc<Mailbox>, Broken>,
    /// Those of them for which outlets are held.
    held: Held,
    /// The routes whose outlets keep one that we opened.
    ours: FxHashSet<Route>,
    /// Those of them that keep a shared one: whichever pair's lane comes next resumes it.
    shared: FxHashSet<Route>,
}

impl BrokenStreams {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            theirs: Resumptions::new(limit),
            held: Held::default(),
            ours: FxHashSet::default(),
            shared: FxHashSet::default(),
        }
    }
}

impl Hub {
    /// A stream of ours for `route` broke; `broken` is what is left of it.
    pub(crate) fn keep_ours(self: &Arc<Self>, route: &Route, broken: Broken) {
        debug!(pair = %route, unacknowledged = broken.sent.unacknowledged(), "stream broken, and will be resumed");
        let (shared, mut broken) = (broken.shared, broken);
        loop {
            let Ok(outlet) = self.outlet(route) else { return self.gone(broken, Reason::TooMany) };
            match outlet.keep(broken) {
                Kept::Here => break,
                Kept::Full(broken) => return self.gone(broken, Reason::Unacknowledged),
                // Another lane of the route ended at the same time, and left nothing in it. There is none by now.
                Kept::Retired(other) => broken = other,
            }
        }
        let mut streams = lock(&self.broken);
        streams.ours.insert(route.clone());
        if shared {
            streams.shared.insert(route.clone());
        }
        drop(streams);
        self.acknowledger.attend_to_broken();
    }

    /// A stream that a peer opened broke; it is expected to come back.
    pub(crate) fn keep_theirs(self: &Arc<Self>, route: &Route, broken: Broken) {
        let (id, until) = (broken.id.clone(), broken.until);
        let mut streams = lock(&self.broken);
        if let Some(outlet) = &broken.holds {
            outlet.hold(true);
            streams.held.insert(&id, route.clone(), clock::now() + self.limits.resume_wait);
        }
        let forgotten = streams.theirs.broke(&id, broken, until);
        drop(streams);
        self.acknowledger.attend_to_broken();
        if let Some(forgotten) = forgotten {
            self.metrics.limit_hit("resumable");
            self.gone(forgotten, Reason::TooMany);
        }
        self.lane_gone.notify_waiters();
    }

    /// What to do about stream management on a stream that we open for `route` in `session`, just before it is run: go on with a
    /// stream of that pair that broke, or with a shared one all of whose pairs have a way here.
    pub(crate) fn manage(&self, route: &Route, session: &SessionShared) -> Manage {
        let shared: Vec<Route> = lock(&self.broken).shared.iter().cloned().collect();
        let machine = lock(&session.machine);
        let shares = machine.facts().lanes == Lanes::Shared;
        let may = |broken: &Broken| {
            let has_way = |outlet: &Option<Arc<Outlet>>| {
                outlet.as_ref().is_none_or(|outlet| machine.may_carry(&outlet.route).is_ok())
            };
            !broken.shared || shares && broken.sent.queues().all(|(_, outlet)| has_way(outlet))
        };
        let resume = std::iter::once(route).chain(&shared).find_map(|route| {
            machine.may_carry(route).ok()?;
            self.known_outlet(route)?.look_at_broken(|broken| {
                if broken.asked || broken.until <= clock::now() {
                    // It isn't free: another lane asks for it. Or its time is over, however often nobody answered.
                    return None;
                }
                if !may(broken) {
                    // Here is its place, and there is no way for all of it.
                    broken.until = clock::now();
                    return None;
                }
                broken.asked = true;
                broken.told = broken.inbound.as_ref().map_or(0, |inbound| inbound.tell());
                Some(Manage::Resume { previd: String::from(&*broken.id), h: broken.told })
            })
        });
        resume.unwrap_or(Manage::Enable)
    }

    /// Wait while another lane asks to go on with a stream of `route` that broke, unless there is one more to be asked for; for
    /// `limits.header_wait` at most, when its answer is overdue. A new stream beside that would tell the peer that nobody knows of the
    /// broken one any more ([`Self::opened_anew`]).
    pub(crate) async fn asks_alone(&self, route: &Route) {
        if self.is_asked_for(route) {
            // It is rare, and each lane comes through here.
            Box::pin(self.answer_comes(route)).await;
        }
    }

    async fn answer_comes(&self, route: &Route) {
        let until = clock::now() + self.limits.header_wait;
        loop {
            let answered = self.resumption_answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            if !self.is_asked_for(route) || tokio::time::timeout_at(until.into(), answered).await.is_err() {
                return;
            }
        }
    }

    fn is_asked_for(&self, route: &Route) -> bool {
        let Some(outlet) = self.known_outlet(route) else { return false };
        let any = |asked| outlet.look_at_broken(|broken| (broken.asked == asked).then_some(())).is_some();
        any(true) && !any(false)
    }

    /// The outlet that keeps the broken stream `id` of ours, which a lane opened for `route` asks for.
    pub(crate) fn keeper(&self, route: &Route, id: &str) -> Option<Arc<Outlet>> {
        let shared: Vec<Route> = lock(&self.broken).shared.iter().cloned().collect();
        std::iter::once(route).chain(&shared).find_map(|route| {
            let outlet = self.known_outlet(route)?;
            outlet.look_at_broken(|broken| (*broken.id == *id).then_some(()))?;
            Some(outlet)
        })
    }

    /// What the peer asks to resume; `may`: whether it is authenticated for a pair (in the initiating entity's direction). If its
    /// lane still lives, that has to let go first. Its outlet is still held.
    pub(crate) async fn claim(&self, id: &str, may: impl Fn(&Route) -> bool) -> Option<Broken> {
        let until = clock::now() + LET_GO;
        loop {
            let gone = self.lane_gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable();
            let claim = lock(&self.broken).theirs.claim(id, &may);
            match claim {
                Claim::Unknown => return None,
                Claim::Broken(broken) => {
                    lock(&self.broken).held.remove(id);
                    return Some(broken);
                }
                Claim::Live(lane) => lane.break_off(Reason::Conflict),
            }
            tokio::time::timeout_at(until.into(), gone).await.ok()?;
        }
    }

    /// The peer has opened a new stream of `route` (in its direction): had it known of one that broke it would have asked for that. So
    /// what we sent there isn't waited for any longer.
    pub(crate) fn opened_anew(self: &Arc<Self>, route: &Route) {
        let given_up: Vec<Broken> = {
            let mut streams = lock(&self.broken);
            let ids = streams.held.of(route);
            ids.iter().for_each(|id| streams.held.remove(id));
            ids.iter().filter_map(|id| streams.theirs.forget(id)).collect()
        };
        given_up.into_iter().for_each(|broken| self.gone(broken, Reason::Unacknowledged));
    }

    /// When there is something to do about broken streams.
    pub(crate) fn broken_deadline(&self) -> Option<Instant> {
        let streams = lock(&self.broken);
        if !streams.ours.is_empty() || !lock(&self.lingering).is_empty() {
            return Some(clock::now());
        }
        let held = streams.held.deadline();
        held.into_iter().chain(streams.theirs.deadline()).min()
    }

    /// Give up what wasn't resumed in time, and see that what we can resume is.
    pub(crate) fn see_to_broken(self: &Arc<Self>, now: Instant) {
        let (expired, ours) = {
            let mut streams = lock(&self.broken);
            let mut expired = streams.theirs.expire(now);
            while let Some(id) = streams.held.expire(now) {
                expired.extend(streams.theirs.forget(&id));
            }
            (expired, streams.ours.iter().cloned().collect::<Vec<_>>())
        };
        expired.into_iter().for_each(|broken| self.gone(broken, Reason::Unacknowledged));
        for route in ours {
            self.see_to_ours(&route, now);
        }
        let lingering = std::mem::take(&mut *lock(&self.lingering));
        let (over, left): (Vec<_>, Vec<_>) = lingering.into_iter().partition(|outlet| !outlet.lingers());
        lock(&self.lingering).extend(left);
        over.iter().for_each(|outlet| self.retire(&outlet.route, outlet));
        let count = lock(&self.broken).theirs.broken();
        self.metrics.custody.streams_resumable.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn see_to_ours(self: &Arc<Self>, route: &Route, now: Instant) {
        let outlet = self.known_outlet(route);
        let Some(outlet) = outlet.filter(|outlet| outlet.look_at_broken(|_| Some(())).is_some()) else {
            let mut streams = lock(&self.broken);
            streams.ours.remove(route);
            streams.shared.remove(route);
            return;
        };
        // Where one stream carries everything, no other is opened to go on with what nobody has asked for.
        let stands = outlet.is_elsewhere();
        let over = stands && !self.control(|router, now| router.open_to_resume(route, now));
        let late =
            |broken: &mut Broken| (!broken.asked && (over || broken.until <= now)).then(|| broken.id.clone());
        while let Some(broken) = outlet.look_at_broken(late).and_then(|id| outlet.take_broken(&id)) {
            self.gone(broken, Reason::Unacknowledged);
            self.want_if_waiting(&outlet);
        }
        if !stands && outlet.look_at_broken(|broken| (!broken.asked).then_some(())).is_some() {
            // Nobody else would ask for a lane if nothing new comes.
            self.control(|router, now| router.want_resumed(route, now));
        }
    }

    /// Nothing is resumed any more.
    pub(super) fn give_up_broken(self: &Arc<Self>, reason: Reason) {
        let mut broken = {
            let mut streams = lock(&self.broken);
            streams.held.clear();
            streams.theirs.give_up()
        };
        let outlets: Vec<_> = lock(&self.outlets).values().cloned().collect();
        for outlet in outlets {
            let next = || outlet.look_at_broken(|broken| Some(broken.id.clone()));
            broken.extend(std::iter::from_fn(|| outlet.take_broken(&next()?)));
        }
        broken.into_iter().for_each(|broken| self.gone(broken, reason));
    }

    /// A stream can't be resumed: what was sent on it may have arrived or not.
    pub(crate) fn gone(self: &Arc<Self>, mut broken: Broken, reason: Reason) {
        if let Some(inbound) = &broken.inbound {
            inbound.break_off();
        }
        let left = broken.sent.take();
        info!(stanzas = left.len(), %reason, "a broken stream was not resumed");
        self.metrics.custody.stream_resumed(false);
        self.unacknowledged(left, Certainty::Unknown { by_the_lane: false });
        if let Some(outlet) = broken.holds {
            outlet.hold(false);
            self.want_if_waiting(&outlet);
        }
    }

    pub(super) fn want_if_waiting(self: &Arc<Self>, outlet: &Arc<Outlet>) {
        if outlet.has_waiting() {
            self.want(&outlet.route);
        }
    }
}

/// What is known of stanzas that a lane sent and that weren't acknowledged when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// They weren't handled: the other end ended the stream in good order, and said last how many were.
    Unhandled,
    /// They may have been handled or not: the other end was there, and acknowledged nothing.
    Ignored,
    /// They may have been handled or not. `by_the_lane`: the stream ended, and not what it ran over, so that the first of
    /// them may be what ended it.
    Unknown {
        /// See above.
        by_the_lane: bool,
    },
}

/// The stanzas of each outlet, in order.
pub(super) fn by_outlet(left: Vec<SentRun>) -> Vec<(Arc<Outlet>, Vec<super::inbound::Waited>)> {
    let mut outlets: Vec<(Arc<Outlet>, Vec<_>)> = Vec::new();
    for (run, outlet) in left {
        let Some(outlet) = outlet else { continue };
        match outlets.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &outlet)) {
            Some((_, stanzas)) => stanzas.extend(run.stanzas()),
            None => outlets.push((outlet, run.stanzas().collect())),
        }
    }
    outlets
}
