//! Our own addresses, and the admin socket: whether we could listen there.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use super::report::{Report, Severity};
use crate::admin::socket::Place;
use crate::proto::discovery::refusal::refuse_address;
use crate::relay::settings::Settings;

/// Try each of them.
pub(super) fn examine(settings: &Settings, report: &mut Report) {
    let quic = settings.remote_quic.iter().map(|address| ("remote.quic", address));
    let dns = || settings.local_dns.listen.iter().map(|address| ("local.dns", address));
    try_all("UDP", quic.chain(dns()), UdpSocket::bind::<SocketAddr>, report);
    let direct = settings.remote_direct_tls.iter().map(|address| ("remote.direct_tls", address));
    let starttls = settings.remote_starttls.iter().map(|address| ("remote.starttls", address));
    let local = settings.local_s2s.iter().map(|address| ("local.s2s", address));
    let admin = settings.admin_listen.iter().map(|address| ("admin.listen", address));
    let components = settings.local_components.iter().map(|address| ("local.components", address));
    let tcp = direct.chain(starttls).chain(local).chain(dns()).chain(components).chain(admin);
    try_all("TCP", tcp, TcpListener::bind::<SocketAddr>, report);
    if let Some(path) = &settings.admin_socket {
        admin_socket(path, report);
    }
    for address in settings.admin_listen.iter().filter(|address| is_public(**address)) {
        let text = match settings.admin_name_hosts {
            true => "whoever reaches it reads the metrics, with the names of our hosts (name_hosts)",
            false => "whoever reaches it reads the metrics",
        };
        let advice =
            "write a loopback or private address, or close the port in the firewall: there is no password";
        report.add(Severity::Warning, format!("admin.listen {address}"), text, advice);
    }
    if settings.local_s2s.is_empty() && !settings.hosts.is_empty() {
        let advice = "add [local] s2s = \"127.0.0.1:5266\", where your XMPP servers send what is for others";
        report.add(Severity::Warning, "local.s2s", "is missing: our own servers have no way in", advice);
    }
}

/// Whether it can be reached from outside, unless a firewall is before it.
fn is_public(address: SocketAddr) -> bool {
    address.ip().is_unspecified() || refuse_address(SocketAddr::new(address.ip(), 1), false, &[]).is_ok()
}

/// Hold each until all are tried: the relay needs them at the same time.
fn try_all<'a, S>(
    kind: &str,
    listeners: impl Iterator<Item = (&'a str, &'a SocketAddr)>,
    bind: impl Fn(SocketAddr) -> io::Result<S>,
    report: &mut Report,
) {
    let (mut held, mut failed) = (Vec::new(), Vec::new());
    for (key, address) in listeners {
        match bind(*address) {
            Ok(socket) => held.push(socket),
            Err(error) => failed.push((key, *address, error)),
        }
    }
    drop(held);
    for (key, address, error) in failed {
        let in_use = error.kind() == ErrorKind::AddrInUse;
        if in_use && bind(address).is_ok() {
            let text = format!("another listener of ours takes the {kind} port");
            report.add(
                Severity::Error,
                format!("{key} {address}"),
                text,
                "give each its own address or port",
            );
            continue;
        }
        not_bound(key, kind, address, &error, report);
    }
}

fn not_bound(key: &str, kind: &str, address: SocketAddr, error: &io::Error, report: &mut Report) {
    let what = format!("{key} {address}");
    if error.kind() == ErrorKind::AddrInUse {
        let text = format!("the {kind} port is in use");
        let advice = "nothing, if it is the relay that runs, or systemd that listens for it; else free it";
        report.add(Severity::Note, what, text, advice);
        return;
    }
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => "choose a port from 1024 on, or give the relay CAP_NET_BIND_SERVICE",
        ErrorKind::AddrNotAvailable => "write an address that this machine has",
        _ => "choose another address",
    };
    report.add(Severity::Error, what, format!("can't listen there ({error})"), advice);
}

fn admin_socket(path: &Path, report: &mut Report) {
    let what = format!("admin.socket {}", path.display());
    match Place::probe(path) {
        Ok(false) => {}
        Ok(true) => {
            let advice = "nothing, if it is the relay that runs; else stop it, or name another path";
            report.add(Severity::Note, what, "a relay answers there", advice);
        }
        Err(_) if awaits_its_folder(path) => {
            let advice = "nothing, if the service manager makes it (RuntimeDirectory=); else make it, writable for the relay";
            report.add(Severity::Note, what, "its folder isn't there yet", advice);
        }
        Err(error) => report.add(Severity::Error, what, error.problem(), ""),
    }
}

/// A folder of a service is there while the service runs, and is made when it starts.
fn awaits_its_folder(path: &Path) -> bool {
    let Some(folder) = path.parent() else { return false };
    folder.parent() == Some(Path::new("/run")) && matches!(folder.try_exists(), Ok(false))
}
