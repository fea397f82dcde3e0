//! PEM (RFC 7468), by `rustls-pemfile`: the one file that knows that crate. It is archived, and wraps what
//! `rustls-pki-types` offers itself.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::Item;

/// What a relay looks for in a PEM file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Certificates, in the order of the file.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// Private keys.
    pub(super) keys: Vec<PrivateKeyDer<'static>>,
    /// It holds a key behind a passphrase, which nobody is there to type.
    pub(super) encrypted_key: bool,
    /// It holds sections of other kinds (requests, parameters, public keys).
    pub(super) others: bool,
}

impl Contents {
    /// Whether there was no section at all, not even of a kind that we don't look for.
    pub(super) fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.keys.is_empty() && !self.others
    }
}

/// Why a text is no PEM, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotPem(String);

/// Read all sections of `text`.
pub(super) fn read(text: &[u8]) -> Result<Contents, NotPem> {
    let mut contents = Contents {
        encrypted_key: contains(text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || contains(text, b"Proc-Type: 4,ENCRYPTED"),
        others: contains(text, b"-----BEGIN "),
        ..Contents::default()
    };
    if contents.encrypted_key {
        // What stands in an encrypted section is no key yet; the file is not used at all.
        return Ok(contents);
    }
    let mut rest = text;
    while let Some((item, behind)) = rustls_pemfile::read_one_from_slice(rest).map_err(not_pem)? {
        match item {
            Item::X509Certificate(certificate) => contents.certificates.push(certificate),
            Item::Pkcs1Key(key) => contents.keys.push(key.into()),
            Item::Pkcs8Key(key) => contents.keys.push(key.into()),
            Item::Sec1Key(key) => contents.keys.push(key.into()),
            _ => {}
        }
        rest = behind;
    }
    Ok(contents)
}

fn not_pem(error: rustls_pemfile::Error) -> NotPem {
    NotPem(match error {
        rustls_pemfile::Error::MissingSectionEnd { .. } => "a section has no END line".to_owned(),
        rustls_pemfile::Error::IllegalSectionStart { .. } => "a BEGIN line is damaged".to_owned(),
        rustls_pemfile::Error::Base64Decode(_) => "a section is not valid base64".to_owned(),
    })
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(text, what).is_some()
}
