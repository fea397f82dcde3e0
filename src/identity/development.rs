//! A certificate authority to try things with: `fedmux certs dev`, the demo and the tests.
//!
//! It writes the three forms of names that XMPP servers use. SRVName is an IA5String (RFC 4985 section 2), which the
//! certificate library can't write inside otherName, so the whole subjectAltName extension is encoded here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use ring::digest;

use super::master_key::write_private;
use crate::xmpp::domain::Domain;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Certificates are valid from a little before they are made: clocks differ.
const BACKDATE: Duration = Duration::from_secs(3600);
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
/// As long as public authorities give (90 days), so that renewal is met in development too.
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// An extended key usage to put into a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// serverAuth
    Server,
    /// clientAuth
    Client,
    /// codeSigning: good for nothing here.
    CodeSigning,
}

/// What a certificate shall say.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// dNSName, as they are: A-labels, `*.` allowed.
    pub dns: &'a [&'a str],
    /// SRVName, with the service: `_xmpp-server.a1.test`.
    pub srv: &'a [&'a str],
    /// XmppAddr.
    pub xmpp: &'a [&'a str],
    /// Start of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// Extended key usage; empty: no such extension.
    pub purposes: &'a [Purpose],
    /// Common name of the subject. It proves nothing.
    pub common_name: &'a str,
}

impl Default for Request<'_> {
    /// No names yet, serverAuth and clientAuth, valid for 90 days from now.
    fn default() -> Self {
        let now = SystemTime::now();
        Self {
            dns: &[],
            srv: &[],
            xmpp: &[],
            not_before: now - BACKDATE,
            not_after: now + LIFETIME,
            purposes: &[Purpose::Server, Purpose::Client],
            common_name: "fedmux development certificate",
        }
    }
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct IssuedPem {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
}

/// The certificate library refused: a name or a time that can't be encoded, or a damaged key.
#[derive(Debug, thiserror::Error)]
#[error("can't make the certificate: {0}")]
pub struct DevelopmentError(#[from] rcgen::Error);

/// A certificate authority that nobody should believe outside of development.
#[derive(Debug)]
pub struct DevelopmentCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl DevelopmentCa {
    /// A new one, with a key of its own.
    ///
    /// # Errors
    /// [`DevelopmentError`] if no key can be made.
    pub fn create() -> Result<Self, DevelopmentError> {
        let key = KeyPair::generate()?;
        let params = authority_params(&key);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// The one with this certificate and key, as an earlier run has left them.
    fn from_pem(pem: String, key: &str) -> Result<Self, DevelopmentError> {
        let key = KeyPair::from_pem(key)?;
        Ok(Self { issuer: Issuer::new(authority_params(&key), key), pem })
    }

    /// Its certificate, in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// Issue a certificate with a key of its own.
    ///
    /// # Errors
    /// [`DevelopmentError`] if what is asked for can't be encoded.
    pub fn issue(&self, request: &Request<'_>) -> Result<IssuedPem, DevelopmentError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.not_before = request.not_before.into();
        params.not_after = request.not_after.into();
        params.distinguished_name = distinguished_name(request.common_name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = request.purposes.iter().map(|purpose| purpose.into()).collect();
        params.custom_extensions = vec![subject_alternative_names(request)];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(IssuedPem { certificate, key: key.serialize_pem() })
    }
}

impl From<&Purpose> for ExtendedKeyUsagePurpose {
    fn from(purpose: &Purpose) -> Self {
        match purpose {
            Purpose::Server => Self::ServerAuth,
            Purpose::Client => Self::ClientAuth,
            Purpose::CodeSigning => Self::CodeSigning,
        }
    }
}

/// The subject is named for the key: two development authorities are two issuers, and the same one can be taken up
/// again from its key alone.
fn authority_params(key: &KeyPair) -> CertificateParams {
    let fingerprint = digest::digest(&digest::SHA256, &key.subject_public_key_info());
    let id: String = fingerprint.as_ref().iter().take(4).map(|octet| format!("{octet:02x}")).collect();
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.not_before = (now - DAY).into();
    params.not_after = (now + AUTHORITY_LIFETIME).into();
    params.distinguished_name = distinguished_name(&format!("fedmux development authority {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// id-ce-subjectAltName: GeneralNames (RFC 5280 section 4.2.1.6), in DER.
fn subject_alternative_names(request: &Request<'_>) -> CustomExtension {
    const OTHER_NAME: u8 = 0xa0;
    const DNS_NAME: u8 = 0x82;
    // id-on-dnsSRV and id-on-xmppAddr, as OBJECT IDENTIFIERs.
    const SRV: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 8, 7];
    const XMPP: &[u8] = &[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 8, 5];
    const IA5_STRING: u8 = 0x16;
    const UTF8_STRING: u8 = 0x0c;

    let other = |kind: &[u8], tag: u8, text: &str| {
        let explicit = der(0xa0, &der(tag, text.as_bytes()));
        der(OTHER_NAME, &[kind, &explicit].concat())
    };
    let mut names = Vec::new();
    names.extend(request.dns.iter().flat_map(|text| der(DNS_NAME, text.as_bytes())));
    names.extend(request.srv.iter().flat_map(|text| other(SRV, IA5_STRING, text)));
    names.extend(request.xmpp.iter().flat_map(|text| other(XMPP, UTF8_STRING, text)));
    CustomExtension::from_oid_content(&[2, 5, 29, 17], der(0x30, &names))
}

/// One DER value: tag, length (X.690 section 8.1.3), contents.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|octet| **octet == 0).count()..];
    let mut value = vec![tag];
    match significant {
        [] => value.push(0),
        [short @ 0..=127] => value.push(*short),
        // A length has at most eight octets.
        long => {
            value.push(0x80 | u8::try_from(long.len()).unwrap_or(0));
            value.extend_from_slice(long);
        }
    }
    value.extend_from_slice(contents);
    value
}

/// Write one certificate for all `domains` below `out`, in certbot's layout: `live/FIRST/fullchain.pem` and
/// `privkey.pem`. `ca.pem` beside it is the authority to trust; an earlier run's is used again. Returns the files that
/// were written.
///
/// # Errors
/// Whatever the system says, with the file; and if there is a certificate for the first domain already: nothing is ever
/// overwritten.
pub fn write_development_certificates(out: &Path, domains: &[Domain]) -> io::Result<Vec<PathBuf>> {
    let Some(first) = domains.first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no domain given; name at least one"));
    };
    let mut written = Vec::new();
    fs::create_dir_all(out).map_err(|error| at(out, &error))?;
    let authority = authority_in(out, &mut written)?;

    let names: Vec<String> = domains.iter().map(Domain::to_ascii).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let issued = authority
        .issue(&Request { dns: &names, ..Request::default() })
        .map_err(|error| io::Error::other(error.to_string()))?;
    let live = out.join("live");
    let folder = live.join(first.to_ascii());
    fs::create_dir_all(&live).map_err(|error| at(&live, &error))?;
    fs::create_dir(&folder).map_err(|error| at(&folder, &error))?;
    for (name, text) in [("fullchain.pem", &issued.certificate), ("privkey.pem", &issued.key)] {
        let file = folder.join(name);
        write_private(&file, text.as_bytes()).map_err(|error| at(&file, &error))?;
        written.push(file);
    }
    Ok(written)
}

/// The authority of an earlier run, or a new one.
fn authority_in(out: &Path, written: &mut Vec<PathBuf>) -> io::Result<DevelopmentCa> {
    let (certificate, key) = (out.join("ca.pem"), out.join("ca.key"));
    if certificate.exists() {
        let pem = fs::read_to_string(&certificate).map_err(|error| at(&certificate, &error))?;
        let key_pem = fs::read_to_string(&key).map_err(|error| at(&key, &error))?;
        return DevelopmentCa::from_pem(pem, &key_pem).map_err(|error| at(&key, &io::Error::other(error)));
    }
    let authority = DevelopmentCa::create().map_err(io::Error::other)?;
    let key_pem = authority.issuer.key().serialize_pem();
    for (file, text) in [(key, key_pem.as_str()), (certificate, authority.ca_pem())] {
        write_private(&file, text.as_bytes()).map_err(|error| at(&file, &error))?;
        written.push(file);
    }
    Ok(authority)
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::AlreadyExists => "; remove it to have another made",
        io::ErrorKind::NotFound => "; ca.pem and ca.key belong together, remove the one that is left",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{}: {error}{advice}", path.display()))
}

#[cfg(test)]
impl DevelopmentCa {
    /// An authority below this one, until `not_after`, which may vouch for dNSNames below `permitted` alone.
    pub(super) fn subordinate(&self, not_after: SystemTime, permitted: Option<&str>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = authority_params(&key);
        params.not_after = not_after.into();
        params.name_constraints = permitted.map(|name| rcgen::NameConstraints {
            permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName(name.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::identity::store::CertificateStore;

    fn domains(names: &[&str]) -> Vec<Domain> {
        names.iter().map(|name| Domain::parse(name).unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_what_the_store_reads() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = domains(&["bücher.test", "rooms.a.test"]);
        let written = write_development_certificates(folder.path(), &wanted).unwrap();
        assert_eq!(written.len(), 4);
        for file in &written {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        }
        let store = CertificateStore::load(folder.path()).unwrap();
        assert_eq!(store.problems(), []);
        assert_eq!(store.certificates().len(), 1);
        assert!(wanted.iter().all(|domain| store.covering(domain).is_some()));
    }

    #[test]
    fn a_second_run_keeps_the_authority_and_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        write_development_certificates(folder.path(), &domains(&["a.test"])).unwrap();
        let authority = fs::read_to_string(folder.path().join("ca.pem")).unwrap();
        let written = write_development_certificates(folder.path(), &domains(&["b.test"])).unwrap();
        assert_eq!(written.len(), 2);
        assert_eq!(fs::read_to_string(folder.path().join("ca.pem")).unwrap(), authority);
        let store = CertificateStore::load(folder.path()).unwrap();
        assert_eq!((store.certificates().len(), store.problems()), (2, &[][..]));
        assert_eq!(store.certificates()[0].issuer, store.certificates()[1].issuer);

        let told =
            write_development_certificates(folder.path(), &domains(&["b.test"])).unwrap_err().to_string();
        assert!(told.contains("live/b.test") && told.contains("remove it"), "{told}");
        fs::remove_file(folder.path().join("ca.key")).unwrap();
        let told =
            write_development_certificates(folder.path(), &domains(&["c.test"])).unwrap_err().to_string();
        assert!(told.contains("ca.key") && told.contains("belong together"), "{told}");
    }

    #[test]
    fn lengths_are_written_in_as_few_octets_as_they_need() {
        assert_eq!(der(4, &[]), [4, 0]);
        assert_eq!(der(4, &[0; 127])[..2], [4, 127]);
        assert_eq!(der(4, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(der(4, &[0; 256])[..4], [4, 0x82, 1, 0]);
    }
}
