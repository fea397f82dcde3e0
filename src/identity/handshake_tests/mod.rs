//! Real handshakes between the configurations of two relays: TLS in memory and QUIC on loopback. Every scenario runs
//! over both, and every refusal has a reason of its own.

mod chains;
mod harness;
mod no_resumption;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use harness::{Outcome, Scenario, anchors, certificate_of, domain, store_of, trust_in};

use super::development::{DevelopmentCa, Purpose, Request};
use super::trust::TrustStore;
use crate::reason::Reason;
use crate::xmpp::domain::DomainPattern;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Both ends took each other.
#[track_caller]
fn assert_accepted(outcomes: &[Outcome]) {
    for outcome in outcomes {
        assert!(outcome.server.peer.is_ok() && outcome.client.peer.is_ok(), "{outcome:?}");
    }
}

/// The server refused the client for `reason`, and the client knows that it was refused, and for what as far as an
/// alert can say it.
#[track_caller]
fn assert_client_refused(outcomes: &[Outcome], reason: Reason, as_told: Reason) {
    for outcome in outcomes {
        assert_eq!(outcome.server.peer.as_ref().err(), Some(&reason), "{outcome:?}");
        assert_eq!(outcome.client.peer.as_ref().err(), Some(&as_told), "{outcome:?}");
    }
}

/// The client refused the server.
#[track_caller]
fn assert_server_refused(outcomes: &[Outcome], reason: Reason, as_told: Reason) {
    for outcome in outcomes {
        assert_eq!(outcome.client.peer.as_ref().err(), Some(&reason), "{outcome:?}");
        assert_eq!(outcome.server.peer.as_ref().err(), Some(&as_told), "{outcome:?}");
    }
}

#[tokio::test]
async fn fifty_names_are_proven_at_once_and_each_end_knows_what_it_showed() {
    let names: Vec<String> = (0..50).map(|n| format!("a{n}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let scenario = Scenario::with_client(&Request { dns: &names, ..Request::default() });
    let outcomes = scenario.run().await;
    assert_accepted(&outcomes);
    for outcome in &outcomes {
        let client = outcome.server.peer.as_ref().unwrap();
        assert_eq!(client.names.listed().count(), 50);
        assert!(names.iter().all(|name| client.names.covers(&domain(name))));
        assert!(!client.names.covers(&domain("a50.test")));
        assert!(client.purposes.server_auth && client.purposes.client_auth);
        assert_eq!(client.names.not_after, scenario.client.names.not_after);
        assert!(Arc::ptr_eq(outcome.client.shown.as_ref().unwrap(), &scenario.client));
        assert!(Arc::ptr_eq(outcome.server.shown.as_ref().unwrap(), &scenario.server.certificates()[0]));
        assert!(outcome.client.peer.as_ref().unwrap().names.covers(&domain("b.test")));
    }
}

#[tokio::test]
async fn a_certificate_with_srv_names_alone_proves_them_at_both_ends() {
    let request = Request { srv: &["_xmpp-server.x.test"], ..Request::default() };
    let as_client = Scenario::with_client(&request).run().await;
    assert_accepted(&as_client);
    assert!(as_client[0].server.peer.as_ref().unwrap().names.covers(&domain("x.test")));
    assert_accepted(&Scenario::with_server(&request).dialling("x.test").run().await);
}

#[tokio::test]
async fn a_certificate_with_xmpp_addresses_alone_proves_them_at_both_ends() {
    let request = Request { xmpp: &["bücher.test"], ..Request::default() };
    let as_client = Scenario::with_client(&request).run().await;
    assert_accepted(&as_client);
    assert!(as_client[0].server.peer.as_ref().unwrap().names.covers(&domain("xn--bcher-kva.test")));
    assert_accepted(&Scenario::with_server(&request).dialling("bücher.test").run().await);
}

#[tokio::test]
async fn a_name_of_another_kind_proves_nothing() {
    let request = Request {
        dns: &["127.0.0.1", "f*.x.test", "x.test."],
        srv: &["_xmpp-client.x.test", "x.test"],
        xmpp: &["admin@x.test", "x.test/resource"],
        common_name: "x.test",
        ..Request::default()
    };
    let outcomes = Scenario::with_client(&request).run().await;
    assert_accepted(&outcomes);
    let names = &outcomes[0].server.peer.as_ref().unwrap().names;
    assert!(names.exact.is_empty() && names.wildcard.is_empty(), "{names:?}");
    let outcomes = Scenario::with_server(&request).dialling("x.test").run().await;
    assert_server_refused(&outcomes, Reason::CertificateWrongName, Reason::CertificateInvalid);
}

#[tokio::test]
async fn a_wildcard_proves_one_label_and_is_never_listed() {
    for request in [
        Request { dns: &["*.x.test"], ..Request::default() },
        Request { srv: &["_xmpp-server.*.x.test"], ..Request::default() },
    ] {
        let outcomes = Scenario::with_client(&request).run().await;
        assert_accepted(&outcomes);
        let names = &outcomes[0].server.peer.as_ref().unwrap().names;
        assert!(names.covers(&domain("rooms.x.test")));
        assert!(!names.covers(&domain("x.test")) && !names.covers(&domain("y.rooms.x.test")));
        assert_eq!(names.listed().count(), 0);
        assert_accepted(&Scenario::with_server(&request).dialling("rooms.x.test").run().await);
        for name in ["x.test", "y.rooms.x.test"] {
            let outcomes = Scenario::with_server(&request).dialling(name).run().await;
            assert_server_refused(&outcomes, Reason::CertificateWrongName, Reason::CertificateInvalid);
        }
    }
}

#[tokio::test]
async fn a_client_may_have_any_purpose_between_servers_or_none_stated() {
    for purposes in [&[Purpose::Server][..], &[Purpose::Client], &[Purpose::Server, Purpose::Client], &[]] {
        let request = Request { dns: &["a.test"], purposes, ..Request::default() };
        assert_accepted(&Scenario::with_client(&request).run().await);
    }
}

#[tokio::test]
async fn a_server_needs_server_auth_or_no_stated_purpose() {
    for purposes in [&[Purpose::Server][..], &[]] {
        let request = Request { dns: &["b.test"], purposes, ..Request::default() };
        assert_accepted(&Scenario::with_server(&request).run().await);
    }
    let request = Request { dns: &["b.test"], purposes: &[Purpose::Client], ..Request::default() };
    let outcomes = Scenario::with_server(&request).run().await;
    assert_server_refused(&outcomes, Reason::CertificateWrongPurpose, Reason::CertificateWrongPurpose);
}

#[tokio::test]
async fn a_code_signing_certificate_is_refused_at_both_ends() {
    let request = Request { dns: &["b.test"], purposes: &[Purpose::CodeSigning], ..Request::default() };
    let outcomes = Scenario::with_client(&request).run().await;
    assert_client_refused(&outcomes, Reason::CertificateWrongPurpose, Reason::CertificateWrongPurpose);
    let outcomes = Scenario::with_server(&request).run().await;
    assert_server_refused(&outcomes, Reason::CertificateWrongPurpose, Reason::CertificateWrongPurpose);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_at_both_ends() {
    let now = SystemTime::now();
    let request =
        Request { dns: &["b.test"], not_before: now - 2 * DAY, not_after: now - DAY, ..Request::default() };
    let outcomes = Scenario::with_client(&request).run().await;
    assert_client_refused(&outcomes, Reason::CertificateExpired, Reason::CertificateExpired);
    let outcomes = Scenario::with_server(&request).run().await;
    assert_server_refused(&outcomes, Reason::CertificateExpired, Reason::CertificateExpired);
}

#[tokio::test]
async fn a_certificate_of_tomorrow_is_refused_at_both_ends() {
    let now = SystemTime::now();
    let request =
        Request { dns: &["b.test"], not_before: now + DAY, not_after: now + 2 * DAY, ..Request::default() };
    // TLS has one alert for both ends of the validity.
    let outcomes = Scenario::with_client(&request).run().await;
    assert_client_refused(&outcomes, Reason::CertificateNotYetValid, Reason::CertificateExpired);
    let outcomes = Scenario::with_server(&request).run().await;
    assert_server_refused(&outcomes, Reason::CertificateNotYetValid, Reason::CertificateExpired);
}

#[tokio::test]
async fn an_unknown_authority_is_refused_at_both_ends() {
    let stranger = DevelopmentCa::create().unwrap();
    let request = Request { dns: &["b.test"], ..Request::default() };
    let client = certificate_of(&stranger.issue(&request).unwrap());
    let outcomes = Scenario { client, ..Scenario::good() }.run().await;
    assert_client_refused(&outcomes, Reason::CertificateUnknownIssuer, Reason::CertificateUnknownIssuer);
    let server = store_of(&[stranger.issue(&request).unwrap()]);
    let outcomes = Scenario { server, ..Scenario::good() }.run().await;
    assert_server_refused(&outcomes, Reason::CertificateUnknownIssuer, Reason::CertificateUnknownIssuer);
}

#[tokio::test]
async fn a_server_with_another_name_is_refused() {
    let request = Request { dns: &["c.test", "b.test.evil.test"], ..Request::default() };
    let outcomes = Scenario::with_server(&request).run().await;
    assert_server_refused(&outcomes, Reason::CertificateWrongName, Reason::CertificateInvalid);
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let outcomes = Scenario { client_is_silent: true, ..Scenario::good() }.run().await;
    assert_client_refused(&outcomes, Reason::CertificateMissing, Reason::CertificateMissing);
    assert!(outcomes.iter().all(|outcome| outcome.client.shown.is_none()));
}

#[tokio::test]
async fn a_name_that_we_have_no_certificate_for_is_refused() {
    let outcomes = Scenario::good().dialling("c.test").run().await;
    assert_server_refused(&outcomes, Reason::HostUnknown, Reason::CertificateNone);
    assert!(outcomes.iter().all(|outcome| outcome.server.shown.is_none()));
}

#[tokio::test]
async fn a_client_that_names_nobody_is_refused() {
    let mut scenario = Scenario::good();
    // TLS carries no addresses in SNI: such a client sends none.
    scenario.sni = "127.0.0.1".to_owned();
    assert_server_refused(&scenario.run().await, Reason::HostUnknown, Reason::CertificateNone);
}

#[tokio::test]
async fn an_expired_certificate_of_ours_is_not_shown_but_named_as_the_reason() {
    let ca = DevelopmentCa::create().unwrap();
    let now = SystemTime::now();
    let request =
        Request { dns: &["b.test"], not_before: now - 2 * DAY, not_after: now - DAY, ..Request::default() };
    let server = store_of(&[ca.issue(&request).unwrap()]);
    let outcomes = Scenario { server, client_trust: trust_in(&ca), ..Scenario::good() }.run().await;
    assert_server_refused(&outcomes, Reason::HostUnknown, Reason::CertificateExpired);
}

#[tokio::test]
async fn a_pinned_authority_vouches_for_its_own_domains_alone_and_nobody_else_does() {
    let (general, pinned) = (DevelopmentCa::create().unwrap(), DevelopmentCa::create().unwrap());
    let rules = vec![DomainPattern::parse("b.test").unwrap(), DomainPattern::parse("*.b.test").unwrap()];
    let trust = Arc::new(TrustStore::new(anchors(&general), vec![(rules, anchors(&pinned))]));
    let request = Request { dns: &["b.test", "x.b.test", "c.test"], ..Request::default() };

    let scenario = |ca: &DevelopmentCa| {
        let issued = ca.issue(&request).unwrap();
        let good = Scenario::good();
        Scenario {
            server: store_of(std::slice::from_ref(&issued)),
            client: certificate_of(&issued),
            server_trust: Arc::clone(&trust),
            client_trust: Arc::clone(&trust),
            ..good
        }
    };
    let proven = |outcome: &Outcome| -> Vec<String> {
        outcome.server.peer.as_ref().unwrap().names.listed().map(ToString::to_string).collect()
    };

    for outcome in scenario(&pinned).run().await {
        assert_eq!(proven(&outcome), ["b.test", "x.b.test"]);
    }
    for outcome in scenario(&general).dialling("c.test").run().await {
        assert_eq!(proven(&outcome), ["c.test"]);
    }
    // The name is there, but whoever signed it may not vouch for it.
    let outcomes = scenario(&pinned).dialling("c.test").run().await;
    assert_server_refused(&outcomes, Reason::CertificateUnknownIssuer, Reason::CertificateUnknownIssuer);
    let outcomes = scenario(&general).dialling("b.test").run().await;
    assert_server_refused(&outcomes, Reason::CertificateUnknownIssuer, Reason::CertificateUnknownIssuer);
}
