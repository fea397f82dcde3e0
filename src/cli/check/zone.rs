//! The records by which peers find our hosts, as lines of a zone file (RFC 1035 section 5.1): each begins at the left edge, where the
//! name stands.

use std::net::SocketAddr;

use serde::Serialize;

use super::published::{Leads, RecordRow, allow_private, hosts, is_here, listeners, offered};
use crate::proto::discovery::refusal::refuse_address;
use crate::proto::discovery::{SrvName, Transport};
use crate::relay::settings::Settings;

/// Stands for the name of this machine where nothing is known of it.
pub(super) const PLACEHOLDER: &str = "NAME-OF-THE-RELAY";
/// Of the lines.
const TTL_SECONDS: u32 = 3600;

/// A record that should be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct PublishRow {
    /// The line.
    pub(super) record: String,
    /// A record for the same transport leads to the relay already.
    pub(super) published: bool,
}

/// All records that our hosts should have, by the listeners; `found`: what they have.
pub(super) fn records(settings: &Settings, found: &[RecordRow]) -> Vec<PublishRow> {
    let offered = offered(settings);
    let (hosts, _) = hosts(settings);
    let Some(first) = hosts.first().filter(|_| !offered.is_empty()) else { return Vec::new() };
    let is_right = |row: &RecordRow| matches!(row.leads, Leads::Here | Leads::Forwarded);
    let mut rows = Vec::new();
    let mut new_name = None;
    for host in &hosts {
        let text = host.to_string();
        let of_host: Vec<&RecordRow> = found.iter().filter(|row| row.host == text).collect();
        let target = known(&of_host).or_else(|| known(&found.iter().collect::<Vec<_>>()));
        let target = target.unwrap_or_else(|| {
            let name = new_name.get_or_insert_with(|| named_anew(settings, &first.to_ascii()));
            name.0.clone()
        });
        for by in &offered {
            let published = of_host.iter().any(|row| row.by == *by && is_right(row));
            for name in SrvName::ALL.into_iter().filter(|name| name.transport() == *by) {
                let labels = format!("{}.{}", name.labels(), host.to_ascii());
                for port in ports(settings, *by) {
                    let (priority, weight) = (priority(*by), 5);
                    let data = format!("SRV {priority} {weight} {port} {target}.");
                    let record = format!("{labels}. {TTL_SECONDS} IN {data}");
                    rows.push(PublishRow { record, published });
                }
            }
        }
    }
    let addresses = new_name.map(|(_, addresses)| addresses).unwrap_or_default();
    rows.extend(addresses.into_iter().map(|record| PublishRow { record, published: false }));
    rows
}

/// A name that is known to lead to this machine, or through its forwarder.
fn known(rows: &[&RecordRow]) -> Option<String> {
    let of = |wanted: &[Leads]| {
        let is_name = |row: &&&RecordRow| {
            row.target.as_ref().is_some_and(|name| name.parse::<std::net::IpAddr>().is_err())
        };
        rows.iter().filter(is_name).find(|row| wanted.contains(&row.leads)).and_then(|row| row.target.clone())
    };
    of(&[Leads::Here, Leads::Forwarded]).or_else(|| of(&[Leads::Unheard]))
}

/// A name below the first host for the addresses at which we listen, with its records. Where these say nothing, as with `[::]`, a
/// placeholder alone.
fn named_anew(settings: &Settings, host: &str) -> (String, Vec<String>) {
    let mut listening: Vec<SocketAddr> =
        offered(settings).into_iter().flat_map(|by| listeners(settings, by)).collect();
    listening.retain(|address| {
        let dialled = refuse_address(*address, allow_private(settings), &[]).is_ok();
        dialled && is_here(address.ip())
    });
    let mut ips: Vec<_> = listening.iter().map(|address| address.ip().to_canonical()).collect();
    ips.sort_unstable();
    ips.dedup();
    if ips.is_empty() {
        return (PLACEHOLDER.to_owned(), Vec::new());
    }
    let name = format!("fedmux.{host}");
    let record = |ip: &std::net::IpAddr| {
        let kind = if ip.is_ipv4() { "A" } else { "AAAA" };
        format!("{name}. {TTL_SECONDS} IN {kind} {ip}")
    };
    let records = ips.iter().map(record).collect();
    (name, records)
}

/// Each port once.
fn ports(settings: &Settings, by: Transport) -> Vec<u16> {
    let mut ports: Vec<u16> = listeners(settings, by).iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// As the README has it: QUIC first, and room between them.
fn priority(by: Transport) -> u16 {
    match by {
        Transport::Quic => 0,
        Transport::DirectTls => 5,
        Transport::StartTls => 10,
    }
}
