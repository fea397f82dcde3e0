//! `[dns]`: how peers are found.

use std::net::{IpAddr, SocketAddr};

use super::reader::{Entry, Reader};
use super::values::{Located, each};
use crate::relay::settings::HostMeta;

/// The port of DNS.
const DNS_PORT: u16 = 53;

/// The table, with the lines of what is checked against others.
#[derive(Default)]
pub(super) struct DnsEntry {
    pub(super) servers: Vec<Located<SocketAddr>>,
    pub(super) allow_private: bool,
    pub(super) quic_443: bool,
    pub(super) host_meta: HostMeta,
}

impl DnsEntry {
    /// Read the table; what is left out keeps its default.
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let servers = each(reader.take("servers"), EXPECTED, server);
        let mut flag =
            |key| reader.take(key).and_then(|entry: Entry<'_>| entry.boolean()).unwrap_or_default();
        let (allow_private, quic_443) = (flag("allow_private"), flag("quic_443"));
        let words =
            [("never", HostMeta::Never), ("fallback", HostMeta::Fallback), ("prefer", HostMeta::Prefer)];
        let host_meta = reader.take("host_meta").and_then(|entry: Entry<'_>| entry.choice(&words));
        reader.finish();
        Self { servers, allow_private, quic_443, host_meta: host_meta.unwrap_or_default() }
    }
}

const EXPECTED: &str = "the address of a DNS server, like \"127.0.0.1:53\" or \"127.0.0.1\"";

fn server(entry: &Entry<'_>) -> Option<SocketAddr> {
    let text = entry.string(EXPECTED)?;
    let bare = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let address = text.parse().ok().or_else(bare);
    address
        .filter(|address| {
            address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
        })
        .or_else(|| entry.refuse(format!("is {text:?}"), format!("write {EXPECTED}")))
}
