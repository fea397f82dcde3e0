//! What is wrong in a certificates folder, for people: which file, what, and what to do.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub file: PathBuf,
    /// What.
    pub kind: ProblemKind,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The system doesn't let us read it; what it says.
    Unreadable(String),
    /// Larger than any certificate or key.
    TooLarge,
    /// Not PEM; what is wrong.
    NotPem(String),
    /// A certificate in it can't be read.
    BadCertificate,
    /// A key in it is of no kind that TLS can use here.
    UnsupportedKey,
    /// A key in it is behind a passphrase.
    EncryptedKey,
    /// A certificate whose key is nowhere in the folder.
    CertificateWithoutKey,
    /// A key whose certificate is nowhere in the folder.
    KeyWithoutCertificate,
    /// A certificate and a key that lie side by side don't belong together; the key's file.
    KeyMismatch(PathBuf),
    /// A certificate authority's certificate, where an end-entity certificate should be.
    Authority,
    /// No dNSName, SRVName or XmppAddr that is a domain.
    NoNames,
    /// Extended key usage without serverAuth: peers refuse it when they dial us.
    NotForServers,
    /// Past its notAfter.
    Expired,
    /// Before its notBefore.
    NotYetValid,
    /// An issuer in its chain has expired.
    IssuerExpired,
    /// Every user of the machine can read the key.
    WorldReadableKey,
}

impl ProblemKind {
    /// Whether the certificate is used all the same.
    #[must_use]
    pub const fn is_warning(&self) -> bool {
        matches!(self, Self::WorldReadableKey | Self::IssuerExpired | Self::NotForServers)
    }

    /// What the operator can do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "let the relay's user read it (chmod, chown, or the group of the keys)",
            Self::TooLarge => "keep only certificates and keys in the folder",
            Self::NotPem(_) => {
                "convert it (openssl x509 -inform der, or openssl pkey), or move it out of the folder"
            }
            Self::BadCertificate => "look at it with openssl x509 -text, and issue it again",
            Self::UnsupportedKey => "use an ECDSA P-256 or P-384, RSA (2048 bits or more) or Ed25519 key",
            Self::EncryptedKey => {
                "store it without a passphrase (openssl pkey -in OLD -out NEW), readable by the relay alone"
            }
            Self::CertificateWithoutKey => {
                "put its private key into the folder, or move the certificate out of it"
            }
            Self::KeyWithoutCertificate => "put its certificate into the folder, or move the key out of it",
            Self::KeyMismatch(_) => "replace the one that is out of date; a renewal writes both",
            Self::Authority => {
                "issue a certificate for the hosts with it (CA:FALSE); peers refuse an authority's own"
            }
            Self::NoNames => {
                "issue it with the domains as subject alternative names; the common name never counts"
            }
            Self::NotForServers => "issue it with the serverAuth extended key usage",
            Self::Expired => "renew it",
            Self::NotYetValid => "check the clock of this machine",
            Self::IssuerExpired => "renew the chain file; the authority has newer intermediate certificates",
            Self::WorldReadableKey => "take it away from the others: chmod o= FILE",
        }
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable(error) => return write!(f, "can't be read: {error}"),
            Self::NotPem(detail) => return write!(f, "is not PEM: {detail}"),
            Self::KeyMismatch(key) => {
                return write!(f, "the key in {} is not this certificate's", key.display());
            }
            Self::TooLarge => "is too large to be a certificate or a key",
            Self::BadCertificate => "holds a certificate that can't be read",
            Self::UnsupportedKey => "holds a private key of an unsupported kind",
            Self::EncryptedKey => "holds a private key behind a passphrase",
            Self::CertificateWithoutKey => "holds a certificate whose private key is not in the folder",
            Self::KeyWithoutCertificate => "holds a private key whose certificate is not in the folder",
            Self::Authority => "is a certificate authority's certificate (CA:TRUE)",
            Self::NoNames => "carries no domain",
            Self::NotForServers => "its extended key usage lacks serverAuth",
            Self::Expired => "has expired",
            Self::NotYetValid => "is not yet valid",
            Self::IssuerExpired => "an intermediate certificate in its chain has expired",
            Self::WorldReadableKey => "holds a private key that every user of this machine can read",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.file.display(), self.kind, self.kind.advice())
    }
}
