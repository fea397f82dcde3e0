//! Our own certificates: a folder of PEM files, read as a whole.
//!
//! Keys and certificates find each other by their public key, whatever their files are called, so that `NAME.crt` with
//! `NAME.key`, one file with both, and certbot's `live/DOMAIN/fullchain.pem` with `privkey.pem` all work. A file that
//! is no good becomes a [`Problem`] and hides no other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::certificate::{Certificate, Role};
pub use super::folder::FolderState;

use super::folder;
use super::pairing::Pairing;
use super::problem::Problem;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// The folder as a whole can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: can't be read as a folder of certificates: {error}; check [identity] certificates", folder.display())]
pub struct StoreError {
    /// The folder.
    pub folder: PathBuf,
    /// What the system says.
    pub error: std::io::Error,
}

/// Our certificates as they were when the folder was read. A renewal makes another store.
#[derive(Debug, Default)]
pub struct CertificateStore {
    certificates: Vec<Arc<Certificate>>,
    problems: Vec<Problem>,
    /// The folder before its files were read.
    state: FolderState,
}

impl CertificateStore {
    /// Read every certificate with its key from `folder` and the folders below it, two deep. Where there is a folder
    /// `live` (certbot's), its neighbours are not looked into: they hold what has been replaced.
    ///
    /// # Errors
    /// [`StoreError`] if `folder` itself can't be read. A single bad file is one of the [`Self::problems`].
    pub fn load(folder: &Path) -> Result<Self, StoreError> {
        let failed = |error| StoreError { folder: folder.to_owned(), error };
        // First, so that a file that changes meanwhile shows as changed.
        let state = FolderState::of(folder).map_err(failed)?;
        let mut problems = Vec::new();
        let files = folder::pem_files(folder, &mut problems).map_err(failed)?;
        let mut pairing = Pairing::default();
        for file in &files {
            pairing.read(file);
        }
        let (certificates, found) = pairing.finish(SystemTime::now());
        problems.extend(found);
        Ok(Self { certificates, problems, state })
    }

    /// All certificates that have a key, expired ones too.
    #[must_use]
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }

    /// What the folder looked like when it was read.
    #[must_use]
    pub fn state(&self) -> &FolderState {
        &self.state
    }

    /// What is wrong in the folder.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The certificate to speak for `domain` with: the one to show when dialling a peer.
    #[must_use]
    pub fn covering(&self, domain: &Domain) -> Option<Arc<Certificate>> {
        self.choose(domain, Role::Initiating, SystemTime::now()).ok()
    }

    /// The best certificate for `domain` at the end with this role: the full name before a wildcard, then the one
    /// that both ends may use, then the longest-lived.
    ///
    /// # Errors
    /// `certificate-none` if no certificate carries the domain; otherwise why none of those that do can be used:
    /// `certificate-expired`, `certificate-not-yet-valid`, `certificate-wrong-purpose`.
    pub fn choose(&self, domain: &Domain, role: Role, now: SystemTime) -> Result<Arc<Certificate>, Reason> {
        let carrying = || self.certificates.iter().filter(|certificate| certificate.names.covers(domain));
        let best = carrying()
            .filter(|c| c.is_valid_at(now) && c.purposes.allow(role))
            .max_by_key(|c| (c.names_exactly(domain), c.purposes.allow(Role::Receiving), c.names.not_after));
        match best {
            Some(certificate) => Ok(Arc::clone(certificate)),
            None => Err(carrying().map(|c| unusable(c, role, now)).min().unwrap_or(Reason::CertificateNone)),
        }
    }
}

/// Why a certificate that carries the name can't be used. `Reason` orders expired before not yet valid before wrong
/// purpose, which is also the order in which they help an operator.
fn unusable(certificate: &Certificate, role: Role, now: SystemTime) -> Reason {
    if !certificate.purposes.allow(role) {
        Reason::CertificateWrongPurpose
    } else if now < certificate.not_before {
        Reason::CertificateNotYetValid
    } else {
        Reason::CertificateExpired
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
