//! The document in which a domain says over HTTPS how it is reached: host-meta (RFC 6415) as XEP-0487 extends it.
//!
//! Only `host-meta.json` is read. What XEP-0156 defines, in that file and in its XML form, are ways for clients
//! (WebSocket, BOSH); servers come with XEP-0487, which defines JSON alone, and says in its section 5.2 why a parser that
//! reads the XML form has no place beside one for XMPP.
//!
//! A document is written by a stranger, so everything in it is bounded, and a link that makes no sense leaves the others.
//! A document without the object `xmpp` isn't one of XEP-0487: it says nothing to servers.

use core::net::IpAddr;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::pins::{KeyDigest, PINS_MAX, Pins};
use super::plan;
use super::{Candidate, Origin, TlsHints, Transport};
use crate::xmpp::domain::Domain;

/// Where a host keeps it (RFC 6415 section 2).
pub const PATH: &str = "/.well-known/host-meta.json";

/// Longest time for which a document is believed, whatever it says: XEP-0487 section 6 advises one week.
pub const TTL_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Addresses of one link. A link that names more is dialled at the first ones.
pub const LINK_ADDRESSES_MAX: usize = 8;
/// Octets of an ECH configuration; real ones have some hundred. A longer one is taken for none.
const ECH_BYTES_MAX: usize = 2048;
/// Links that are looked at, of whatever kind.
const LINKS_MAX: usize = 256;

/// What a domain's document says to other servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// For how long it may be kept, at most [`TTL_MAX`].
    pub ttl: Duration,
    /// The keys that the domain's servers may have.
    pub pins: Pins,
    /// The ways to it that we speak, as bounded as those of DNS are. There may be none.
    pub links: Vec<Link>,
}

/// One way to the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// How. Its host is the name to be sent in SNI.
    pub candidate: Candidate,
    /// Where, at least one.
    pub addresses: Vec<IpAddr>,
}

/// The octets are no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a document of XEP-0487")]
pub struct Unreadable;

#[derive(Deserialize)]
struct Jrd {
    xmpp: Option<Object<Xmpp>>,
    #[serde(default)]
    links: Vec<Value>,
}

#[derive(Deserialize)]
struct Xmpp {
    ttl: u64,
    #[serde(default, rename = "public-key-pins-sha-256")]
    pins: Vec<Value>,
}

#[derive(Deserialize)]
struct RawLink {
    rel: String,
    port: u16,
    priority: u16,
    weight: u16,
    sni: String,
    ips: Vec<Value>,
    #[serde(default)]
    ech: Value,
}

/// A JSON object. What is derived would take an array of the same values for one, too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

/// Read what a web server sent. `None`: the document is none of XEP-0487, so there is nothing in it for servers.
///
/// `seed`: which of more links than are dialled are taken; the same gives the same.
///
/// # Errors
/// [`Unreadable`] if it isn't JSON of that form, or holds more than [`PINS_MAX`] pins: some left out would refuse the
/// domain's own servers.
pub fn read(body: &[u8], seed: u64) -> Result<Option<Document>, Unreadable> {
    let Object(jrd) = serde_json::from_slice::<Object<Jrd>>(body).map_err(|_| Unreadable)?;
    let Some(Object(xmpp)) = jrd.xmpp else { return Ok(None) };
    let pins = read_pins(&xmpp.pins)?;
    let mut links: Vec<Link> = Vec::new();
    for link in jrd.links.into_iter().take(LINKS_MAX).filter_map(read_link) {
        match links.iter_mut().find(|known| known.candidate == link.candidate) {
            Some(known) => known.addresses = bounded(known.addresses.iter().chain(&link.addresses).copied()),
            None => links.push(link),
        }
    }
    let candidates = links.iter().map(|link| link.candidate.clone()).collect();
    let chosen = plan::choose(candidates, seed);
    links.retain(|link| chosen.contains(&link.candidate));
    Ok(Some(Document { ttl: Duration::from_secs(xmpp.ttl).min(TTL_MAX), pins, links }))
}

fn read_pins(given: &[Value]) -> Result<Pins, Unreadable> {
    if given.is_empty() {
        return Ok(Pins::none());
    }
    if given.len() > PINS_MAX {
        return Err(Unreadable);
    }
    let digest = |value: &Value| KeyDigest::try_from(STANDARD.decode(value.as_str()?).ok()?).ok();
    Ok(Pins::published(&given.iter().filter_map(digest).collect::<Vec<_>>()))
}

/// `None` for a link that is not for servers, that we don't speak, or that lacks what XEP-0487 section 2.1 makes mandatory.
fn read_link(value: Value) -> Option<Link> {
    let Object(raw) = serde_json::from_value::<Object<RawLink>>(value).ok()?;
    let transport = match raw.rel.as_str() {
        "urn:xmpp:alt-connections:s2s-quic" => Transport::Quic,
        "urn:xmpp:alt-connections:s2s-tls" => Transport::DirectTls,
        _ => return None,
    };
    let sni = Domain::parse(&raw.sni).ok()?.to_ascii();
    let addresses = bounded(raw.ips.iter().filter_map(|ip| ip.as_str()?.parse().ok()));
    if raw.port == 0 || addresses.is_empty() {
        return None;
    }
    let ech = raw.ech.as_str().and_then(|text| STANDARD.decode(text).ok());
    let ech = ech.filter(|ech| !ech.is_empty() && ech.len() <= ECH_BYTES_MAX).map(Arc::from);
    let candidate = Candidate {
        transport,
        host: sni.clone(),
        port: raw.port,
        origin: Origin::HostMeta,
        rank: u32::from(raw.priority),
        weight: raw.weight,
        tls: TlsHints { sni: Some(sni.into()), ech },
    };
    Some(Link { candidate, addresses })
}

fn bounded(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut kept: Vec<IpAddr> = Vec::new();
    for address in addresses.map(|address| address.to_canonical()) {
        if !kept.contains(&address) && kept.len() < LINK_ADDRESSES_MAX {
            kept.push(address);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
