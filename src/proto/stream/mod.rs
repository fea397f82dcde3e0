//! One XML stream (RFC 6120 section 4): from the first header to established, and how it ends.
//!
//! [`initiating::Initiating`] and [`receiving::Receiving`] mirror each other. Both take an [`Event`], write octets for
//! the other end into [`Outbox::octets`] and tell the shell what happened as [`Notice`]s; neither reads or writes
//! anything itself. Stanzas of an established stream don't pass through here: the shell carries them, each held against
//! [`crate::proto::admission`].
//!
//! Order matters in one place: when `<success/>` passes, the very next octet of either direction begins a new XML
//! document. The machine says so with [`Notice::Restart`] while it handles the frame before that octet, so a shell that
//! feeds frame by frame can't get it wrong, whatever was pipelined behind.
//!
//! What the other end does wrong comes back once, as a [`Violation`]; [`refuse`] is the one place that turns it into
//! octets.

pub mod initiating;
pub mod receiving;

use std::time::Duration;

use super::mux::authorize::Authorization;
use super::sasl_external;
use crate::reason::Reason;
use crate::xmpp::condition::{reason_of_stream_condition, stream_condition};
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::header::{STREAM_END, StreamHeader, StreamVersion};
use crate::xmpp::namespace as ns;
use crate::xmpp::route::Route;

/// What happened to a stream.
#[derive(Debug)]
pub enum Event<'a> {
    /// A stream header arrived.
    Header {
        /// The header.
        header: &'a StreamHeader,
        /// 128 fresh random bits as text, for a header of ours that answers it.
        fresh_id: &'a str,
    },
    /// A first-level child that is no stanza arrived.
    Element(&'a Element),
    /// A stanza arrived before the stream was established.
    Stanza,
    /// `</stream:stream>` arrived.
    End,
    /// Whether the stream that [`Managed::Resume`] names goes on here.
    Resumption {
        /// Stanzas of it that are handled; `None`: it doesn't.
        h: Option<u32>,
    },
    /// The server of `route.from` was asked about a dialback key ([`Notice::VerifyKey`]).
    KeyVerified {
        /// The pair, in the requester's direction.
        route: Route,
        /// The answer, or why there is none.
        outcome: Result<(), Reason>,
    },
}

/// What the shell has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The next octet from the other end begins a new XML document.
    Restart,
    /// The rest of the negotiation has left ahead of its answers, because the features of this stream offer that. Stanzas may follow
    /// unless one is being resumed ([`initiating::Initiating::may_send`]); until [`Notice::Proven`] nobody may have read them.
    Ahead,
    /// The other end is believed for `route` (in the initiating entity's direction). The first of these establishes the
    /// stream; from then on stanzas may flow, in both directions if `bidi`.
    Proven {
        /// The pair.
        route: Route,
        /// Whether stanzas may flow from the receiving to the initiating entity too.
        bidi: bool,
    },
    /// What the other end offers or listed; once, when the stream is established.
    Learned(Learned),
    /// Ask the server of `route.from` whether it made this key; the answer is [`Event::KeyVerified`].
    VerifyKey {
        /// The pair, in the requester's direction.
        route: Route,
        /// The stream for which the key was made.
        stream_id: String,
        /// The key.
        key: String,
    },
    /// An element of connection authorization came, on a stream of this pair (in the initiating entity's direction).
    Authorization {
        /// The pair.
        route: Route,
        /// What it says.
        authorization: Authorization,
    },
    /// Stream management (XEP-0198).
    Management(Managed),
    /// An answer of dialback came to what was not asked on this stream. It has no effect.
    Unsolicited,
    /// The other end closed the stream; `Some`: with this stream error.
    Ended(Option<Reason>),
}

/// What stream management wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Managed {
    /// The other end turns it on: counting begins, both ways. The shell writes `<enabled/>`.
    Enable {
        /// The stream shall be resumable.
        resume: bool,
    },
    /// The other end, which we asked, has turned it on.
    Enabled {
        /// The id with which the stream may be resumed, if it may.
        id: Option<String>,
        /// For how long after it broke.
        max: Option<Duration>,
    },
    /// We asked for it, and there is none.
    Refused,
    /// The other end wants to go on with a stream that broke; the answer is [`Event::Resumption`].
    Resume {
        /// Its id.
        previd: String,
        /// Stanzas of ours that the other end has handled.
        h: u32,
    },
    /// The stream that broke goes on: the other end has handled so many stanzas.
    Resumed {
        /// How many.
        h: u32,
    },
    /// The stream that broke is gone; a new one was asked for.
    Lost {
        /// Stanzas of it that the other end has handled, if it knows.
        h: Option<u32>,
    },
    /// The other end asks how many stanzas are handled.
    Asked,
    /// The other end has handled so many stanzas.
    Acknowledged {
        /// How many, modulo 2^32.
        h: u32,
    },
}

/// What one stream's negotiation teaches about the peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Learned {
    /// Mux was negotiated: every domain of both certificates is proven.
    pub mux: bool,
    /// The peer takes pipelined negotiation (XEP-0305).
    pub pipelining: bool,
    /// The peer offers stream management.
    pub sm: bool,
    /// The peer makes secrets for who asks (`proto::mux::authorize`).
    pub authorize: bool,
    /// The id that the receiving entity gave to the authenticated stream.
    pub stream_id: String,
    /// The peer's host list (XEP-0451 after authentication).
    pub listed: Vec<Domain>,
}

/// What the other end did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// Why it is refused.
    pub reason: Reason,
    /// Whether the refusal is a SASL `<failure/>`, not a stream error.
    pub sasl: bool,
}

impl From<Reason> for Violation {
    fn from(reason: Reason) -> Self {
        Self { reason, sasl: false }
    }
}

/// What a machine has to say after an event.
#[derive(Debug, Default)]
pub struct Outbox {
    /// For the other end.
    pub octets: String,
    /// For the shell, in order.
    pub notices: Vec<Notice>,
}

impl Outbox {
    fn tell(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

/// Write the end of a stream that the other end violated: RFC 6120 section 4.9.1.1, and section 6.4.5 for SASL.
///
/// `header` is one to send first if none was sent yet (section 4.9.1.2: an error stands inside a stream).
pub fn refuse(out: &mut String, violation: Violation, header: Option<&StreamHeader>) {
    if let Some(header) = header {
        header.write_into(out);
    }
    if violation.sasl {
        sasl_external::write_failure(out, violation.reason);
    } else {
        let text = format!(
            "<stream:error><{condition} xmlns='{space}'/><text xmlns='{space}'>{reason}</text></stream:error>",
            condition = stream_condition(violation.reason),
            space = ns::STREAM_ERRORS,
            reason = violation.reason,
        );
        out.push_str(&text);
    }
    out.push_str(STREAM_END);
}

/// Whether the other end closes the stream with `event`, in whatever state; then it is told.
fn ended(event: &Event<'_>, out: &mut Outbox) -> bool {
    let reason = match event {
        Event::End => None,
        Event::Element(element) => match stream_error(element) {
            Some(reason) => Some(reason),
            None => return false,
        },
        _ => return false,
    };
    out.tell(Notice::Ended(reason));
    true
}

/// The reason in a received `<stream:error/>`; `None` if `element` is none.
pub(super) fn stream_error(element: &Element) -> Option<Reason> {
    if !element.is("error", ns::STREAM) {
        return None;
    }
    let condition = element
        .children()
        .find(|child| child.ns() == ns::STREAM_ERRORS && child.name() != "text")
        .map_or("undefined-condition", Element::name);
    Some(reason_of_stream_condition(condition))
}

/// XMPP 1.0 or later (RFC 6120 section 4.7.5): what comes before has no features, and no SASL.
pub(super) fn require_version(header: &StreamHeader) -> Result<(), Reason> {
    if header.version >= StreamVersion::CURRENT { Ok(()) } else { Err(Reason::UnsupportedVersion) }
}

#[cfg(test)]
mod tests;
