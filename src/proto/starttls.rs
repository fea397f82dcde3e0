//! STARTTLS (RFC 6120 section 5): the clear text before TLS, which carries nothing but the way to it.
//!
//! ```text
//! I: <stream:stream from='a.test' to='b.test'>
//! R: <stream:stream from='b.test' to='a.test' id='s0'> <stream:features><starttls><required/></starttls></stream:features>
//! I: <starttls/>
//! R: <proceed/>
//! ```
//!
//! Whoever sits between the two ends may write here whatever it likes, so nothing of it is kept but the domain that was
//! asked for, and that only chooses a certificate. Every other element is refused, there is no way on in clear text, and a
//! peer that doesn't offer STARTTLS is refused as one whose offer was taken out. What stands behind `<starttls/>` or
//! `<proceed/>` in clear text would be read as if it had come over TLS (the injection of CVE-2011-0411); the shell
//! closes the connection over it ([`Reason::StarttlsInjection`]).

use super::hosts::Hosts;
use super::stream::{Event, require_version, stream_error};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::element::Element;
use crate::xmpp::header::{STREAM_END, StreamHeader};
use crate::xmpp::namespace as ns;
use crate::xmpp::route::Route;

const FEATURES: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
const REQUEST: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// More of the peer's clear text.
    Listen,
    /// TLS: the next octet of either end belongs to it.
    Handshake,
}

/// The initiating entity.
#[derive(Debug)]
pub struct Initiating {
    route: Route,
    expected: Expected,
}

/// What the initiating entity expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Header,
    Features,
    Proceed,
}

impl Initiating {
    /// Ask the server of `route.to` for TLS. What is to be sent first is in `out`.
    #[must_use]
    pub fn start(route: Route, out: &mut String) -> Self {
        StreamHeader::new(Some(route.from.clone()), Some(route.to.clone()), None).write_into(out);
        Self { route, expected: Expected::Header }
    }

    /// Take what the peer said.
    ///
    /// # Errors
    /// Why there will be no TLS: [`Reason::StarttlsNotOffered`], [`Reason::StarttlsFailed`], the peer's own stream
    /// error, or what it did wrong.
    pub fn handle(&mut self, event: &Event<'_>, out: &mut String) -> Result<Step, Reason> {
        let next = match (self.expected, event) {
            (Expected::Header, Event::Header { header, .. }) => {
                // Before XMPP 1.0 there are no features, and so no TLS.
                require_version(header).map_err(|_| Reason::StarttlsNotOffered)?;
                if header.from.as_ref().is_some_and(|from| *from != self.route.to) {
                    return Err(Reason::ImproperAddressing);
                }
                Expected::Features
            }
            (_, Event::Element(element)) if stream_error(element).is_some() => {
                return Err(stream_error(element).unwrap_or(Reason::UndefinedCondition));
            }
            (Expected::Features, Event::Element(element)) => {
                if !element.is("features", ns::STREAM) {
                    return Err(Reason::BadFormat);
                }
                if element.child("starttls", ns::TLS).is_none() {
                    return Err(Reason::StarttlsNotOffered);
                }
                out.push_str(REQUEST);
                Expected::Proceed
            }
            (Expected::Proceed, Event::Element(element)) => {
                return if element.is("proceed", ns::TLS) {
                    Ok(Step::Handshake)
                } else if element.is("failure", ns::TLS) {
                    Err(Reason::StarttlsFailed)
                } else {
                    Err(Reason::BadFormat)
                };
            }
            (_, Event::End) => return Err(Reason::StarttlsNotOffered),
            (_, Event::Stanza) => return Err(Reason::TlsRequired),
            _ => return Err(Reason::BadFormat),
        };
        self.expected = next;
        Ok(Step::Listen)
    }
}

/// The receiving entity.
#[derive(Debug, Default)]
pub struct Receiving {
    /// The host of ours that was asked for.
    host: Option<Domain>,
}

impl Receiving {
    /// The host that was asked for: the one whose certificate is shown to a client that sends no SNI. It proves nothing.
    #[must_use]
    pub fn host(&self) -> Option<&Domain> {
        self.host.as_ref()
    }

    /// Take what the peer said.
    ///
    /// # Errors
    /// Why the peer is refused: [`Reason::TlsRequired`] for whatever isn't the way to TLS, [`Reason::HostUnknown`] for a
    /// domain that we don't serve, or what else it did wrong. [`Receiving::refuse`] writes the end of the stream.
    pub fn handle(&mut self, event: &Event<'_>, hosts: &Hosts, out: &mut String) -> Result<Step, Reason> {
        match (&self.host, event) {
            (None, Event::Header { header, fresh_id }) => {
                require_version(header)?;
                let to = header.to.clone().ok_or(Reason::ImproperAddressing)?;
                if !hosts.serves(&to) {
                    return Err(Reason::HostUnknown);
                }
                answer(Some(&to), header.from.as_ref(), fresh_id).write_into(out);
                out.push_str(FEATURES);
                self.host = Some(to);
                Ok(Step::Listen)
            }
            (Some(_), Event::Element(element)) if is_request(element) => {
                out.push_str(PROCEED);
                Ok(Step::Handshake)
            }
            (_, Event::Element(element)) if stream_error(element).is_some() => Err(Reason::ConnectionLost),
            (_, Event::End) => Err(Reason::ConnectionLost),
            (Some(_), Event::Element(_) | Event::Stanza) => Err(Reason::TlsRequired),
            _ => Err(Reason::BadFormat),
        }
    }

    /// Write the end of a stream that the other end violated.
    pub fn refuse(&self, reason: Reason, fresh_id: &str, out: &mut String) {
        if reason == Reason::ConnectionLost {
            // It closed the stream itself.
            out.push_str(STREAM_END);
            return;
        }
        let header = answer(None, None, fresh_id);
        super::stream::refuse(out, reason.into(), self.host.is_none().then_some(&header));
    }
}

fn answer(from: Option<&Domain>, to: Option<&Domain>, id: &str) -> StreamHeader {
    StreamHeader::new(from.cloned(), to.cloned(), Some(id.to_owned()))
}

fn is_request(element: &Element) -> bool {
    element.is("starttls", ns::TLS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::hosts::HostFacts;
    use crate::proto::policy::DomainPolicy;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn route() -> Route {
        Route::new(domain("a.test"), domain("b.test"))
    }

    fn hosts() -> Hosts {
        let facts = HostFacts { entry: 0, announce: false };
        Hosts::new([(domain("b.test"), facts)], DomainPolicy::default())
    }

    fn header(from: Option<&str>, to: Option<&str>) -> StreamHeader {
        StreamHeader::new(from.map(domain), to.map(domain), Some("s0".to_owned()))
    }

    fn element(text: &str) -> Element {
        Element::parse(text.as_bytes()).unwrap()
    }

    fn tls(name: &str) -> Element {
        element(&format!("<{name} xmlns='{}'/>", ns::TLS))
    }

    fn old() -> StreamHeader {
        let text = format!(
            "<stream:stream xmlns='{}' xmlns:stream='{}' to='b.test' id='s0'>",
            ns::SERVER,
            ns::STREAM
        );
        StreamHeader::parse(text.as_bytes()).unwrap()
    }

    /// What the initiating entity says to a header and these elements.
    fn initiate(from: Option<&str>, elements: &[Element]) -> Result<Step, Reason> {
        let mut out = String::new();
        let mut machine = Initiating::start(route(), &mut out);
        let mut step =
            machine.handle(&Event::Header { header: &header(from, None), fresh_id: "" }, &mut out)?;
        for element in elements {
            assert_eq!(step, Step::Listen);
            step = machine.handle(&Event::Element(element), &mut out)?;
        }
        Ok(step)
    }

    #[test]
    fn both_ends_agree_in_one_request() {
        let (mut said, mut answered) = (String::new(), String::new());
        let mut initiating = Initiating::start(route(), &mut said);
        let mut receiving = Receiving::default();
        let opening = StreamHeader::parse(said.split_once("?>").unwrap().1.as_bytes()).unwrap();
        let event = Event::Header { header: &opening, fresh_id: "s0" };
        assert_eq!(receiving.handle(&event, &hosts(), &mut answered), Ok(Step::Listen));
        assert_eq!(receiving.host(), Some(&domain("b.test")));
        let at = answered.find("<stream:features>").unwrap();
        let header = StreamHeader::parse(answered[..at].split_once("?>").unwrap().1.as_bytes()).unwrap();
        said.clear();
        let event = Event::Header { header: &header, fresh_id: "" };
        assert_eq!(initiating.handle(&event, &mut said), Ok(Step::Listen));
        assert_eq!(initiating.handle(&Event::Element(&element(FEATURES)), &mut said), Ok(Step::Listen));
        assert_eq!(said, REQUEST);
        answered.clear();
        let request = element(&said);
        let step = receiving.handle(&Event::Element(&request), &hosts(), &mut answered);
        assert_eq!((step, answered.as_str()), (Ok(Step::Handshake), PROCEED));
        let proceed = element(&answered);
        assert_eq!(initiating.handle(&Event::Element(&proceed), &mut said), Ok(Step::Handshake));
    }

    #[test]
    fn an_offer_that_is_missing_is_an_offer_that_was_taken_out() {
        let bare = element("<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>");
        assert_eq!(initiate(Some("b.test"), std::slice::from_ref(&bare)), Err(Reason::StarttlsNotOffered));
        assert_eq!(initiate(Some("c.test"), &[]), Err(Reason::ImproperAddressing));
        let features = element(FEATURES);
        assert_eq!(initiate(None, &[features.clone(), tls("failure")]), Err(Reason::StarttlsFailed));
        assert_eq!(initiate(None, &[features.clone(), features.clone()]), Err(Reason::BadFormat));
        assert_eq!(initiate(None, &[tls("proceed")]), Err(Reason::BadFormat), "unasked");
        let mut machine = Initiating::start(route(), &mut String::new());
        let event = Event::Header { header: &old(), fresh_id: "" };
        assert_eq!(machine.handle(&event, &mut String::new()), Err(Reason::StarttlsNotOffered));
    }

    #[test]
    fn nothing_but_starttls_is_taken_in_clear_text() {
        let opened = || {
            let mut machine = Receiving::default();
            let event = Event::Header { header: &header(None, Some("b.test")), fresh_id: "s0" };
            machine.handle(&event, &hosts(), &mut String::new()).unwrap();
            machine
        };
        let auth = element("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
        let dialback =
            element("<db:result xmlns:db='jabber:server:dialback' from='a.test' to='b.test'>k</db:result>");
        for clear in [auth, dialback, tls("proceed")] {
            let refused = opened().handle(&Event::Element(&clear), &hosts(), &mut String::new());
            assert_eq!(refused, Err(Reason::TlsRequired));
        }
        assert_eq!(opened().handle(&Event::Stanza, &hosts(), &mut String::new()), Err(Reason::TlsRequired));
        let early =
            Receiving::default().handle(&Event::Element(&tls("starttls")), &hosts(), &mut String::new());
        assert_eq!(early, Err(Reason::BadFormat));
    }

    #[test]
    fn the_receiving_entity_asks_whom_the_stream_is_for() {
        let refused = |header: &StreamHeader| {
            let mut machine = Receiving::default();
            let event = Event::Header { header, fresh_id: "s0" };
            machine.handle(&event, &hosts(), &mut String::new()).unwrap_err()
        };
        assert_eq!(refused(&header(Some("a.test"), Some("c.test"))), Reason::HostUnknown);
        assert_eq!(refused(&header(Some("a.test"), None)), Reason::ImproperAddressing);
        assert_eq!(refused(&old()), Reason::UnsupportedVersion);
        let mut out = String::new();
        Receiving::default().refuse(Reason::HostUnknown, "s0", &mut out);
        assert!(out.contains("<stream:stream") && out.contains("<host-unknown") && out.ends_with(STREAM_END));
    }
}
