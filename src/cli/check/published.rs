//! The records of our hosts, held against the listeners of `[remote]`: what a peer that follows them finds.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::online::all;
use super::report::{Report, Severity};
use super::{faults, zone};
use crate::dns::{DnsError, Finder, FinderSettings, Records};
use crate::proto::discovery::refusal::{refuse_address, refuse_domain};
use crate::proto::discovery::{S2S_PORT, SrvAnswer, SrvName, Transport};
use crate::reason::Reason;
use crate::relay::settings::Settings;
use crate::xmpp::domain::Domain;

/// The look-ups for one host.
const HOST_MAX: Duration = Duration::from_secs(5);
/// Hosts that are looked up side by side.
const AT_ONCE: usize = 32;

/// Where a record leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Leads {
    /// To a listener of ours.
    Here,
    /// To the port of a listener, at an address that this machine doesn't have: right, if somebody forwards it.
    Forwarded,
    /// To an address of this machine, where no listener for its transport is.
    Unheard,
    /// To an address that peers don't dial, because it isn't public.
    NotPublic,
    /// To another machine and another port.
    Elsewhere,
    /// Its target has no address.
    NoAddress,
    /// Its target is `.`: whoever asks is told that there is nothing.
    NotOffered,
    /// There is no record.
    Missing,
    /// The look-up failed: nothing is known.
    Unknown,
}

/// A name that peers ask for, and what they find; one row for each address.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RecordRow {
    /// Our host.
    pub(super) host: String,
    /// How peers would come.
    pub(super) transport: &'static str,
    /// The name of the record.
    pub(super) name: String,
    /// The target of an SRV record; or the host itself, whose own addresses are dialled where no SRV record names a way by TCP.
    pub(super) target: Option<String>,
    /// Where it leads.
    pub(super) address: Option<SocketAddr>,
    pub(super) leads: Leads,
    /// Why nothing is known.
    pub(super) reason: Option<String>,
    #[serde(skip)]
    pub(super) by: Transport,
}

/// What was found for each host; `None`: it was not looked up in time.
pub(super) struct LookedUp {
    hosts: Vec<(Domain, Option<Records>)>,
    /// Names that no public DNS knows.
    private: Vec<Domain>,
    /// Why nobody could be asked.
    error: Option<DnsError>,
}

/// The listeners for each transport, those that have a port to be named.
pub(super) fn listeners(settings: &Settings, by: Transport) -> Vec<SocketAddr> {
    let all = match by {
        Transport::Quic => &settings.remote_quic,
        Transport::DirectTls => &settings.remote_direct_tls,
        Transport::StartTls => &settings.remote_starttls,
    };
    all.iter().copied().filter(|address| address.port() != 0).collect()
}

/// The transports with a listener, best first.
pub(super) fn offered(settings: &Settings) -> Vec<Transport> {
    let all = [Transport::Quic, Transport::DirectTls, Transport::StartTls];
    all.into_iter().filter(|by| !listeners(settings, *by).is_empty()).collect()
}

/// Our hosts, components among them: those that DNS may know, and the others.
pub(super) fn hosts(settings: &Settings) -> (Vec<Domain>, Vec<Domain>) {
    let hosts = settings.hosts.iter().flat_map(|host| &host.domains);
    let all = hosts.chain(settings.components.iter().map(|component| &component.domain));
    all.cloned().partition(|domain| refuse_domain(domain, allow_private(settings)).is_ok())
}

pub(super) fn allow_private(settings: &Settings) -> bool {
    settings.dns.as_ref().is_some_and(|dns| dns.allow_private)
}

/// Look up each host, if peers can reach us at all.
pub(super) async fn look_up(settings: &Settings, deadline: Instant) -> LookedUp {
    let none = LookedUp { hosts: vec![], private: vec![], error: None };
    let Some(dns) = settings.dns.as_ref().filter(|_| !offered(settings).is_empty()) else { return none };
    let (hosts, private) = hosts(settings);
    let finder = Finder::new(FinderSettings {
        servers: dns.servers.clone(),
        allow_private: dns.allow_private,
        quic_443: false,
        own: Vec::new(),
        bound: settings.limits.look_up.min(HOST_MAX),
        host_meta: None,
    });
    let finder = match finder {
        Ok(finder) => Arc::new(finder),
        Err(error) => return LookedUp { private, error: Some(error), ..none },
    };
    let jobs = hosts.iter().cloned().map(|host| {
        let finder = Arc::clone(&finder);
        async move { finder.records(&host).await }
    });
    let found = all(jobs.collect(), AT_ONCE, deadline).await;
    LookedUp { hosts: hosts.into_iter().zip(found).collect(), private, error: None }
}

/// Judge what was found.
pub(super) fn examine(settings: &Settings, looked_up: &LookedUp, report: &mut Report) {
    if let Some(error) = &looked_up.error {
        report.add(Severity::Warning, "dns.servers", format!("our records can't be looked up: {error}"), "");
    }
    faults::note_private(&looked_up.private, report);
    let late = looked_up.hosts.iter().filter(|(_, records)| records.is_none()).count();
    if late > 0 {
        let text = format!("{late} of {} hosts were not looked up in time", looked_up.hosts.len());
        report.add(Severity::Warning, "dns", text, "see that the DNS servers answer");
    }
    for (host, records) in &looked_up.hosts {
        let Some(records) = records else { continue };
        let rows = rows(settings, host, records);
        report.records.extend(rows);
    }
    faults::examine(settings, report);
    report.publish = zone::records(settings, &report.records);
}

fn rows(settings: &Settings, host: &Domain, records: &Records) -> Vec<RecordRow> {
    let mut rows = Vec::new();
    for (name, answer) in records.srv.iter() {
        let row = |target, address, leads, reason: Option<Reason>| RecordRow {
            host: host.to_string(),
            transport: name.transport().as_str(),
            name: format!("{}.{}", name.labels(), host.to_ascii()),
            target,
            address,
            leads,
            reason: reason.map(|reason| reason.to_string()),
            by: name.transport(),
        };
        match answer {
            // What we don't offer isn't missing.
            SrvAnswer::Nothing | SrvAnswer::Failed(_) if listeners(settings, name.transport()).is_empty() => {
            }
            SrvAnswer::Nothing => rows.push(row(None, None, Leads::Missing, None)),
            SrvAnswer::NotOffered => rows.push(row(Some(".".to_owned()), None, Leads::NotOffered, None)),
            SrvAnswer::Failed(reason) => rows.push(row(None, None, Leads::Unknown, Some(*reason))),
            SrvAnswer::Records(srv) => {
                for record in srv {
                    let target = Some(record.target.clone());
                    let found = records.of(&record.target);
                    for ip in &found.addresses {
                        let address = SocketAddr::new(ip.to_canonical(), record.port);
                        let leads = leads(settings, name.transport(), address);
                        rows.push(row(target.clone(), Some(address), leads, None));
                    }
                    match (found.addresses.is_empty(), found.failed) {
                        (false, _) => {}
                        (true, None) => rows.push(row(target, None, Leads::NoAddress, None)),
                        (true, Some(reason)) => {
                            rows.push(row(target, None, Leads::Unknown, Some(reason)));
                        }
                    }
                }
            }
        }
    }
    rows.extend(own_addresses(settings, host, records));
    rows
}

/// Where no SRV record names a way by TCP, peers try the host's own addresses (RFC 6120 section 3.2.2). Those that lead to us
/// count; others may be a web server's.
fn own_addresses(settings: &Settings, host: &Domain, records: &Records) -> Vec<RecordRow> {
    let by_tcp = [SrvName::DirectTls, SrvName::StartTls];
    if by_tcp.iter().any(|name| *records.srv.get(*name) != SrvAnswer::Nothing) {
        return Vec::new();
    }
    let name = host.to_ascii();
    let addresses = records.of(&name).addresses.into_iter();
    let addresses = addresses.map(|ip| SocketAddr::new(ip.to_canonical(), S2S_PORT));
    let judged = addresses.map(|address| RecordRow {
        host: host.to_string(),
        transport: Transport::StartTls.as_str(),
        name: name.clone(),
        target: Some(name.clone()),
        address: Some(address),
        leads: leads(settings, Transport::StartTls, address),
        reason: None,
        by: Transport::StartTls,
    });
    judged.filter(|row| matches!(row.leads, Leads::Here | Leads::Forwarded)).collect()
}

fn leads(settings: &Settings, by: Transport, address: SocketAddr) -> Leads {
    if refuse_address(address, allow_private(settings), &[]).is_err() {
        return Leads::NotPublic;
    }
    let listeners = listeners(settings, by);
    let same_port = || listeners.iter().filter(|listener| listener.port() == address.port());
    match is_here(address.ip()) {
        true if same_port().any(|listener| hears(listener.ip(), address.ip())) => Leads::Here,
        true => Leads::Unheard,
        false if same_port().next().is_some() => Leads::Forwarded,
        false => Leads::Elsewhere,
    }
}

/// Whether a listener at `listener` hears what comes to `address`. On Linux one at `[::]` hears IPv4, too.
fn hears(listener: IpAddr, address: IpAddr) -> bool {
    match listener {
        IpAddr::V6(all) if all.is_unspecified() => true,
        IpAddr::V4(all) if all.is_unspecified() => address.is_ipv4(),
        one => one.to_canonical() == address,
    }
}

/// Whether this machine has the address: only then can a port there be had.
pub(super) fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}
