//! Longer paths, borrowed certificates and TLS 1.2.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, ServerConnection, version};
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;

use super::harness::{Scenario, certificate_of, domain, shake_hands, store_of, trust_in};
use super::{DAY, assert_accepted, assert_client_refused, assert_server_refused};
use crate::identity::certificate::{Certificate, CertificateFacts};
use crate::identity::config::Carrier;
use crate::identity::development::{DevelopmentCa, IssuedPem, Purpose, Request};
use crate::identity::verdict::Verdict;
use crate::identity::verifier::{ExpectedPeer, PeerVerifier};
use crate::proto::discovery::pins::{KeyDigest, Pins};
use crate::reason::Reason;

/// A certificate of `issuer` with the certificates of the issuers in `above` behind it.
fn issue_below(issuer: &DevelopmentCa, above: &[&DevelopmentCa], request: &Request<'_>) -> IssuedPem {
    let mut issued = issuer.issue(request).unwrap();
    for authority in above {
        issued.certificate.push_str(authority.ca_pem());
    }
    issued
}

/// A good scenario in which the client shows `issued` to a server that trusts `root`.
fn client_shows(root: &DevelopmentCa, issued: &IssuedPem) -> Scenario {
    Scenario { client: certificate_of(issued), server_trust: trust_in(root), ..Scenario::good() }
}

#[tokio::test]
async fn what_a_certificate_proves_ends_with_the_first_of_its_path() {
    let root = DevelopmentCa::create().unwrap();
    let whole_seconds = SystemTime::UNIX_EPOCH
        + std::time::Duration::from_secs(
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(),
        );
    let soon = whole_seconds + DAY;
    let issuer = root.subordinate(soon, None);
    let issued = issue_below(&issuer, &[&issuer], &Request { dns: &["a.test"], ..Request::default() });
    for outcome in client_shows(&root, &issued).run().await {
        assert_eq!(outcome.server.peer.unwrap().names.not_after, soon);
    }
}

#[tokio::test]
async fn an_expired_or_missing_issuer_is_told_apart() {
    let root = DevelopmentCa::create().unwrap();
    let request = Request { dns: &["a.test"], ..Request::default() };
    let expired = root.subordinate(SystemTime::now() - DAY / 2, None);
    let outcomes = client_shows(&root, &issue_below(&expired, &[&expired], &request)).run().await;
    assert_client_refused(&outcomes, Reason::CertificateExpired, Reason::CertificateExpired);
    let kept_back = root.subordinate(SystemTime::now() + DAY, None);
    let outcomes = client_shows(&root, &issue_below(&kept_back, &[], &request)).run().await;
    assert_client_refused(&outcomes, Reason::CertificateUnknownIssuer, Reason::CertificateUnknownIssuer);
}

#[tokio::test]
async fn an_authority_bound_to_some_names_cannot_write_others_in_any_form() {
    let root = DevelopmentCa::create().unwrap();
    let bound = root.subordinate(SystemTime::now() + DAY, Some("a.test"));
    let outside = Request { dns: &["b.test"], ..Request::default() };
    let outcomes = client_shows(&root, &issue_below(&bound, &[&bound], &outside)).run().await;
    assert_client_refused(&outcomes, Reason::CertificateInvalid, Reason::CertificateInvalid);

    let smuggled = Request {
        dns: &["x.a.test"],
        srv: &["_xmpp-server.b.test"],
        xmpp: &["b.test"],
        ..Request::default()
    };
    let outcomes = client_shows(&root, &issue_below(&bound, &[&bound], &smuggled)).run().await;
    assert_accepted(&outcomes);
    for outcome in outcomes {
        let names = &outcome.server.peer.unwrap().names;
        assert!(names.covers(&domain("x.a.test")) && !names.covers(&domain("b.test")));
    }
}

#[tokio::test]
async fn a_chain_that_is_far_too_long_is_refused_unread() {
    let root = DevelopmentCa::create().unwrap();
    let request = Request { dns: &["a.test"], ..Request::default() };
    let others: Vec<_> = (0..7).map(|_| root.subordinate(SystemTime::now() + DAY, None)).collect();
    let behind: Vec<&DevelopmentCa> = others.iter().collect();
    let outcomes = client_shows(&root, &issue_below(&root, &behind, &request)).run().await;
    assert_client_refused(&outcomes, Reason::CertificateInvalid, Reason::CertificateInvalid);
    assert_accepted(&client_shows(&root, &issue_below(&root, &behind[1..], &request)).run().await);
}

/// Somebody else's certificate, which is public, with a key of the thief's.
fn stolen(victim: &Certificate, thief: &Certificate) -> Arc<Certificate> {
    let facts = CertificateFacts::read(&victim.chain()[0]).unwrap();
    let key = CertifiedKey::new(victim.chain().to_vec(), Arc::clone(&thief.certified_key.key));
    Arc::new(Certificate::new(facts, key, Vec::new()))
}

#[tokio::test]
async fn a_certificate_without_its_key_proves_nobody() {
    let good = Scenario::good();
    let thief = certificate_of(&DevelopmentCa::create().unwrap().issue(&Request::default()).unwrap());
    let client = stolen(&good.client, &thief);
    let (server, server_verdict, client, _) = Scenario { client, ..good }.configs(Carrier::DirectTls);
    let name = ServerName::try_from("b.test").unwrap();
    let mut at_server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut at_client = ClientConnection::new(Arc::new(client), name).unwrap();
    let (by_server, _) = shake_hands(&mut at_server, &mut at_client);
    assert_eq!(server_verdict.reason_of(&by_server.unwrap_err()), Reason::CertificateInvalid);
    assert_eq!(server_verdict.peer(), None);
}

#[test]
fn tls_1_2_meets_the_same_verifier() {
    let good = Scenario::good();
    let (server, server_verdict, ours, _) = good.configs(Carrier::StartTls);
    let verdict = Verdict::default();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = PeerVerifier::new(
        Arc::clone(&good.client_trust),
        provider.signature_verification_algorithms,
        ExpectedPeer::Server { domain: domain("b.test"), pins: Pins::none() },
        verdict.clone(),
    );
    let old_client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(ours.client_auth_cert_resolver);
    let name = ServerName::try_from("b.test").unwrap();
    let mut at_server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut at_client = ClientConnection::new(Arc::new(old_client), name).unwrap();
    assert_eq!(shake_hands(&mut at_server, &mut at_client), (Ok(()), Ok(())));
    assert_eq!(at_server.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert!(server_verdict.peer().unwrap().names.covers(&domain("a.test")));
    assert!(verdict.peer().unwrap().names.covers(&domain("b.test")));
}

#[tokio::test]
async fn a_server_shows_the_full_name_before_a_wildcard_and_never_what_is_for_clients_alone() {
    let ca = DevelopmentCa::create().unwrap();
    let issue = |dns: &[&str], purposes| ca.issue(&Request { dns, purposes, ..Request::default() }).unwrap();
    let both: &[Purpose] = &[Purpose::Server, Purpose::Client];
    let server = store_of(&[
        issue(&["*.b.test"], both),
        issue(&["x.b.test"], both),
        issue(&["x.b.test"], &[Purpose::Client]),
        issue(&["only-client.test"], &[Purpose::Client]),
    ]);
    let scenario = |name| {
        let scenario =
            Scenario { server: Arc::clone(&server), client_trust: trust_in(&ca), ..Scenario::good() };
        scenario.dialling(name)
    };
    for outcome in scenario("x.b.test").run().await {
        let shown = outcome.server.shown.unwrap();
        assert!(shown.names_exactly(&domain("x.b.test")) && shown.purposes.server_auth);
        assert!(outcome.client.peer.is_ok());
    }
    for outcome in scenario("y.b.test").run().await {
        assert!(outcome.server.shown.unwrap().names.exact.is_empty());
    }
    let outcomes = scenario("only-client.test").run().await;
    assert_server_refused(&outcomes, Reason::HostUnknown, Reason::CertificateWrongPurpose);
}

#[tokio::test]
async fn a_stranger_is_a_stranger_even_with_an_expired_certificate() {
    let now = SystemTime::now();
    let request =
        Request { dns: &["a.test"], not_before: now - 2 * DAY, not_after: now - DAY, ..Request::default() };
    let client = certificate_of(&DevelopmentCa::create().unwrap().issue(&request).unwrap());
    let outcomes = Scenario { client, ..Scenario::good() }.run().await;
    assert_client_refused(&outcomes, Reason::CertificateUnknownIssuer, Reason::CertificateUnknownIssuer);
}

#[test]
fn a_certificate_that_the_server_cannot_verify_is_not_shown() {
    let (_, _, client, verdict) = Scenario::good().configs(Carrier::Quic);
    let resolver = client.client_auth_cert_resolver;
    assert!(resolver.resolve(&[], &[rustls::SignatureScheme::RSA_PSS_SHA256]).is_none());
    assert!(verdict.shown().is_none());
    assert!(resolver.resolve(&[], &[rustls::SignatureScheme::ECDSA_NISTP256_SHA256]).is_some());
    assert!(verdict.shown().is_some());
}

#[test]
fn every_configuration_binds_exporters_and_sends_no_early_data() {
    for carrier in [Carrier::Quic, Carrier::DirectTls, Carrier::StartTls] {
        let (server, _, client, _) = Scenario::good().configs(carrier);
        assert!(server.require_ems && client.require_ems);
        assert!(server.max_early_data_size == 0 && !server.send_half_rtt_data && !client.enable_early_data);
    }
}

/// The pin of the first certificate in this PEM text, made by another library than the one that is tested.
fn pin(pem: &str) -> KeyDigest {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate.public_key().raw);
    digest.as_ref().try_into().unwrap()
}

#[tokio::test]
async fn a_published_pin_is_the_key_of_any_certificate_on_the_path_and_of_none_beside_it() {
    let (root, stranger) = (DevelopmentCa::create().unwrap(), DevelopmentCa::create().unwrap());
    let issuer = root.subordinate(SystemTime::now() + DAY, None);
    let request = Request { dns: &["b.test"], ..Request::default() };
    let issued = issue_below(&issuer, &[&issuer, &stranger], &request);
    let own = pin(&issued.certificate);
    let scenario = |pins: &[KeyDigest]| Scenario {
        server: store_of(std::slice::from_ref(&issued)),
        client_trust: trust_in(&root),
        pins: Pins::published(pins),
        ..Scenario::good()
    };
    for good in [own, pin(issuer.ca_pem()), pin(root.ca_pem())] {
        assert_accepted(&scenario(&[[7; 32], good]).run().await);
    }
    for outcome in scenario(&[own]).run().await {
        let keys = &outcome.client.peer.unwrap().keys;
        assert_eq!(keys.iter().filter(|key| **key == own).count(), 1);
    }
    // The stranger's certificate is sent, and leads nowhere.
    for bad in [&[[7; 32]][..], &[pin(stranger.ca_pem())], &[]] {
        let outcomes = scenario(bad).run().await;
        assert_server_refused(&outcomes, Reason::CertificatePinMismatch, Reason::CertificateInvalid);
    }
}

#[tokio::test]
async fn a_pin_replaces_nothing_that_is_asked_for_without_it() {
    let other = |request: &Request<'_>| {
        let ca = DevelopmentCa::create().unwrap();
        let issued = ca.issue(request).unwrap();
        let pins = Pins::published(&[pin(&issued.certificate)]);
        (ca, Scenario { server: store_of(&[issued]), server_is_careless: true, pins, ..Scenario::good() })
    };
    let good = Request { dns: &["b.test"], ..Request::default() };
    let (_, scenario) = other(&good);
    let unknown = Reason::CertificateUnknownIssuer;
    assert_server_refused(&scenario.run().await, unknown, unknown);
    for (request, reason, told) in [
        (
            Request { dns: &["c.test"], ..good.clone() },
            Reason::CertificateWrongName,
            Reason::CertificateInvalid,
        ),
        (
            Request { not_after: SystemTime::now() - DAY / 48, ..good.clone() },
            Reason::CertificateExpired,
            Reason::CertificateExpired,
        ),
    ] {
        let (ca, scenario) = other(&request);
        let scenario = Scenario { client_trust: trust_in(&ca), ..scenario };
        assert_server_refused(&scenario.run().await, reason, told);
    }
}
