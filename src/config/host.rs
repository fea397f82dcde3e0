//! `[[host]]`: domains behind this relay, and their XMPP server.

use super::policy::read_domains;
use super::reader::Reader;
use super::values::{Located, deliver, domain, each, network};
use crate::proto::policy::DomainPolicy;
use crate::relay::settings::{Endpoint, Host, LocalAuth};
use crate::xmpp::domain::Domain;

/// A `[[host]]` with the lines of what others may contradict.
pub(super) struct HostEntry {
    pub(super) domains: Vec<Located<Domain>>,
    pub(super) deliver: Vec<Located<Endpoint>>,
    local_auth: LocalAuth,
    announce: bool,
    policy: DomainPolicy,
}

impl HostEntry {
    pub(super) fn into_host(self) -> Host {
        Host {
            domains: self.domains.into_iter().map(|domain| domain.value).collect(),
            deliver: self.deliver.into_iter().map(|endpoint| endpoint.value).collect(),
            local_auth: self.local_auth,
            announce: self.announce,
            policy: self.policy,
        }
    }
}

/// Read one table.
pub(super) fn read(mut reader: Reader<'_>) -> HostEntry {
    let domains = domains(&mut reader, "a.example", domain);
    let deliver = each(
        reader.require("deliver", "\"127.0.0.1:5267\", where the host's XMPP server listens"),
        "an address or a name, like \"127.0.0.1:5267\"",
        deliver,
    );
    let local_auth = local_auth(&mut reader);
    let announce = reader.take("announce").and_then(|entry| entry.boolean()).unwrap_or(false);
    let policy = read_domains(&mut reader);
    reader.finish();
    HostEntry { domains, deliver, local_auth, announce, policy }
}

/// `domain`, or `domains` for several; one of the two must be there.
pub(super) fn domains<'a, T>(
    reader: &mut Reader<'a>,
    example: &str,
    read: impl Fn(&super::reader::Entry<'a>) -> Option<T>,
) -> Vec<Located<T>> {
    let (one, many) = (reader.take("domain"), reader.take("domains"));
    match (one, many) {
        (None, None) => {
            let advice = format!("add domain = \"{example}\"");
            reader.errors.add(&reader.place, reader.name_of("domain"), "is missing", advice);
            Vec::new()
        }
        (Some(_), Some(many)) => {
            many.refuse::<()>("stands beside domain", "write either domain or domains");
            Vec::new()
        }
        (Some(one), None) => {
            read(&one).map(|value| Located { value, place: one.place.clone() }).into_iter().collect()
        }
        (None, many) => each(many, &format!("a domain, like \"{example}\""), read),
    }
}

fn local_auth(reader: &mut Reader<'_>) -> LocalAuth {
    let auth = reader.take("local_auth");
    let sources = reader.take("sources");
    let loopback = reader.take("trusted_loopback").filter(|entry| entry.boolean() == Some(true));
    let words = [("dialback", false), ("trusted", true)];
    let trusted = auth.as_ref().map_or(Some(false), |entry| entry.choice(&words));

    if trusted == Some(false) {
        for entry in [&sources, &loopback].into_iter().flatten() {
            entry.refuse::<()>("has no effect with dialback", "add local_auth = \"trusted\", or remove it");
        }
        return LocalAuth::Dialback;
    }
    if let (Some(true), Some(auth), None, None) = (trusted, &auth, &sources, &loopback) {
        auth.refuse::<()>(
            "= \"trusted\" names nobody",
            "add sources = [\"10.0.0.5/32\"] with the server's address, or trusted_loopback = true",
        );
    }
    let networks = each(sources, "a network, like \"10.0.0.5/32\"", network);
    LocalAuth::Trusted {
        sources: networks.into_iter().map(|network| network.value).collect(),
        loopback: loopback.is_some(),
    }
}
