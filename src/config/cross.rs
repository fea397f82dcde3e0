//! What one table asks of another: names that are given twice, and relays that couldn't do anything.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::component::ComponentEntry;
use super::error::{Errors, Place};
use super::host::HostEntry;
use super::listeners::{refuse_doubles, refuse_public_local};
use super::peer::PeerEntry;
use super::values::Located;
use crate::relay::settings::Endpoint;
use crate::xmpp::domain::DomainPattern;

/// Everything that is checked together.
pub(super) struct Everything<'a> {
    pub(super) file: Place,
    pub(super) remote_quic: &'a [Located<SocketAddr>],
    pub(super) local_s2s: &'a [Located<SocketAddr>],
    pub(super) local_components: &'a [Located<SocketAddr>],
    pub(super) admin_listen: &'a [Located<SocketAddr>],
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
        // A table that could not be read would be missed here a second time.
        if errors.is_empty() {
            self.check_purpose(errors);
        }
    }

    fn check_listeners(&self, errors: &Errors) {
        refuse_public_local(errors, "local.s2s", self.local_s2s, "127.0.0.1:5266");
        refuse_public_local(errors, "local.components", self.local_components, "127.0.0.1:5347");
        let quic: Vec<_> = self.remote_quic.iter().map(|address| ("remote.quic", address)).collect();
        refuse_doubles(errors, &quic);
        let local = self.local_s2s.iter().map(|address| ("local.s2s", address));
        let components = self.local_components.iter().map(|address| ("local.components", address));
        let local = local.chain(components);
        let tcp: Vec<_> =
            local.chain(self.admin_listen.iter().map(|address| ("admin.listen", address))).collect();
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
            let listeners = [("local.s2s", self.local_s2s), ("local.components", self.local_components)];
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
        for endpoint in self.peers.iter().filter_map(|peer| peer.address.as_ref()) {
            if own(&endpoint.value, self.remote_quic) {
                let problem = format!("= \"{}\" is our own listener, remote.quic", endpoint.value);
                errors.add(&endpoint.place, "peer.address", problem, "write where the peer listens");
            }
        }
    }

    /// Somebody to serve, and somebody to reach.
    fn check_purpose(&self, errors: &Errors) {
        if let (Some(component), true) = (self.components.first(), self.local_components.is_empty()) {
            let place = component.domain.as_ref().map_or(&self.file, |domain| &domain.place);
            let advice = "add [local] components = \"127.0.0.1:5347\", where components connect to";
            errors.add(place, "local.components", "is missing: the component has no way in", advice);
        }
        if self.hosts.is_empty() && self.components.is_empty() {
            let advice = "add a [[host]] with its domain and where to deliver";
            errors.add(&self.file, "host", "is missing: the relay would serve nobody", advice);
        }
        if self.remote_quic.is_empty() && self.peers.is_empty() {
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
