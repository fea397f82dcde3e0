//! Why reading from a lane ended, and what is said then.

use bytes::BytesMut;
use tracing::warn;

use super::{Lane, Machine};
use crate::proto::admission::Side;
use crate::proto::component::Outcome;
use crate::proto::proof::DomainProof;
use crate::proto::stream::Violation;
use crate::proto::stream_management::element::{REQUEST, write_answer};
use crate::reason::Reason;
use crate::relay::carry::Carry;
use crate::relay::clock;
use crate::relay::hub::Hub;
use crate::relay::local::component;
use crate::relay::mailbox::{Close, Mailbox, lock};
use crate::relay::random;

/// How a lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneEnd {
    pub(crate) reason: Reason,
    /// It had been established.
    pub(crate) established: bool,
    /// The peer's stream header had come.
    pub(crate) answered: bool,
    /// It was ended by what the other end said, a closing tag perhaps.
    pub(crate) closed: bool,
    /// What had come from the peer in its session when it began.
    pub(crate) heard: u64,
    /// Something had left ahead of its answers (XEP-0305).
    pub(crate) pipelined: bool,
    /// Its transport was cut: the connection is gone, or the other end has broken off this stream of it.
    pub(crate) broken_off: bool,
}

/// Why reading ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    /// The other end violated the protocol, or a limit.
    Violated(Violation),
    /// The other end doesn't speak XML on this stream.
    Unspoken,
    /// The other end closed the stream.
    Closed(Reason),
    /// The connection is gone.
    Lost(Reason),
    /// The other end resumes the stream on another connection.
    Usurped,
}

impl Ended {
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Violated(violation) => violation.reason,
            Self::Unspoken => Reason::FramingNotSpoken,
            Self::Usurped => Reason::Conflict,
            Self::Closed(reason) | Self::Lost(reason) => reason,
        }
    }
}

impl Ended {
    /// We break the lane off.
    pub(super) fn by_us(reason: Reason) -> Self {
        match reason {
            Reason::Conflict => Self::Usurped,
            Reason::Stalled | Reason::TooMany => Self::Violated(reason.into()),
            reason => Self::Lost(reason),
        }
    }

    /// Whether we end the stream because there was no room for what it brought.
    pub(super) fn is_for_room(self) -> bool {
        matches!(self, Self::Violated(violation) if matches!(violation.reason, Reason::QueueFull | Reason::TooMany))
    }

    /// Whether the other end or we had no room, so that no stanza is to blame for the end.
    pub(super) fn is_overload(self) -> bool {
        self.is_for_room() || matches!(self, Self::Closed(Reason::ResourceConstraint))
    }

    /// Whether it ended by what the other end said: a closing tag where there is nothing to close is no XML.
    pub(super) fn is_said(self) -> bool {
        match self {
            Self::Closed(reason) => reason != Reason::ConnectionLost,
            Self::Violated(violation) => violation.reason != Reason::NegotiationTimeout,
            Self::Unspoken | Self::Lost(_) | Self::Usurped => false,
        }
    }

    /// Whether the other end said nothing, not even that it closes the stream.
    pub(super) fn is_bare(self) -> bool {
        matches!(self, Self::Closed(Reason::ConnectionLost))
    }

    /// Whether the other end has said that it handled nothing behind a negotiation that was never confirmed. A connection that is
    /// lost says nothing about that, nor does an answer that is late.
    pub(super) fn is_refusal(self) -> bool {
        match self {
            Self::Lost(reason) => matches!(reason, Reason::ExternalRefused | Reason::FramingNotSpoken),
            Self::Violated(violation) => violation.reason == Reason::ExternalRefused,
            Self::Unspoken => true,
            Self::Closed(reason) => reason != Reason::ConnectionLost,
            Self::Usurped => false,
        }
    }
}

/// Resolves when the relay is shut, and lanes are to let go of what they hold.
pub(super) async fn shut(hub: &Hub, mailbox: &Mailbox) {
    while !hub.is_shut() {
        mailbox.broken_off_anew().await;
    }
}

/// A lane whose task is given up, or panics, leaves what it has sent to those who answer for it.
impl Drop for Lane {
    fn drop(&mut self) {
        if !self.parted {
            let left = self.sending.end(false);
            self.part(Ended::Lost(Reason::InternalServerError), left);
        }
        self.mailbox.parts();
    }
}

impl Lane {
    /// Whether the other end may go on: on the remote side, a stream whose first octet is no `<` has another framing,
    /// and an error in XML would mean nothing to it.
    pub(super) fn speaks_xml(&mut self, buffer: &BytesMut) -> bool {
        let first = !std::mem::replace(&mut self.heard, true);
        !first || self.place.side() == Side::Local || buffer.starts_with(b"<")
    }

    /// Nothing more will come. `partial`: in the middle of a frame.
    pub(super) fn on_finished(&self, partial: bool) -> Ended {
        // One of our own servers that is killed ends like that too, and means nothing by it.
        if partial && self.place.side() == Side::Remote {
            return Ended::Violated(Reason::NotWellFormed.into());
        }
        let expected = self.mailbox.closing().is_some() && !partial;
        Ended::Closed(if expected { Reason::Idle } else { Reason::ConnectionLost })
    }

    /// What came of what a component said.
    pub(super) fn on_outcome(&mut self, outcome: Outcome) -> Option<Ended> {
        match outcome {
            Outcome::Continue => None,
            Outcome::Connected(domain) => {
                self.framer().authenticated();
                self.carry = Some(Carry::new(&self.hub, component::scope(domain), None));
                self.mailbox.open();
                None
            }
            Outcome::Ended(reason) => Some(Ended::Closed(reason.unwrap_or(Reason::Idle))),
        }
    }

    /// The peer has opened one more stream in a session that takes none any more. It is answered, so that the peer doesn't take it for
    /// one stream too many, and closed with an error that says so: the peer opens it on another session (RFC 6120 section 4.9.3.16). Nothing
    /// that is sent on it is handled.
    pub(super) fn leave_session(&self) {
        let takes = self.place.session().is_none_or(|session| session.takes_lanes());
        if !takes && self.carry.is_none() && !matches!(self.machine, Machine::Initiating(_)) {
            let mut octets = String::new();
            crate::proto::stream::refuse(&mut octets, Reason::Reset.into(), None);
            self.mailbox.refuse(&octets, Reason::Reset);
        }
    }

    /// What `last` comes to, unless the relay is shut before that and the lane holds something: that is counted before the relay ends,
    /// and errors of our own are back where they waited. Others may say what they have to.
    pub(super) async fn unless_shut<T>(&self, last: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = last => Some(done),
            () = shut(&self.hub, &self.mailbox), if self.sending.unacknowledged() > 0 => None,
        }
    }

    /// Say goodbye as the end of the stream asks for.
    pub(super) fn conclude(&mut self, ended: Ended) {
        match ended {
            Ended::Violated(violation) => {
                if violation.reason == Reason::Stalled {
                    self.hub.metrics.limit_hit("lane_stall");
                }
                self.report_refusal(violation.reason);
                self.refuse(violation);
            }
            Ended::Unspoken => self.report_refusal(ended.reason()),
            Ended::Usurped => self.refuse(Reason::Conflict.into()),
            Ended::Closed(reason) => self.mailbox.close(Close::Now, reason),
            Ended::Lost(_) => {}
        }
    }

    /// Whether another relay has ended the stream for want of room: it has said before that how much is handled, and nothing beyond
    /// that is.
    pub(super) fn is_refused_for_room(&self, ended: Option<Ended>) -> bool {
        matches!(ended, Some(Ended::Closed(Reason::ResourceConstraint))) && self.is_relay()
    }

    /// An answer of dialback came that nobody had asked for: each is counted, and one of a stream said.
    pub(super) fn on_unsolicited(&mut self) {
        let reason = Reason::DialbackUnsolicited;
        self.hub.metrics.proof(DomainProof::Dialback, Err(reason));
        if !std::mem::replace(&mut self.unsolicited, true) {
            let (lane, advice, span) = (self.id.0, reason.advice(), self.place.span());
            warn!(parent: &span, lane, peer = self.other_end(), %reason, advice, "an answer of dialback that was not asked for");
        }
    }

    /// Who is at the other end, unless the span of its session says it.
    pub(super) fn other_end(&self) -> Option<String> {
        self.place.session().is_none().then(|| self.place.to_string())
    }

    fn report_refusal(&self, reason: Reason) {
        let side = self.place.side();
        self.hub.metrics.refused(side, reason);
        let Some(unsaid) = self.may_tell() else { return };
        let (lane, advice, span) = (self.id.0, reason.advice(), self.place.span());
        let peer = self.other_end();
        warn!(parent: &span, lane, side = side.as_str(), peer, %reason, unsaid, advice, "stream refused");
    }

    /// Whether one more refusal is said, and how many were not before it. Our own servers are told everything.
    fn may_tell(&self) -> Option<u64> {
        match self.place.session() {
            Some(session) => lock(&session.strain.refusals).tell(clock::now()),
            None => Some(0),
        }
    }

    fn refuse(&mut self, violation: Violation) {
        let mut octets = String::new();
        match self.inbound.as_ref().map(|inbound| inbound.refused_behind()) {
            Some(Some(h)) => write_answer(&mut octets, h),
            // Whoever reads an acknowledgement just there knows that nothing beyond it is handled. That isn't so here, and the last
            // one may have left a moment ago.
            Some(None) if Ended::Violated(violation).is_for_room() => octets.push_str(REQUEST),
            _ => {}
        }
        match &mut self.machine {
            Machine::Initiating(_) => crate::proto::stream::refuse(&mut octets, violation, None),
            Machine::Receiving(machine) => {
                let fresh_id = random::identifier().unwrap_or_default();
                machine.refuse(violation, &fresh_id, &mut octets);
            }
            Machine::Component(machine) => {
                let fresh_id = random::identifier().unwrap_or_default();
                machine.refuse(violation, &fresh_id, &mut octets);
            }
        }
        self.mailbox.refuse(&octets, violation.reason);
    }
}
