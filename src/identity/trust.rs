//! Whom we believe: the authorities of `[identity] trust`, and those that single peers are pinned to.
//!
//! A chain is verified against each set on its own, because it matters which one signed it: a pinned authority vouches
//! for its own domains alone, and for those nobody else does (`TrustScope`).

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use super::chain::{ChainRules, PresentedChain};
use super::pem;
use crate::proto::discovery::pins::KeyDigest;
use crate::proto::proof::TrustScope;
use crate::reason::Reason;
use crate::xmpp::domain::DomainPattern;

/// Largest file of authorities that is read, in octets: the system's own bundles stay below a megabyte.
const ANCHOR_FILE_BYTES_MAX: u64 = 16 << 20;

/// A set of certificate authorities. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Anchors(Arc<[TrustAnchor<'static>]>);

/// Why a set of authorities can't be had.
#[derive(Debug, thiserror::Error)]
pub enum AnchorsError {
    /// The file can't be read.
    #[error("{}: can't be read: {error}; check [identity] trust or the peer's trust", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Not PEM, or too large.
    #[error("{}: is not a PEM file of certificates: {detail}", file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// No certificate in it.
    #[error("{}: holds no certificate; put the authority's certificate into it, in PEM", file.display())]
    NoCertificates {
        /// The file.
        file: PathBuf,
    },
    /// A certificate in it can't be an authority.
    #[error("{}: certificate {number} can't be read as an authority's; look at it with openssl x509 -text", file.display())]
    BadCertificate {
        /// The file.
        file: PathBuf,
        /// Which, counted from 1.
        number: usize,
    },
    /// The system has none.
    #[error(
        "the system has no certificate authorities{detail}; install ca-certificates, or name a PEM file in [identity] trust"
    )]
    NoneInSystem {
        /// What was tried, with a leading colon; or nothing.
        detail: String,
    },
}

impl Anchors {
    /// No authority at all: what pinned sets alone may vouch for is all that is believed.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::new([]))
    }

    /// The operating system's authorities. A certificate among them that can't be read is left out.
    ///
    /// # Errors
    /// [`AnchorsError::NoneInSystem`] if there are none at all.
    pub fn system() -> Result<Self, AnchorsError> {
        let found = rustls_native_certs::load_native_certs();
        let anchors: Arc<[_]> = found.certs.iter().filter_map(anchor).collect();
        if anchors.is_empty() {
            let detail = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(AnchorsError::NoneInSystem { detail });
        }
        Ok(Self(anchors))
    }

    /// The certificates in a PEM file, every one of them an authority.
    ///
    /// # Errors
    /// [`AnchorsError`] if it can't be read, isn't PEM, or holds no certificate or a broken one.
    pub fn from_pem_file(path: &Path) -> Result<Self, AnchorsError> {
        let unreadable = |error| AnchorsError::Unreadable { file: path.to_owned(), error };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        if bytes > ANCHOR_FILE_BYTES_MAX {
            let detail = format!("it has {bytes} octets, {ANCHOR_FILE_BYTES_MAX} are allowed");
            return Err(AnchorsError::NotPem { file: path.to_owned(), detail });
        }
        Self::read(&std::fs::read(path).map_err(unreadable)?, path)
    }

    /// The certificates in a PEM text.
    ///
    /// # Errors
    /// [`AnchorsError`], with `(text)` as the file.
    pub fn from_pem(text: &str) -> Result<Self, AnchorsError> {
        Self::read(text.as_bytes(), Path::new("(text)"))
    }

    fn read(text: &[u8], path: &Path) -> Result<Self, AnchorsError> {
        let file = path.to_owned();
        let certificates = match pem::read(text) {
            Ok(contents) => contents.certificates,
            Err(error) => return Err(AnchorsError::NotPem { file, detail: error.to_string() }),
        };
        if certificates.is_empty() {
            return Err(AnchorsError::NoCertificates { file });
        }
        let mut anchors = Vec::with_capacity(certificates.len());
        for (index, certificate) in certificates.iter().enumerate() {
            match anchor(certificate) {
                Some(anchor) => anchors.push(anchor),
                None => return Err(AnchorsError::BadCertificate { file, number: index + 1 }),
            }
        }
        Ok(Self(anchors.into()))
    }

    /// For a TLS that knows no names but dNSName, as the web's.
    pub(super) fn roots(&self) -> RootCertStore {
        RootCertStore { roots: self.0.to_vec() }
    }

    /// How many authorities.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn anchor(certificate: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    webpki::anchor_from_trusted_cert(certificate).ok().map(|anchor| anchor.to_owned())
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Anchors({})", self.len())
    }
}

/// All authorities that we believe, and about whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustStore {
    general: Anchors,
    pinned: Vec<(Vec<DomainPattern>, Anchors)>,
}

/// What the verification of a chain found out.
#[derive(Debug)]
pub(super) struct VerifiedChain {
    /// Which of the certificate's names count.
    pub(super) scope: TrustScope,
    /// The earliest notAfter of the path, its authority not counted.
    pub(super) not_after: SystemTime,
    /// An issuer on the path binds the names below it.
    pub(super) constrained: bool,
    /// The keys of its certificates.
    pub(super) keys: Vec<KeyDigest>,
}

impl TrustStore {
    /// Believe `general` about every domain but those of `pinned`, and each pinned set about its domains alone.
    #[must_use]
    pub fn new(general: Anchors, pinned: Vec<(Vec<DomainPattern>, Anchors)>) -> Self {
        Self { general, pinned }
    }

    /// Whether the peers that have `name` are pinned to the same authorities in `other`, wherever these were read from.
    pub(crate) fn pins_alike(&self, other: &Self, name: &DomainPattern) -> bool {
        self.pinned_to(name) == other.pinned_to(name)
    }

    /// Whether all of them are.
    pub(crate) fn pins_all_alike(&self, other: &Self) -> bool {
        self.pinned == other.pinned
    }

    fn pinned_to(&self, name: &DomainPattern) -> HashSet<&TrustAnchor<'static>> {
        let has_name = |domains: &[DomainPattern]| domains.iter().any(|rule| rule.overlaps(name));
        let concerned = self.pinned.iter().filter(|(domains, _)| has_name(domains));
        concerned.flat_map(|(_, anchors)| anchors.0.iter()).collect()
    }

    /// Verify the chain of a peer with this role against every set.
    pub(super) fn verify(
        &self,
        chain: &PresentedChain<'_>,
        rules: &ChainRules,
    ) -> Result<VerifiedChain, Reason> {
        let mut scope = TrustScope::default();
        let mut not_after = chain.facts.not_after;
        let mut constrained = false;
        let mut keys = Vec::new();
        let mut verified = false;
        let mut refusal = Reason::CertificateUnknownIssuer;
        let sets = self.pinned.iter().map(|(domains, anchors)| (Some(domains), anchors));
        for (domains, anchors) in sets.chain([(None, &self.general)]) {
            match rules.path(chain, &anchors.0) {
                Ok(path) => {
                    verified = true;
                    not_after = not_after.min(path.not_after.unwrap_or(not_after));
                    constrained |= path.constrained;
                    keys.extend(path.keys);
                    match domains {
                        Some(domains) => scope.only.extend(domains.iter().cloned()),
                        None => scope.general = true,
                    }
                }
                Err(reason) => {
                    scope.except.extend(domains.into_iter().flatten().cloned());
                    // Any other reason comes from a set that knows the issuer, and says more.
                    if refusal == Reason::CertificateUnknownIssuer {
                        refusal = reason;
                    }
                }
            }
        }
        if verified { Ok(VerifiedChain { scope, not_after, constrained, keys }) } else { Err(refusal) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::development::{DevelopmentCa, Request};

    #[test]
    fn a_file_of_authorities_that_is_no_good_says_what_and_where() {
        let folder = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::create().unwrap();
        let file = folder.path().join("trust.pem");
        let told = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Anchors::from_pem_file(&file).unwrap_err().to_string()
        };
        let damaged = ca.ca_pem().replace("-----END CERTIFICATE-----", "");
        let key = ca.issue(&Request::default()).unwrap().key;
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cases = [
            (String::new(), "holds no certificate"),
            (key, "holds no certificate"),
            (damaged, "is not a PEM file of certificates: a section has no END line"),
            (format!("{}{broken}", ca.ca_pem()), "certificate 2 can't be read"),
        ];
        for (text, expected) in cases {
            let told = told(&text);
            assert!(told.starts_with(&file.display().to_string()) && told.contains(expected), "{told}");
        }
        let missing = Anchors::from_pem_file(&folder.path().join("none.pem")).unwrap_err().to_string();
        assert!(missing.contains("none.pem: can't be read"), "{missing}");
    }

    #[test]
    fn a_file_of_authorities_is_read_whole() {
        let pem: String = (0..3).map(|_| DevelopmentCa::create().unwrap().ca_pem().to_owned()).collect();
        assert_eq!(Anchors::from_pem(&pem).unwrap().len(), 3);
        assert!(Anchors::none().is_empty());
    }
}
