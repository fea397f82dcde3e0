//! A renewed certificate needs no signal: the folder of certificates is looked at now and then, and read again when it has
//! changed. Connections that stand keep the certificate that they were made with.
//!
//! A renewal writes several files, and may be half done when we look. What would leave a host without a certificate is
//! therefore not taken up; the next change, or SIGHUP, decides again.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::clock;
use super::hub::Hub;
use super::live::Live;
use super::mailbox::lock;
use super::reload::certificates;
use super::tasks::observe;
use crate::identity::certificate::Role;
use crate::identity::store::{CertificateStore, FolderState};

/// What was found at the last look and not taken up.
#[derive(Debug, Default, PartialEq, Eq)]
enum Rejected {
    #[default]
    Nothing,
    /// The folder couldn't be read.
    Folder,
    /// These files.
    Files(FolderState),
}

/// Look at the folder for as long as the relay lives.
pub(super) async fn watch(hub: Arc<Hub>) {
    let mut rejected = Rejected::Nothing;
    loop {
        tokio::time::sleep(hub.limits.certificates_poll).await;
        let looking = Arc::clone(&hub);
        // Files may be slow; stanzas don't wait for them.
        let looked = tokio::task::spawn_blocking(move || look(&looking, rejected)).await;
        rejected = observe(&hub.metrics, looked).unwrap_or_default();
    }
}

fn look(hub: &Arc<Hub>, rejected: Rejected) -> Rejected {
    let _alone = lock(&hub.renewing);
    let former = hub.live();
    let folder = &former.settings.identity.certificates;
    let state = match FolderState::of(folder) {
        Ok(state) => state,
        Err(error) => return unreadable(hub, folder, &error, &rejected),
    };
    if state == *former.certificates.state() {
        if hub.certificates_stand() {
            info!("the certificates in use are in their folder again");
        }
        // One that isn't good yet may have become so.
        if lock(&hub.proven_until).iter().any(|proven| proven.until.is_none()) {
            hub.count_hosts();
        }
        return Rejected::Nothing;
    }
    let seen = Rejected::Files(state);
    if seen == rejected {
        return seen;
    }
    let store = match CertificateStore::load(folder) {
        Ok(store) => store,
        Err(error) => return unreadable(hub, folder, &error, &rejected),
    };
    for problem in store.problems() {
        warn!(%problem, "certificate not as it should be");
    }
    let bare = left_bare(&former, &store);
    if let Some(first) = bare.first() {
        let advice = "complete the files; to go without them, send SIGHUP";
        error!(hosts = bare.len(), %first, advice, "changed certificates leave hosts without any: the former ones stay in use");
        let others = match bare.len() {
            1 => String::new(),
            2 => " and another host".to_owned(),
            all => format!(" and {} other hosts", all - 1),
        };
        hub.certificates_refused(format!("changed certificates leave {first}{others} without any"));
        return seen;
    }
    let live = former.with_certificates(store);
    let (old, new) = (certificates(&former), certificates(&live));
    let (added, gone) = (new.difference(&old).count(), old.difference(&new).count());
    hub.replace(live);
    hub.count_hosts();
    hub.certificates_taken(format!("certificates: {added} new, {gone} gone"));
    info!(added, gone, "certificates changed; standing connections keep theirs");
    Rejected::Nothing
}

/// Once for as long as it lasts.
fn unreadable(hub: &Hub, folder: &Path, error: &impl Display, rejected: &Rejected) -> Rejected {
    if *rejected != Rejected::Folder {
        error!(folder = %folder.display(), %error, "the folder of certificates can't be read: the former ones stay in use");
        hub.certificates_refused(format!("the folder of certificates can't be read ({error})"));
    }
    Rejected::Folder
}

/// The hosts that have a certificate now, and would have none in `store`.
fn left_bare(former: &Live, store: &CertificateStore) -> Vec<String> {
    let now = clock::wall();
    let lost = |role, domain: &_| {
        former.certificates.choose(domain, role, now).is_ok() && store.choose(domain, role, now).is_err()
    };
    let hosts = former.hosts.iter().map(|(domain, _)| domain);
    let bare = hosts.filter(|domain| lost(Role::Initiating, domain) || lost(Role::Receiving, domain));
    bare.map(ToString::to_string).collect()
}
