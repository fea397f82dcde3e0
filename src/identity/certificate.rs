//! What stands in one certificate, and a certificate of ours with its key.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::asn1_rs::FromDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;

use super::names::{self, PresentedNames};
use crate::proto::proof::{CertifiedNames, TrustScope};
use crate::xmpp::domain::Domain;

/// Which end of a handshake presents a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The TLS or QUIC client: the initiating entity.
    Initiating,
    /// The TLS or QUIC server: the receiving entity.
    Receiving,
}

/// The extended key usage (RFC 5280 section 4.2.1.12), as far as it matters between XMPP servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyPurposes {
    /// The extension is there. Without it a key is good for anything.
    pub stated: bool,
    /// serverAuth, or anyExtendedKeyUsage.
    pub server_auth: bool,
    /// clientAuth, or anyExtendedKeyUsage.
    pub client_auth: bool,
}

impl KeyPurposes {
    /// Whether a peer takes such a certificate from the end with this role.
    ///
    /// As a client's it may be a serverAuth one: public authorities no longer issue clientAuth, and between servers
    /// both ends are servers.
    #[must_use]
    pub const fn allow(self, role: Role) -> bool {
        match role {
            Role::Receiving => !self.stated || self.server_auth,
            Role::Initiating => !self.stated || self.server_auth || self.client_auth,
        }
    }
}

impl fmt::Display for KeyPurposes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.stated, self.server_auth, self.client_auth) {
            (false, ..) => "any",
            (true, true, true) => "serverAuth, clientAuth",
            (true, true, false) => "serverAuth",
            (true, false, true) => "clientAuth",
            (true, false, false) => "neither serverAuth nor clientAuth",
        })
    }
}

/// What stands in a certificate, verified or not.
#[derive(Debug, Clone)]
pub struct CertificateFacts {
    /// The XMPP domains.
    pub names: PresentedNames,
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// Extended key usage.
    pub purposes: KeyPurposes,
    /// The subject's distinguished name, for people.
    pub subject: String,
    /// The issuer's distinguished name, for people.
    pub issuer: String,
    /// The serial number in hexadecimal, for people.
    pub serial: String,
    /// The public key: SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// It signs other certificates, and is nobody's own.
    pub is_authority: bool,
    /// It binds the names in what it signs.
    pub constrains_names: bool,
}

/// The octets are no X.509 certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an X.509 certificate")]
pub struct NotACertificate;

impl CertificateFacts {
    /// Read a certificate in DER.
    ///
    /// # Errors
    /// [`NotACertificate`] if it can't be read as a whole.
    pub fn read(der: &[u8]) -> Result<Self, NotACertificate> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| NotACertificate)?;
        if !rest.is_empty() {
            return Err(NotACertificate);
        }
        Ok(Self {
            names: names::presented(&certificate),
            not_before: system_time(certificate.validity().not_before),
            not_after: system_time(certificate.validity().not_after),
            purposes: purposes(&certificate)?,
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.raw_serial_as_string(),
            public_key: certificate.public_key().raw.to_vec(),
            is_authority: certificate.is_ca(),
            constrains_names: certificate.name_constraints().map_err(|_| NotACertificate)?.is_some(),
        })
    }
}

fn purposes(certificate: &X509Certificate<'_>) -> Result<KeyPurposes, NotACertificate> {
    let extension = certificate.extended_key_usage().map_err(|_| NotACertificate)?;
    Ok(extension.map_or_else(KeyPurposes::default, |extension| KeyPurposes {
        stated: true,
        server_auth: extension.value.any || extension.value.server_auth,
        client_auth: extension.value.any || extension.value.client_auth,
    }))
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = Duration::from_secs(time.timestamp().unsigned_abs());
    let time = if time.timestamp() < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A certificate of ours with its key.
pub struct Certificate {
    /// Its domains. Peers decide which path they verify, so `not_after` is that of the certificate itself.
    pub names: CertifiedNames,
    /// Start of its validity.
    pub not_before: SystemTime,
    /// Its extended key usage.
    pub purposes: KeyPurposes,
    /// The subject, for people.
    pub subject: String,
    /// The issuer, for people.
    pub issuer: String,
    /// The serial number, for people.
    pub serial: String,
    /// The files that it and its key were read from.
    pub files: Vec<PathBuf>,
    pub(super) certified_key: Arc<CertifiedKey>,
}

impl Certificate {
    pub(super) fn new(facts: CertificateFacts, key: CertifiedKey, files: Vec<PathBuf>) -> Self {
        let mut names = facts.names.dns;
        names.extend(facts.names.other);
        Self {
            names: CertifiedNames {
                exact: names.exact,
                wildcard: names.wildcard,
                not_after: facts.not_after,
                scope: TrustScope::everything(),
            },
            not_before: facts.not_before,
            purposes: facts.purposes,
            subject: facts.subject,
            issuer: facts.issuer,
            serial: facts.serial,
            files,
            certified_key: Arc::new(key),
        }
    }

    /// Whether it carries `domain` by its full name, not by a wildcard.
    #[must_use]
    pub fn names_exactly(&self, domain: &Domain) -> bool {
        self.names.exact.contains(domain)
    }

    /// Whether `now` lies within its validity.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.names.not_after
    }

    /// The chain as it is sent, in DER, its own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified_key.cert
    }
}

/// The octets of a chain would fill the log.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject)
            .field("serial", &self.serial)
            .field("names", &self.names)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
