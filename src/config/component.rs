//! `[[component]]`: domains behind this relay that connect to it themselves (XEP-0114).

use super::identity::path;
use super::policy::read_domains;
use super::reader::Reader;
use super::values::{Located, domain};
use crate::proto::policy::DomainPolicy;
use crate::relay::settings::Component;
use crate::xmpp::domain::Domain;

/// A `[[component]]` with the line of what others may contradict.
pub(super) struct ComponentEntry {
    /// `None` if it could not be read.
    pub(super) domain: Option<Located<Domain>>,
    secret_file: Option<std::path::PathBuf>,
    announce: bool,
    policy: DomainPolicy,
}

impl ComponentEntry {
    /// `None` if part of it could not be read, which has been reported.
    pub(super) fn into_component(self) -> Option<Component> {
        Some(Component {
            domain: self.domain?.value,
            secret_file: self.secret_file?,
            announce: self.announce,
            policy: self.policy,
        })
    }
}

/// Read one table.
pub(super) fn read(mut reader: Reader<'_>) -> ComponentEntry {
    let domain = reader
        .require("domain", "\"irc.a.example\", the name that the component connects with")
        .and_then(|entry| Some(Located { value: domain(&entry)?, place: entry.place.clone() }));
    let secret_file = reader
        .require("secret_file", "\"irc.secret\", a file that holds the component's secret")
        .and_then(|entry| path(&entry, "a file, like \"irc.secret\""));
    let announce = reader.take("announce").and_then(|entry| entry.boolean()).unwrap_or(false);
    let policy = read_domains(&mut reader);
    reader.finish();
    ComponentEntry { domain, secret_file, announce, policy }
}
