//! The receiving entity of a stream (RFC 6120 section 4.2).
//!
//! ```text
//! ExpectHeader -> Negotiating -> ExpectRestart -> Established      (EXTERNAL)
//!                      +----------------------------> Established      (dialback: the first pair that is believed)
//! ```
//!
//! What may be offered to whom is not this machine's to know: an [`Authority`] says it, a QUIC session on the remote
//! side, the list of our own servers on the local side.

use super::{Event, Learned, Managed, Notice, Outbox, Violation, ended, refuse, require_version};
use crate::proto::dialback::{self, Dialback};
use crate::proto::features::Features;
use crate::proto::mux::authorize::Authorization;
use crate::proto::stream_management::element::{self as sm, Management};
use crate::proto::{bidi, mux, sasl_external};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::header::StreamHeader;
use crate::xmpp::namespace as ns;
use crate::xmpp::route::Route;

/// Dialback requests that may be under way on one stream. Further ones get `resource-constraint`.
pub const VERIFICATIONS_MAX: usize = 16;

/// Keys in a row that were not valid, after which nobody is asked about a further one on that stream.
const IN_VAIN_MAX: u8 = 16;

/// What to do with a dialback request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialbackOffer {
    /// The domain's own server is asked.
    Verify,
    /// The source is trusted: it is believed at once.
    Believe,
}

/// What is offered on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offers {
    /// EXTERNAL: the header's `from` is proven by the connection.
    pub external: bool,
    /// Dialback.
    pub dialback: bool,
    /// Bidirectional streams.
    pub bidi: bool,
    /// Mux: every domain of the certificates.
    pub mux: bool,
    /// Pipelining.
    pub pipelining: bool,
    /// Stream management, behind EXTERNAL.
    pub sm: bool,
}

/// How far stream management has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Managing {
    NotOffered,
    Offered,
    /// The other end asked for the stream of this id.
    Resuming(String),
    On,
}

/// Who knows what the other end may prove.
pub trait Authority {
    /// What is offered to a stream from `route.from` to `route.to`.
    ///
    /// # Errors
    /// Why such a stream is refused.
    fn offers(&self, route: &Route) -> Result<Offers, Reason>;

    /// The host list for the features after authentication; empty where none belongs.
    fn host_list(&self) -> Vec<Domain>;

    /// What to do with a dialback request for `route`, in the requester's direction, on a stream whose header says
    /// `stream`.
    ///
    /// # Errors
    /// Why it is refused.
    fn dialback(&self, stream: &Route, route: &Route) -> Result<DialbackOffer, Reason>;

    /// Whether we made `key` for `route`, in our direction, on the stream `stream_id` that is still open.
    fn made_key(&self, route: &Route, stream_id: &str, key: &str) -> bool;
}

/// What was agreed so far.
#[derive(Debug, Clone)]
struct Agreed {
    route: Route,
    offers: Offers,
    bidi: bool,
    mux: bool,
}

/// What became of an element that may be dialback's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialled {
    /// It isn't.
    NotDialback,
    /// It was dealt with.
    Done,
    /// It was dealt with, and a trusted source was believed at once.
    Believed,
}

/// What is expected next.
#[derive(Debug)]
enum State {
    ExpectHeader,
    Negotiating(Agreed),
    ExpectRestart(Agreed),
    Established(Agreed),
    Ended,
}

/// The machine.
#[derive(Debug)]
pub struct Receiving {
    state: State,
    /// The id in the last header that we sent; keys are made for it.
    stream_id: Box<str>,
    /// A header of ours stands at the beginning of the present document.
    header_sent: bool,
    verifying: Vec<Route>,
    /// How many keys in a row were not valid. Each has cost a look-up and a connection, and the other end nothing.
    in_vain: u8,
    managing: Managing,
}

impl Default for Receiving {
    fn default() -> Self {
        Self {
            state: State::ExpectHeader,
            stream_id: Box::default(),
            header_sent: false,
            verifying: Vec::new(),
            in_vain: 0,
            managing: Managing::NotOffered,
        }
    }
}

impl Receiving {
    /// Whether the other end is believed for at least one pair, so that stanzas may come.
    #[must_use]
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// Whether the other end waits to hear if a stream that broke goes on here: nothing may be pipelined behind that.
    #[must_use]
    pub fn is_resuming(&self) -> bool {
        matches!(self.managing, Managing::Resuming(_))
    }

    /// Whether the other end may still turn stream management on.
    #[must_use]
    pub fn may_be_managed(&self) -> bool {
        matches!(self.managing, Managing::Offered | Managing::Resuming(_))
    }

    /// The pair of the stream header, in the initiating entity's direction, once it has come.
    #[must_use]
    pub fn route(&self) -> Option<&Route> {
        match &self.state {
            State::Negotiating(agreed) | State::ExpectRestart(agreed) | State::Established(agreed) => {
                Some(&agreed.route)
            }
            State::ExpectHeader | State::Ended => None,
        }
    }

    /// Take what happened.
    ///
    /// # Errors
    /// A [`Violation`] by the other end; the stream is over and [`Receiving::refuse`] writes its end.
    pub fn handle(
        &mut self,
        event: Event<'_>,
        authority: &dyn Authority,
        out: &mut Outbox,
    ) -> Result<(), Violation> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        if matches!(state, State::Ended) || ended(&event, out) {
            return Ok(());
        }
        self.state = match (state, event) {
            (State::ExpectHeader, Event::Header { header, fresh_id }) => {
                State::Negotiating(self.on_header(header, fresh_id, authority, out)?)
            }
            (State::Negotiating(agreed), Event::Element(element)) => {
                self.on_negotiation(agreed, element, authority, out)?
            }
            (State::ExpectRestart(agreed), Event::Header { header, fresh_id }) => {
                self.on_restart(agreed, header, fresh_id, authority, out)?
            }
            (State::Established(agreed), Event::Element(element)) => {
                self.on_late_element(&agreed, element, authority, out)?;
                State::Established(agreed)
            }
            (state, Event::Resumption { h }) => {
                self.on_resumption(h, out);
                state
            }
            (state, Event::KeyVerified { route, outcome }) => {
                self.on_key_verified(state, route, outcome, out)
            }
            (State::ExpectHeader, Event::Element(_)) => return Err(Reason::BadFormat.into()),
            (_, Event::Stanza) => return Err(Reason::NotAuthorized.into()),
            _ => return Err(Reason::BadFormat.into()),
        };
        Ok(())
    }

    /// Write the end of a stream that the other end violated.
    pub fn refuse(&mut self, violation: Violation, fresh_id: &str, out: &mut String) {
        let header = StreamHeader::new(None, None, Some(fresh_id.to_owned()));
        refuse(out, violation, (!self.header_sent).then_some(&header));
        self.header_sent = true;
        self.state = State::Ended;
    }

    fn on_header(
        &mut self,
        header: &StreamHeader,
        fresh_id: &str,
        authority: &dyn Authority,
        out: &mut Outbox,
    ) -> Result<Agreed, Violation> {
        require_version(header)?;
        let (Some(from), Some(to)) = (header.from.clone(), header.to.clone()) else {
            return Err(Reason::ImproperAddressing.into());
        };
        let route = Route::new(from, to);
        // The answer comes from the domain that was asked for, even if the next thing it says is a refusal.
        self.write_header(&route, fresh_id, out);
        let offers = authority.offers(&route)?;
        Features {
            external: offers.external,
            dialback: offers.dialback,
            bidi: offers.bidi,
            pipelining: offers.pipelining,
            mux: offers.mux.then(Vec::new),
            // Whoever sends all of the negotiation at once has to know what the features behind it will offer.
            sm: offers.sm && offers.external && offers.pipelining,
            ..Features::default()
        }
        .write(&mut out.octets);
        Ok(Agreed { route, offers, bidi: false, mux: false })
    }

    fn on_negotiation(
        &mut self,
        agreed: Agreed,
        element: &Element,
        authority: &dyn Authority,
        out: &mut Outbox,
    ) -> Result<State, Violation> {
        if agreed.offers.bidi && bidi::is_request(element) {
            return Ok(State::Negotiating(Agreed { bidi: true, ..agreed }));
        }
        if agreed.offers.mux && mux::is_request(element) {
            return Ok(State::Negotiating(Agreed { mux: true, ..agreed }));
        }
        if element.is("auth", ns::SASL) {
            let judged = if agreed.offers.external {
                sasl_external::judge_auth(element, &agreed.route.from)
            } else {
                Err(Reason::InvalidMechanism)
            };
            judged.map_err(|reason| Violation { reason, sasl: true })?;
            out.octets.push_str(sasl_external::SUCCESS);
            out.tell(Notice::Restart);
            // A new document begins: an error in it needs a header of its own, and what was asked on the old one is
            // forgotten with it (RFC 6120 section 4.3.3).
            self.header_sent = false;
            self.verifying.clear();
            return Ok(State::ExpectRestart(agreed));
        }
        match self.on_dialback(&agreed, element, authority, out)? {
            Dialled::Believed => Ok(State::Established(agreed)),
            Dialled::Done => Ok(State::Negotiating(agreed)),
            Dialled::NotDialback => Err(Reason::NotAuthorized.into()),
        }
    }

    fn on_restart(
        &mut self,
        agreed: Agreed,
        header: &StreamHeader,
        fresh_id: &str,
        authority: &dyn Authority,
        out: &mut Outbox,
    ) -> Result<State, Violation> {
        require_version(header)?;
        // A header that names another pair after authentication would carry the proof over to it.
        if header.from.as_ref() != Some(&agreed.route.from) || header.to.as_ref() != Some(&agreed.route.to) {
            return Err(Reason::ImproperAddressing.into());
        }
        self.write_header(&agreed.route, fresh_id, out);
        let listed = authority.host_list();
        let mux = (!listed.is_empty()).then_some(listed);
        Features { mux, authorize: agreed.offers.mux, sm: agreed.offers.sm, ..Features::default() }
            .write(&mut out.octets);
        self.managing = if agreed.offers.sm { Managing::Offered } else { Managing::NotOffered };
        let stream_id = fresh_id.to_owned();
        out.tell(Notice::Learned(Learned { mux: agreed.mux, stream_id, ..Learned::default() }));
        out.tell(Notice::Proven { route: agreed.route.clone(), bidi: agreed.bidi });
        Ok(State::Established(agreed))
    }

    fn on_late_element(
        &mut self,
        agreed: &Agreed,
        element: &Element,
        authority: &dyn Authority,
        out: &mut Outbox,
    ) -> Result<(), Violation> {
        if let Some(management) = Management::parse(element)? {
            return self.on_management(management, out);
        }
        // Where mux is offered, so is connection authorization: on the remote side.
        if agreed.offers.mux
            && let Some(authorization) = Authorization::parse(element)?
        {
            out.tell(Notice::Authorization { route: agreed.route.clone(), authorization });
            return Ok(());
        }
        match self.on_dialback(agreed, element, authority, out)? {
            Dialled::NotDialback => Err(Reason::UnsupportedStanzaType.into()),
            Dialled::Believed | Dialled::Done => Ok(()),
        }
    }

    fn on_management(&mut self, management: Management, out: &mut Outbox) -> Result<(), Violation> {
        let told = match (&self.managing, management) {
            (Managing::Offered, Management::Enable { resume }) => {
                self.managing = Managing::On;
                Managed::Enable { resume }
            }
            (Managing::Offered, Management::Resume { previd, h }) => {
                self.managing = Managing::Resuming(previd.clone());
                Managed::Resume { previd, h }
            }
            // Section 3: recoverable, and no reason to end the stream.
            (_, Management::Enable { .. } | Management::Resume { .. }) => {
                sm::write_failed(&mut out.octets, "unexpected-request");
                return Ok(());
            }
            (Managing::On, Management::Answer { h }) => Managed::Acknowledged { h },
            (Managing::On, Management::Request) => Managed::Asked,
            // Where nothing is counted there is nothing to say.
            (_, Management::Request) => return Ok(()),
            _ => return Err(Reason::BadFormat.into()),
        };
        out.tell(Notice::Management(told));
        Ok(())
    }

    /// It is known whether the stream that the other end asked for goes on here.
    fn on_resumption(&mut self, h: Option<u32>, out: &mut Outbox) {
        let Managing::Resuming(previd) = &self.managing else { return };
        if let Some(h) = h {
            sm::write_resumed(&mut out.octets, previd, h);
            self.managing = Managing::On;
        } else {
            sm::write_failed(&mut out.octets, "item-not-found");
            self.managing = Managing::Offered;
        }
    }

    /// Deal with `element` if it is dialback's.
    fn on_dialback(
        &mut self,
        agreed: &Agreed,
        element: &Element,
        authority: &dyn Authority,
        out: &mut Outbox,
    ) -> Result<Dialled, Violation> {
        if !agreed.offers.dialback {
            return Ok(Dialled::NotDialback);
        }
        match Dialback::parse(element)? {
            None => return Ok(Dialled::NotDialback),
            Some(Dialback::Request { route, key }) => match authority.dialback(&agreed.route, &route) {
                Err(reason) => dialback::write_result(&mut out.octets, &route, Err(reason)),
                Ok(DialbackOffer::Believe) => {
                    dialback::write_result(&mut out.octets, &route, Ok(()));
                    out.tell(Notice::Proven { route, bidi: agreed.bidi });
                    return Ok(Dialled::Believed);
                }
                // It is being looked into; there will be one answer.
                Ok(DialbackOffer::Verify) if self.verifying.contains(&route) => {}
                Ok(DialbackOffer::Verify)
                    if self.verifying.len() >= VERIFICATIONS_MAX || self.in_vain >= IN_VAIN_MAX =>
                {
                    dialback::write_result(&mut out.octets, &route, Err(Reason::TooMany));
                }
                Ok(DialbackOffer::Verify) => {
                    self.verifying.push(route.clone());
                    out.tell(Notice::VerifyKey { route, stream_id: String::from(&*self.stream_id), key });
                }
            },
            Some(Dialback::Verify { route, stream_id, key }) => {
                let valid = authority.made_key(&route, &stream_id, &key);
                dialback::write_verified(&mut out.octets, &route, &stream_id, valid);
            }
            // We asked nothing on a stream that the other end opened: unsolicited, and without effect.
            Some(Dialback::Result { .. } | Dialback::Verified { .. }) => out.tell(Notice::Unsolicited),
        }
        Ok(Dialled::Done)
    }

    fn on_key_verified(
        &mut self,
        state: State,
        route: Route,
        outcome: Result<(), Reason>,
        out: &mut Outbox,
    ) -> State {
        let Some(at) = self.verifying.iter().position(|open| *open == route) else { return state };
        self.verifying.swap_remove(at);
        let bidi = match &state {
            State::Negotiating(agreed) | State::Established(agreed) => agreed.bidi,
            _ => return state,
        };
        dialback::write_result(&mut out.octets, &route, outcome);
        match outcome {
            Ok(()) => {
                self.in_vain = 0;
                out.tell(Notice::Proven { route, bidi });
            }
            Err(_) => self.in_vain = self.in_vain.saturating_add(1),
        }
        match state {
            State::Negotiating(agreed) if outcome.is_ok() => State::Established(agreed),
            other => other,
        }
    }

    fn write_header(&mut self, route: &Route, fresh_id: &str, out: &mut Outbox) {
        self.stream_id = fresh_id.into();
        self.header_sent = true;
        let header =
            StreamHeader::new(Some(route.to.clone()), Some(route.from.clone()), Some(fresh_id.to_owned()));
        header.write_into(&mut out.octets);
    }
}
