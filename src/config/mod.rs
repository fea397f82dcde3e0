//! The configuration: TOML in, [`Settings`] out, or every mistake with its file, line and key.
//!
//! Strict on purpose. A key that is not known, a value of the wrong kind or out of its range, and tables that
//! contradict each other stop the start before any port is bound: a typo in a limit or a policy must not pass for
//! the default. Relative paths are relative to the folder of the file in which they stand. `config/fedmux.toml` of the
//! source tree shows every key with its default.
//!
//! A `Reader` walks one table and knows which keys were asked for; each table has a file of its own; `cross` holds what
//! one table asks of another.

mod component;
mod cross;
mod dns;
mod error;
mod host;
mod identity;
mod include;
mod limits;
mod listeners;
mod peer;
mod policy;
mod reader;
mod suggest;
mod unavailable;
mod values;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

pub use error::{ConfigError, ConfigErrors};

use crate::proto::limits::Limits;
use crate::relay::settings::{Dns, Identity, LocalDns, Policy, Settings};
use component::ComponentEntry;
use cross::Everything;
use dns::DnsEntry;
use error::Errors;
use host::HostEntry;
use listeners::{Admin, Local, Remote};
use peer::PeerEntry;
use reader::{Reader, Source};
use values::Located;

/// Where the configuration is, if nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/fedmux/fedmux.toml";

/// Read the file at `path`, and what it includes.
///
/// # Errors
/// [`ConfigErrors`] with every mistake that was found; a file that can't be read is one.
pub fn load(path: &Path) -> Result<Settings, ConfigErrors> {
    let errors = Errors::default();
    let settings = read_source(path, 0, &errors).and_then(|source| read_all(&source, &errors));
    errors.conclude(settings)
}

/// Read a configuration from `text`, as if it stood in the file at `path`.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str) -> Result<Settings, ConfigErrors> {
    let errors = Errors::default();
    let source = Source { order: 0, path: path.into(), text: text.to_owned() };
    let settings = read_all(&source, &errors);
    errors.conclude(settings)
}

fn read_source(path: &Path, order: usize, errors: &Errors) -> Option<Source> {
    let path: Arc<Path> = path.into();
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(Source { order, path, text }),
        Err(error) => {
            let source = Source { order, path, text: String::new() };
            let advice = "create it, make it readable, or name another with --config FILE";
            errors.add(&source.whole(), "the configuration", format!("can't be read ({error})"), advice);
            None
        }
    }
}

/// What an included file may not hold.
const MAIN_FILE_ONLY: [&str; 8] =
    ["include", "identity", "remote", "local", "admin", "dns", "limits", "policy"];

/// What one file of hosts, components and peers may hold, the main file included.
#[derive(Default)]
struct Tenants {
    hosts: Vec<HostEntry>,
    components: Vec<ComponentEntry>,
    peers: Vec<PeerEntry>,
}

impl Tenants {
    fn read(&mut self, reader: &mut Reader<'_>) {
        self.hosts.extend(reader.sections("host").into_iter().map(host::read));
        self.components.extend(reader.sections("component").into_iter().map(component::read));
        self.peers.extend(reader.sections("peer").into_iter().map(peer::read));
    }
}

fn read_all(source: &Source, errors: &Errors) -> Option<Settings> {
    let table = source.parse(errors)?;
    let mut top = Reader::top(source, table.get_ref(), errors);
    let include = top.take("include");
    let identity = read_identity(&mut top);
    let remote = Remote::read(top.section("remote"));
    let local = Local::read(top.section("local"));
    let admin = Admin::read(top.section("admin"));
    let dns = top.section("dns").map_or_else(DnsEntry::default, DnsEntry::read);
    let limits = top.section("limits").map_or_else(Limits::default, limits::read);
    let policy = top.section("policy").map_or_else(Policy::default, policy::read);
    let mut tenants = Tenants::default();
    tenants.read(&mut top);
    top.finish();

    let included = include.map(|entry| include::files(&entry)).unwrap_or_default();
    for (index, path) in included.iter().enumerate() {
        read_included(path, index + 1, errors, &mut tenants);
    }

    let everything = Everything {
        file: source.whole(),
        remote: &remote,
        local: &local,
        admin_listen: &admin.listen,
        dns: &dns,
        hosts: &tenants.hosts,
        components: &tenants.components,
        peers: &tenants.peers,
    };
    everything.check(errors);

    Some(Settings {
        identity: identity?,
        remote_quic: values(remote.quic),
        remote_direct_tls: values(remote.direct_tls),
        remote_starttls: values(remote.starttls),
        local_s2s: values(local.s2s),
        local_dns: LocalDns { listen: values(local.dns), clients: values(local.dns_clients) },
        local_components: values(local.components),
        admin_listen: values(admin.listen),
        admin_socket: admin.socket,
        admin_name_hosts: admin.name_hosts,
        dns: Some(Dns {
            servers: values(dns.servers),
            allow_private: dns.allow_private,
            quic_443: dns.quic_443,
            host_meta: dns.host_meta,
            ..Dns::default()
        }),
        limits,
        hosts: tenants.hosts.into_iter().map(HostEntry::into_host).collect(),
        components: tenants.components.into_iter().filter_map(ComponentEntry::into_component).collect(),
        peers: tenants.peers.into_iter().filter_map(PeerEntry::into_peer).collect(),
        policy,
    })
}

fn read_identity(top: &mut Reader<'_>) -> Option<Identity> {
    match top.section("identity") {
        Some(reader) => identity::read(reader),
        None => {
            let advice =
                "add [identity] with certificates = \"certs\", the folder of the certificates and their keys";
            top.errors.add(&top.place, "identity.certificates", "is missing", advice);
            None
        }
    }
}

/// An included file speaks of hosts, components and peers only: what holds for the relay as a whole stands in one place.
fn read_included(path: &Path, order: usize, errors: &Errors, tenants: &mut Tenants) {
    let Some(source) = read_source(path, order, errors) else { return };
    let Some(table) = source.parse(errors) else { return };
    let mut top = Reader::top(&source, table.get_ref(), errors);
    tenants.read(&mut top);
    for key in MAIN_FILE_ONLY {
        if let Some(entry) = top.take(key) {
            entry.refuse::<()>(
                "stands in an included file",
                "move it to the main file: an included file may hold [[host]], [[component]] and [[peer]] only",
            );
        }
    }
    top.finish();
}

fn values<T>(located: Vec<Located<T>>) -> Vec<T> {
    located.into_iter().map(|each| each.value).collect()
}
