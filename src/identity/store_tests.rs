//! Folders as they are found in practice, and as they go wrong.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::identity::development::{DevelopmentCa, IssuedPem, Purpose, Request};
use crate::identity::problem::ProblemKind;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn issue(ca: &DevelopmentCa, names: &[&str]) -> IssuedPem {
    ca.issue(&Request { dns: names, ..Request::default() }).unwrap()
}

/// Write a file that only its owner can read.
fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    set_mode(&path, 0o600);
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The problems, each as its file's name and kind.
fn problems(store: &CertificateStore) -> Vec<(String, ProblemKind)> {
    let name = |problem: &Problem| problem.file.file_name().unwrap().to_string_lossy().into_owned();
    store.problems().iter().map(|problem| (name(problem), problem.kind.clone())).collect()
}

#[test]
fn every_usual_layout_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ca = DevelopmentCa::create().unwrap();
    let [pair, one, certbot, elsewhere] =
        ["pair.test", "one.test", "certbot.test", "elsewhere.test"].map(|name| issue(&ca, &[name]));
    write(at, "pair.crt", &pair.certificate);
    write(at, "pair.key", &pair.key);
    write(at, "one.pem", &format!("{}{}{}", one.key, one.certificate, ca.ca_pem()));
    // Names that say nothing: only the public key tells what belongs together.
    write(at, "customers/x.pem", &elsewhere.certificate);
    write(at, "customers/keys/y.key", &elsewhere.key);
    write(at, "certbot/certbot.test/cert.pem", &certbot.certificate);
    write(at, "certbot/certbot.test/chain.pem", ca.ca_pem());
    write(at, "certbot/certbot.test/fullchain.pem", &format!("{}{}", certbot.certificate, ca.ca_pem()));
    write(at, "certbot/certbot.test/privkey.pem", &certbot.key);
    write(at, "README", "notes");

    let store = CertificateStore::load(at).unwrap();
    assert_eq!(problems(&store), []);
    assert_eq!(store.certificates().len(), 4);
    for name in ["pair.test", "one.test", "certbot.test", "elsewhere.test"] {
        assert!(store.covering(&domain(name)).is_some(), "{name}");
    }
    // Of the same certificate alone and with its chain, the chain is sent.
    let certbot = store.covering(&domain("certbot.test")).unwrap();
    assert_eq!(certbot.chain().len(), 2);
    assert_eq!(certbot.files.len(), 3);
}

#[cfg(unix)]
#[test]
fn certbots_own_folder_is_read_by_its_links_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ca = DevelopmentCa::create().unwrap();
    for version in ["1", "2"] {
        let issued = issue(&ca, &["a.test"]);
        write(at, &format!("archive/a.test/fullchain{version}.pem"), &issued.certificate);
        write(at, &format!("archive/a.test/privkey{version}.pem"), &issued.key);
    }
    write(at, "keys/0000_key-certbot.pem", "what is in here is nobody's business");
    fs::create_dir_all(at.join("live/a.test")).unwrap();
    for name in ["fullchain", "privkey"] {
        let target = format!("../../archive/a.test/{name}2.pem");
        std::os::unix::fs::symlink(target, at.join(format!("live/a.test/{name}.pem"))).unwrap();
    }
    let store = CertificateStore::load(at).unwrap();
    assert_eq!(problems(&store), []);
    assert_eq!(store.certificates().len(), 1);
}

#[test]
fn one_bad_file_hides_no_good_one_and_each_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ca = DevelopmentCa::create().unwrap();
    let good = issue(&ca, &["good.test"]);
    write(at, "good.pem", &format!("{}{}", good.certificate, good.key));
    write(at, "1-damaged.pem", &good.certificate.replace("-----END CERTIFICATE-----", ""));
    write(at, "2-der.crt", "\u{30}\u{7f} not PEM");
    write(at, "3-broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    write(at, "4-alone.crt", &issue(&ca, &["alone.test"]).certificate);
    write(at, "5-alone.key", &issue(&ca, &["alone.test"]).key);
    write(at, "6-mixed.crt", &issue(&ca, &["mixed.test"]).certificate);
    write(at, "6-mixed.key", &issue(&ca, &["mixed.test"]).key);
    write(at, "7-locked.key", &good.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    write(at, "8-odd.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    write(at, "9-large.pem", &"x".repeat(1_100_000));

    let store = CertificateStore::load(at).unwrap();
    assert_eq!(store.certificates().len(), 1);
    assert!(store.covering(&domain("good.test")).is_some());
    let expected = [
        ("1-damaged.pem", ProblemKind::NotPem("a section has no END line".to_owned())),
        ("2-der.crt", ProblemKind::NotPem("it has no PEM section".to_owned())),
        ("3-broken.pem", ProblemKind::BadCertificate),
        ("4-alone.crt", ProblemKind::CertificateWithoutKey),
        ("5-alone.key", ProblemKind::KeyWithoutCertificate),
        ("6-mixed.crt", ProblemKind::KeyMismatch(at.join("6-mixed.key"))),
        ("7-locked.key", ProblemKind::EncryptedKey),
        ("8-odd.key", ProblemKind::UnsupportedKey),
        ("9-large.pem", ProblemKind::TooLarge),
    ];
    assert_eq!(problems(&store), expected.map(|(name, kind)| (name.to_owned(), kind)));
    for problem in store.problems() {
        let told = problem.to_string();
        assert!(told.contains(&problem.file.display().to_string()) && told.contains("; "), "{told}");
    }
}

#[test]
fn what_peers_would_refuse_is_loaded_and_flagged() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ca = DevelopmentCa::create().unwrap();
    let now = SystemTime::now();
    let base = Request { dns: &["a.test"], ..Request::default() };
    let requests = [
        ("1-old", Request { not_before: now - 2 * DAY, not_after: now - DAY, ..base.clone() }),
        ("2-new", Request { not_before: now + DAY, ..base.clone() }),
        ("3-client", Request { purposes: &[Purpose::Client], ..base.clone() }),
        ("4-nameless", Request { dns: &[], common_name: "a.test", ..base }),
    ];
    for (name, request) in requests {
        let issued = ca.issue(&request).unwrap();
        write(at, &format!("{name}.pem"), &format!("{}{}", issued.certificate, issued.key));
    }
    let store = CertificateStore::load(at).unwrap();
    assert_eq!(store.certificates().len(), 4);
    let expected = [
        ("1-old.pem", ProblemKind::Expired),
        ("2-new.pem", ProblemKind::NotYetValid),
        ("3-client.pem", ProblemKind::NotForServers),
        ("4-nameless.pem", ProblemKind::NoNames),
    ];
    assert_eq!(problems(&store), expected.map(|(name, kind)| (name.to_owned(), kind)));
    // To dial with, a clientAuth certificate will do; to be dialled by, none of these.
    assert!(store.covering(&domain("a.test")).unwrap().purposes.client_auth);
    let as_server = store.choose(&domain("a.test"), Role::Receiving, now);
    assert_eq!(as_server.unwrap_err(), Reason::CertificateExpired);
    assert_eq!(store.choose(&domain("b.test"), Role::Receiving, now).unwrap_err(), Reason::CertificateNone);
}

#[test]
fn the_full_name_comes_before_a_wildcard_and_then_the_longest_life() {
    let folder = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::create().unwrap();
    let now = SystemTime::now();
    let lives = [("*.a.test", 300), ("x.a.test", 10), ("x.a.test", 20)];
    for (index, (name, days)) in lives.iter().enumerate() {
        let request = Request { dns: &[name], not_after: now + *days * DAY, ..Request::default() };
        let issued = ca.issue(&request).unwrap();
        write(folder.path(), &format!("{index}.pem"), &format!("{}{}", issued.certificate, issued.key));
    }
    let store = CertificateStore::load(folder.path()).unwrap();
    let chosen = |name, days: u32| {
        let chosen = store.choose(&domain(name), Role::Receiving, now + days * DAY).unwrap();
        chosen.files[0].file_stem().unwrap().to_string_lossy().into_owned()
    };
    assert_eq!(chosen("x.a.test", 0), "2");
    assert_eq!(chosen("y.a.test", 0), "0");
    // When both full names have expired, the wildcard still speaks for the domain.
    assert_eq!(chosen("x.a.test", 30), "0");
}

#[test]
fn an_authority_is_not_taken_for_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ca = DevelopmentCa::create().unwrap();
    let issued = issue(&ca, &["a.test"]);
    write(at, "a.pem", &format!("{}{}", issued.certificate, issued.key));
    write(at, "ca.pem", ca.ca_pem());
    // What `openssl req -x509` makes by default: self-signed and CA:TRUE.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    write(at, "self.crt", &params.self_signed(&key).unwrap().pem());
    write(at, "self.key", &key.serialize_pem());
    let store = CertificateStore::load(at).unwrap();
    assert_eq!(store.certificates().len(), 1);
    assert_eq!(problems(&store), [("self.crt".to_owned(), ProblemKind::Authority)]);
}

#[cfg(unix)]
#[test]
fn a_key_that_everybody_can_read_is_used_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let issued = issue(&DevelopmentCa::create().unwrap(), &["a.test"]);
    write(folder.path(), "a.crt", &issued.certificate);
    write(folder.path(), "a.key", &issued.key);
    set_mode(&folder.path().join("a.crt"), 0o644);
    set_mode(&folder.path().join("a.key"), 0o644);
    let store = CertificateStore::load(folder.path()).unwrap();
    assert_eq!(problems(&store), [("a.key".to_owned(), ProblemKind::WorldReadableKey)]);
    assert!(store.problems()[0].kind.is_warning());
    assert!(store.covering(&domain("a.test")).is_some());
    set_mode(&folder.path().join("a.key"), 0o640);
    assert_eq!(CertificateStore::load(folder.path()).unwrap().problems(), []);
}

#[test]
fn a_folder_that_cannot_be_read_is_an_error_that_names_it() {
    let told = CertificateStore::load(Path::new("/nowhere/certs")).unwrap_err().to_string();
    assert!(told.starts_with("/nowhere/certs: ") && told.contains("[identity] certificates"), "{told}");
}
