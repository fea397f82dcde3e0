//! Stream management (XEP-0198) on a lane: turned on, resumed, and what becomes of unacknowledged stanzas when it ends.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::beginning::stop_waiting;
use super::{Ended, Lane, Machine};
use crate::proto::admission::{Direction, Side, admit};
use crate::proto::stream::{Event, Managed, Violation};
use crate::proto::stream_management::element::write_enabled;
use crate::reason::Reason;
use crate::relay::broken::{Broken, Certainty};
use crate::relay::carry::Carry;
use crate::relay::clock;
use crate::relay::inbound::Inbound;
use crate::relay::mailbox::lock;
use crate::relay::random;
use crate::relay::sending::{Remainder, Unacknowledged};
use crate::xmpp::route::Route;

/// How a stream may be resumed when it breaks.
#[derive(Debug)]
pub(super) struct Resumable {
    id: Arc<str>,
    /// Its pair, in the initiating entity's direction.
    route: Route,
    /// For how long after that.
    within: Duration,
}

impl Lane {
    pub(super) fn on_management(&mut self, managed: Managed) -> Result<(), Violation> {
        match managed {
            Managed::Enable { resume } => self.enable(resume),
            Managed::Enabled { id, max } => {
                let inbound = self.fresh_inbound();
                self.count(inbound, 0);
                let within = max.unwrap_or(self.hub.limits.resume).min(self.hub.limits.resume);
                let id = id.filter(|_| self.is_resumable());
                self.resumable =
                    id.zip(self.route()).map(|(id, route)| Resumable { id: id.into(), route, within });
            }
            Managed::Refused => self.sending.unmanage(),
            Managed::Resume { previd, h } => self.beginning_mut().claim = Some((previd, h)),
            Managed::Resumed { h } => self.resumed(h)?,
            Managed::Lost { h } => self.lost(h),
            Managed::Asked => self.mailbox.acknowledge(),
            Managed::Acknowledged { h } => {
                (self.heard_answer, self.heard_now) = (true, true);
                self.sending.acknowledged(h, &self.mailbox)?;
            }
        }
        Ok(())
    }

    /// A stream with a peer: our own servers don't resume.
    fn is_resumable(&self) -> bool {
        self.place.side() == Side::Remote && !self.hub.limits.resume.is_zero()
    }

    /// Whether many pairs share the stream.
    fn is_shared(&self) -> bool {
        self.carry.as_ref().is_some_and(|carry| carry.scope().pair.is_none())
    }

    /// Whether the other end, which opened this stream for `own`, is authenticated for a stream of `pair`.
    fn may_resume(&self, own: &Route, pair: &Route) -> bool {
        let hosts = &self.hub.live().hosts;
        let shared = self.carry.as_ref().map(Carry::scope).filter(|scope| scope.pair.is_none());
        let has = |scope| admit(scope, hosts, Direction::Inbound, &pair.from, &pair.to).is_ok();
        pair == own || shared.is_some_and(has)
    }

    /// Whether an answer just before the end of the stream was meant as the last word. A relay says one there; from a server it may be
    /// an old one, to which it has handled more since, unless the two came together.
    pub(super) fn is_last_word(&self) -> bool {
        self.heard_now || self.is_relay()
    }

    /// Whether the other end is another relay.
    pub(super) fn is_relay(&self) -> bool {
        self.place.session().is_some_and(|session| lock(&session.machine).is_multiplexed())
    }

    /// What a lane that is gone had taken of queues goes on here.
    fn take_over(&self) {
        for (outlet, octets) in self.sending.under_way() {
            outlet.taken_over(&self.mailbox, octets);
        }
    }

    /// What comes is counted from one.
    fn fresh_inbound(&self) -> Arc<Inbound> {
        let acknowledger = &self.hub.acknowledger;
        let mut patience = acknowledger.patience;
        let alone = self.carry.as_ref().is_some_and(|carry| carry.scope().pair.is_some());
        if alone && self.is_relay() {
            // Another relay keeps what isn't acknowledged as long as that takes, unlike Prosody; nor does anybody else wait for
            // this pair. What we acknowledged before the next hop would be lost if we were killed.
            patience.unhandled_max = u32::MAX;
        }
        Inbound::new(acknowledger, &self.mailbox, patience)
    }

    /// From here on what comes is counted; the first `here_already` of it came before the stream was resumed.
    fn count(&mut self, inbound: Arc<Inbound>, here_already: u32) {
        if let Some(carry) = &mut self.carry {
            carry.manage(&inbound, here_already);
        }
        self.sending.answer_for(&inbound);
        self.inbound = Some(inbound);
    }

    /// The other end turns it on.
    fn enable(&mut self, resume: bool) {
        let inbound = self.fresh_inbound();
        self.count(inbound, 0);
        let within = self.hub.limits.resume;
        let id = if resume && self.is_resumable() { random::identifier() } else { None };
        let mut octets = String::new();
        write_enabled(&mut octets, id.as_deref().map(|id| (id, within)));
        self.sending.manage();
        self.mailbox.post(octets);
        if self.mailbox.is_closed() {
            // We have ended the stream, without a word on this: nothing of what comes is handled.
            let _none = self.inbound.as_ref().map(|inbound| inbound.tell_finally());
        }
        if let Some(route) = self.route() {
            if self.place.side() == Side::Remote {
                self.hub.opened_anew(&route);
            }
            if let Some(id) = id {
                self.is_live(id.into(), route, within);
            }
        }
        self.send_now();
    }

    fn is_live(&mut self, id: Arc<str>, route: Route, within: Duration) {
        lock(&self.hub.broken).theirs.opened(Arc::clone(&id), route.clone(), Arc::clone(&self.mailbox));
        self.resumable = Some(Resumable { id, route, within });
    }

    fn send_now(&mut self) {
        if stop_waiting(&mut self.beginning) {
            self.mailbox.open();
        }
    }

    /// The pair of the stream, in the initiating entity's direction.
    fn route(&self) -> Option<Route> {
        match &self.machine {
            Machine::Initiating(machine) => Some(machine.route().clone()),
            Machine::Receiving(machine) => machine.route().cloned(),
            Machine::Component(_) => None,
        }
    }

    /// The other end wants to go on here with a stream that broke, of which it has handled `h` stanzas.
    pub(super) async fn resume_theirs(&mut self, previd: &str, h: u32) -> Result<(), Violation> {
        let claimed = match self.route() {
            Some(route) if self.is_resumable() => {
                let may = |pair: &Route| self.may_resume(&route, pair);
                self.hub.claim(previd, may).await.map(|broken| (broken, route.clone()))
            }
            _ => None,
        };
        let Some((mut broken, route)) = claimed else {
            self.hub.metrics.custody.resumption_refused();
            debug!(parent: &self.place.span(), lane = self.id.0, peer = self.other_end(), "a stream that isn't known was to be resumed");
            return self.handle(Event::Resumption { h: None }).map(|_| ());
        };
        let sent = std::mem::take(&mut broken.sent);
        if let Err((sent, reason)) = self.sending.resume(sent, h, &self.mailbox) {
            broken.sent = sent;
            self.hub.gone(broken, reason);
            return Err(reason.into());
        }
        let inbound = match broken.inbound.take() {
            Some(inbound) => inbound,
            None => self.fresh_inbound(),
        };
        let (told, here_already) = inbound.resume(&self.mailbox, None);
        self.count(inbound, here_already);
        self.handle(Event::Resumption { h: Some(told) })?;
        self.is_live(broken.id, route.clone(), self.hub.limits.resume);
        self.hub.metrics.custody.stream_resumed(true);
        debug!(parent: &self.place.span(), lane = self.id.0, pair = %route, here_already, "stream resumed by the peer");
        self.send_now();
        if let Some(outlet) = broken.holds.take() {
            let lane = self.id;
            self.take_over();
            self.hub.control(|router, _| router.lane_resumed(lane, &outlet.route));
            outlet.hold(false);
        }
        Ok(())
    }

    /// The stream that broke goes on here; the other end has handled `h` stanzas of it.
    fn resumed(&mut self, h: u32) -> Result<(), Violation> {
        let Some(route) = self.route() else { return Err(Reason::BadFormat.into()) };
        let asked = self.take_asked().and_then(|id| Some((self.hub.keeper(&route, &id)?, id)));
        let Some((outlet, id)) = asked else { return Err(Reason::BadFormat.into()) };
        let sent = |broken: &mut Broken| (*broken.id == *id && !broken.sent.is_empty()).then_some(());
        if outlet.look_at_broken(sent).is_some() {
            let lane = self.id;
            self.hub.control(|router, _| router.lane_resumed(lane, &outlet.route));
        }
        let Some(mut broken) = outlet.take_broken(&id) else { return Err(Reason::BadFormat.into()) };
        self.hub.resumption_answered.notify_waiters();
        let sent = std::mem::take(&mut broken.sent);
        if let Err((sent, reason)) = self.sending.resume(sent, h, &self.mailbox) {
            broken.sent = sent;
            self.hub.gone(broken, reason);
            return Err(reason.into());
        }
        self.take_over();
        let inbound = match broken.inbound.take() {
            Some(inbound) => inbound,
            None => self.fresh_inbound(),
        };
        let (_, here_already) = inbound.resume(&self.mailbox, Some(broken.told));
        self.count(inbound, here_already);
        self.hub.metrics.custody.stream_resumed(true);
        debug!(parent: &self.place.span(), lane = self.id.0, here_already, again = self.sending.unacknowledged(), "stream resumed");
        self.resumable = Some(Resumable { id: broken.id, route, within: self.hub.limits.resume });
        self.mailbox.open();
        Ok(())
    }

    /// The stream that broke is gone at the other end; it had handled `h` stanzas of it, if it knows.
    fn lost(&mut self, h: Option<u32>) {
        self.give_up_resumption(h);
        self.sending.manage();
        self.mailbox.open();
    }

    /// The stream that was to be resumed here isn't; the other end had handled `h` stanzas of it, if it says so.
    pub(super) fn give_up_resumption(&mut self, h: Option<u32>) {
        let asked = self.take_asked().zip(self.route());
        let broken = asked.and_then(|(id, route)| self.hub.keeper(&route, &id)?.take_broken(&id));
        if let Some(mut broken) = broken {
            if let Some(h) = h {
                self.sending.delivered_before(&mut broken.sent, h);
            }
            self.hub.gone(broken, Reason::Unacknowledged);
            self.hub.resumption_answered.notify_waiters();
        }
    }

    /// The other end ends the stream with `reason`. One of our own servers answers itself for what it wasn't told to be
    /// handled, unless it is going down: then it has no time for that.
    pub(super) fn other_end_closes(&self, reason: Reason) {
        if self.place.side() == Side::Local
            && reason != Reason::SystemShutdown
            && let Some(inbound) = &self.inbound
        {
            inbound.take_back();
        }
    }

    /// The lane has ended: what isn't acknowledged waits for the stream to be resumed, or for another lane, or comes back.
    pub(super) fn part(&mut self, ended: Ended, left: Remainder) {
        self.parted = true;
        if let Some(inbound) = &self.inbound {
            inbound.break_off();
            if matches!(ended, Ended::Lost(Reason::Draining)) {
                inbound.take_back();
            }
        }
        if let (Some(id), Some(route)) = (self.take_asked(), self.route())
            && let Some(outlet) = self.hub.keeper(&route, &id)
        {
            outlet.look_at_broken(|broken| (*broken.id == *id).then(|| broken.asked = false));
            self.hub.resumption_answered.notify_waiters();
        }
        let mut sent = match left {
            Remainder::Unknown(sent) => sent,
            Remainder::PutBack(runs) => {
                let of_queues = runs.into_iter().filter_map(|(run, outlet)| Some((outlet?, run)));
                return of_queues.for_each(|(outlet, run)| self.hub.put_back(&outlet, run));
            }
        };
        // In a conflict our own attempt to resume the stream elsewhere has won, or will.
        let broke = matches!(ended, Ended::Lost(_) | Ended::Usurped | Ended::Closed(Reason::Conflict));
        // The time to drain is over: whoever wasn't told that a stanza is handled answers for it, or sends it again.
        let ours = matches!(ended, Ended::Lost(Reason::Draining));
        match self.resumable.take() {
            // What ends without a closing tag has broken as well (RFC 6120 section 4.4). A relay that ends resumes nothing.
            Some(resumable) if (broke || ended.is_bare()) && !self.hub.is_ending() => {
                return self.keep(resumable, sent);
            }
            Some(resumable) if matches!(self.machine, Machine::Receiving(_)) => {
                lock(&self.hub.broken).theirs.forget(&resumable.id);
            }
            _ => {}
        }
        let certainty = if self.said_all && (matches!(ended, Ended::Closed(_)) || ended.is_for_room()) {
            Certainty::Unhandled
        } else if matches!(ended, Ended::Violated(violation) if violation.reason == Reason::Stalled) {
            Certainty::Ignored
        } else {
            // A stream that was never established says nothing about a stanza, nor does one for which there was no room.
            let established = self.carry.is_some() && !ended.is_overload();
            let by_the_lane = established && (!broke || !ours && self.place.side() == Side::Local);
            Certainty::Unknown { by_the_lane }
        };
        self.hub.unacknowledged(sent.take(), certainty);
    }

    /// The stream broke, and may be resumed.
    fn keep(&mut self, resumable: Resumable, sent: Unacknowledged) {
        let Resumable { id, route, within } = resumable;
        let initiating = matches!(self.machine, Machine::Initiating(_));
        // Only what was sent there makes the other direction wait; where many pairs share it, the others wait for what it took.
        let holds = sent.queues().find_map(|(_, outlet)| outlet.clone()).filter(|_| !initiating);
        let broken = Broken {
            id,
            sent,
            inbound: self.inbound.take(),
            told: 0,
            until: clock::now() + within,
            shared: self.is_shared(),
            asked: false,
            holds,
        };
        if initiating {
            // What it was good for lately it is wanted for again, in either direction: the other end waits so long to send on. An idle
            // one waits for its next stanza.
            let (limits, now) = (&self.hub.limits, clock::now());
            let has_sent = self.sending.last_written() + limits.resume_wait >= now;
            // It takes path_idle to notice that a path is dead, and a little more if a sign of life was sent just before.
            let heard = limits.resume_wait + limits.path_idle * 3 / 2;
            let hears = broken.inbound.as_ref().is_some_and(|inbound| inbound.has_come_within(heard, now));
            if !broken.sent.is_empty() || has_sent || hears {
                self.hub.keep_ours(&route, broken);
            }
        } else {
            self.hub.keep_theirs(&route, broken);
        }
    }
}
