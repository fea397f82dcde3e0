//! What is not looked up, and what is not dialled, because a stranger's DNS says so.
//!
//! Whoever sends a stanza chooses a domain, and whoever runs that domain's DNS chooses addresses: without these rules both
//! could make the relay connect to the inside of its own network. An address that the operator wrote into a `[[peer]]`
//! is not a stranger's, and is not judged here.

use core::net::IpAddr;
use core::net::SocketAddr;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_public_dns_knows_are_refused() {
        let refused = |text: &str, allow| refuse_domain(&Domain::parse(text).unwrap(), allow).is_err();
        for name in [
            "localhost",
            "a.localhost",
            "intranet",
            "nas.local",
            "b1.test",
            "hidden.onion",
            "x.example",
            "b.example.org",
            "xmpp.internal",
            "1.0.0.10.in-addr.arpa",
            "x.home.arpa",
        ] {
            assert!(refused(name, false), "{name}");
            assert!(!refused(name, true), "{name}");
        }
        for name in ["127.1", "a.0x7f", "10.0.0.1.2"] {
            assert!(refused(name, true), "{name} is an address, not a domain");
        }
        for name in ["jabber.org", "contest.com", "b.test.com", "mylocal.de", "3.de", "bücher.de"] {
            assert!(!refused(name, false), "{name}");
        }
    }

    fn refused(address: &str, allow_private: bool, own: &[&str]) -> Option<Reason> {
        let own: Vec<SocketAddr> = own.iter().map(|text| text.parse().unwrap()).collect();
        let ip = address.parse().unwrap();
        refuse_address(SocketAddr::new(ip, 5269), allow_private, &own).err()
    }

    #[test]
    fn addresses_that_point_inside_are_refused_in_every_spelling() {
        let inside = [
            "127.0.0.1",
            "127.255.255.254",
            "0.1.2.3",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.9",
            "198.19.0.1",
            "240.0.0.1",
            "::1",
            "fe80::1",
            "fec0::1",
            "fd00::1",
            "fc00::1",
            "2001:db8::1",
            "100::1",
            "64:ff9b:1::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "2002:c0a8:1::",
            "2001::1",
        ];
        for address in inside {
            assert_eq!(refused(address, false, &[]), Some(Reason::AddressNotPublic), "{address}");
            assert_eq!(refused(address, true, &[]), None, "{address} in a closed network");
        }
        for address in
            ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1", "::ffff:0.0.0.0", "64:ff9b::e000:1"]
        {
            assert_eq!(refused(address, true, &[]), Some(Reason::AddressNotPublic), "{address} is no host");
        }
        for address in [
            "9.9.9.9",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "172.15.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "2600::1",
            "2a01:4f8::1",
            "::ffff:9.9.9.9",
            "64:ff9b::9.9.9.9",
            "2002:909:909::1",
        ] {
            assert_eq!(refused(address, false, &[]), None, "{address}");
        }
    }

    #[test]
    fn own_listeners_are_refused_even_in_a_closed_network() {
        let own = Some(Reason::AddressOwn);
        assert_eq!(refused("127.0.0.9", true, &["127.0.0.9:5269"]), own);
        assert_eq!(refused("::ffff:127.0.0.9", true, &["127.0.0.9:5269"]), own);
        assert_eq!(refused("9.9.9.9", false, &["9.9.9.9:5269"]), own);
        assert_eq!(refused("127.0.0.9", true, &["127.0.0.9:5270", "127.0.0.8:5269"]), None);
        for everywhere in ["[::]:5269", "0.0.0.0:5269"] {
            assert_eq!(refused("127.0.0.9", true, &[everywhere]), own);
            assert_eq!(refused("::1", true, &[everywhere]), own);
            assert_eq!(refused("0.0.0.0", true, &[everywhere]), own);
            assert_eq!(refused("9.9.9.9", false, &[everywhere]), None);
        }
    }

    #[test]
    fn port_0_is_no_port() {
        let address = SocketAddr::new("9.9.9.9".parse().unwrap(), 0);
        assert!(refuse_address(address, true, &[]).is_err());
    }
}
