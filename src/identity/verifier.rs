//! Who is at the other end: RFC 6120 section 13.7.2 and XEP-0178, the same for servers and clients.
//!
//! rustls asks a verifier twice: is this chain good, and did its key sign the handshake? The first answer makes a
//! [`PeerIdentity`], the second one proves it. A server must also carry the domain that we dialled, by our own reading
//! of its names: rustls and webpki know dNSName alone, and XMPP certificates may have none.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::certificate::{CertificateFacts, Role};
use super::chain::{ChainRules, PresentedChain};
use super::trust::TrustStore;
use super::verdict::{PeerIdentity, Seen, Verdict};
use crate::proto::discovery::pins::Pins;
use crate::proto::proof::{CertifiedNames, TrustScope};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// Judges the peer of one connection, and leaves its finding in that connection's [`Verdict`].
#[derive(Debug)]
pub struct PeerVerifier {
    trust: Arc<TrustStore>,
    algorithms: WebPkiSupportedAlgorithms,
    peer: ExpectedPeer,
    verdict: Verdict,
}

/// Whom this connection waits for.
#[derive(Debug)]
pub(super) enum ExpectedPeer {
    /// Somebody dialled us, and may carry any names. `anonymous`: it may show no certificate at all; one that it shows
    /// must be good all the same.
    Client { anonymous: bool },
    /// We dialled this domain: the server must carry it, and have one of the keys that it publishes, if it publishes any.
    Server { domain: Domain, pins: Pins },
}

impl ExpectedPeer {
    fn role(&self) -> Role {
        match self {
            Self::Client { .. } => Role::Initiating,
            Self::Server { .. } => Role::Receiving,
        }
    }
}

impl PeerVerifier {
    pub(super) fn new(
        trust: Arc<TrustStore>,
        algorithms: WebPkiSupportedAlgorithms,
        peer: ExpectedPeer,
        verdict: Verdict,
    ) -> Self {
        Self { trust, algorithms, peer, verdict }
    }

    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        match self.identify(end_entity, intermediates, now) {
            Ok(identity) => {
                self.verdict.present(identity);
                Ok(())
            }
            Err(reason) => {
                self.verdict.refuse(reason);
                Err(Error::InvalidCertificate(told_to_peer(reason)))
            }
        }
    }

    fn identify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerIdentity, Reason> {
        let presented = PresentedChain::read(end_entity, intermediates)?;
        self.verdict.saw(seen(&presented.facts));
        let rules = ChainRules { algorithms: self.algorithms, role: self.peer.role(), now };
        let chain = self.trust.verify(&presented, &rules)?;
        let facts = presented.facts;
        let mut names = facts.names.dns;
        // Name constraints of an issuer were checked for dNSName only. Such an issuer could write any domain into the
        // other two forms, so below it they don't count.
        if !chain.constrained {
            names.extend(facts.names.other);
        }
        let names = CertifiedNames {
            exact: names.exact,
            wildcard: names.wildcard,
            not_after: chain.not_after,
            scope: chain.scope,
        };
        if let ExpectedPeer::Server { domain, pins } = &self.peer {
            check_name(&names, domain)?;
            // Only now: a pin adds to all that is asked for without it, and replaces nothing.
            if !pins.allow(&chain.keys) {
                return Err(Reason::CertificatePinMismatch);
            }
        }
        let CertificateFacts { purposes, subject, issuer, serial, .. } = facts;
        Ok(PeerIdentity { names, keys: chain.keys.into(), purposes, subject, issuer, serial })
    }

    fn judge_signature(
        &self,
        outcome: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        match outcome {
            Ok(_) => self.verdict.prove(),
            Err(_) => self.verdict.refuse(Reason::CertificateInvalid),
        }
        outcome
    }

    fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge_signature(verify_tls12_signature(message, certificate, signature, &self.algorithms))
    }

    fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge_signature(verify_tls13_signature(message, certificate, signature, &self.algorithms))
    }
}

fn seen(facts: &CertificateFacts) -> Seen {
    let all = [&facts.names.dns, &facts.names.other];
    let exact = all.iter().flat_map(|names| names.exact.iter().map(ToString::to_string));
    let wildcards = all.iter().flat_map(|names| names.wildcard.iter().map(|parent| format!("*.{parent}")));
    Seen {
        names: exact.chain(wildcards).collect(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        purposes: facts.purposes,
        subject: facts.subject.clone(),
        issuer: facts.issuer.clone(),
    }
}

/// The certificate of the server that we dialled carries `expected`.
fn check_name(names: &CertifiedNames, expected: &Domain) -> Result<(), Reason> {
    if names.covers(expected) {
        return Ok(());
    }
    let unscoped = CertifiedNames { scope: TrustScope::everything(), ..names.clone() };
    // Where the name is there, whoever signed it may not vouch for it.
    Err(if unscoped.covers(expected) {
        Reason::CertificateUnknownIssuer
    } else {
        Reason::CertificateWrongName
    })
}

/// What the alert will say (rustls makes it from this error).
fn told_to_peer(reason: Reason) -> CertificateError {
    match reason {
        Reason::CertificateExpired => CertificateError::Expired,
        Reason::CertificateNotYetValid => CertificateError::NotValidYet,
        Reason::CertificateUnknownIssuer => CertificateError::UnknownIssuer,
        Reason::CertificateWrongName => CertificateError::NotValidForName,
        Reason::CertificateWrongPurpose => CertificateError::InvalidPurpose,
        // certificate_unknown: it can be read, and is not acceptable for a reason of ours.
        Reason::CertificatePinMismatch => CertificateError::Other(OtherError(Arc::new(reason))),
        _ => CertificateError::BadEncoding,
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        !matches!(self.peer, ExpectedPeer::Client { anonymous: true })
    }

    /// A public relay takes certificates of a hundred authorities: naming them would only cost octets.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
