//! Whoever connects to the relay and isn't believed: each refusal has its reason.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use fedmux::identity::development::Request;
use fedmux::proto::admission::Side;
use fedmux::reason::Reason;
use fedmux::relay::settings::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::TLS_1_1_CLIENT_HELLO;
use crate::support::certificates::{Authority, Certificate};
use crate::support::provider::{Plan, Provider};
use crate::support::tcp_peer::{ANY_VERSION, Dialler, TRANSPORTS, upgrade};
use crate::support::wire::{Heard, header};
use crate::support::{soon, until};

async fn provider(authority: &Authority) -> Provider {
    Plan::new(authority, &["a1.test"]).await.start().await
}

/// One refusal for `reason`, and no other.
async fn has_refused(provider: &Provider, reason: Reason) {
    until(&format!("a refusal for {reason}"), || provider.metric("fedmux_refusals_total", &[]) > 0).await;
    assert_eq!(provider.refusals(Side::Remote, reason), 1, "{reason}");
    assert_eq!(provider.metric("fedmux_refusals_total", &[]), 1);
    until("the connection to be gone", || provider.metric("fedmux_connections", &[]) == 0).await;
    provider.assert_unharmed();
}

/// The handshake fails, or over TLS 1.3 what comes after it: the alert, whatever it says.
async fn is_turned_away(dialler: &Dialler, transport: Transport, relay: SocketAddr) -> String {
    match dialler.dial(transport, relay, "b1.test", "a1.test").await {
        Err(error) => error.to_string(),
        Ok(mut wire) => match wire.hear().await {
            Heard::Lost(error) => error,
            other => panic!("{other:?} instead of an alert"),
        },
    }
}

#[tokio::test]
async fn a_client_without_a_good_certificate_is_refused_for_what_is_wrong_with_it() {
    for transport in TRANSPORTS {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let dns: &[&str] = &["b1.test"];
        let over = SystemTime::now() - Duration::from_secs(60);
        let expired = authority.issue(&Request {
            dns,
            not_before: over - Duration::from_secs(3600),
            not_after: over,
            ..Request::default()
        });
        let cases = [
            (None, Reason::CertificateMissing, "CertificateRequired"),
            (Some(expired), Reason::CertificateExpired, "CertificateExpired"),
            (Some(stranger.certify(dns)), Reason::CertificateUnknownIssuer, "UnknownCA"),
            (Some(Certificate::self_signed(dns)), Reason::CertificateUnknownIssuer, "UnknownCA"),
        ];
        for (certificate, reason, alert) in cases {
            let provider = provider(&authority).await;
            let dialler = Dialler::with(certificate.as_ref());
            let heard = is_turned_away(&dialler, transport, provider.at(transport)).await;
            assert!(heard.contains(alert), "{heard} for {reason}");
            has_refused(&provider, reason).await;
            assert_eq!(provider.metric("fedmux_proofs_total", &[("result", "refused")]), 1);
        }
    }
}

#[tokio::test]
async fn a_stream_from_a_domain_outside_the_certificate_is_refused() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let provider = provider(&authority).await;
        let dialler = Dialler::with(Some(&authority.certify(&["b1.test"])));
        let mut wire = dialler.dial(transport, provider.at(transport), "c.test", "a1.test").await.unwrap();
        wire.say(header("c.test", "a1.test")).await;
        assert_eq!(wire.expect_error("invalid-from").await, Reason::InvalidFrom.as_str());
        has_refused(&provider, Reason::InvalidFrom).await;
    }
}

#[tokio::test]
async fn another_protocol_than_xmpp_is_refused_and_none_at_all_is_taken() {
    let authority = Authority::new();
    let certificate = authority.certify(&["b1.test"]);
    let provider = provider(&authority).await;
    let at = provider.at(Transport::DirectTls);
    let none = Dialler::speaking(Some(&certificate), ANY_VERSION, &[]);
    let mut wire = none.direct(at, "a1.test").await.unwrap();
    wire.authenticate("b1.test", "a1.test").await;
    wire.close().await;
    let other = Dialler::speaking(Some(&certificate), ANY_VERSION, &[b"h2", b"xmpp-client"]);
    let heard = is_turned_away(&other, Transport::DirectTls, at).await;
    assert!(heard.contains("NoApplicationProtocol"), "{heard}");
    has_refused(&provider, Reason::AlpnRefused).await;
}

#[tokio::test]
async fn tls_below_1_2_is_refused() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let provider = provider(&authority).await;
        let mut tcp = TcpStream::connect(provider.at(transport)).await.unwrap();
        if transport == Transport::StartTls {
            tcp = upgrade(tcp, "b1.test", "a1.test").await;
        }
        tcp.write_all(TLS_1_1_CLIENT_HELLO).await.unwrap();
        let mut heard = Vec::new();
        soon("the end", tcp.read_to_end(&mut heard)).await.unwrap();
        // An alert, level fatal.
        assert_eq!((heard[0], heard[5]), (21, 2), "{heard:?}");
        has_refused(&provider, Reason::TlsVersion).await;
    }
}

#[tokio::test]
async fn tls_1_2_is_taken() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let provider = provider(&authority).await;
        let certificate = authority.certify(&["b1.test"]);
        let dialler = Dialler::speaking(Some(&certificate), &[&rustls::version::TLS12], &[]);
        let mut wire = dialler.dial(transport, provider.at(transport), "b1.test", "a1.test").await.unwrap();
        wire.authenticate("b1.test", "a1.test").await;
        assert_eq!(provider.metric("fedmux_sessions", &[]), 1);
        wire.close().await;
    }
}

#[tokio::test]
async fn what_is_no_tls_and_what_is_no_xml_is_refused() {
    let authority = Authority::new();
    let provider = provider(&authority).await;
    let mut tcp = TcpStream::connect(provider.at(Transport::DirectTls)).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: a1.test\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    soon("the end", tcp.read_to_end(&mut heard)).await.unwrap();
    has_refused(&provider, Reason::HandshakeFailed).await;

    let dialler = Dialler::with(Some(&authority.certify(&["b1.test"])));
    let mut wire = dialler.direct(provider.at(Transport::DirectTls), "a1.test").await.unwrap();
    wire.say("GET / HTTP/1.1\r\n\r\n").await;
    // The other end knows no stream errors: the connection is all that ends.
    assert!(matches!(wire.hear().await, Heard::Lost(_)));
    until("a refusal", || provider.refusals(Side::Remote, Reason::FramingNotSpoken) == 1).await;
}

#[tokio::test]
async fn with_mux_every_domain_of_the_certificate_may_speak_and_no_other() {
    for transport in TRANSPORTS {
        let authority = Authority::new();
        let mut provider = provider(&authority).await;
        let mut a1 = provider.host("a1.test");
        let dialler = Dialler::with(Some(&authority.certify(&["b1.test", "*.b.test"])));
        let mut wire = dialler.dial(transport, provider.at(transport), "b1.test", "a1.test").await.unwrap();
        wire.authenticate("b1.test", "a1.test").await;
        for from in ["b1.test", "rooms.b.test"] {
            wire.say(crate::support::wire::message(from, "a1.test", from)).await;
            assert_eq!(a1.receive().await.attribute("from"), Some(from));
        }
        wire.say(crate::support::wire::message("c.test", "a1.test", "x")).await;
        assert_eq!(wire.expect_error("invalid-from").await, Reason::InvalidFrom.as_str());
        has_refused(&provider, Reason::InvalidFrom).await;
        assert!(a1.received().is_none());
    }
}

#[tokio::test]
async fn without_mux_the_streams_own_pair_alone_may_speak() {
    let authority = Authority::new();
    let mut provider = provider(&authority).await;
    let mut a1 = provider.host("a1.test");
    let dialler = Dialler::with(Some(&authority.certify(&["b1.test", "b2.test"])));
    let mut wire = dialler.direct(provider.at(Transport::DirectTls), "a1.test").await.unwrap();
    wire.authenticate_as("b1.test", "a1.test", false).await;
    wire.say(crate::support::wire::message("b1.test", "a1.test", "x")).await;
    assert_eq!(a1.receive().await.attribute("from"), Some("b1.test"));
    wire.say(crate::support::wire::message("b2.test", "a1.test", "x")).await;
    assert_eq!(wire.expect_error("invalid-from").await, Reason::InvalidFrom.as_str());
    has_refused(&provider, Reason::InvalidFrom).await;
}
