//! Certificates and keys find each other by their public key, whatever their files are called.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::certificate::{Certificate, CertificateFacts, Role};
use super::folder;
use super::pem;
use super::problem::{Problem, ProblemKind};

/// Largest file that is read, in octets: a chain and its key need some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the files of a folder hold, until all of them are read.
#[derive(Default)]
pub(super) struct Pairing {
    /// By the certificate itself, in DER: certbot writes it twice, alone and with its chain.
    leaves: BTreeMap<Vec<u8>, Leaf>,
    /// By public key.
    keys: BTreeMap<Vec<u8>, Key>,
    /// Authorities' certificates by public key: the key of a development authority may lie beside it.
    authorities: BTreeMap<Vec<u8>, Authority>,
    /// Who issued the certificates of ours.
    issuers: BTreeSet<String>,
    problems: Vec<Problem>,
}

struct Leaf {
    facts: CertificateFacts,
    chain: Vec<CertificateDer<'static>>,
    issuers_not_after: Option<SystemTime>,
    files: Vec<PathBuf>,
}

struct Key {
    key: Arc<dyn SigningKey>,
    file: PathBuf,
    used: bool,
}

struct Authority {
    file: PathBuf,
    subject: String,
}

impl Pairing {
    /// Read one file.
    pub(super) fn read(&mut self, file: &Path) {
        let contents = folder::read_bounded(file, FILE_BYTES_MAX)
            .and_then(|text| pem::read(&text).map_err(|error| ProblemKind::NotPem(error.to_string())));
        let contents = match contents {
            Ok(contents) => contents,
            Err(kind) => return self.report(file, kind),
        };
        if contents.encrypted_key {
            return self.report(file, ProblemKind::EncryptedKey);
        }
        if contents.is_empty() {
            return self.report(file, ProblemKind::NotPem("it has no PEM section".to_owned()));
        }
        if !contents.keys.is_empty() && folder::is_world_readable(file) {
            self.report(file, ProblemKind::WorldReadableKey);
        }
        for key in contents.keys {
            self.add_key(file, &key);
        }
        self.add_certificates(file, contents.certificates);
    }

    fn report(&mut self, file: &Path, kind: ProblemKind) {
        self.problems.push(Problem { file: file.to_owned(), kind });
    }

    fn add_key(&mut self, file: &Path, der: &PrivateKeyDer<'static>) {
        let key = rustls::crypto::ring::sign::any_supported_type(der).ok();
        let public = key.as_ref().and_then(|key| Some(key.public_key()?.as_ref().to_vec()));
        match (key, public) {
            (Some(key), Some(public)) => {
                self.keys.entry(public).or_insert(Key { key, file: file.to_owned(), used: false });
            }
            _ => self.report(file, ProblemKind::UnsupportedKey),
        }
    }

    /// What is no authority's is one of ours; the authorities in its file are its chain.
    fn add_certificates(&mut self, file: &Path, certificates: Vec<CertificateDer<'static>>) {
        let mut leaves = Vec::new();
        let mut issuers = Vec::new();
        let mut issuers_not_after: Option<SystemTime> = None;
        for certificate in certificates {
            match CertificateFacts::read(&certificate) {
                Ok(facts) if facts.is_authority => {
                    let not_after = facts.not_after;
                    issuers_not_after = Some(issuers_not_after.map_or(not_after, |t| t.min(not_after)));
                    let authority = Authority { file: file.to_owned(), subject: facts.subject };
                    self.authorities.entry(facts.public_key).or_insert(authority);
                    issuers.push(certificate);
                }
                Ok(facts) => leaves.push((certificate, facts)),
                Err(_) => self.report(file, ProblemKind::BadCertificate),
            }
        }
        for (certificate, facts) in leaves {
            let id = certificate.to_vec();
            self.issuers.insert(facts.issuer.clone());
            let chain: Vec<_> = std::iter::once(certificate).chain(issuers.iter().cloned()).collect();
            let files = vec![file.to_owned()];
            let leaf = Leaf { facts, chain, issuers_not_after, files };
            self.leaves.entry(id).and_modify(|known| known.merge(&leaf)).or_insert(leaf);
        }
    }

    /// Pair what was read. The certificates that have a key, and everything that is wrong.
    pub(super) fn finish(mut self, now: SystemTime) -> (Vec<Arc<Certificate>>, Vec<Problem>) {
        let mut certificates = Vec::new();
        let mut alone = Vec::new();
        for leaf in std::mem::take(&mut self.leaves).into_values() {
            match self.keys.get_mut(&leaf.facts.public_key) {
                Some(key) => {
                    key.used = true;
                    let signing_key = Arc::clone(&key.key);
                    let mut files = leaf.files;
                    if !files.contains(&key.file) {
                        files.push(key.file.clone());
                    }
                    self.inspect(&files[0], &leaf.facts, leaf.issuers_not_after, now);
                    let certified = CertifiedKey::new(leaf.chain, signing_key);
                    certificates.push(Arc::new(Certificate::new(leaf.facts, certified, files)));
                }
                None => alone.push(leaf),
            }
        }
        self.report_lonely(&alone);
        certificates.sort_by(|a, b| a.files.cmp(&b.files));
        self.problems.sort_by(|a, b| a.file.cmp(&b.file));
        (certificates, self.problems)
    }

    /// What peers would refuse in a certificate that has its key.
    fn inspect(
        &mut self,
        file: &Path,
        facts: &CertificateFacts,
        issuers_not_after: Option<SystemTime>,
        now: SystemTime,
    ) {
        let findings = [
            (facts.names.dns.is_empty() && facts.names.other.is_empty(), ProblemKind::NoNames),
            (!facts.purposes.allow(Role::Receiving), ProblemKind::NotForServers),
            (facts.not_after < now, ProblemKind::Expired),
            (now < facts.not_before, ProblemKind::NotYetValid),
            (issuers_not_after.is_some_and(|time| time < now), ProblemKind::IssuerExpired),
        ];
        for (found, kind) in findings {
            if found {
                self.report(file, kind);
            }
        }
    }

    fn report_lonely(&mut self, alone: &[Leaf]) {
        for leaf in alone {
            let file = leaf.files[0].clone();
            let beside =
                self.keys.values_mut().find(|key| !key.used && lie_side_by_side(&leaf.files, &key.file));
            match beside {
                Some(key) => {
                    key.used = true;
                    let key = key.file.clone();
                    self.report(&file, ProblemKind::KeyMismatch(key));
                }
                None => self.report(&file, ProblemKind::CertificateWithoutKey),
            }
        }
        for (public, key) in std::mem::take(&mut self.keys) {
            match self.authorities.get(&public) {
                // An authority's key lies here for what it issues (`fedmux certs dev`). If it has issued nothing, it is
                // somebody's self-signed server certificate, as OpenSSL makes them by default.
                Some(authority) if self.issuers.contains(&authority.subject) => {}
                Some(authority) => {
                    let file = authority.file.clone();
                    self.report(&file, ProblemKind::Authority);
                }
                None if !key.used => self.report(&key.file, ProblemKind::KeyWithoutCertificate),
                None => {}
            }
        }
    }
}

impl Leaf {
    /// The same certificate in another file: the longer chain is the one to send.
    fn merge(&mut self, other: &Leaf) {
        if other.chain.len() > self.chain.len() {
            self.chain.clone_from(&other.chain);
            self.issuers_not_after = other.issuers_not_after;
        }
        self.files.extend(other.files.iter().cloned());
    }
}

/// Whether a key's file is called as if it belonged to one of a certificate's: `a.crt` and `a.key`, or certbot's names.
fn lie_side_by_side(certificate: &[PathBuf], key: &Path) -> bool {
    certificate.iter().any(|file| {
        file.parent() == key.parent()
            && (file.file_stem() == key.file_stem() || key.file_stem().is_some_and(|stem| stem == "privkey"))
    })
}
