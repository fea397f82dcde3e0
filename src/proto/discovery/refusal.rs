//! What is not looked up, and what is not dialled, because a stranger's DNS says so.
//!
//! Whoever sends a stanza chooses a domain, and whoever runs that domain's DNS chooses addresses: without these rules both
//! could make the relay connect to the inside of its own network. An address that the operator wrote into a `[[peer]]`
//! is not a stranger's, and is not judged here.

use std::net::IpAddr;
use std::net::SocketAddr;

use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// Special-use names (RFC 6761, RFC 2606, RFC 6762, RFC 7686, RFC 8375, RFC 9476) and `internal`, which ICANN reserved:
/// no public DNS answers for them or below them.
const SPECIAL_USE: [&str; 13] = [
    "alt",
    "arpa",
    "example",
    "example.com",
    "example.net",
    "example.org",
    "home.arpa",
    "internal",
    "invalid",
    "local",
    "localhost",
    "onion",
    "test",
];

/// Whether `domain` may be looked up.
///
/// # Errors
/// [`Reason::DomainNotPublic`] for a single label or a special-use name, unless `allow_private`; and always for a name
/// whose last label is a number, which is an IPv4 address in one of its spellings and never a domain.
pub fn refuse_domain(domain: &Domain, allow_private: bool) -> Result<(), Reason> {
    let ascii = domain.to_ascii();
    let last = ascii.rsplit('.').next().unwrap_or_default();
    if is_number(last) {
        return Err(Reason::DomainNotPublic);
    }
    let single = !ascii.contains('.');
    let special = SPECIAL_USE
        .iter()
        .any(|name| ascii.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    if (single || special) && !allow_private { Err(Reason::DomainNotPublic) } else { Ok(()) }
}

/// Decimal or `0x`: how the older resolver calls read parts of an IPv4 address.
fn is_number(label: &str) -> bool {
    let hexadecimal =
        label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    hexadecimal || (!label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether `address`, found by DNS, may be dialled. `own`: the addresses at which this relay itself listens.
///
/// # Errors
/// - [`Reason::AddressOwn`] for an address of ours: a relay that dials itself never ends. A listener on all addresses is
///   known by its port on loopback; the machine's other addresses have to stand in `own` to be known. Not even
///   `allow_private` lifts this.
/// - [`Reason::AddressNotPublic`] for what isn't a unicast address of the public internet, in any of the forms in which
///   IPv6 writes an IPv4 address. `allow_private` lifts it for everything that can be dialled at all.
pub fn refuse_address(address: SocketAddr, allow_private: bool, own: &[SocketAddr]) -> Result<(), Reason> {
    let ip = address.ip().to_canonical();
    if own.iter().any(|listener| is_own(ip, address.port(), listener)) {
        return Err(Reason::AddressOwn);
    }
    let refused = match scope(ip) {
        Scope::Public => false,
        Scope::Private => !allow_private,
        Scope::Never => true,
    };
    if refused || address.port() == 0 { Err(Reason::AddressNotPublic) } else { Ok(()) }
}

fn is_own(ip: IpAddr, port: u16, listener: &SocketAddr) -> bool {
    let at = listener.ip().to_canonical();
    let here = ip == at || (at.is_unspecified() && (ip.is_loopback() || ip.is_unspecified()));
    here && port == listener.port()
}

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The internet.
    Public,
    /// This machine, this network, or nothing that is routed.
    Private,
    /// Not a host: it can't be dialled, or means whoever happens to be there.
    Never,
}

fn scope(ip: IpAddr) -> Scope {
    if ip.is_unspecified() || ip.is_multicast() {
        return Scope::Never;
    }
    match ip {
        IpAddr::V4(v4) => scope_v4(v4.octets()),
        IpAddr::V6(v6) => scope_v6(v6.segments()),
    }
}

/// By the IANA registry of special-purpose IPv4 addresses.
fn scope_v4(octets: [u8; 4]) -> Scope {
    match octets {
        [255, 255, 255, 255] => Scope::Never,
        [0 | 10 | 127, ..]                  // this network, private, loopback
        | [100, 64..=127, ..]               // shared by a provider's customers (RFC 6598)
        | [169, 254, ..]                    // link-local, where clouds keep their metadata
        | [172, 16..=31, ..]                // private
        | [192, 0, 0 | 2, _]                // protocol assignments, documentation
        | [192, 88, 99, _]                  // 6to4 relays
        | [192, 168, ..]                    // private
        | [198, 18 | 19, ..]                // benchmarks
        | [198, 51, 100, _]                 // documentation
        | [203, 0, 113, _]                  // documentation
        | [240..=255, ..] => Scope::Private, // reserved
        _ => Scope::Public,
    }
}

/// By the IANA registry of special-purpose IPv6 addresses. What carries an IPv4 address reaches as far as that does.
fn scope_v6(segments: [u16; 8]) -> Scope {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        scope(IpAddr::from([a, b, c, d]))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Scope::Private, // loopback
        // IPv4-compatible, deprecated. The mapped form doesn't get here: it was made canonical.
        [0, 0, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low), // NAT64 (RFC 6052)
        [0x2002, high, low, ..] => v4(high, low),               // 6to4 (RFC 3056)
        [0x2001, 0..=0x1ff, ..]                                 // protocol assignments, Teredo among them
        | [0x2001, 0xdb8, ..]                                   // documentation
        | [0x3fff, 0..=0xfff, ..] => Scope::Private,            // documentation
        [0x2000..=0x3fff, ..] => Scope::Public,                 // the one block from which addresses are given
        _ => Scope::Private, // unique-local, link-local, site-local, discard, local NAT64, not given out
    }
}
