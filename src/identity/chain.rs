//! One path from a peer's certificate to an authority: RFC 5280 section 6 by webpki, with the extended key usage that
//! XMPP servers have in practice (XEP-0178 section 3; PKIX purposes of RFC 6120 section 13.7.2).

use std::time::SystemTime;

use ring::digest;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext,
};

use super::certificate::{CertificateFacts, Role};
use crate::proto::discovery::pins::KeyDigest;
use crate::reason::Reason;

/// id-kp-serverAuth, 1.3.6.1.5.5.7.3.1
const SERVER_AUTH: KeyPurposeId<'static> = KeyPurposeId::new(&[0x2b, 6, 1, 5, 5, 7, 3, 1]);
/// id-kp-clientAuth, 1.3.6.1.5.5.7.3.2
const CLIENT_AUTH: KeyPurposeId<'static> = KeyPurposeId::new(&[0x2b, 6, 1, 5, 5, 7, 3, 2]);
/// anyExtendedKeyUsage, 2.5.29.37.0
const ANY_USAGE: KeyPurposeId<'static> = KeyPurposeId::new(&[0x55, 0x1d, 0x25, 0]);

/// The tag of SEQUENCE in DER.
const SEQUENCE: u8 = 0x30;

/// Most intermediate certificates that a peer may send. Real chains have one to three. The search for a path tries them in
/// every order, so that each one more multiplies what a stranger can make us compute.
const INTERMEDIATES_MAX: usize = 6;

/// A chain as the peer sent it, read but not yet verified.
pub(super) struct PresentedChain<'a> {
    end_entity: EndEntityCert<'a>,
    pub(super) facts: CertificateFacts,
    intermediates: &'a [CertificateDer<'a>],
    /// The issuers that it names, as webpki compares them.
    issuers: Vec<Vec<u8>>,
}

impl<'a> PresentedChain<'a> {
    pub(super) fn read(
        end_entity: &'a CertificateDer<'a>,
        intermediates: &'a [CertificateDer<'a>],
    ) -> Result<Self, Reason> {
        if intermediates.len() > INTERMEDIATES_MAX {
            return Err(Reason::CertificateInvalid);
        }
        let facts = CertificateFacts::read(end_entity).map_err(|_| Reason::CertificateInvalid)?;
        let end_entity = EndEntityCert::try_from(end_entity).map_err(|error| reason(&error))?;
        let mut issuers = vec![end_entity.issuer().to_vec()];
        // One that can't be read is of no use for a path, and does no harm to it.
        let readable = intermediates.iter().filter_map(|der| EndEntityCert::try_from(der).ok());
        issuers.extend(readable.map(|certificate| certificate.issuer().to_vec()));
        Ok(Self { end_entity, facts, intermediates, issuers })
    }

    /// Whether it names one of these as an issuer. Without that no path can end there, and with hundreds of pinned sets
    /// looking for one in each would be expensive.
    fn names_one_of(&self, anchors: &[TrustAnchor<'_>]) -> bool {
        anchors.iter().any(|anchor| self.issuers.iter().any(|issuer| issuer == anchor.subject.as_ref()))
    }
}

/// What every path must obey.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChainRules {
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    /// The role of the end that presents the certificate.
    pub(super) role: Role,
    pub(super) now: UnixTime,
}

/// What a path adds to the certificate at its end.
#[derive(Debug, Default)]
pub(super) struct VerifiedPath {
    /// The earliest notAfter of its intermediate certificates, if it has any. An authority's own doesn't count.
    pub(super) not_after: Option<SystemTime>,
    /// An issuer on the path binds the names below it.
    pub(super) constrained: bool,
    /// The keys of all its certificates, from the end's own to the authority's (RFC 7469 section 2.6).
    pub(super) keys: Vec<KeyDigest>,
}

impl ChainRules {
    /// Find a path from the end of `chain` to one of `anchors`.
    pub(super) fn path(
        &self,
        chain: &PresentedChain<'_>,
        anchors: &[TrustAnchor<'_>],
    ) -> Result<VerifiedPath, Reason> {
        if !chain.names_one_of(anchors) {
            return Err(Reason::CertificateUnknownIssuer);
        }
        let (algorithms, intermediates) = (self.algorithms.all, chain.intermediates);
        let path = chain
            .end_entity
            .verify_for_usage(algorithms, anchors, intermediates, self.now, self.role, None, None)
            .map_err(|error| reason(&error))?;
        let anchor = path.anchor();
        let mut verified = VerifiedPath {
            not_after: None,
            constrained: anchor.name_constraints.is_some(),
            keys: vec![key_digest(&chain.facts.public_key), anchor_digest(anchor)],
        };
        for intermediate in path.intermediate_certificates() {
            let facts =
                CertificateFacts::read(&intermediate.der()).map_err(|_| Reason::CertificateInvalid)?;
            verified.constrained |= facts.constrains_names;
            verified.keys.push(key_digest(&facts.public_key));
            verified.not_after = Some(verified.not_after.map_or(facts.not_after, |t| t.min(facts.not_after)));
        }
        Ok(verified)
    }
}

/// What a pin names: SHA-256 of a SubjectPublicKeyInfo in DER.
fn key_digest(public_key: &[u8]) -> KeyDigest {
    let mut digest = KeyDigest::default();
    digest.copy_from_slice(digest::digest(&digest::SHA256, public_key).as_ref());
    digest
}

/// The same of an authority, of whose SubjectPublicKeyInfo webpki keeps the contents alone.
fn anchor_digest(anchor: &TrustAnchor<'_>) -> KeyDigest {
    let contents = anchor.subject_public_key_info.as_ref();
    let mut der = vec![SEQUENCE];
    match u8::try_from(contents.len()) {
        Ok(short @ ..0x80) => der.push(short),
        _ => {
            let length = contents.len().to_be_bytes();
            let length: Vec<u8> = length.into_iter().skip_while(|octet| *octet == 0).collect();
            der.push(0x80 | u8::try_from(length.len()).unwrap_or_default());
            der.extend(length);
        }
    }
    der.extend_from_slice(contents);
    key_digest(&der)
}

/// webpki asks for every certificate of the path; one without the extension has no purposes, and is good for any.
impl ExtendedKeyUsageValidator for Role {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let mut present = Vec::new();
        for purpose in purposes {
            let purpose = purpose?;
            let good = purpose == SERVER_AUTH
                || purpose == ANY_USAGE
                || (*self == Role::Initiating && purpose == CLIENT_AUTH);
            if good {
                return Ok(());
            }
            present.push(purpose.to_decoded_oid());
        }
        if present.is_empty() {
            return Ok(());
        }
        let required = KeyUsage::server_auth();
        Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}

/// webpki's errors in our words.
fn reason(error: &Error) -> Reason {
    match error {
        Error::CertExpired { .. } => Reason::CertificateExpired,
        Error::CertNotValidYet { .. } => Reason::CertificateNotYetValid,
        Error::UnknownIssuer => Reason::CertificateUnknownIssuer,
        Error::RequiredEkuNotFoundContext(_) => Reason::CertificateWrongPurpose,
        _ => Reason::CertificateInvalid,
    }
}
