//! One XML stream (RFC 6120 section 4): whatever happens to either end in whatever order, nobody is believed without the
//! authority's consent, a stream that is over stays so and says nothing, and what is written is well-formed and bounded.
//!
//! The first octet chooses:
//!
//! - a peer that says anything, octet for octet, to a receiving entity, an initiating one, or as a component: [`line`]
//! - events of a small vocabulary and elements from any octets, in any order: [`vocabulary`]
//! - both ends wired to each other, with somebody in between who changes what they say: [`between`]
//!
//! [`receiver`], [`initiator`] and [`component`] hold each machine to its promises, by what goes in and what comes out
//! alone, and [`managed`] those of stream management; [`written`] reads what it says.

mod between;
mod component;
mod initiator;
mod line;
mod managed;
mod receiver;
mod vocabulary;
mod written;

use fedmux::proto::stream::{Event, Violation};
use fedmux::reason::Reason;
use fedmux::xmpp::domain::Domain;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::header::StreamHeader;
use fedmux::xmpp::route::Route;

use super::choices::Choices;
use component::Acceptor;
use initiator::Initiator;
use receiver::Receiver;

/// Octets that a machine may say to one event, whatever the event held: its header, the features, an answer.
const OCTETS_MAX: usize = 4096;
/// Notices of one event.
const NOTICES_MAX: usize = 2;

pub(super) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    match choices.below(6) {
        0 => line::listen(&mut Receiver::new(&mut choices), &mut choices),
        1 => line::listen(&mut Initiator::new(&mut choices), &mut choices),
        2 => line::listen(&mut Acceptor::new(&mut choices), &mut choices),
        3 => vocabulary::play(&mut Receiver::new(&mut choices), &mut choices),
        4 => vocabulary::play(&mut Initiator::new(&mut choices), &mut choices),
        _ => between::play(&mut choices),
    }
}

/// Something that happens to a machine.
#[derive(Debug)]
enum Happening {
    Header(StreamHeader),
    Element(Element),
    Stanza,
    End,
    Verified(Route, Result<(), Reason>),
    Resumption(Option<u32>),
}

impl Happening {
    fn event<'a>(&'a self, fresh_id: &'a str) -> Event<'a> {
        match self {
            Self::Header(header) => Event::Header { header, fresh_id },
            Self::Element(element) => Event::Element(element),
            Self::Stanza => Event::Stanza,
            Self::End => Event::End,
            Self::Resumption(h) => Event::Resumption { h: *h },
            Self::Verified(route, outcome) => Event::KeyVerified { route: route.clone(), outcome: *outcome },
        }
    }

    fn element(&self) -> Option<&Element> {
        match self {
            Self::Element(element) => Some(element),
            _ => None,
        }
    }
}

/// What an event came to, as far as the octets behind it are concerned.
#[derive(Debug, Default)]
struct Taken {
    octets: String,
    restart: bool,
    believed: bool,
}

/// A machine under watch.
trait End {
    /// The content namespace of its stream.
    fn content(&self) -> &'static str;
    /// Something happens.
    fn take(&mut self, happening: &Happening) -> Taken;
    /// What came can't be read: what is said to it.
    fn refuse(&mut self, violation: Violation) -> String;
    fn is_established(&self) -> bool;
    fn is_over(&self) -> bool;
    /// A dialback key that is to be verified: whether it is ours.
    fn question(&mut self) -> Option<(Route, bool)>;
    /// A stream that is to be gone on with: whether it does.
    fn resumption(&mut self) -> Option<Option<u32>> {
        None
    }
}

const DOMAINS: [&str; 3] = ["a.test", "b.test", "c.test"];

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

fn any_domain(choices: &mut Choices<'_>) -> Domain {
    domain(choices.of(&DOMAINS))
}

fn any_route(choices: &mut Choices<'_>) -> Route {
    Route::new(any_domain(choices), any_domain(choices))
}
