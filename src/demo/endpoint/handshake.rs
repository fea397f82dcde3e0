//! How an endpoint authenticates its stream, as Prosody with the relay's module does: SASL EXTERNAL over plain TCP on
//! loopback (RFC 6120 section 6, XEP-0178), and a bidirectional stream (XEP-0288).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::StreamError;
use super::wire::{Element, Wire};
use crate::xmpp::domain::Domain;
use crate::xmpp::namespace;

/// Open a stream from one domain to another, as the initiating entity.
pub(super) async fn initiate(wire: &mut Wire, from: &Domain, to: &Domain) -> Result<(), StreamError> {
    send_header(wire, from.as_str(), to.as_str(), None).await?;
    let features = features(wire).await?;
    if !features.holds(namespace::SASL, "mechanism", "EXTERNAL") {
        return Err(StreamError::Unexpected(format!("{features} without SASL EXTERNAL")));
    }
    if !features.holds(namespace::BIDI_FEATURE, "bidi", "") {
        return Err(StreamError::Unexpected(format!("{features} without bidirectional streams")));
    }
    let identity = STANDARD.encode(from.as_str());
    let (bidi, sasl) = (namespace::BIDI, namespace::SASL);
    let auth = format!("<bidi xmlns='{bidi}'/><auth xmlns='{sasl}' mechanism='EXTERNAL'>{identity}</auth>");
    wire.send(&auth).await?;
    let answer = wire.child().await?;
    if !answer.is(namespace::SASL, "success") {
        return Err(StreamError::Unexpected(format!("{answer} instead of <success/>")));
    }
    wire.restart();
    send_header(wire, from.as_str(), to.as_str(), None).await?;
    self::features(wire).await?;
    Ok(())
}

/// Authenticate an open stream for further pairs (XEP-0220 section 2.6). The relay believes this server by its address
/// and asks nobody about the key.
pub(super) async fn join(
    wire: &mut Wire,
    pairs: impl ExactSizeIterator<Item = (&Domain, &Domain)>,
) -> Result<(), StreamError> {
    let count = pairs.len();
    let dialback = namespace::DIALBACK;
    let mut requests = String::new();
    for (from, to) in pairs {
        requests
            .push_str(&format!("<db:result xmlns:db='{dialback}' from='{from}' to='{to}'>demo</db:result>"));
    }
    wire.send(&requests).await?;
    for _ in 0..count {
        let answer = wire.child().await?;
        if !answer.is(dialback, "result") || answer.attribute("type") != "valid" {
            return Err(StreamError::Unexpected(format!("{answer} instead of a valid dialback result")));
        }
    }
    Ok(())
}

/// The receiving side's stream header and features.
async fn features(wire: &mut Wire) -> Result<Element, StreamError> {
    wire.header().await?;
    let features = wire.child().await?;
    if features.is(namespace::STREAM, "features") {
        Ok(features)
    } else {
        Err(StreamError::Unexpected(format!("{features} instead of stream features")))
    }
}

/// An authenticated inbound stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The domain at the other end.
    pub(super) from: String,
    /// Ours.
    pub(super) to: String,
    /// Whether stanzas go both ways.
    pub(super) bidirectional: bool,
}

/// Answer a stream, as the receiving entity; `id` is what its headers are told apart by.
pub(super) async fn accept(wire: &mut Wire, id: u64) -> Result<Accepted, StreamError> {
    let header = wire.header().await?;
    let (from, to) = (header.attribute("from").to_owned(), header.attribute("to").to_owned());
    send_header(wire, &to, &from, Some(&format!("demo-{id}-a"))).await?;
    let (sasl, bidi) = (namespace::SASL, namespace::BIDI_FEATURE);
    wire.send(&format!(
        "<stream:features><mechanisms xmlns='{sasl}'><mechanism>EXTERNAL</mechanism></mechanisms>\
         <bidi xmlns='{bidi}'/></stream:features>"
    ))
    .await?;
    let mut bidirectional = false;
    let auth = loop {
        let child = wire.child().await?;
        if child.is(namespace::BIDI, "bidi") {
            bidirectional = true;
        } else {
            break child;
        }
    };
    if !auth.is(namespace::SASL, "auth") || auth.attribute("mechanism") != "EXTERNAL" {
        return Err(StreamError::Unexpected(format!("{auth} instead of SASL EXTERNAL")));
    }
    // An empty identity, or "=" for one, means the stream's own (XEP-0178 section 3).
    let identity = auth.text.trim();
    if !matches!(identity, "" | "=") && STANDARD.decode(identity).ok().as_deref() != Some(from.as_bytes()) {
        return Err(StreamError::Unexpected(format!("the identity {identity} on a stream from {from}")));
    }
    wire.send(&format!("<success xmlns='{sasl}'/>")).await?;
    wire.restart();
    let again = wire.header().await?;
    if (again.attribute("from"), again.attribute("to")) != (from.as_str(), to.as_str()) {
        return Err(StreamError::Unexpected("another from and to after the restart".to_owned()));
    }
    send_header(wire, &to, &from, Some(&format!("demo-{id}-b"))).await?;
    wire.send("<stream:features/>").await?;
    Ok(Accepted { from, to, bidirectional })
}

async fn send_header(wire: &mut Wire, from: &str, to: &str, id: Option<&str>) -> Result<(), StreamError> {
    let id = id.map(|id| format!(" id='{id}'")).unwrap_or_default();
    let (server, stream) = (namespace::SERVER, namespace::STREAM);
    wire.send(&format!(
        "<?xml version='1.0'?><stream:stream xmlns='{server}' xmlns:stream='{stream}' from='{from}' to='{to}'{id} \
         version='1.0'>"
    ))
    .await
}
