//! The domains served behind this relay, and which remote domains they may talk to.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::admission::Direction;
use super::component::Secret;
use super::policy::DomainPolicy;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// Hosts that were taken away and are remembered.
const GONE_MAX: usize = 4096;

/// What the machines know of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFacts {
    /// Which `[[host]]` entry serves it; those of `[[component]]` are counted behind them.
    pub entry: usize,
    /// It may stand in the host list shown to any peer (XEP-0451 after authentication).
    pub announce: bool,
}

/// All hosts, and `[policy]`. Immutable; a new configuration makes a new one.
#[derive(Debug, Clone)]
pub struct Hosts {
    hosts: FxHashMap<Domain, HostFacts>,
    /// Those of them that are components.
    components: FxHashMap<Domain, Secret>,
    /// Served before, in the life of this process, and now no longer.
    gone: FxHashSet<Domain>,
    /// Not served all the time since this process began.
    came: FxHashSet<Domain>,
    /// For all hosts.
    policy: DomainPolicy,
    /// Of those that narrow it for themselves.
    own_policies: FxHashMap<Domain, Arc<DomainPolicy>>,
}

impl Hosts {
    /// The hosts and the policy.
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = (Domain, HostFacts)>, policy: DomainPolicy) -> Self {
        Self {
            hosts: hosts.into_iter().collect(),
            components: FxHashMap::default(),
            gone: FxHashSet::default(),
            came: FxHashSet::default(),
            policy,
            own_policies: FxHashMap::default(),
        }
    }

    /// With these components as further hosts.
    #[must_use]
    pub fn with_components(
        mut self,
        components: impl IntoIterator<Item = (Domain, HostFacts, Secret)>,
    ) -> Self {
        for (domain, facts, secret) in components {
            self.hosts.insert(domain.clone(), facts);
            self.components.insert(domain, secret);
        }
        self
    }

    /// With policies of single hosts, each of which narrows `[policy]` for its host.
    #[must_use]
    pub fn with_policies(mut self, own: impl IntoIterator<Item = (Domain, Arc<DomainPolicy>)>) -> Self {
        self.own_policies.extend(own);
        self
    }

    /// The secret of the component `domain`, if we serve it and it is one.
    #[must_use]
    pub fn component(&self, domain: &Domain) -> Option<&Secret> {
        self.components.get(domain)
    }

    /// The same, knowing which hosts of `former` it takes away, and which it adds.
    #[must_use]
    pub fn after(mut self, former: &Self) -> Self {
        let known = former.hosts.keys().chain(&former.gone);
        let gone = known.filter(|domain| !self.hosts.contains_key(*domain)).take(GONE_MAX).cloned();
        self.gone = gone.collect();
        let came = self.hosts.keys().filter(|domain| former.has_come(domain) || !former.serves(domain));
        self.came = came.cloned().collect();
        self
    }

    /// Whether we serve `domain` since a change of the configuration.
    #[must_use]
    pub fn has_come(&self, domain: &Domain) -> bool {
        self.came.contains(domain)
    }

    /// Whether we served `domain` before a change of the configuration, and no longer do.
    #[must_use]
    pub fn has_gone(&self, domain: &Domain) -> bool {
        self.gone.contains(domain)
    }

    /// Whether we serve `domain`.
    #[must_use]
    pub fn serves(&self, domain: &Domain) -> bool {
        self.hosts.contains_key(domain)
    }

    /// What we know of `domain`, if we serve it.
    #[must_use]
    pub fn facts(&self, domain: &Domain) -> Option<HostFacts> {
        self.hosts.get(domain).copied()
    }

    /// All domains that we serve, with what we know of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Domain, HostFacts)> {
        self.hosts.iter().map(|(domain, facts)| (domain, *facts))
    }

    /// Whether stanzas may go from the remote domain `remote` to `host` ([`Direction::Inbound`]), or from `host` to
    /// `remote`: `[policy]` must let them, and what the host says itself.
    ///
    /// # Errors
    /// [`Reason::PolicyDenied`] if one of them doesn't.
    pub fn policy(&self, direction: Direction, host: &Domain, remote: &Domain) -> Result<(), Reason> {
        let own = self.own_policies.get(host);
        let allowed =
            self.policy.allows(direction, remote) && own.is_none_or(|own| own.allows(direction, remote));
        if allowed { Ok(()) } else { Err(Reason::PolicyDenied) }
    }
}
