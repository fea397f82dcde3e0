//! The endpoints against relays that do it wrong, over real sockets.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::handshake::{self, Accepted};
use super::wire::Wire;
use super::{StreamError, carry};
use crate::demo::flow::Flows;
use crate::demo::message::{self, Stamp};
use crate::xmpp::domain::Domain;
use crate::xmpp::namespace;

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
    xmlns:stream='http://etherx.jabber.org/streams' from='b1.test' to='a1.test' id='x' version='1.0'>";
const EXTERNAL: &str =
    "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>";
const BIDI: &str = "<bidi xmlns='urn:xmpp:features:bidi'/>";
const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// The two ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Let an endpoint open a stream to a relay that says just this, whatever it hears.
async fn initiate_towards(said: String) -> Result<(), StreamError> {
    let (near, mut far) = connection().await;
    far.write_all(said.as_bytes()).await.unwrap();
    far.shutdown().await.unwrap();
    handshake::initiate(&mut Wire::new(near), &domain("a1.test"), &domain("b1.test")).await
}

/// Let an endpoint answer a relay that says just this, whatever it hears.
async fn accept_from(said: String) -> Result<Accepted, StreamError> {
    let (near, mut far) = connection().await;
    far.write_all(said.as_bytes()).await.unwrap();
    far.shutdown().await.unwrap();
    handshake::accept(&mut Wire::new(near), 1).await
}

#[tokio::test]
async fn initiating_side_wants_external_and_a_stream_in_both_directions() {
    let features = |inside: &str| format!("{HEADER}<stream:features>{inside}</stream:features>");
    let good = features(&format!("{EXTERNAL}{BIDI}")) + SUCCESS + HEADER + "<stream:features/>";
    initiate_towards(good).await.unwrap();
    for bad in [EXTERNAL, BIDI, ""] {
        let outcome = initiate_towards(features(bad) + SUCCESS + HEADER + "<stream:features/>").await;
        assert!(
            matches!(&outcome, Err(StreamError::Unexpected(text)) if text.contains("without")),
            "{outcome:?}"
        );
    }
    let failure = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>";
    let outcome = initiate_towards(features(&format!("{EXTERNAL}{BIDI}")) + failure).await;
    assert!(outcome.unwrap_err().to_string().contains("<failure/> with <not-authorized/>"));
}

#[tokio::test]
async fn a_stream_error_is_told_with_its_condition() {
    let error = "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    let told = initiate_towards(format!("{HEADER}{error}</stream:stream>")).await.unwrap_err().to_string();
    assert!(told.contains("host-unknown"), "{told}");
}

#[tokio::test]
async fn accepting_side_takes_the_streams_own_identity_and_no_other() {
    let auth = |identity: &str| {
        let sasl = namespace::SASL;
        format!("{HEADER}<auth xmlns='{sasl}' mechanism='EXTERNAL'>{identity}</auth>{HEADER}")
    };
    for identity in ["", "=", "YjEudGVzdA=="] {
        let accepted = accept_from(auth(identity)).await.unwrap();
        assert_eq!((accepted.from.as_str(), accepted.to.as_str()), ("b1.test", "a1.test"));
        assert!(!accepted.bidirectional);
    }
    let both = auth("").replace("<auth", "<bidi xmlns='urn:xmpp:bidi'/><auth");
    assert!(accept_from(both).await.unwrap().bidirectional);
    assert!(accept_from(auth("YjIudGVzdA==")).await.is_err(), "b2.test");
    let moved = auth("").replacen(HEADER, &HEADER.replace("b1", "b2"), 1);
    assert!(accept_from(moved).await.unwrap_err().to_string().contains("after the restart"));
}

#[tokio::test]
async fn negotiation_is_read_however_it_is_cut() {
    let (near, mut far) = connection().await;
    far.set_nodelay(true).unwrap();
    let mut wire = Wire::new(near);
    let reading = tokio::spawn(async move {
        let id = wire.header().await.unwrap().attribute("id").to_owned();
        let features = wire.child().await.unwrap();
        let both = features.holds(namespace::SASL, "mechanism", "EXTERNAL")
            && features.holds(namespace::BIDI_FEATURE, "bidi", "");
        assert!(wire.child().await.unwrap().is(namespace::SASL, "success"));
        let (_, rest) = wire.into_parts();
        (id, both, rest)
    });
    let text = format!("{HEADER}\n<stream:features>{EXTERNAL} {BIDI}</stream:features>{SUCCESS}");
    for octet in text.bytes() {
        far.write_all(&[octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(reading.await.unwrap(), ("x".to_owned(), true, Vec::new()));
}

/// What a flow counts when a relay delivers this.
async fn deliver(octets: &[u8]) -> (Arc<Flows>, Result<(), StreamError>) {
    let flows = Flows::between(&[domain("a1.test")], &[domain("b1.test")]);
    let (near, mut far) = connection().await;
    far.write_all(octets).await.unwrap();
    let carried = Arc::clone(&flows.forth[0]);
    let carrying = tokio::spawn(async move { carry::carry(near, Vec::new(), &carried, None).await });
    far.shutdown().await.unwrap();
    let mut answer = String::new();
    far.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "</stream:stream>");
    (flows, carrying.await.unwrap())
}

fn stanza(from: &str, number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    message::write(&mut out, &domain(from), &domain("b1.test"), Stamp { number, sent: Default::default() });
    out
}

#[tokio::test]
async fn what_is_delivered_is_counted_and_a_closed_stream_is_closed_in_return() {
    let octets = [&stanza("a1.test", 0)[..], b"\n", &stanza("a1.test", 1), b" </stream:stream>"].concat();
    let (flows, outcome) = deliver(&octets).await;
    outcome.unwrap();
    assert_eq!((flows.delivered(), flows.counts().altered), (2, 0));
}

#[tokio::test]
async fn another_pairs_stanza_a_stream_error_and_a_bare_end_are_faults() {
    let octets = [&stanza("a2.test", 0)[..], b"</stream:stream>"].concat();
    let (flows, _) = deliver(&octets).await;
    assert_eq!((flows.delivered(), flows.counts().altered), (0, 1));
    assert!(flows.shared.troubles()[0].contains("arrived changed"));
    let error = "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    for end in [error, "", "<r xmlns='urn:xmpp:sm:3'/>"] {
        let (flows, outcome) = deliver(&[&stanza("a1.test", 0)[..], end.as_bytes()].concat()).await;
        assert_eq!(flows.delivered(), 1);
        assert!(matches!(outcome, Err(StreamError::Closed(_))), "{end}: {outcome:?}");
    }
}
