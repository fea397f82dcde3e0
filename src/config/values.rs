//! Values that are written as text: addresses, networks, domains and durations.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::error::Place;
use super::reader::Entry;
use crate::relay::settings::Endpoint;
use crate::xmpp::domain::{Domain, DomainPattern};

/// The port of XMPP between servers (RFC 6120 section 14.7).
const S2S_PORT: u16 = 5269;

/// A value and the line on which it stands: what the checks across tables need for their errors.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// One value for each string of `entry`, read by `read`; what it refuses is left out.
pub(super) fn each<'a, T>(
    entry: Option<Entry<'a>>,
    expected: &str,
    read: impl Fn(&Entry<'a>) -> Option<T>,
) -> Vec<Located<T>> {
    let entries = entry.map(|entry| entry.strings(expected)).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| Some(Located { value: read(entry)?, place: entry.place.clone() }))
        .collect()
}

/// An address to listen at.
pub(super) fn listener(entry: &Entry<'_>) -> Option<SocketAddr> {
    let expected = "an address and a port, like \"127.0.0.1:5269\" or \"[::]:5269\"";
    let text = entry.string(expected)?;
    text.parse().ok().or_else(|| entry.refuse(format!("is {text:?}"), format!("write {expected}")))
}

/// Where a host's server listens; its port may be left out.
pub(super) fn deliver(entry: &Entry<'_>) -> Option<Endpoint> {
    endpoint(entry, Some(S2S_PORT), "an address or a name, like \"127.0.0.1:5267\" or \"xmpp.internal:5269\"")
}

/// Where a peer listens; the port belongs to it.
pub(super) fn peer_address(entry: &Entry<'_>) -> Option<Endpoint> {
    endpoint(
        entry,
        None,
        "an address or a name with its port, like \"192.0.2.1:5269\" or \"relay.b.example:5269\"",
    )
}

fn endpoint(entry: &Entry<'_>, default_port: Option<u16>, expected: &str) -> Option<Endpoint> {
    let text = entry.string(expected)?;
    parse_endpoint(text, default_port)
        .or_else(|| entry.refuse(format!("is {text:?}"), format!("write {expected}")))
}

fn parse_endpoint(text: &str, default_port: Option<u16>) -> Option<Endpoint> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        let usable = address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast();
        return usable.then_some(Endpoint::Address(address));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let (Ok(ip), Some(port)) = (bare.parse::<IpAddr>(), default_port) {
        return (!ip.is_unspecified() && !ip.is_multicast())
            .then(|| Endpoint::Address(SocketAddr::new(ip, port)));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
        None => (text, default_port?),
    };
    Some(Endpoint::Name { host: Domain::parse(host).ok()?.to_ascii(), port })
}

/// A network, or one address.
pub(super) fn network(entry: &Entry<'_>) -> Option<IpNet> {
    let expected = "a network or an address, like \"10.0.0.5/32\"";
    let text = entry.string(expected)?;
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    match network {
        None => entry.refuse(format!("is {text:?}"), format!("write {expected}")),
        Some(network) if network.prefix_len() == 0 => entry
            .refuse(format!("= {text:?} trusts everybody"), "name the addresses of the host's own server"),
        Some(network) if network.trunc() != network => entry.refuse(
            format!("= {text:?} is an address with the length of a network"),
            format!(
                "write \"{}\" for the network, or \"{}\" for the address",
                network.trunc(),
                network.addr()
            ),
        ),
        network => network,
    }
}

/// One domain.
pub(super) fn domain(entry: &Entry<'_>) -> Option<Domain> {
    let expected = "a domain, like \"a.example\"";
    let text = entry.string(expected)?;
    Domain::parse(text)
        .map_err(|error| entry.refuse::<()>(format!("is {text:?}: {error}"), format!("write {expected}")))
        .ok()
}

/// A domain or a rule.
pub(super) fn pattern(entry: &Entry<'_>) -> Option<DomainPattern> {
    let expected = "a domain like \"b.example\", \"*.b.example\" for all below it, or \"*\"";
    let text = entry.string(expected)?;
    DomainPattern::parse(text)
        .map_err(|error| entry.refuse::<()>(format!("is {text:?}: {error}"), format!("write {expected}")))
        .ok()
}

/// `"500ms"`, `"20s"`, `"10m"`, `"24h"` or `"7d"`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3_600),
        "d" => seconds(86_400),
        _ => None,
    }
}

/// A duration as it would be written: in the largest unit that divides it.
pub(super) fn show_duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match seconds {
        _ if millis > 0 => format!("{}ms", duration.as_millis()),
        0 => "0s".to_owned(),
        s if s.is_multiple_of(86_400) => format!("{}d", s / 86_400),
        s if s.is_multiple_of(3_600) => format!("{}h", s / 3_600),
        s if s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown_in_their_unit() {
        for text in ["500ms", "20s", "10m", "23h", "7d", "0s", "1500ms"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        for text in
            ["", "s", "5", "5 s", "-5s", "1.5s", "5w", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_endpoint_is_an_address_or_a_name() {
        let shown =
            |text: &str, port: Option<u16>| parse_endpoint(text, port).map(|endpoint| endpoint.to_string());
        assert_eq!(shown("127.0.0.2:5269", None).unwrap(), "127.0.0.2:5269");
        assert_eq!(shown("127.0.0.2", Some(5269)).unwrap(), "127.0.0.2:5269");
        assert_eq!(shown("::1", Some(5269)).unwrap(), "[::1]:5269");
        assert_eq!(shown("[::1]", Some(5269)).unwrap(), "[::1]:5269");
        assert_eq!(shown("[::1]:7", None).unwrap(), "[::1]:7");
        assert_eq!(shown("xmpp_1.internal:5270", None).unwrap(), "xmpp_1.internal:5270");
        assert_eq!(shown("Bücher.example", Some(5269)).unwrap(), "xn--bcher-kva.example:5269");
        for text in [
            "",
            ":5269",
            "a b:1",
            "name:0",
            "127.0.0.1:0",
            "0.0.0.0:5269",
            "name:70000",
            "224.0.0.1:1",
            "[::1",
        ] {
            assert_eq!(shown(text, Some(5269)), None, "{text:?}");
        }
        assert_eq!(shown("name", None), None, "a peer's port must be given");
    }
}
