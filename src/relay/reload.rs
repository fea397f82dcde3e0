//! A running relay goes by other settings.
//!
//! What changes while it runs, at SIGHUP: hosts and peers (with all that stands in their tables), `[policy]`, and everything that
//! `[identity]` names: the folder of certificates (which is watched besides, see `renewal`), the authorities, the keys; and
//! the secrets of components, with what they narrow of the policy; and of `[limits]` the rates and `session_resets`. Connections
//! that stand keep the certificates with which they were made; those that were made by the rules of a `[[peer]]` that is another
//! now leave when what is under way on them is finished (`peering.rs`). The rest needs a restart, and is named (`changes.rs`).
//!
//! A host list is part of a stream's features (XEP-0451 section 2), and features are sent once, when a stream begins: there
//! is no way to refresh one on a stream that stands. A list that has changed is therefore shown once more on the next
//! stream that the peer opens in the session, beside the connection's first.

use std::collections::BTreeSet;

use tracing::{info, warn};

pub use super::changes::Changes;

use super::live::Live;
use super::mailbox::lock;
use super::settings::Settings;
use super::start::{Relay, StartError};

/// Why the old settings stay.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReloadError(StartError);

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReloadReport {
    /// What has changed, a line each.
    pub changed: Vec<String>,
    /// Settings that have changed and count only after a restart, by their key in the configuration.
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
        let Changes { at_once: mut changed, needs_restart } = Changes::between(&former.settings, &settings);
        let live = Live::read(settings, Some(&former)).map_err(|error| {
            self.reload_refused(&error.to_string());
            ReloadError(error)
        })?;
        changed.extend(in_files(&former, &live));
        // Before it counts: if something goes wrong then, this says why.
        for change in &changed {
            info!("reload: {change}");
        }
        for place in &needs_restart {
            warn!("reload: {place} has changed and needs a restart");
        }
        self.hub.replace(live);
        self.hub.count_hosts();
        let restart = needs_restart.iter().map(|place| (*place).to_owned()).collect();
        self.hub.configuration_taken(changed.clone(), restart);
        info!(changes = changed.len(), needs_restart = needs_restart.len(), "reloaded");
        Ok(ReloadReport { changed, needs_restart })
    }

    /// Other settings were wanted, and could not be taken, because of this. It is only counted, and remembered for `fedmux status`.
    pub fn reload_refused(&self, why: &str) {
        self.hub.configuration_refused(why.to_owned());
    }
}

/// What has changed of what the files hold that the settings name.
fn in_files(former: &Live, live: &Live) -> Vec<String> {
    let mut changed = Vec::new();
    let (old, new) = (certificates(former), certificates(live));
    let (added, gone) = (new.difference(&old).count(), old.difference(&new).count());
    if added + gone > 0 {
        changed.push(format!(
            "certificates changed: {added} new, {gone} gone; standing connections keep theirs"
        ));
    }
    if former.settings.peers == live.settings.peers && !former.trust.pins_all_alike(&live.trust) {
        let drained = "the sessions for which they vouched are drained";
        changed.push(format!("authorities of [[peer]]s have changed in their files: {drained}"));
    }
    if live.has_rotated(former) {
        changed.push("secrets are made with another key".to_owned());
    }
    changed
}

/// Our own certificates as they are sent.
pub(super) fn certificates(live: &Live) -> BTreeSet<Vec<u8>> {
    let all = live.certificates.certificates().iter();
    all.filter_map(|certificate| Some(certificate.chain().first()?.to_vec())).collect()
}
