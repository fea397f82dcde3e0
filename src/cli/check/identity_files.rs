//! The files of `[identity]` beside the certificates: authorities, and the key of our secrets.

use std::path::Path;

use super::report::{Report, Severity};
use crate::identity::key_ring::KeyRing;
use crate::identity::trust::Anchors;
use crate::relay::settings::{Settings, Trust};

/// Read each of them.
pub(super) fn examine(settings: &Settings, report: &mut Report) {
    let general = match &settings.identity.trust {
        Trust::System => Anchors::system(),
        Trust::File(path) => Anchors::from_pem_file(path),
    };
    if let Err(error) = general {
        report.add(Severity::Error, "identity.trust", error.to_string(), "");
    }
    for (peer, path) in settings.peers.iter().filter_map(|peer| Some((peer, peer.trust.as_ref()?))) {
        if let Err(error) = Anchors::from_pem_file(path) {
            report.add(Severity::Error, format!("peer {}, trust", peer.address), error.to_string(), "");
        }
    }
    if let Some(path) = &settings.identity.mux_key_file {
        examine_key(path, report);
    }
}

/// Only a key that is there is read: to make one is the relay's business, and its owner's.
fn examine_key(path: &Path, report: &mut Report) {
    if path.exists() && !KeyRing::would_be_made_in(path) {
        if let Err(error) = KeyRing::load(path) {
            report.add(Severity::Error, "identity.mux_key_file", error.to_string(), "");
        }
        return;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() || path.is_dir() {
        report.add(
            Severity::Note,
            "identity.mux_key_file",
            format!("{} will be made at the first start", path.display()),
            "",
        );
    } else {
        let text = format!("{} can't be made: its folder isn't there", path.display());
        report.add(
            Severity::Error,
            "identity.mux_key_file",
            text,
            "make the folder, writable by the relay's user",
        );
    }
}
