//! What one handshake found out about its peer, kept where the rest of the relay can read it.
//!
//! rustls tells the peer by an alert why it was refused, and quinn tells us no more than that alert. The verifier
//! writes its own words here instead: one [`Verdict`] for each connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::{AlertDescription, PeerIncompatible};

use super::certificate::{Certificate, KeyPurposes};
use super::trust::TrustStore;
use crate::proto::discovery::pins::KeyDigest;
use crate::proto::proof::CertifiedNames;
use crate::reason::Reason;

/// Who is at the other end: a certificate that was verified, and whose key signed this handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The domains that it proves, until when, and which of them count.
    pub names: CertifiedNames,
    /// The keys of the verified path, from its own to the authority's, for the pins that a domain may publish.
    pub keys: Arc<[KeyDigest]>,
    /// Its extended key usage.
    pub purposes: KeyPurposes,
    /// The subject, for logs. It proves nothing.
    pub subject: String,
    /// The issuer, for logs.
    pub issuer: String,
    /// The serial number, for logs.
    pub serial: String,
}

/// What one handshake found out. Clones share it. It belongs to one connection; a second handshake starts it anew.
#[derive(Debug, Clone, Default)]
pub struct Verdict(Arc<Mutex<Slot>>);

/// A certificate as the other end showed it, whether it was good or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The XMPP domains in it; wildcards with their `*.`.
    pub names: Vec<String>,
    /// From when it is good.
    pub not_before: SystemTime,
    /// Until when it is good.
    pub not_after: SystemTime,
    /// Its extended key usage.
    pub purposes: KeyPurposes,
    /// The subject.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
}

#[derive(Debug, Default)]
struct Slot {
    trust: Option<Arc<TrustStore>>,
    shown: Option<Arc<Certificate>>,
    seen: Option<Seen>,
    peer: Peer,
}

/// How far the peer has come.
#[derive(Debug, Default)]
enum Peer {
    /// No certificate yet.
    #[default]
    Silent,
    /// Its certificate is good, but anybody may have sent that: certificates are public.
    Presented(Arc<PeerIdentity>),
    /// It signed the handshake with the certificate's key.
    Proven(Arc<PeerIdentity>),
    /// One of the two was not good; or we had none to show.
    Refused(Reason),
}

impl Verdict {
    /// The peer, once its certificate was verified and it has shown that it holds the key. Use it when the handshake
    /// is complete.
    #[must_use]
    pub fn peer(&self) -> Option<Arc<PeerIdentity>> {
        match &self.slot().peer {
            Peer::Proven(identity) => Some(Arc::clone(identity)),
            Peer::Silent | Peer::Presented(_) | Peer::Refused(_) => None,
        }
    }

    /// Why we refused the peer, if we did.
    #[must_use]
    pub fn refused(&self) -> Option<Reason> {
        match self.slot().peer {
            Peer::Refused(reason) => Some(reason),
            Peer::Silent | Peer::Presented(_) | Peer::Proven(_) => None,
        }
    }

    /// The authorities by which the peer is judged.
    pub(crate) fn trust(&self) -> Option<Arc<TrustStore>> {
        self.slot().trust.clone()
    }

    /// The certificate of ours that this handshake showed to the peer. As a client: if the server asked for one.
    #[must_use]
    pub fn shown(&self) -> Option<Arc<Certificate>> {
        self.slot().shown.clone()
    }

    /// The certificate that the other end showed, for people. It proves nothing.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        self.slot().seen.clone()
    }

    /// Why the handshake failed, given the TLS alert that ended it, sent or received (in QUIC the low octet of a
    /// transport error 0x0100 to 0x01ff, RFC 9001 section 4.8). Our own finding comes first.
    #[must_use]
    pub fn reason(&self, alert: Option<u8>) -> Reason {
        self.refused().or_else(|| alert.map(of_alert)).unwrap_or(Reason::HandshakeFailed)
    }

    /// Why the handshake failed, given the error that rustls returned: for TLS over TCP.
    #[must_use]
    pub fn reason_of(&self, error: &rustls::Error) -> Reason {
        self.refused().unwrap_or(match error {
            rustls::Error::AlertReceived(alert) => of_alert(u8::from(*alert)),
            rustls::Error::NoCertificatesPresented => Reason::CertificateMissing,
            rustls::Error::NoApplicationProtocol => Reason::AlpnRefused,
            rustls::Error::InvalidCertificate(_) => Reason::CertificateInvalid,
            // Only clients from before TLS 1.2 leave the extension out, and it is looked for before the version is.
            rustls::Error::PeerIncompatible(
                PeerIncompatible::SignatureAlgorithmsExtensionRequired
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Reason::TlsVersion,
            _ => Reason::HandshakeFailed,
        })
    }

    /// That of a handshake in which `shown` was shown to a proven `peer`.
    #[cfg(test)]
    pub(crate) fn of(shown: &Arc<Certificate>, peer: PeerIdentity) -> Self {
        let verdict = Self::default();
        verdict.show(shown);
        verdict.present(peer);
        verdict.prove();
        verdict
    }

    /// By these.
    pub(crate) fn judged_by(&self, trust: &Arc<TrustStore>) {
        self.slot().trust = Some(Arc::clone(trust));
    }

    pub(super) fn show(&self, certificate: &Arc<Certificate>) {
        self.slot().shown = Some(Arc::clone(certificate));
    }

    pub(super) fn saw(&self, seen: Seen) {
        self.slot().seen = Some(seen);
    }

    pub(super) fn present(&self, identity: PeerIdentity) {
        self.slot().peer = Peer::Presented(Arc::new(identity));
    }

    pub(super) fn refuse(&self, reason: Reason) {
        self.slot().peer = Peer::Refused(reason);
    }

    /// The signature over the handshake was good.
    pub(super) fn prove(&self) {
        let mut slot = self.slot();
        if let Peer::Presented(identity) = &slot.peer {
            slot.peer = Peer::Proven(Arc::clone(identity));
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // Every change is one assignment, so that a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A TLS alert in our words (RFC 8446 section 6.2). What a peer says about our certificate is as vague as its alert.
fn of_alert(alert: u8) -> Reason {
    match AlertDescription::from(alert) {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => Reason::CertificateMissing,
        AlertDescription::CertificateExpired => Reason::CertificateExpired,
        AlertDescription::UnknownCA => Reason::CertificateUnknownIssuer,
        AlertDescription::UnsupportedCertificate => Reason::CertificateWrongPurpose,
        AlertDescription::BadCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown => Reason::CertificateInvalid,
        AlertDescription::NoApplicationProtocol => Reason::AlpnRefused,
        AlertDescription::ProtocolVersion => Reason::TlsVersion,
        // rustls servers answer a name that they have no certificate for with access_denied.
        AlertDescription::UnrecognisedName | AlertDescription::AccessDenied => Reason::HostUnknown,
        _ => Reason::HandshakeFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::proof::TrustScope;
    use std::collections::BTreeSet;

    fn identity() -> PeerIdentity {
        let names = CertifiedNames {
            exact: BTreeSet::new(),
            wildcard: BTreeSet::new(),
            not_after: SystemTime::UNIX_EPOCH,
            scope: TrustScope::everything(),
        };
        let purposes = KeyPurposes::default();
        PeerIdentity {
            names,
            keys: Arc::new([]),
            purposes,
            subject: String::new(),
            issuer: String::new(),
            serial: String::new(),
        }
    }

    #[test]
    fn a_good_certificate_is_nobody_until_its_key_has_signed() {
        let verdict = Verdict::default();
        verdict.prove();
        assert!(verdict.peer().is_none(), "a signature without a certificate");
        verdict.present(identity());
        assert!(verdict.peer().is_none(), "a certificate without a signature");
        verdict.prove();
        assert!(verdict.peer().is_some());
        verdict.present(identity());
        assert!(verdict.peer().is_none(), "another handshake starts anew");
    }

    #[test]
    fn our_own_finding_says_more_than_an_alert() {
        let verdict = Verdict::default();
        assert_eq!(verdict.reason(None), Reason::HandshakeFailed);
        assert_eq!(verdict.reason(Some(120)), Reason::AlpnRefused);
        verdict.refuse(Reason::CertificateNotYetValid);
        assert_eq!(verdict.reason(Some(45)), Reason::CertificateNotYetValid);
    }
}
