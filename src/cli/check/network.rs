//! Our own addresses: whether we could listen there.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::report::{Report, Severity};
use crate::proto::discovery::refusal::refuse_address;
use crate::relay::settings::Settings;

/// Try each of them.
pub(super) fn examine(settings: &Settings, report: &mut Report) {
    let quic = settings.remote_quic.iter().map(|address| ("remote.quic", address));
    let dns = || settings.local_dns.listen.iter().map(|address| ("local.dns", address));
    for (key, address) in quic.chain(dns()) {
        listen(key, "UDP", *address, UdpSocket::bind(address).map(drop), report);
    }
    let direct = settings.remote_direct_tls.iter().map(|address| ("remote.direct_tls", address));
    let starttls = settings.remote_starttls.iter().map(|address| ("remote.starttls", address));
    let local = settings.local_s2s.iter().map(|address| ("local.s2s", address));
    let admin = settings.admin_listen.iter().map(|address| ("admin.listen", address));
    let components = settings.local_components.iter().map(|address| ("local.components", address));
    for (key, address) in direct.chain(starttls).chain(local).chain(dns()).chain(components).chain(admin) {
        listen(key, "TCP", *address, TcpListener::bind(address).map(drop), report);
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

fn listen(key: &str, kind: &str, address: SocketAddr, bound: std::io::Result<()>, report: &mut Report) {
    let Err(error) = bound else { return };
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
