//! What follows from the settings and from the files that they name. A reload makes another one, as a whole: either all of
//! it can be had, or the old one stays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tracing::warn;

use super::changes::attainable;
use super::clock;
use super::peering::Peers;
use super::settings::{Component, Host, RemoteDialback, Settings, Transport, Trust};
use super::start::StartError;
use crate::identity::component_secret;
use crate::identity::config::{Carrier, Tls, web_client};
use crate::identity::key_ring::{KEYS_MAX, KeyRing};
use crate::identity::store::CertificateStore;
use crate::identity::trust::{Anchors, TrustStore};
use crate::proto::component::Secret;
use crate::proto::dialback::KeyMaker;
use crate::proto::hosts::{HostFacts, Hosts};
use crate::proto::mux::secret::{LIFETIME_SECONDS, SecretKeys};
use crate::proto::policy::DomainPolicy;
use crate::xmpp::domain::{Domain, DomainPattern};
use crate::xmpp::route::Route;

/// Label under which the dialback secret is derived from the master key; the mux secret has another one.
const DIALBACK_KEY_LABEL: &str = "fedmux dialback 1";
/// Label under which the keys of mux secrets are derived.
const MUX_KEY_LABEL: &str = "fedmux mux key 1";

/// Label under which the key of QUIC's stateless resets is derived.
const QUIC_KEY_LABEL: &str = "fedmux quic reset 1";
/// How long a key that has left the folder still takes the secrets that it made: as long as these are good.
const KEY_OUTLIVES: Duration = Duration::from_secs(LIFETIME_SECONDS);
/// Keys that have left and still take secrets, whatever happens to the folder.
const KEYS_GONE_MAX: usize = 4 * KEYS_MAX;

/// A key derived from a master key.
type Key = [u8; 32];
/// A component, and what it has to know.
type WithSecret = (Domain, HostFacts, Secret);

/// What a relay goes by.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) settings: Settings,
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) peers: Peers,
    pub(crate) certificates: Arc<CertificateStore>,
    /// Whom we believe; the same as before if nothing of it has changed.
    pub(crate) trust: Arc<TrustStore>,
    /// TLS over QUIC, over TCP from the first octet, and over TCP behind STARTTLS.
    tls: [Tls; 3],
    /// TLS with web servers.
    pub(crate) web: Arc<ClientConfig>,
    /// Makes dialback keys.
    pub(crate) keys: Arc<KeyMaker>,
    /// Made them before the last reload: some are still asked about.
    former_keys: Option<Arc<KeyMaker>>,
    /// Makes and takes mux secrets.
    pub(crate) secrets: Arc<SecretKeys>,
    ring: Keys,
}

/// The keys as they were read, the newest first.
#[derive(Clone)]
struct Keys {
    dialback: Key,
    mux: Vec<Key>,
    quic: Key,
    /// Keys of mux secrets that have left, and when; the latest first.
    gone: Vec<(Key, Instant)>,
    /// There is no file: the next reload keeps them.
    of_this_process: bool,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.mux.len())
    }
}

impl Live {
    /// Go by `wanted`, as far as that is possible without a restart, and read everything that is named there. `former`: what the
    /// relay went by until now.
    ///
    /// # Errors
    /// [`StartError`] if certificates, authorities or a key can't be read.
    pub(crate) fn read(wanted: Settings, former: Option<&Self>) -> Result<Self, StartError> {
        let named = wanted.components.clone();
        let settings = match former {
            Some(former) => attainable(wanted, &former.settings),
            None => wanted,
        };
        let certificates =
            CertificateStore::load(&settings.identity.certificates).map_err(StartError::new)?;
        for problem in certificates.problems() {
            warn!(%problem, "certificate not as it should be");
        }
        let general = anchors(&settings.identity.trust)?;
        let web = Arc::new(web_client(&general).map_err(StartError::new)?);
        let trust = TrustStore::new(general, pinned_anchors(&settings)?);
        let same = former.map(|former| &former.trust).filter(|former| ***former == trust);
        let trust = same.map_or_else(|| Arc::new(trust), Arc::clone);
        let tls = |carrier| Tls::new(Arc::clone(&trust), carrier).map_err(StartError::new);
        let mut tls = [tls(Carrier::Quic)?, tls(Carrier::DirectTls)?, tls(Carrier::StartTls)?];
        if settings.policy.dialback == RemoteDialback::Tls {
            let [quic, direct, starttls] = tls;
            tls = [quic, direct.taking_anonymous_clients(), starttls.taking_anonymous_clients()];
        }
        let ring = Keys::read(&settings, former)?;
        // A secret that was just handed out is still good when its key has left the folder. That lets nobody in: without an
        // open request no secret is taken.
        let gone = ring.gone.iter().map(|(key, _)| key);
        let secrets = SecretKeys::new(ring.mux.iter().chain(gone).copied());
        let mut hosts = hosts(&settings, components(&settings, &named, former)?);
        if let Some(former) = former {
            hosts = hosts.after(&former.hosts);
        }
        Ok(Self {
            hosts: Arc::new(hosts),
            peers: match former {
                Some(former) => former.peers.after(&settings.peers),
                None => Peers::new(&settings.peers),
            },
            certificates: Arc::new(certificates),
            trust,
            tls,
            web,
            keys: Arc::new(KeyMaker::new(&ring.dialback)),
            former_keys: former.map(|former| Arc::clone(&former.keys)),
            secrets: Arc::new(secrets),
            ring,
            settings,
        })
    }

    /// The same with other certificates.
    pub(crate) fn with_certificates(&self, certificates: CertificateStore) -> Self {
        Self { certificates: Arc::new(certificates), ..self.clone() }
    }

    /// The same with other settings that name the same files.
    #[cfg(test)]
    pub(crate) fn with_settings(&self, settings: Settings, after: bool) -> Self {
        let components = components(&settings, &settings.components, None).unwrap();
        let mut hosts = hosts(&settings, components);
        if after {
            hosts = hosts.after(&self.hosts);
        }
        let peers = if after { self.peers.after(&settings.peers) } else { Peers::new(&settings.peers) };
        Self { hosts: Arc::new(hosts), peers, settings, ..self.clone() }
    }

    /// The `[[host]]` entry of `domain`, if we serve it.
    pub(crate) fn host(&self, domain: &Domain) -> Option<&Host> {
        self.settings.hosts.get(self.hosts.facts(domain)?.entry)
    }

    /// TLS as it is spoken over `transport`.
    pub(crate) fn tls(&self, transport: Transport) -> &Tls {
        let [quic, direct, starttls] = &self.tls;
        match transport {
            Transport::Quic => quic,
            Transport::DirectTls => direct,
            Transport::StartTls => starttls,
        }
    }

    /// Whether we made this dialback key.
    pub(crate) fn made_key(&self, route: &Route, stream_id: &str, key: &str) -> bool {
        let mut makers = std::iter::once(&self.keys).chain(&self.former_keys);
        makers.any(|maker| maker.verify(route, stream_id, key))
    }

    /// The key by which peers learn that a connection is one of a relay that ran before this one.
    pub(crate) fn quic_key(&self) -> &[u8; 32] {
        &self.ring.quic
    }

    /// Whether secrets are made with another key than in `former`.
    pub(crate) fn has_rotated(&self, former: &Self) -> bool {
        self.ring.mux.first() != former.ring.mux.first()
    }
}

impl Keys {
    fn read(settings: &Settings, former: Option<&Live>) -> Result<Self, StartError> {
        let file = settings.identity.mux_key_file.as_ref();
        let ring = match (file, former.map(|former| &former.ring)) {
            (None, Some(kept @ Self { of_this_process: true, .. })) => return Ok(kept.clone()),
            (None, _) => KeyRing::random(),
            (Some(file), _) => KeyRing::load(file),
        };
        let ring = ring.map_err(StartError::new)?;
        let dialback = ring.derive(DIALBACK_KEY_LABEL).next();
        let mux: Vec<Key> = ring.derive(MUX_KEY_LABEL).collect();
        let quic = ring.derive(QUIC_KEY_LABEL).next();
        let no_key = || StartError::new("no key in the ring of keys");
        let (dialback, quic) = (dialback.ok_or_else(no_key)?, quic.ok_or_else(no_key)?);
        let gone = former.map(|former| former.ring.gone_from(&mux, clock::now())).unwrap_or_default();
        Ok(Self { dialback, mux, quic, gone, of_this_process: file.is_none() })
    }

    /// The keys that are not among `mux`, which follow these, and when they left.
    fn gone_from(&self, mux: &[Key], now: Instant) -> Vec<(Key, Instant)> {
        let left = self.mux.iter().map(|key| (*key, now));
        let before = self.gone.iter().copied().filter(|(_, at)| now.duration_since(*at) < KEY_OUTLIVES);
        left.chain(before).filter(|(key, _)| !mux.contains(key)).take(KEYS_GONE_MAX).collect()
    }
}

/// The hosts, with what stands in the settings about each.
fn hosts(settings: &Settings, components: Vec<WithSecret>) -> Hosts {
    let hosts = settings.hosts.iter().enumerate().flat_map(|(entry, host)| {
        let facts = HostFacts { entry, announce: host.announce };
        host.domains.iter().map(move |domain| (domain.clone(), facts))
    });
    Hosts::new(hosts, settings.policy.domains.clone())
        .with_components(components)
        .with_policies(own_policies(settings))
}

/// The policies of the hosts and components that have one of their own.
fn own_policies(settings: &Settings) -> Vec<(Domain, Arc<DomainPolicy>)> {
    let hosts = settings.hosts.iter().map(|host| (host.domains.as_slice(), &host.policy));
    let components = settings
        .components
        .iter()
        .map(|component| (std::slice::from_ref(&component.domain), &component.policy));
    let own = hosts.chain(components).filter(|(_, policy)| !policy.is_open());
    own.flat_map(|(domains, policy)| {
        let policy = Arc::new(policy.clone());
        domains.iter().map(move |domain| (domain.clone(), Arc::clone(&policy)))
    })
    .collect()
}

/// The components, each with the secret that its file holds. One that only a restart takes away, or gives another file, keeps the
/// secret that it had: its file is no longer among those that the configuration names (`named`), and may be gone.
fn components(
    settings: &Settings,
    named: &[Component],
    former: Option<&Live>,
) -> Result<Vec<WithSecret>, StartError> {
    let is_named = |component: &Component| {
        let same =
            |one: &Component| one.domain == component.domain && one.secret_file == component.secret_file;
        named.iter().any(same)
    };
    let kept = |component: &Component| match is_named(component) {
        true => None,
        false => former?.hosts.component(&component.domain).cloned(),
    };
    let read = |(index, component): (usize, &Component)| {
        let facts = HostFacts { entry: settings.hosts.len() + index, announce: component.announce };
        if let Some(secret) = kept(component) {
            return Ok((component.domain.clone(), facts, secret));
        }
        let loaded = component_secret::load(&component.secret_file).map_err(StartError::new)?;
        if let Some(mode) = loaded.readable_by_others {
            let (file, mode) = (component.secret_file.display(), format!("{mode:04o}"));
            warn!(component = %component.domain, %file, mode, "others can read a component's secret; chmod 600 it");
        }
        Ok((component.domain.clone(), facts, loaded.secret))
    };
    settings.components.iter().enumerate().map(read).collect()
}

fn anchors(trust: &Trust) -> Result<Anchors, StartError> {
    match trust {
        Trust::System => Anchors::system(),
        Trust::File(path) => Anchors::from_pem_file(path),
    }
    .map_err(|error| StartError::new(format_args!("identity.trust: {error}")))
}

fn pinned_anchors(settings: &Settings) -> Result<Vec<(Vec<DomainPattern>, Anchors)>, StartError> {
    let pinned = settings.peers.iter().filter_map(|peer| Some((peer, peer.trust.as_ref()?)));
    pinned
        .map(|(peer, path)| {
            let anchors = Anchors::from_pem_file(path);
            let anchors = anchors.map_err(|error| StartError::new(format_args!("peer.trust: {error}")))?;
            Ok((peer.domains.clone(), anchors))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_has_left_takes_its_secrets_for_as_long_as_these_are_good() {
        let start = clock::now();
        let keys = |mux: &[u8], gone| {
            let mux = mux.iter().map(|key| [*key; 32]).collect();
            Keys { dialback: [0; 32], mux, quic: [0; 32], gone, of_this_process: false }
        };
        // One key after the other leaves; the third comes back.
        let mut ring = keys(&[1, 2], Vec::new());
        for (after, mux, gone) in [
            (0, &[2, 3][..], &[1][..]),
            (10, &[4], &[2, 3, 1]),
            (59, &[3], &[4, 2, 1]),
            (61, &[3], &[4, 2]),
            (200, &[3], &[]),
        ] {
            let next = keys(mux, Vec::new());
            let left = ring.gone_from(&next.mux, start + Duration::from_secs(after));
            assert_eq!(left.iter().map(|(key, _)| key[0]).collect::<Vec<_>>(), gone, "after {after} s");
            ring = keys(mux, left);
        }
        let many = (0..200).map(|n| ([n; 32], start)).collect();
        assert_eq!(keys(&[], many).gone_from(&[], start).len(), KEYS_GONE_MAX);
    }
}
