//! `[remote]`, `[local]` and `[admin]`: where the relay listens.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::error::Errors;
use super::identity::path;
use super::reader::{Entry, Reader};
use super::values::{Located, each, listener, network};
use crate::relay::settings::Transport;

/// Longest path of the admin socket: of the 107 octets that the system takes, less what its name has for a moment before it
/// takes its place.
const SOCKET_PATH_BYTES_MAX: usize = 95;

/// `[admin]`
#[derive(Default)]
pub(super) struct Admin {
    pub(super) listen: Vec<Located<SocketAddr>>,
    pub(super) socket: Option<PathBuf>,
    pub(super) name_hosts: bool,
}

impl Admin {
    /// Read the table.
    pub(super) fn read(reader: Option<Reader<'_>>) -> Self {
        let Some(mut reader) = reader else { return Self::default() };
        let expected = "an address and a port, like \"127.0.0.1:9467\"";
        let admin = Self {
            listen: each(reader.take("listen"), expected, listener),
            socket: reader.take("socket").and_then(|entry| socket(&entry)),
            name_hosts: reader.take("name_hosts").and_then(|entry| entry.boolean()).unwrap_or(false),
        };
        reader.finish();
        admin
    }
}

/// The path of a unix socket, which the system bounds (`sun_path`, unix(7)).
fn socket(entry: &Entry<'_>) -> Option<PathBuf> {
    let path = path(entry, "a file, like \"/run/fedmux/admin.sock\"")?;
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let advice =
            format!("write a path of at most {SOCKET_PATH_BYTES_MAX} octets: the system takes no longer one");
        return entry.refuse(format!("is {}", path.display()), advice);
    }
    Some(path)
}

/// `[local]`
#[derive(Default)]
pub(super) struct Local {
    pub(super) s2s: Vec<Located<SocketAddr>>,
    pub(super) components: Vec<Located<SocketAddr>>,
    pub(super) dns: Vec<Located<SocketAddr>>,
    pub(super) dns_clients: Vec<Located<IpNet>>,
}

impl Local {
    /// Read the table.
    pub(super) fn read(reader: Option<Reader<'_>>) -> Self {
        let Some(mut reader) = reader else { return Self::default() };
        let expected = "an address and a port, like \"127.0.0.1:5266\"";
        let local = Self {
            s2s: each(reader.take("s2s"), expected, listener),
            components: each(reader.take("components"), expected, listener),
            dns: each(reader.take("dns"), expected, listener),
            dns_clients: each(reader.take("dns_clients"), "a network, like \"10.0.0.0/24\"", network),
        };
        reader.finish();
        local
    }
}

/// `[remote]`: one list for each transport.
#[derive(Default)]
pub(super) struct Remote {
    pub(super) quic: Vec<Located<SocketAddr>>,
    pub(super) direct_tls: Vec<Located<SocketAddr>>,
    pub(super) starttls: Vec<Located<SocketAddr>>,
}

impl Remote {
    /// Read the table.
    pub(super) fn read(reader: Option<Reader<'_>>) -> Self {
        let Some(mut reader) = reader else { return Self::default() };
        let mut list = |key| each(reader.take(key), "an address and a port, like \"[::]:5269\"", listener);
        let remote = Self { quic: list("quic"), direct_tls: list("direct_tls"), starttls: list("starttls") };
        reader.finish();
        remote
    }

    /// The listeners over TCP, with their keys.
    pub(super) fn tcp(&self) -> impl Iterator<Item = (&'static str, &Located<SocketAddr>)> {
        let direct = self.direct_tls.iter().map(|address| ("remote.direct_tls", address));
        direct.chain(self.starttls.iter().map(|address| ("remote.starttls", address)))
    }

    /// Where `transport` is listened for, and its key.
    pub(super) fn of(&self, transport: Transport) -> (&'static str, &[Located<SocketAddr>]) {
        match transport {
            Transport::Quic => ("remote.quic", &self.quic),
            Transport::DirectTls => ("remote.direct_tls", &self.direct_tls),
            Transport::StartTls => ("remote.starttls", &self.starttls),
        }
    }

    /// Whether nobody can reach us.
    pub(super) fn is_empty(&self) -> bool {
        self.quic.is_empty() && self.tcp().next().is_none()
    }
}

/// A `[local]` listener trusts what reaches it more than strangers deserve.
pub(super) fn refuse_public_local(errors: &Errors, key: &str, local: &[Located<SocketAddr>], example: &str) {
    for address in local.iter().filter(|address| !is_private(address.value.ip())) {
        errors.add(
            &address.place,
            key,
            format!("= \"{}\" can be reached from outside", address.value),
            format!(
                "write a loopback or private address, like \"{example}\": only what is ours belongs there"
            ),
        );
    }
}

/// Two listeners of one protocol can't share an address. Port 0 stands for any free one.
pub(super) fn refuse_doubles(errors: &Errors, named: &[(&str, &Located<SocketAddr>)]) {
    for (index, (key, address)) in named.iter().enumerate() {
        let first = named[..index].iter().find(|(_, other)| overlap(other.value, address.value));
        let Some((first_key, first)) = first else { continue };
        let (problem, advice) = if first.value == address.value {
            let problem = format!("= \"{}\" is taken by {first_key} ({})", address.value, first.place);
            (problem, "give each its own address or port")
        } else {
            let other = format!("{first_key} = \"{}\" ({})", first.value, first.place);
            let problem = format!("= \"{}\" can't be had beside {other}", address.value);
            (
                problem,
                "give each its own port: 0.0.0.0 takes every address of IPv4, and [::] every one of IPv6",
            )
        };
        errors.add(&address.place, *key, problem, advice);
    }
}

/// Whether every system would refuse the second of them. Whether what is bound at `[::]` takes IPv4 as well is the system's choice, or
/// that of who hands the socket over.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (of_one, of_other) = (one.ip().to_canonical(), other.ip().to_canonical());
    let covers = |wide: IpAddr, ip: IpAddr| wide.is_unspecified() && wide.is_ipv6() == ip.is_ipv6();
    let same = one == other || of_one.is_ipv4() && of_one == of_other;
    one.port() != 0
        && one.port() == other.port()
        && (same || covers(of_one, of_other) || covers(of_other, of_one))
}

/// Loopback, private (RFC 1918, RFC 4193) or link-local.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_private, overlap};

    #[test]
    fn only_addresses_that_the_world_cannot_reach_are_private() {
        for text in [
            "127.0.0.9",
            "10.1.2.3",
            "192.168.0.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
        for text in
            ["0.0.0.0", "::", "192.0.2.1", "100.64.0.1", "2001:db8::1", "::ffff:8.8.8.8", "172.32.0.1"]
        {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }
    #[test]
    fn an_address_of_all_takes_the_port_of_each() {
        for (one, other, expected) in [
            ("[::]:1", "[::]:1", true),
            ("[::]:1", "0.0.0.0:1", false),
            ("[::]:1", "127.0.0.1:1", false),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
            ("[::ffff:0.0.0.0]:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::]:1", "0.0.0.0:2", false),
            ("[::]:0", "0.0.0.0:0", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("[fe80::1%1]:1", "[fe80::1%2]:1", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected), "{one}, {other}");
        }
    }
    #[test]
    fn listeners_that_could_not_be_had_at_once_stop_the_start() {
        let refused = |remote: &str| {
            let text = format!(
                "[identity]\ncertificates = \"certs\"\n[remote]\n{remote}\n[local]\ns2s = \"127.0.0.1:5269\"\n[[host]]\n\
                 domain = \"a.test\"\ndeliver = \"127.0.0.2:5269\"\n"
            );
            let read = crate::config::parse(std::path::Path::new("f.toml"), &text);
            read.err().map(|errors| errors.to_string()).unwrap_or_default()
        };
        let advice =
            "give each its own port: 0.0.0.0 takes every address of IPv4, and [::] every one of IPv6";
        assert_eq!(
            refused("starttls = \"0.0.0.0:5269\""),
            format!(
                "local.s2s = \"127.0.0.1:5269\" can't be had beside remote.starttls = \"0.0.0.0:5269\" (f.toml:4): f.toml:6: {advice}"
            )
        );
        // Whether one at [::] takes the ports of IPv4 too isn't the same everywhere.
        assert_eq!(refused("direct_tls = [\"0.0.0.0:5270\", \"[::]:5270\"]"), "");
        // UDP and TCP have ports of their own.
        assert_eq!(refused("quic = \"[::]:5269\""), "");
    }
}
