//! The initiating entity of a stream: whoever opened it (RFC 6120 section 4.2).
//!
//! ```text
//! ExpectHeader -> ExpectFeatures -> ExpectSuccess -> ExpectRestartHeader -> ExpectFinalFeatures -> Established
//!                        |                 |
//!                        +-----------------+-> ExpectDialbackResult -----------------------------> Established
//! ```
//!
//! Dialback follows where EXTERNAL isn't offered, and on the same stream where it is refused and dialback is offered
//! beside it, as servers do among themselves: ejabberd offers EXTERNAL before it has judged our certificate.
//!
//! Pipelined (XEP-0305), everything that is left up to the second header leaves at once and the same states only check
//! what comes back: from the first octet to a peer that offered pipelining on this connection, and with the answer to
//! the features where these offer it, as on the first stream of a connection. The features behind the second header aren't
//! known then. What they would offer is what they offered on another stream, or what the first ones list already: if
//! stream management is among that, it is turned on in the same flight (XEP-0198 section 2 lets it be listed before
//! authentication), and stanzas may follow at once too. The shell keeps them until the stream is established, because
//! behind a `<failure/>` nothing was read. If it isn't known, they wait: sent ahead of `<enable/>` they would be
//! acknowledged by nobody.

use std::sync::Arc;

use super::{Event, Learned, Managed, Notice, Outbox, Violation, ended, require_version};
use crate::proto::dialback::{self, Dialback, KeyMaker};
use crate::proto::features::Features;
use crate::proto::mux::authorize::Authorization;
use crate::proto::stream_management::element::{self as sm, Management};
use crate::proto::{bidi, mux, sasl_external};
use crate::reason::Reason;
use crate::xmpp::element::Element;
use crate::xmpp::header::StreamHeader;
use crate::xmpp::namespace as ns;
use crate::xmpp::route::Route;

/// What to ask for, where it is offered.
#[derive(Debug, Clone)]
pub struct Wants {
    /// Every domain of the certificates (XEP-0451).
    pub mux: bool,
    /// Stanzas in both directions (XEP-0288).
    pub bidi: Bidi,
    /// Authenticate by dialback where EXTERNAL isn't offered, or is refused beside it. `None`: never.
    pub dialback: Option<Arc<KeyMaker>>,
    /// When all of the negotiation that is left may leave at once.
    pub pipelining: Pipelining,
    /// What to do about stream management, where it is offered.
    pub manage: Manage,
    /// The peer offered stream management on this connection, so that it too may be sent at once.
    pub sm_offered: bool,
}

impl Wants {
    /// What is wanted of a stream that is established.
    const NOTHING: Self = Self {
        mux: false,
        bidi: Bidi::Never,
        dialback: None,
        pipelining: Pipelining::Never,
        manage: Manage::Enable,
        sm_offered: false,
    };
}

/// When all of the negotiation that is left may leave at once (XEP-0305).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipelining {
    /// Never: it was refused, or this isn't for that.
    Never,
    /// When the features of this stream offer it.
    WhenOffered,
    /// From the first octet: the peer offered it on this connection.
    AtOnce,
}

/// What has left ahead of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ahead {
    /// Nothing: it goes step by step.
    Nothing,
    /// The negotiation up to the second header.
    Negotiation,
    /// All of it, so that stanzas may follow.
    Everything,
}

/// What to do about stream management (XEP-0198).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manage {
    /// Turn it on.
    Enable,
    /// Go on with a stream that broke; if it is gone, turn it on.
    Resume {
        /// The id of that stream.
        previd: String,
        /// Stanzas of the other direction that are handled.
        h: u32,
    },
}

/// How far stream management has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Managing {
    Off,
    ExpectEnabled,
    ExpectResumed,
    On,
}

/// When to ask for bidi.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bidi {
    /// Never.
    Never,
    /// Where the other end offers mux too. Prosody 0.12 sends stanzas right behind `<success/>` when bidi was agreed on,
    /// before the header of its new stream: they belong to no document, and a reader that let them pass would have to
    /// take stanzas without the namespaces and the addresses that a header settles. So from a server without mux the
    /// other direction comes over a connection of its own, as it does everywhere.
    BesideMux,
    /// Where it is offered.
    Offered,
}

impl Bidi {
    fn wanted(self, features: &Features) -> bool {
        match self {
            Self::Never => false,
            Self::BesideMux => features.bidi && features.mux.is_some(),
            Self::Offered => features.bidi,
        }
    }
}

/// What is expected next. `fallback`: the id of the stream, if dialback may follow a `<failure/>`.
#[derive(Debug)]
enum State {
    ExpectHeader,
    ExpectFeatures { id: Box<str> },
    ExpectSuccess { learned: Box<Learned>, bidi: bool, fallback: Option<Box<str>> },
    ExpectRestartHeader { learned: Box<Learned>, bidi: bool },
    ExpectFinalFeatures { learned: Box<Learned>, bidi: bool },
    ExpectDialbackResult { learned: Box<Learned>, bidi: bool },
    Established,
    Ended,
}

/// The machine.
#[derive(Debug)]
pub struct Initiating {
    route: Route,
    /// What is left of it when the stream is established: nothing, since there are very many of them.
    wants: Option<Box<Wants>>,
    state: State,
    ahead: Ahead,
    managing: Managing,
}

impl Initiating {
    /// Open a stream from `route.from`, which is ours, to `route.to`. What is to be sent first is in `out`.
    #[must_use]
    pub fn start(route: Route, wants: Wants, out: &mut Outbox) -> Self {
        let (state, ahead, managing) = (State::ExpectHeader, Ahead::Nothing, Managing::Off);
        let mut machine = Self { route, wants: Some(Box::new(wants)), state, ahead, managing };
        machine.write_header(&mut out.octets);
        if machine.wants().pipelining == Pipelining::AtOnce {
            machine.write_requests(&mut out.octets, machine.wants().mux, machine.wants().bidi != Bidi::Never);
            sasl_external::write_auth(&mut out.octets, &machine.route.from);
            machine.write_header(&mut out.octets);
            if machine.wants().sm_offered {
                machine.manage(out);
            }
            // What the peer offered on another stream it offers here: if there is no stream management among it, there is none.
            machine.ahead = Ahead::Everything;
        }
        machine
    }

    fn wants(&self) -> &Wants {
        self.wants.as_deref().unwrap_or(&Wants::NOTHING)
    }

    /// Whether stanzas may be sent: the negotiation is done.
    #[must_use]
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established)
    }

    /// Whether something has left ahead of its answers, so that a refusal may be meant for that.
    #[must_use]
    pub fn is_pipelined(&self) -> bool {
        self.ahead != Ahead::Nothing
    }

    /// Whether stanzas may follow what was sent so far: nothing does behind `<resume/>`.
    #[must_use]
    pub fn may_send(&self) -> bool {
        (self.ahead == Ahead::Everything || self.is_established()) && self.managing != Managing::ExpectResumed
    }

    /// The id of the broken stream that it is to go on with.
    #[must_use]
    pub fn resumes(&self) -> Option<&str> {
        match &self.wants().manage {
            Manage::Resume { previd, .. } => Some(previd),
            Manage::Enable => None,
        }
    }

    /// Whether stream management was asked for.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        self.managing != Managing::Off
    }

    /// The pair that this stream was opened for, in our direction.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Take what happened.
    ///
    /// # Errors
    /// A [`Violation`] by the other end; the stream is over.
    pub fn handle(&mut self, event: Event<'_>, out: &mut Outbox) -> Result<(), Violation> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        if matches!(state, State::Ended) || ended(&event, out) {
            return Ok(());
        }
        self.state = match (state, event) {
            (State::ExpectHeader, Event::Header { header, .. }) => self.on_header(header)?,
            (State::ExpectFeatures { id }, Event::Element(element)) => self.on_features(element, &id, out)?,
            (State::ExpectSuccess { learned, bidi, fallback }, Event::Element(element)) => {
                if self.on_sasl(element, fallback.as_deref(), out)? {
                    State::ExpectRestartHeader { learned, bidi }
                } else {
                    State::ExpectDialbackResult { learned, bidi }
                }
            }
            (State::ExpectRestartHeader { learned, bidi }, Event::Header { header, .. }) => {
                self.on_header(header)?;
                let stream_id = header.id.clone().unwrap_or_default();
                State::ExpectFinalFeatures { learned: Box::new(Learned { stream_id, ..*learned }), bidi }
            }
            (State::ExpectFinalFeatures { learned, bidi }, Event::Element(element)) => {
                let Features { mux, authorize, sm, .. } = Features::parse(element)?;
                let learned = Learned { listed: mux.unwrap_or_default(), authorize, sm, ..*learned };
                if sm && self.managing == Managing::Off {
                    self.manage(out);
                }
                self.establish(learned, bidi, out)
            }
            (State::ExpectDialbackResult { learned, bidi }, Event::Element(element)) => {
                if self.on_dialback_result(element)? {
                    self.establish(*learned, bidi, out)
                } else {
                    State::ExpectDialbackResult { learned, bidi }
                }
            }
            (State::Established, Event::Element(element)) => {
                self.on_late_element(element, out)?;
                State::Established
            }
            (_, Event::Stanza) => return Err(Reason::NotAuthorized.into()),
            _ => return Err(Reason::BadFormat.into()),
        };
        Ok(())
    }

    fn on_header(&self, header: &StreamHeader) -> Result<State, Violation> {
        require_version(header)?;
        if header.from.as_ref().is_some_and(|from| *from != self.route.to) {
            return Err(Reason::ImproperAddressing.into());
        }
        let id = header.id.as_deref().ok_or(Reason::BadFormat)?.into();
        Ok(State::ExpectFeatures { id })
    }

    fn on_features(&mut self, element: &Element, id: &str, out: &mut Outbox) -> Result<State, Violation> {
        let features = Features::parse(element)?;
        let bidi = self.wants().bidi.wanted(&features);
        let mux = self.wants().mux && features.mux.is_some();
        let mut learned = Box::new(Learned { mux, pipelining: features.pipelining, ..Learned::default() });
        if self.is_pipelined() {
            return Ok(State::ExpectSuccess { learned, bidi, fallback: None });
        }
        if features.starttls_required {
            return Err(Reason::UnsupportedFeature.into());
        }
        if features.external {
            self.write_requests(&mut out.octets, mux, bidi);
            sasl_external::write_auth(&mut out.octets, &self.route.from);
            // Dialback proves one pair: a stream on which all were asked for is not settled by it.
            let may_fall_back = self.wants().dialback.is_some() && features.dialback && !mux;
            let fallback = may_fall_back.then(|| id.into());
            // Behind a header that was sent ahead there is no stream on which to fall back.
            if features.pipelining && self.wants().pipelining != Pipelining::Never && !may_fall_back {
                self.send_ahead(&features, out);
            }
            return Ok(State::ExpectSuccess { learned, bidi, fallback });
        }
        // Dialback stands in the features only with XEP-0220's later revisions; servers that speak it without saying so
        // answer the request all the same.
        let keys = self.wants().dialback.as_ref().ok_or(Reason::ExternalNotOffered)?;
        self.write_requests(&mut out.octets, false, bidi);
        dialback::write_request(&mut out.octets, &self.route, &keys.key(&self.route, id));
        learned.mux = false;
        Ok(State::ExpectDialbackResult { learned, bidi })
    }

    /// The features offer all that the rest relies on: it leaves at once, behind `<auth/>`.
    fn send_ahead(&mut self, features: &Features, out: &mut Outbox) {
        self.write_header(&mut out.octets);
        self.ahead = Ahead::Negotiation;
        if features.sm || self.wants().sm_offered {
            self.ahead = Ahead::Everything;
            self.manage(out);
            out.tell(Notice::Ahead);
        }
    }

    /// Whether EXTERNAL was accepted. If not, dialback was begun: on the stream of the id `fallback`.
    fn on_sasl(
        &self,
        element: &Element,
        fallback: Option<&str>,
        out: &mut Outbox,
    ) -> Result<bool, Violation> {
        if element.is("success", ns::SASL) {
            out.tell(Notice::Restart);
            if !self.is_pipelined() {
                self.write_header(&mut out.octets);
            }
            return Ok(true);
        }
        if !element.is("failure", ns::SASL) {
            return Err(Reason::BadFormat.into());
        }
        let (Some(id), Some(keys)) = (fallback, &self.wants().dialback) else {
            return Err(Reason::ExternalRefused.into());
        };
        dialback::write_request(&mut out.octets, &self.route, &keys.key(&self.route, id));
        Ok(false)
    }

    /// Whether we are believed. A result for another pair answers nothing that was asked here, and is passed over.
    fn on_dialback_result(&self, element: &Element) -> Result<bool, Violation> {
        match Dialback::parse(element)? {
            Some(Dialback::Result { route, .. }) if route != self.route => Ok(false),
            Some(Dialback::Result { valid: true, .. }) => Ok(true),
            Some(Dialback::Result { valid: false, .. }) => Err(Reason::DialbackInvalid.into()),
            _ => Err(Reason::BadFormat.into()),
        }
    }

    /// With bidi the receiving entity may ask for further pairs by dialback (XEP-0288 section 2.2). We take none on a
    /// stream that we opened, and say so; a server then uses a stream of its own.
    fn on_late_element(&mut self, element: &Element, out: &mut Outbox) -> Result<(), Violation> {
        if let Some(management) = Management::parse(element)? {
            return self.on_management(management, out);
        }
        if let Some(authorization) = Authorization::parse(element)? {
            out.tell(Notice::Authorization { route: self.route.clone(), authorization });
            return Ok(());
        }
        match Dialback::parse(element)? {
            Some(Dialback::Request { route, .. }) => {
                dialback::write_result(&mut out.octets, &route, Err(Reason::InvalidFrom));
                Ok(())
            }
            // Nothing is open that this could answer.
            Some(Dialback::Result { .. } | Dialback::Verified { .. }) => {
                out.tell(Notice::Unsolicited);
                Ok(())
            }
            Some(Dialback::Verify { .. }) | None => Err(Reason::UnsupportedStanzaType.into()),
        }
    }

    /// Ask for stream management, or for the stream that broke.
    fn manage(&mut self, out: &mut Outbox) {
        self.managing = match &self.wants().manage {
            Manage::Enable => {
                out.octets.push_str(sm::ENABLE);
                Managing::ExpectEnabled
            }
            Manage::Resume { previd, h } => {
                sm::write_resume(&mut out.octets, previd, *h);
                Managing::ExpectResumed
            }
        };
    }

    fn on_management(&mut self, management: Management, out: &mut Outbox) -> Result<(), Violation> {
        let (managing, told) = match (self.managing, management) {
            (Managing::ExpectEnabled, Management::Enabled { id, max }) => {
                (Managing::On, Managed::Enabled { id, max })
            }
            (Managing::ExpectEnabled, Management::Failed { .. }) => (Managing::Off, Managed::Refused),
            (Managing::ExpectResumed, Management::Resumed { h }) => (Managing::On, Managed::Resumed { h }),
            (Managing::ExpectResumed, Management::Failed { h }) => {
                out.octets.push_str(sm::ENABLE);
                (Managing::ExpectEnabled, Managed::Lost { h })
            }
            (Managing::On, Management::Answer { h }) => (Managing::On, Managed::Acknowledged { h }),
            (Managing::On, Management::Request) => (Managing::On, Managed::Asked),
            // Where nothing is counted there is nothing to say.
            (managing, Management::Request) => {
                self.managing = managing;
                return Ok(());
            }
            _ => return Err(Reason::BadFormat.into()),
        };
        self.managing = managing;
        out.tell(Notice::Management(told));
        Ok(())
    }

    fn establish(&mut self, learned: Learned, bidi: bool, out: &mut Outbox) -> State {
        self.wants = None;
        out.tell(Notice::Learned(learned));
        out.tell(Notice::Proven { route: self.route.clone(), bidi });
        State::Established
    }

    fn write_header(&self, out: &mut String) {
        StreamHeader::new(Some(self.route.from.clone()), Some(self.route.to.clone()), None).write_into(out);
    }

    fn write_requests(&self, out: &mut String, mux: bool, bidi: bool) {
        if bidi {
            out.push_str(bidi::REQUEST);
        }
        if mux {
            out.push_str(mux::REQUEST);
        }
    }
}
