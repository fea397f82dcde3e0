//! A running relay goes by other settings.
//!
//! What changes while it runs, at SIGHUP: hosts (with all that stands in their tables), `[policy]`, and everything that
//! `[identity]` names: the folder of certificates (which is watched besides, see `renewal`), the authorities, the keys; and
//! the secrets of components, with what they narrow of the policy; and of `[limits]` the rates and `session_resets`. Connections that stand keep the certificates with which
//! they were made. The rest needs a restart, and is named.
//!
//! A host list is part of a stream's features (XEP-0451 section 2), and features are sent once, when a stream begins: there
//! is no way to refresh one on a stream that stands. A list that has changed is therefore shown once more on the next
//! stream that the peer opens in the session, beside the connection's first.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::clock;
use super::hub::Hub;
use super::live::Live;
use super::mailbox::lock;
use super::settings::{Component, Settings};
use super::start::{Relay, StartError};
use super::status::{Reloaded, wall_text};
use crate::proto::limits::Limits;
use crate::proto::policy::DomainPolicy;
use crate::xmpp::domain::Domain;

/// Why the old settings stay.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReloadError(StartError);

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReloadReport {
    /// What has changed, a line each.
    pub changed: Vec<String>,
    /// Settings that have changed and count only after a restart, by their place in the configuration.
    pub needs_restart: Vec<&'static str>,
}

impl Relay {
    /// Go by `settings`, as far as that is possible without a restart, and read again every file that they name.
    ///
    /// # Errors
    /// [`ReloadError`] if one of them can't be read; then nothing has changed.
    pub fn reload(&self, settings: Settings) -> Result<ReloadReport, ReloadError> {
        let _alone = lock(&self.hub.renewing);
        let former = self.hub.live();
        let (settings, needs_restart) = keep_fixed(settings, &former.settings);
        let live = Live::read(settings, Some(&former)).map_err(|error| {
            self.reload_refused(&error.to_string());
            ReloadError(error)
        })?;
        let changed = differences(&former, &live);
        // Before it counts: if something goes wrong then, this says why.
        for change in &changed {
            info!("reload: {change}");
        }
        for place in &needs_restart {
            warn!("reload: {place} has changed and needs a restart");
        }
        self.hub.replace(live);
        self.hub.count_hosts();
        self.hub.metrics.reloads.done();
        let restart = needs_restart.iter().map(|place| (*place).to_owned()).collect();
        self.hub.remember_reload(None, changed.clone(), restart);
        info!(changes = changed.len(), needs_restart = needs_restart.len(), "reloaded");
        Ok(ReloadReport { changed, needs_restart })
    }

    /// Other settings were wanted, and could not be taken, because of this. It is only counted, and remembered for `fedmux status`.
    pub fn reload_refused(&self, why: &str) {
        self.hub.metrics.reloads.refused();
        self.hub.remember_reload(Some(why.to_owned()), Vec::new(), Vec::new());
    }
}

impl Hub {
    /// Remember how the configuration, or the certificates, were last read again.
    pub(super) fn remember_reload(
        &self,
        refused: Option<String>,
        changed: Vec<String>,
        needs_restart: Vec<String>,
    ) {
        let at = wall_text(clock::wall());
        *lock(&self.reloaded) = Some(Reloaded { at, refused, changed, needs_restart });
    }
}

/// `wanted` with what can't change in a running process as it was, and the names of what would have changed.
fn keep_fixed(wanted: Settings, former: &Settings) -> (Settings, Vec<&'static str>) {
    let Settings {
        identity,
        remote_quic,
        remote_direct_tls,
        remote_starttls,
        local_s2s,
        local_components,
        admin_listen,
        admin_socket,
        admin_name_hosts,
        limits: wanted_limits,
        hosts,
        components,
        peers,
        policy,
        dns,
        local_dns,
    } = wanted;
    let limits = with_changeable(&former.limits, &wanted_limits);
    let fixed = [
        ("[remote] quic", remote_quic == former.remote_quic),
        ("[remote] direct_tls", remote_direct_tls == former.remote_direct_tls),
        ("[remote] starttls", remote_starttls == former.remote_starttls),
        ("[local] s2s", local_s2s == former.local_s2s),
        ("[local] components", local_components == former.local_components),
        ("[admin] listen", admin_listen == former.admin_listen),
        ("[admin] socket", admin_socket == former.admin_socket),
        ("[admin] name_hosts", admin_name_hosts == former.admin_name_hosts),
        ("[local] dns", local_dns == former.local_dns),
        ("[dns]", dns == former.dns),
        ("[limits]", limits == wanted_limits),
        ("[[component]]", without_policies(&components) == without_policies(&former.components)),
        ("[[peer]]", peers == former.peers),
    ];
    let same_components = without_policies(&components) == without_policies(&former.components);
    let components = if same_components { components } else { former.components.clone() };
    let needs_restart = fixed.into_iter().filter(|(_, same)| !same).map(|(place, _)| place).collect();
    (Settings { identity, hosts, components, policy, limits, ..former.clone() }, needs_restart)
}

/// `former` with what can change in a running process as it is `wanted`.
fn with_changeable(former: &Limits, wanted: &Limits) -> Limits {
    let Limits { rates, session_resets, session_resets_every, .. } = *wanted;
    Limits { rates, session_resets, session_resets_every, ..former.clone() }
}

/// What of the components can't change in a running process.
fn without_policies(components: &[Component]) -> Vec<Component> {
    let without = |component: &Component| Component { policy: DomainPolicy::default(), ..component.clone() };
    components.iter().map(without).collect()
}

fn differences(former: &Live, live: &Live) -> Vec<String> {
    let mut changed = Vec::new();
    let (before, after) = (domains(former), domains(live));
    changed.extend(after.difference(&before).map(|host| format!("host {host} added")));
    changed.extend(before.difference(&after).map(|host| format!("host {host} taken away")));
    for host in before.intersection(&after) {
        let (Some(old), Some(new)) = (former.host(host), live.host(host)) else { continue };
        for (key, same) in [
            ("announce", old.announce == new.announce),
            ("deliver", old.deliver == new.deliver),
            ("local_auth", old.local_auth == new.local_auth),
            ("policy", old.policy == new.policy),
        ] {
            if !same {
                changed.push(format!("host {host}: {key} changed"));
            }
        }
    }
    for (old, new) in former.settings.components.iter().zip(&live.settings.components) {
        if old.policy != new.policy {
            changed.push(format!("component {}: policy changed", new.domain));
        }
    }
    if former.settings.limits != live.settings.limits {
        changed.push("limits changed".to_owned());
    }
    if former.settings.policy != live.settings.policy {
        changed.push("policy changed".to_owned());
    }
    let (old, new) = (certificates(former), certificates(live));
    let (added, gone) = (new.difference(&old).count(), old.difference(&new).count());
    if added + gone > 0 {
        changed.push(format!(
            "certificates changed: {added} new, {gone} gone; standing connections keep theirs"
        ));
    }
    if former.settings.identity.trust != live.settings.identity.trust {
        changed.push("trust changed; standing connections were judged by the former".to_owned());
    }
    if live.has_rotated(former) {
        changed.push("secrets are made with another key".to_owned());
    }
    changed
}

fn domains(live: &Live) -> BTreeSet<Domain> {
    live.hosts.iter().map(|(domain, _)| domain.clone()).collect()
}

/// Our own certificates as they are sent.
pub(super) fn certificates(live: &Live) -> BTreeSet<Vec<u8>> {
    let all = live.certificates.certificates().iter();
    all.filter_map(|certificate| Some(certificate.chain().first()?.to_vec())).collect()
}
