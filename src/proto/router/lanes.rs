//! The lanes of sessions: established, refused, closing, gone.

use std::time::Instant;

use super::few::Few;
use super::{Action, Again, Carrier, LaneId, Placement, RouteState, Router, SessionEntry, SessionId};
use crate::reason::Reason;
use crate::xmpp::route::Route;

/// An XML stream that carries stanzas, or is to.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) carrier: Carrier,
    /// The pair that it was opened for, as the direction that we send, whether or not we may send on it; `None`: one of our own
    /// servers opened it, for as many as it likes.
    pub(super) pair: Option<Route>,
    /// We opened it.
    pub(super) ours: bool,
    pub(super) up: bool,
    /// Since when it is up.
    pub(super) since: Option<Instant>,
    /// It isn't up yet, and may have sent stanzas all the same: its routes stay on it, so that nothing is overtaken.
    pub(super) ahead: bool,
    pub(super) closing: bool,
    /// Routes that are placed on it.
    pub(super) routes: Few,
    /// Routes that it could carry for us, beside those placed: the reverse of what the other end opened it for.
    pub(super) offers: Few,
}

impl Lane {
    /// A lane that we open for `route`.
    pub(super) fn opening(carrier: Carrier, route: &Route) -> Self {
        Self {
            carrier,
            pair: Some(route.clone()),
            ours: true,
            up: false,
            since: None,
            ahead: false,
            closing: false,
            routes: Few::default(),
            offers: Few::default(),
        }
    }

    /// A lane that the other end opened, and on which it is believed since `now`.
    pub(super) fn opened(carrier: Carrier, now: Instant) -> Self {
        Self {
            carrier,
            pair: None,
            ours: false,
            up: true,
            since: Some(now),
            ahead: false,
            closing: false,
            routes: Few::default(),
            offers: Few::default(),
        }
    }

    /// The route that we opened it for; `None`: the other end opened it.
    pub(super) fn opened_for(&self) -> Option<&Route> {
        self.pair.as_ref().filter(|_| self.ours)
    }
}

/// Why a lane that we opened did not come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneFailure {
    /// The pipelined negotiation was refused; step by step it may work.
    PipeliningRefused,
    /// The peer takes one stream for each connection.
    SingleStream,
    /// The peer closed it in XML before its header. A relay does so that stops, and so may a peer that takes one stream.
    Closed(Reason),
    /// Since it was opened nothing at all has come from the peer: the path may be dead.
    Unheard,
    /// Its session takes no new lane any more, as the peer says: another one may.
    Elsewhere,
    /// Anything else.
    Other(Reason),
}

/// So many times a stream of a pair may be closed before its header until the peer is taken for one of single streams.
const CLOSED_MAX: u32 = 3;

impl Router {
    /// The peer opened a lane and was believed on it; `route` is the direction that WE could send on it, if `bidi`.
    pub fn peer_lane_up(&mut self, id: SessionId, lane: LaneId, route: &Route, bidi: bool, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.lanes.insert(lane);
        (session.laneless_since, session.mute) = (None, false);
        let mut entry = Lane { pair: Some(route.clone()), ..Lane::opened(Carrier::Session(id), now) };
        if bidi {
            let known = session.by_route.entry(route.clone()).or_insert(lane);
            // Of two that the peer opened it has ended the former, of which we may not have heard yet: what is placed there is placed
            // anew when that is gone, and needs no third one then.
            if self.lanes.get(known).is_none_or(|other| other.closing || !other.ours) {
                *known = lane;
            }
            entry.offers.insert(route.clone());
        }
        self.lanes.insert(lane, entry);
        // Whatever stood against the pair, the peer wants it.
        for peer in self.sessions.get(&id).map(|session| session.pinned.clone()).unwrap_or_default() {
            if let Some(state) = self.peers.get_mut(&peer) {
                state.refused.remove(route);
            }
        }
        // But that there was no room for it this doesn't cure.
        if self.routes.get(route).is_some_and(|state| state.full) {
            self.place(route, now);
        } else {
            self.place_early(route, now);
        }
        self.tell_news(id, now);
    }

    /// Nothing of ours goes on a lane that the peer opened: its routes find another one, which we open.
    pub fn lane_is_one_way(&mut self, lane: LaneId, now: Instant) {
        let Some(entry) = self.lanes.get_mut(&lane) else { return };
        let (routes, offers) = (std::mem::take(&mut entry.routes), std::mem::take(&mut entry.offers));
        if let Carrier::Session(id) = entry.carrier
            && let Some(session) = self.sessions.get_mut(&id)
        {
            for route in offers.iter() {
                if session.by_route.get(route) == Some(&lane) {
                    session.by_route.remove(route);
                }
            }
        }
        self.detach_all(routes.into_vec(), Again::AtOnce, Reason::ConnectionLost, now);
    }

    /// Open a lane for `route`, which another one carries, to resume a stream that we had opened for it and that broke: the
    /// peer has sent something there. Where no session stands it has to come first. Whether there is or will be one: a
    /// connection that is one stream has no other.
    pub fn open_to_resume(&mut self, route: &Route, now: Instant) -> bool {
        let Some(peer) = self.peer_for(&route.to) else { return true };
        let Some(id) = self.choose(route, peer, now) else { return true };
        let lane = LaneId(self.fresh());
        let Some(entry) = self.sessions.get_mut(&id).filter(|entry| entry.may_open()) else { return false };
        entry.lanes.insert(lane);
        entry.laneless_since = None;
        self.lanes.insert(lane, Lane::opening(Carrier::Session(id), route));
        self.actions.push(Action::OpenLane { session: id, lane, route: route.clone(), plain: false });
        true
    }

    /// A stream was resumed on `lane`: `route` goes on there, the direction that we send on it, and of which nothing has left
    /// meanwhile.
    pub fn lane_resumed(&mut self, lane: LaneId, route: &Route) {
        let state = self.routes.entry(route.clone()).or_insert_with(|| RouteState::new(None));
        if let Placement::On(other) = state.placement
            && let Some(other) = self.lanes.get_mut(&other)
        {
            other.routes.remove(route);
        }
        self.attach(route, lane);
    }

    /// A lane that we opened, the first of its session, isn't established yet and sends stanzas from now on.
    pub fn lane_goes_ahead(&mut self, lane: LaneId) {
        if let Some(entry) = self.lanes.get_mut(&lane) {
            entry.ahead = true;
        }
    }

    /// A lane that we opened is established.
    pub fn lane_established(&mut self, lane: LaneId, now: Instant) {
        self.settle(lane, now);
        let Some(Lane { carrier: Carrier::Session(id), .. }) = self.lanes.get(&lane) else { return };
        let id = *id;
        if let Some(session) = self.sessions.get_mut(&id) {
            (session.taken, session.mute) = (session.taken.saturating_add(1), false);
        }
        self.tell_news(id, now);
    }

    /// A lane that we opened did not come to be; the session stands.
    pub fn lane_failed(&mut self, lane: LaneId, failure: LaneFailure, now: Instant) {
        let Some(entry) = self.remove_lane(lane, now) else { return };
        if entry.closing
            && let Carrier::Session(id) = entry.carrier
            && let Some(session) = self.sessions.get_mut(&id).filter(|session| session.session.is_none())
        {
            // It was ended by us, and so is the attempt.
            session.retiring = true;
        }
        let carrier = match entry.carrier {
            Carrier::Session(id) => self.sessions.get(&id),
            Carrier::Local => None,
        };
        // A peer that has taken several lanes in this session is short of credit, or slow; it takes one again later.
        let many = carrier.is_some_and(|session| session.taken > 1);
        if failure == LaneFailure::PipeliningRefused
            && let Carrier::Session(id) = entry.carrier
            && let Some(session) = self.sessions.get_mut(&id).filter(|session| session.session.is_none())
        {
            session.again_plain = true;
            // It was the session's first lane, and there is nobody else to hear what is remembered of a session.
            for peer in &session.pinned {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.plain_until = Some(now + self.limits.retry_max);
                }
            }
        }
        let failures = entry.routes.iter().filter_map(|route| Some(self.routes.get(route)?.failures)).max();
        let failure = match failure {
            LaneFailure::Closed(_) if failures >= Some(CLOSED_MAX) => LaneFailure::SingleStream,
            LaneFailure::Closed(reason) => LaneFailure::Other(reason),
            failure => failure,
        };
        let (reason, again) = match failure {
            LaneFailure::PipeliningRefused => (Reason::ExternalRefused, Again::Plain),
            LaneFailure::SingleStream if many && self.leaves(&entry, now) => (Reason::TooMany, Again::AtOnce),
            LaneFailure::SingleStream if many => (Reason::TooMany, Again::Later),
            LaneFailure::SingleStream => (Reason::NotMultiplexed, Again::AtOnce),
            LaneFailure::Unheard if self.leaves(&entry, now) => (Reason::NegotiationTimeout, Again::AtOnce),
            LaneFailure::Unheard => (Reason::NegotiationTimeout, Again::Later),
            LaneFailure::Elsewhere => {
                self.peer_retires(&entry, now);
                (Reason::Reset, Again::AtOnce)
            }
            // Waiting doesn't help, and what is remembered lets it bounce at once.
            LaneFailure::Other(reason) if is_final(reason) => (reason, Again::AtOnce),
            LaneFailure::Closed(reason) | LaneFailure::Other(reason) => (reason, Again::Later),
        };
        if reason == Reason::NotMultiplexed {
            let peer = entry.pair.as_ref().and_then(|route| self.peer_for(&route.to));
            if let Some(peer) = peer.and_then(|peer| self.peers.get_mut(&peer)) {
                peer.single_stream_until = Some(now + self.limits.single_stream_memory);
            }
        } else if is_final(reason) && again == Again::AtOnce {
            for route in entry.routes.iter() {
                if let Some(peer) = self.peer_for(&route.to) {
                    self.remember_refusal(peer, route, reason, now);
                }
            }
        }
        self.detach_all(entry.routes.into_vec(), again, reason, now);
    }

    /// The session of `lane` gave no credit for it, or is silent. Whether there is another one for what was to go there, which does.
    fn leaves(&mut self, lane: &Lane, now: Instant) -> bool {
        if let Carrier::Session(id) = lane.carrier
            && let Some(session) = self.sessions.get_mut(&id)
        {
            session.mute = true;
        }
        let speaks = |id: SessionId| self.sessions.get(&id).is_some_and(|session| !session.mute);
        let elsewhere = |route: &Route| self.choose(route, self.peer_for(&route.to)?, now);
        lane.routes.iter().all(|route| elsewhere(route).is_some_and(speaks))
    }

    /// The session of `lane` takes no new one, as the peer says: it is used up for us too, and what else we have there moves.
    fn peer_retires(&mut self, lane: &Lane, now: Instant) {
        let Carrier::Session(id) = lane.carrier else { return };
        let Some(session) = self.sessions.get(&id).filter(|session| !session.retiring) else { return };
        let young = session.since.is_some_and(|since| now < since + self.limits.retry_min);
        let dialled_for = if young && session.dialled { session.pinned.clone() } else { Vec::new() };
        self.session_retires(id, now);
        // One that is used up as soon as it has come is as good as an attempt that failed: else the next one would be dialled at once,
        // and the one after that.
        for peer in dialled_for {
            let leads = |entry: &SessionEntry| {
                entry.session.is_some() && !entry.retiring && entry.pinned.contains(&peer)
            };
            if !self.sessions.values().any(leads)
                && let Some(peer) = self.peers.get_mut(&peer)
            {
                peer.retry.failed(Reason::Reset, now, &self.limits, &mut self.jitter);
            }
        }
    }

    /// Whether we opened the lane, or who opened it is believed on it.
    #[must_use]
    pub fn has_lane(&self, lane: LaneId) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// A lane is finishing: it takes no further route.
    pub fn lane_closing(&mut self, lane: LaneId) {
        if let Some(entry) = self.lanes.get_mut(&lane) {
            entry.closing = true;
        }
    }

    /// A lane of the remote side is gone.
    pub fn lane_down(&mut self, lane: LaneId, reason: Reason, now: Instant) {
        let Some(entry) = self.remove_lane(lane, now) else { return };
        if !is_full(reason) {
            let again = self.after_the_end_of(&entry, now);
            return self.detach_all(entry.routes.into_vec(), again, reason, now);
        }
        // What there was no room for goes on waiting here: on a lane that is opened at once it would meet the same end, as fast as
        // the path allows, for as long as the other end's server is away.
        if entry.since.is_some_and(|since| since + self.limits.hold <= now) {
            for route in entry.routes.iter() {
                if let Some(state) = self.routes.get_mut(route) {
                    state.failures = 0;
                }
            }
        }
        self.detach_all(entry.routes.into_vec(), Again::WithRoom, reason, now);
    }

    /// When what is left of a lane that was up may have another one. One end after the other right at the beginning isn't chance, and
    /// without a pause it would go on as fast as the path allows, for as long as anything waits.
    pub(super) fn after_the_end_of(&self, lane: &Lane, now: Instant) -> Again {
        let lasted = lane.since.is_none_or(|since| since + self.limits.retry_min <= now);
        if lasted { Again::AtOnce } else { Again::OnceMore }
    }

    fn remove_lane(&mut self, lane: LaneId, now: Instant) -> Option<Lane> {
        let entry = self.lanes.remove(&lane)?;
        if let Carrier::Session(id) = entry.carrier
            && let Some(session) = self.sessions.get_mut(&id)
        {
            session.lanes.remove(&lane);
            if let Some(pair) = &entry.pair
                && session.by_route.get(pair) == Some(&lane)
            {
                session.by_route.remove(pair);
            }
            if session.lanes.is_empty() {
                session.laneless_since = Some(now);
            }
            if let Some(pair) = &entry.pair {
                self.follow_gone(pair);
            }
        }
        Some(entry)
    }
}

/// Whether a lane ended because one of its two ends had no room, for a stanza or for what it would have to answer.
fn is_full(reason: Reason) -> bool {
    matches!(reason, Reason::QueueFull | Reason::ResourceConstraint | Reason::TooMany)
}

/// Whether a pair whose lane was refused so is refused for good. Who refuses a stream at its beginning for its policy doesn't
/// want the pair: its operator may change that, and waiting doesn't.
pub(super) fn is_final(reason: Reason) -> bool {
    reason.is_permanent() || reason == Reason::PolicyViolation
}
