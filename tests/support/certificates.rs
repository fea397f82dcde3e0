//! An authority of the test's own, and what it issues.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedmux::identity::development::{DevelopmentCa, IssuedPem, Request};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tempfile::TempDir;
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;

/// A certificate authority, with its own certificate in a file for `[identity] trust`.
pub(crate) struct Authority {
    ca: DevelopmentCa,
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let ca = DevelopmentCa::create().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), ca.ca_pem()).unwrap();
        Self { ca, folder }
    }

    /// The pin of its key (RFC 7469).
    pub(crate) fn pin(&self) -> [u8; 32] {
        pin(self.ca.ca_pem())
    }

    /// Where its certificate is.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Issue what is asked for.
    pub(crate) fn issue(&self, request: &Request<'_>) -> Certificate {
        Certificate(self.ca.issue(request).unwrap())
    }

    /// Issue a certificate with these dNSNames, as public authorities do.
    pub(crate) fn certify(&self, domains: &[&str]) -> Certificate {
        self.issue(&Request { dns: domains, ..Request::default() })
    }
}

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct Certificate(IssuedPem);

impl Certificate {
    /// One that vouches for itself, as `openssl req -x509` makes it: for these dNSNames, and as an authority.
    pub(crate) fn self_signed(domains: &[&str]) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = domains.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().pem();
        Self(IssuedPem { certificate, key: key.serialize_pem() })
    }

    /// For a TLS configuration.
    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        let certificate = CertificateDer::from_pem_slice(self.0.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.0.key.as_bytes()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(vec![certificate], key))
    }

    /// The pin of its key (RFC 7469).
    pub(crate) fn pin(&self) -> [u8; 32] {
        pin(&self.0.certificate)
    }

    /// Put it into `folder` as `NAME.pem`, as a relay reads it.
    pub(crate) fn write_into(&self, folder: &Path, name: &str) {
        let file = folder.join(format!("{name}.pem"));
        fs::write(&file, format!("{}{}", self.0.certificate, self.0.key)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn pin(pem: &str) -> [u8; 32] {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate.public_key().raw);
    digest.as_ref().try_into().unwrap()
}
