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
        let first = named[..index]
            .iter()
            .find(|(_, other)| other.value == address.value && address.value.port() != 0);
        if let Some((first_key, first)) = first {
            errors.add(
                &address.place,
                *key,
                format!("= \"{}\" is taken by {first_key} ({})", address.value, first.place),
                "give each its own address or port",
            );
        }
    }
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
    use super::is_private;

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
}
