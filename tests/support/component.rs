//! An external component (XEP-0114) in the hands of a script.

use std::net::SocketAddr;

use fedmux::proto::component::Secret;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;
use tokio::net::TcpStream;

use super::wire::{Heard, Wire};

/// The opening stream header of the component `name`.
pub(crate) fn header(name: &str) -> String {
    format!("<stream:stream xmlns='{}' xmlns:stream='{}' to='{name}'>", ns::COMPONENT_ACCEPT, ns::STREAM)
}

/// What proves the component on the stream `id`.
pub(crate) fn handshake(id: &str, secret: &str) -> String {
    format!("<handshake>{}</handshake>", Secret::new(secret).unwrap().handshake(id))
}

/// A connection to the relay's listener for components, on which nothing was said.
pub(crate) async fn open(at: SocketAddr) -> Wire {
    Wire::component(TcpStream::connect(at).await.unwrap())
}

/// The same, with both headers exchanged.
pub(crate) async fn greet(at: SocketAddr, name: &str) -> Wire {
    let mut wire = open(at).await;
    wire.say(header(name)).await;
    let Heard::Header(answer) = wire.hear().await else { panic!("no stream header") };
    assert_eq!(answer.from.unwrap().as_str(), name);
    wire.stream_id = answer.id.unwrap();
    wire
}

/// The same, and the handshake was sent.
pub(crate) async fn claim(at: SocketAddr, name: &str, secret: &str) -> Wire {
    let mut wire = greet(at, name).await;
    wire.say(handshake(&wire.stream_id, secret)).await;
    wire
}

/// The same, and the handshake was accepted: stanzas may flow.
pub(crate) async fn connect(at: SocketAddr, name: &str, secret: &str) -> Wire {
    let mut wire = claim(at, name, secret).await;
    assert_eq!(wire.hear().await, Heard::Element(Element::new("handshake", ns::COMPONENT_ACCEPT)));
    wire
}
