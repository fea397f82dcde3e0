//! External components (XEP-0114): gateways, rooms and bots that connect to us with a secret of their own. The accepting
//! side.
//!
//! ```text
//! ExpectHeader -> ExpectHandshake -> Established
//! ```
//!
//! The component names itself in `to`; our header answers with the id that its handshake is made for. Who knows the
//! secret speaks for the component's domain, with any local part and resource, and for nothing else: from there on
//! [`super::admission`] decides, as for every stream.
//!
//! One connection serves a component. A second one that knows the secret is told `conflict` while the first lives: two
//! that take turns would each get half of what is said. Whoever doesn't know the secret isn't told that there is one.

use std::fmt;

use ring::{digest, hmac};

use super::stream::{Event, Violation, refuse, stream_error};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::{Element, write_attribute};
use crate::xmpp::header::StreamHeader;
use crate::xmpp::namespace as ns;

/// What a component and we both know. It can't be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// `None` if it is empty: everybody knows that.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// What the handshake for the stream `stream_id` says: lower-case hexadecimal SHA-1 of the two.
    #[must_use]
    pub fn handshake(&self, stream_id: &str) -> String {
        let text = format!("{stream_id}{}", self.0);
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        hash.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// Whether `handshake` is that; in constant time.
    fn verify(&self, stream_id: &str, handshake: &str) -> bool {
        // Tags of the two under a key that nobody else has say nothing about how far they agree.
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        let expected = hmac::sign(&key, self.handshake(stream_id).as_bytes());
        hmac::verify(&key, handshake.as_bytes(), expected.as_ref()).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Who knows the components.
pub trait Registry {
    /// The secret of the component `domain`; `None`: there is no such component.
    fn secret(&self, domain: &Domain) -> Option<&Secret>;

    /// The component `domain` has proven itself: this stream is its connection from now on.
    ///
    /// # Errors
    /// [`Reason::ComponentConnected`] if it has another one.
    fn connect(&self, domain: &Domain) -> Result<(), Reason>;
}

/// What an event came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing that the shell has to know.
    Continue,
    /// The component is connected: from now on stanzas flow, both ways.
    Connected(Domain),
    /// It closed its stream; `Some`: with this stream error.
    Ended(Option<Reason>),
}

/// What is expected next.
#[derive(Debug)]
enum State {
    ExpectHeader,
    ExpectHandshake { domain: Domain, stream_id: String },
    Established,
    Ended,
}

/// The machine.
#[derive(Debug)]
pub struct Component {
    state: State,
    header_sent: bool,
}

impl Default for Component {
    fn default() -> Self {
        Self { state: State::ExpectHeader, header_sent: false }
    }
}

impl Component {
    /// Take what happened, and write what is to be said to `out`.
    ///
    /// # Errors
    /// A [`Violation`] by the other end; the stream is over and [`Component::refuse`] writes its end.
    pub fn handle(
        &mut self,
        event: Event<'_>,
        registry: &dyn Registry,
        out: &mut String,
    ) -> Result<Outcome, Violation> {
        let state = std::mem::replace(&mut self.state, State::Ended);
        if matches!(state, State::Ended) {
            return Ok(Outcome::Continue);
        }
        if let Some(ended) = ended(&event) {
            return Ok(ended);
        }
        match (state, event) {
            (State::ExpectHeader, Event::Header { header, fresh_id }) => {
                self.state = self.on_header(header, fresh_id, registry, out)?;
                Ok(Outcome::Continue)
            }
            (State::ExpectHandshake { domain, stream_id }, Event::Element(element)) => {
                on_handshake(&domain, &stream_id, element, registry)?;
                out.push_str("<handshake/>");
                self.state = State::Established;
                Ok(Outcome::Connected(domain))
            }
            (State::Established, Event::Element(_)) => Err(Reason::UnsupportedStanzaType.into()),
            (_, Event::Stanza) => Err(Reason::NotAuthorized.into()),
            _ => Err(Reason::BadFormat.into()),
        }
    }

    /// Write the end of a stream that the other end violated.
    pub fn refuse(&mut self, violation: Violation, fresh_id: &str, out: &mut String) {
        if !self.header_sent {
            self.write_header(None, fresh_id, out);
        }
        refuse(out, violation, None);
        self.state = State::Ended;
    }

    fn on_header(
        &mut self,
        header: &StreamHeader,
        fresh_id: &str,
        registry: &dyn Registry,
        out: &mut String,
    ) -> Result<State, Violation> {
        let domain = header.to.clone().ok_or(Reason::ImproperAddressing)?;
        self.write_header(Some(&domain), fresh_id, out);
        registry.secret(&domain).ok_or(Reason::HostUnknown)?;
        Ok(State::ExpectHandshake { domain, stream_id: fresh_id.to_owned() })
    }

    /// The header has no version: what XMPP 1.0 promises with it, features above all, isn't spoken here.
    fn write_header(&mut self, from: Option<&Domain>, id: &str, out: &mut String) {
        self.header_sent = true;
        out.push_str("<?xml version='1.0'?><stream:stream");
        write_attribute(out, "xmlns", ns::COMPONENT_ACCEPT);
        write_attribute(out, "xmlns:stream", ns::STREAM);
        if let Some(from) = from {
            write_attribute(out, "from", from.as_str());
        }
        write_attribute(out, "id", id);
        out.push('>');
    }
}

/// Whether, and why, the other end closes the stream with `event`.
fn ended(event: &Event<'_>) -> Option<Outcome> {
    match event {
        Event::End => Some(Outcome::Ended(None)),
        Event::Element(element) => stream_error(element).map(|reason| Outcome::Ended(Some(reason))),
        _ => None,
    }
}

fn on_handshake(
    domain: &Domain,
    stream_id: &str,
    element: &Element,
    registry: &dyn Registry,
) -> Result<(), Violation> {
    if !element.is("handshake", ns::COMPONENT_ACCEPT) {
        return Err(Reason::NotAuthorized.into());
    }
    // Looked up again: the operator may have taken it away meanwhile.
    let secret = registry.secret(domain).ok_or(Reason::HostUnknown)?;
    if !secret.verify(stream_id, element.text().trim()) {
        return Err(Reason::ComponentSecretWrong.into());
    }
    Ok(registry.connect(domain)?)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::xmpp::framer::{FrameKind, Framer, Progress, XmlLimits};

    /// One component, which may have a connection already.
    struct Known {
        secret: Secret,
        connected: RefCell<bool>,
    }

    impl Registry for Known {
        fn secret(&self, domain: &Domain) -> Option<&Secret> {
            (domain.as_str() == "irc.a1.test").then_some(&self.secret)
        }

        fn connect(&self, _: &Domain) -> Result<(), Reason> {
            if self.connected.replace(true) { Err(Reason::ComponentConnected) } else { Ok(()) }
        }
    }

    /// A component at the machine.
    struct Play {
        known: Known,
        machine: Component,
        said: String,
    }

    const ID: &str = "3BF96D32";

    fn header(to: &str) -> StreamHeader {
        StreamHeader::new(None, Some(Domain::parse(to).unwrap()), None)
    }

    impl Play {
        fn new() -> Self {
            let known = Known { secret: Secret::new("opensesame").unwrap(), connected: RefCell::new(false) };
            Self { known, machine: Component::default(), said: String::new() }
        }

        fn handle(&mut self, event: Event<'_>) -> Result<Outcome, Reason> {
            let handled = self.machine.handle(event, &self.known, &mut self.said);
            handled.map_err(|violation| violation.reason)
        }

        fn greet(&mut self) {
            let header = header("irc.a1.test");
            assert_eq!(self.handle(Event::Header { header: &header, fresh_id: ID }), Ok(Outcome::Continue));
        }

        fn shake(&mut self, text: &str) -> Result<Outcome, Reason> {
            self.handle(Event::Element(&Element::new("handshake", ns::COMPONENT_ACCEPT).with_text(text)))
        }

        fn connected() -> Self {
            let mut play = Self::new();
            play.greet();
            let handshake = play.known.secret.handshake(ID);
            let domain = Domain::parse("irc.a1.test").unwrap();
            assert_eq!(play.shake(&handshake), Ok(Outcome::Connected(domain)));
            play
        }
    }

    #[test]
    fn the_handshake_is_lower_case_hexadecimal_sha1_of_stream_id_and_secret() {
        // printf 3BF96D32opensesame | sha1sum
        let handshake = Secret::new("opensesame").unwrap().handshake(ID);
        assert_eq!(handshake, "af370d91f58929586ed4e0796ac3336f96ca3084");
    }

    #[test]
    fn who_knows_the_secret_is_connected() {
        let play = Play::connected();
        assert_eq!(
            play.said,
            "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
             xmlns:stream='http://etherx.jabber.org/streams' from='irc.a1.test' id='3BF96D32'><handshake/>"
        );
    }

    #[test]
    fn who_does_not_know_it_is_not() {
        let right = Secret::new("opensesame").unwrap().handshake(ID);
        let other_stream = Secret::new("opensesame").unwrap().handshake("3BF96D33");
        for wrong in
            ["", "opensesame", &right[1..], &right.to_uppercase(), &format!("{right}0"), &other_stream]
        {
            let mut play = Play::new();
            play.greet();
            assert_eq!(play.shake(wrong), Err(Reason::ComponentSecretWrong), "{wrong}");
            assert!(!*play.known.connected.borrow() && !play.said.contains("<handshake/>"));
        }
    }

    #[test]
    fn a_second_one_conflicts_only_if_it_knows_the_secret() {
        for (secret, reason) in
            [("opensesame", Reason::ComponentConnected), ("x", Reason::ComponentSecretWrong)]
        {
            let mut play = Play::new();
            *play.known.connected.borrow_mut() = true;
            play.greet();
            assert_eq!(play.shake(&Secret::new(secret).unwrap().handshake(ID)), Err(reason));
        }
    }

    #[test]
    fn an_unknown_name_or_none_is_refused_behind_a_header_of_ours() {
        let nameless = StreamHeader::new(None, None, None);
        for (header, reason, from) in [
            (header("b1.test"), Reason::HostUnknown, " from='b1.test'"),
            (nameless, Reason::ImproperAddressing, ""),
        ] {
            let mut play = Play::new();
            assert_eq!(play.handle(Event::Header { header: &header, fresh_id: ID }), Err(reason));
            play.machine.refuse(reason.into(), "other", &mut play.said);
            assert_eq!(play.said.matches("<stream:stream").count(), 1);
            assert!(play.said.contains(&format!("streams'{from} id='")), "{}", play.said);
            assert!(play.said.contains(&format!("<{reason} xmlns=")), "{}", play.said);
            assert!(play.said.ends_with("</stream:error></stream:stream>"));
        }
    }

    #[test]
    fn nothing_else_may_come_before_the_handshake() {
        let foreign = Element::new("auth", ns::SASL);
        let of_a_server = Element::new("handshake", ns::SERVER);
        for (event, reason) in [
            (Event::Stanza, Reason::NotAuthorized),
            (Event::Element(&foreign), Reason::NotAuthorized),
            (Event::Element(&of_a_server), Reason::NotAuthorized),
            (Event::Header { header: &header("irc.a1.test"), fresh_id: "x" }, Reason::BadFormat),
        ] {
            let mut play = Play::new();
            play.greet();
            assert_eq!(play.handle(event), Err(reason));
        }
        assert_eq!(Play::new().handle(Event::Stanza), Err(Reason::NotAuthorized));
        assert_eq!(Play::new().shake("x"), Err(Reason::BadFormat));
    }

    #[test]
    fn a_connected_component_sends_stanzas_and_nothing_else() {
        assert_eq!(Play::connected().shake("x"), Err(Reason::UnsupportedStanzaType));
        let header = header("irc.a1.test");
        let again = Event::Header { header: &header, fresh_id: "x" };
        assert_eq!(Play::connected().handle(again), Err(Reason::BadFormat));
    }

    #[test]
    fn it_may_end_its_stream_at_any_time_and_say_why() {
        let error =
            Element::new("error", ns::STREAM).with_child(Element::new("system-shutdown", ns::STREAM_ERRORS));
        for play in [Play::new, Play::connected] {
            assert_eq!(play().handle(Event::End), Ok(Outcome::Ended(None)));
            let mut play = play();
            let ended = play.handle(Event::Element(&error));
            assert_eq!(ended, Ok(Outcome::Ended(Some(Reason::SystemShutdown))));
            assert_eq!(play.handle(Event::Stanza), Ok(Outcome::Continue), "what comes behind means nothing");
        }
    }

    #[test]
    fn what_is_said_is_a_stream_of_components() {
        let mut play = Play::connected();
        play.machine.refuse(Reason::InvalidFrom.into(), "other", &mut play.said);
        let any = usize::MAX;
        let limits = XmlLimits { stanza_bytes: any, negotiation_bytes: any, depth: any, attributes: any };
        let mut framer = Framer::of(ns::COMPONENT_ACCEPT, limits);
        let (mut rest, mut kinds) = (play.said.as_bytes(), Vec::new());
        while !rest.is_empty() {
            match framer.next(rest).unwrap() {
                Progress::Skip(len) => rest = &rest[len..],
                Progress::Frame(frame) => {
                    kinds.push(frame.kind);
                    rest = &rest[frame.len..];
                }
                Progress::More => panic!("half of something"),
            }
        }
        assert_eq!(kinds, [FrameKind::Header, FrameKind::Element, FrameKind::Element, FrameKind::End]);
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("opensesame").unwrap()), "Secret");
        assert_eq!(Secret::new(""), None);
    }
}
