//! What one table asks of another: names that are given twice, and relays that couldn't do anything.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::component::ComponentEntry;
use super::dns::DnsEntry;
use super::error::{Errors, Place};
use super::host::HostEntry;
use super::listeners::{Local, Remote, refuse_doubles, refuse_public_local};
use super::peer::PeerEntry;
use super::values::Located;
use crate::relay::settings::Endpoint;
use crate::xmpp::domain::DomainPattern;

/// Everything that is checked together.
pub(super) struct Everything<'a> {
    pub(super) file: Place,
    pub(super) remote: &'a Remote,
    pub(super) local: &'a Local,
    pub(super) admin_listen: &'a [Located<SocketAddr>],
    pub(super) dns: &'a DnsEntry,
    pub(super) hosts: &'a [HostEntry],
    pub(super) components: &'a [ComponentEntry],
    pub(super) peers: &'a [PeerEntry],
}

impl Everything<'_> {
    /// Record what doesn't fit together.
    pub(super) fn check(&self, errors: &Errors) {
        self.check_listeners(errors);
        self.check_names(errors);
        self.check_loops(errors);
        self.check_dns(errors);
        // A table that could not be read would be missed here a second time.
        if errors.is_empty() {
            self.check_purpose(errors);
        }
    }

    fn check_listeners(&self, errors: &Errors) {
        refuse_public_local(errors, "local.s2s", &self.local.s2s, "127.0.0.1:5266");
        refuse_public_local(errors, "local.dns", &self.local.dns, "127.0.0.1:5353");
        refuse_public_local(errors, "local.components", &self.local.components, "127.0.0.1:5347");
        let dns = || self.local.dns.iter().map(|address| ("local.dns", address));
        let quic = self.remote.quic.iter().map(|address| ("remote.quic", address));
        let udp: Vec<_> = quic.chain(dns()).collect();
        refuse_doubles(errors, &udp);
        let local = self.local.s2s.iter().map(|address| ("local.s2s", address)).chain(dns());
        let components = self.local.components.iter().map(|address| ("local.components", address));
        let admin = self.admin_listen.iter().map(|address| ("admin.listen", address));
        let tcp: Vec<_> = self.remote.tcp().chain(local).chain(components).chain(admin).collect();
        refuse_doubles(errors, &tcp);
    }

    /// Each domain belongs to one host or to one peer.
    fn check_names(&self, errors: &Errors) {
        let mut hosts = HashMap::new();
        let named = self.hosts.iter().flat_map(|host| &host.domains).map(|domain| ("host.domain", domain));
        let components = self.components.iter().filter_map(|component| component.domain.as_ref());
        for (key, domain) in named.chain(components.map(|domain| ("component.domain", domain))) {
            let Some(first) = hosts.get(&domain.value) else {
                hosts.insert(domain.value.clone(), domain.place.clone());
                continue;
            };
            let problem = format!("= \"{}\" stands at {first} already", domain.value);
            errors.add(&domain.place, key, problem, "remove one of the two");
        }
        let mut peers: HashMap<&DomainPattern, &Place> = HashMap::new();
        for rule in self.peers.iter().flat_map(|peer| &peer.domains) {
            if let Some(first) = peers.insert(&rule.value, &rule.place) {
                let problem = format!("= \"{}\" stands at {first} already", rule.value);
                errors.add(&rule.place, "peer.domain", problem, "remove one of the two");
            }
            if let DomainPattern::Exact(domain) = &rule.value
                && let Some(host) = hosts.get(domain)
            {
                let problem = format!("= \"{domain}\" is a host of ours ({host})");
                errors.add(
                    &rule.place,
                    "peer.domain",
                    problem,
                    "a domain is ours or a peer's: remove one of the two",
                );
            }
        }
    }

    /// A relay that delivers to itself never ends.
    fn check_loops(&self, errors: &Errors) {
        let own = |endpoint: &Endpoint, listeners: &[Located<SocketAddr>]| match endpoint {
            Endpoint::Address(address) => listeners.iter().any(|listener| listener.value == *address),
            Endpoint::Name { .. } => false,
        };
        for endpoint in self.hosts.iter().flat_map(|host| &host.deliver) {
            let listeners = [("local.s2s", &self.local.s2s), ("local.components", &self.local.components)];
            for (key, _) in listeners.iter().filter(|(_, listeners)| own(&endpoint.value, listeners)) {
                let problem = format!("= \"{}\" is our own listener, {key}", endpoint.value);
                errors.add(
                    &endpoint.place,
                    "host.deliver",
                    problem,
                    "write where the host's XMPP server listens",
                );
            }
        }
        for peer in self.peers {
            let Some(endpoint) = &peer.address else { continue };
            let (key, listeners) = self.remote.of(peer.transport);
            if own(&endpoint.value, listeners) {
                let problem = format!("= \"{}\" is our own listener, {key}", endpoint.value);
                errors.add(&endpoint.place, "peer.address", problem, "write where the peer listens");
            }
        }
    }

    /// The responder leads our servers to `local.s2s`, and asks others for all that it doesn't know.
    fn check_dns(&self, errors: &Errors) {
        let Some(first) = self.local.dns.first() else {
            if let Some(clients) = self.local.dns_clients.first() {
                let advice = "add dns = \"127.0.0.1:5353\" there, or remove it";
                errors.add(&clients.place, "local.dns_clients", "has no effect without local.dns", advice);
            }
            return;
        };
        if self.local.s2s.is_empty() {
            let advice = "add s2s = \"127.0.0.1:5266\" there, where local.dns leads our servers";
            errors.add(&first.place, "local.s2s", "is missing", advice);
        }
        for server in &self.dns.servers {
            if self.local.dns.iter().any(|listener| listener.value == server.value) {
                let problem = format!("= \"{}\" is our own listener, local.dns", server.value);
                errors.add(&server.place, "dns.servers", problem, "name the servers that it shall ask");
            }
        }
    }

    /// Somebody to serve, and somebody to reach.
    fn check_purpose(&self, errors: &Errors) {
        if let (Some(component), true) = (self.components.first(), self.local.components.is_empty()) {
            let place = component.domain.as_ref().map_or(&self.file, |domain| &domain.place);
            let advice = "add [local] components = \"127.0.0.1:5347\", where components connect to";
            errors.add(place, "local.components", "is missing: the component has no way in", advice);
        }
        if self.hosts.is_empty() && self.components.is_empty() {
            let advice = "add a [[host]] with its domain and where to deliver";
            errors.add(&self.file, "host", "is missing: the relay would serve nobody", advice);
        }
        if self.remote.is_empty() && self.peers.is_empty() {
            let advice = "add [remote] quic = \"[::]:5269\", or a [[peer]]";
            errors.add(
                &self.file,
                "remote.quic",
                "is missing, and there is no peer: nobody could be reached",
                advice,
            );
        }
    }
}
