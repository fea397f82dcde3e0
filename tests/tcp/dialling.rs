//! Whom the relay dials and doesn't believe: each failure has its reason, in the metric, and in the error that the sender
//! gets, and nothing goes on in clear text.

use std::time::{Duration, SystemTime};

use fedmux::identity::development::Request;
use fedmux::reason::Reason;
use fedmux::relay::settings::Transport;
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::TLS_1_1_SERVER_HELLO;
use crate::support::certificates::{Authority, Certificate};
use crate::support::peer::{Manners, Refusal};
use crate::support::provider::{Plan, Provider};
use crate::support::server::Host;
use crate::support::tcp_peer::{ANY_VERSION, Listening, TRANSPORTS, greet, offer};
use crate::support::wire::{Heard, Wire};
use crate::support::{soon, until};

/// A relay that dials `peer` for b1.test, and has something to send.
async fn dialling(authority: &Authority, transport: Transport, peer: &Listening) -> (Provider, Host) {
    let plan = Plan::new(authority, &["a1.test"]).await.peer_by(transport, &["b1.test"], peer.address);
    let mut provider = plan.start().await;
    let mut a1 = provider.host("a1.test");
    a1.send("b1.test", "x").await;
    (provider, a1)
}

/// The stanza comes back for `reason`, and the relay doesn't try another way.
async fn comes_back(provider: &Provider, a1: &mut Host, peer: &Listening, reason: Reason) {
    assert_eq!(said_reason(&a1.receive().await), reason.as_str());
    until("the failure to be counted", || provider.dial_failures("remote", reason) == 1).await;
    until("the connection to be gone", || provider.metric("fedmux_connections", &[]) == 0).await;
    assert_eq!(provider.metric("fedmux_dial_failures_total", &[]), 1, "{reason} and nothing else");
    assert!(peer.another().is_none(), "no second attempt");
    provider.is_balanced().await;
    provider.assert_unharmed();
}

fn said_reason(stanza: &Element) -> String {
    assert_eq!(stanza.attribute("type"), Some("error"), "{stanza:?}");
    let error = stanza.children().find(|child| child.name() == "error").unwrap();
    error.child("text", ns::STANZA_ERRORS).unwrap().text()
}

/// The relay says goodbye in clear text, and nothing else.
async fn says_goodbye(wire: &mut Wire) {
    assert_eq!(wire.hear().await, Heard::End);
    assert_eq!(wire.hear().await, Heard::Finished);
}

#[tokio::test]
async fn a_starttls_that_was_taken_out_is_not_done_without() {
    let authority = Authority::new();
    for features in [
        String::new(),
        format!("<mechanisms xmlns='{}'><mechanism>EXTERNAL</mechanism></mechanisms>", ns::SASL),
        format!("<dialback xmlns='{}'/>", ns::DIALBACK_FEATURE),
    ] {
        let peer = Listening::with(&authority.certify(&["b1.test"])).await;
        let (provider, mut a1) = dialling(&authority, Transport::StartTls, &peer).await;
        let mut wire = Wire::tcp(peer.tcp().await);
        greet(&mut wire, &features).await;
        says_goodbye(&mut wire).await;
        comes_back(&provider, &mut a1, &peer, Reason::StarttlsNotOffered).await;
    }
}

#[tokio::test]
async fn clear_text_behind_proceed_closes_the_connection() {
    let authority = Authority::new();
    for injected in ["<x xmlns='urn:x'/>", " ", "<stream:features/>"] {
        let peer = Listening::with(&authority.certify(&["b1.test"])).await;
        let (provider, mut a1) = dialling(&authority, Transport::StartTls, &peer).await;
        let mut wire = Wire::tcp(peer.tcp().await);
        offer(&mut wire).await;
        wire.say(format!("<proceed xmlns='{}'/>{injected}", ns::TLS)).await;
        says_goodbye(&mut wire).await;
        drop(wire);
        // It may pass; the first attempt says why, and another one waits for its turn.
        until("the failure", || provider.dial_failures("remote", Reason::StarttlsInjection) == 1).await;
        provider.assert_unharmed();
        assert!(a1.received().is_none());
    }
}

#[tokio::test]
async fn a_peer_that_fails_at_its_own_tls_is_tried_again_later() {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["b1.test"])).await;
    let plan = Plan::new(&authority, &["a1.test"]).await;
    let plan = plan.peer_by(Transport::StartTls, &["b1.test"], peer.address);
    let mut provider = plan.limits(|limits| limits.retry_min = Duration::from_millis(20)).start().await;
    provider.host("a1.test").send("b1.test", "x").await;
    let mut wire = Wire::tcp(peer.tcp().await);
    offer(&mut wire).await;
    wire.say(format!("<failure xmlns='{}'/></stream:stream>", ns::TLS)).await;
    says_goodbye(&mut wire).await;
    let mut wire = peer.starttls().await.unwrap();
    wire.accept().await;
    assert_eq!(wire.ear.stanza().await.attribute("id"), Some("x"));
    assert_eq!(provider.dial_failures("remote", Reason::StarttlsFailed), 1);
}

/// Certificates that prove b1.test to nobody.
fn no_good(authority: &Authority) -> Vec<(Certificate, Reason)> {
    let dns: &[&str] = &["b1.test"];
    let over = SystemTime::now() - Duration::from_secs(60);
    let not_before = over - Duration::from_secs(3600);
    let expired = Request { dns, not_before, not_after: over, ..Request::default() };
    vec![
        (authority.issue(&expired), Reason::CertificateExpired),
        (Authority::new().certify(dns), Reason::CertificateUnknownIssuer),
        (Certificate::self_signed(dns), Reason::CertificateUnknownIssuer),
        (authority.certify(&["b2.test"]), Reason::CertificateWrongName),
    ]
}

#[tokio::test]
async fn a_server_with_a_bad_certificate_is_refused_for_what_is_wrong_with_it() {
    let authority = Authority::new();
    for transport in TRANSPORTS {
        for (certificate, reason) in no_good(&authority) {
            let peer = Listening::with(&certificate).await;
            let (provider, mut a1) = dialling(&authority, transport, &peer).await;
            let error = peer.accept(transport).await.err().unwrap().to_string();
            assert!(error.contains("alert"), "it is told: {error}");
            comes_back(&provider, &mut a1, &peer, reason).await;
        }
    }
}

#[tokio::test]
async fn what_the_server_finds_wrong_with_our_certificate_is_told_to_the_sender() {
    let authority = Authority::new();
    let certificate = authority.certify(&["b1.test"]);
    for transport in TRANSPORTS {
        for (refusal, reason) in [
            (Refusal::Expired, Reason::CertificateExpired),
            (Refusal::UnknownIssuer, Reason::CertificateUnknownIssuer),
        ] {
            let peer = Listening::with_manners(&certificate, Manners::Refusing(refusal)).await;
            let (provider, mut a1) = dialling(&authority, transport, &peer).await;
            let tcp = match transport {
                Transport::StartTls => {
                    let mut wire = Wire::tcp(peer.tcp().await);
                    offer(&mut wire).await;
                    wire.say(format!("<proceed xmlns='{}'/>", ns::TLS)).await;
                    wire.into_tcp()
                }
                _ => peer.tcp().await,
            };
            // What the relay has pipelined is taken, so that the alert isn't taken back by a reset.
            let mut tcp = peer.refuse(tcp).await;
            tcp.shutdown().await.unwrap();
            soon("the relay's end", tcp.read_to_end(&mut Vec::new())).await.unwrap();
            comes_back(&provider, &mut a1, &peer, reason).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_speaks_tls_1_1_is_refused() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let peer = Listening::with(&authority.certify(&["b1.test"])).await;
        let (provider, mut a1) = dialling(&authority, transport, &peer).await;
        let mut tcp = match transport {
            Transport::StartTls => {
                let mut wire = Wire::tcp(peer.tcp().await);
                offer(&mut wire).await;
                wire.say(format!("<proceed xmlns='{}'/>", ns::TLS)).await;
                wire.into_tcp()
            }
            _ => peer.tcp().await,
        };
        // What answers the relay's ClientHello doesn't come before it.
        soon("a ClientHello", tcp.readable()).await.unwrap();
        tcp.write_all(TLS_1_1_SERVER_HELLO).await.unwrap();
        let mut heard = Vec::new();
        soon("the end", tcp.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(&heard[heard.len() - 2..], [2, 70], "protocol_version");
        drop(tcp);
        comes_back(&provider, &mut a1, &peer, Reason::TlsVersion).await;
    }
}

#[tokio::test]
async fn a_server_that_speaks_another_protocol_is_refused() {
    let authority = Authority::new();
    let certificate = authority.certify(&["b1.test"]);
    let peer = Listening::speaking(&certificate, Manners::Trusting, ANY_VERSION, &[b"h2"]).await;
    let (provider, mut a1) = dialling(&authority, Transport::DirectTls, &peer).await;
    peer.direct().await.err().unwrap();
    comes_back(&provider, &mut a1, &peer, Reason::AlpnRefused).await;
}

#[tokio::test]
async fn a_server_that_does_not_offer_external_is_not_spoken_to_without_dialback() {
    for transport in TRANSPORTS {
        for features in
            [String::new(), format!("<dialback xmlns='{}'><errors/></dialback>", ns::DIALBACK_FEATURE)]
        {
            let authority = Authority::new();
            let peer = Listening::with(&authority.certify(&["b1.test"])).await;
            let (provider, mut a1) = dialling(&authority, transport, &peer).await;
            let mut wire = peer.accept(transport).await.unwrap();
            greet(&mut wire, &features).await;
            assert_eq!(wire.expect_error("unsupported-feature").await, Reason::ExternalNotOffered.as_str());
            drop(wire);
            comes_back(&provider, &mut a1, &peer, Reason::ExternalNotOffered).await;
        }
    }
}
