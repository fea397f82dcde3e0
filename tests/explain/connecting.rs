//! Addresses that nobody answers, TLS that comes to nothing, and certificates that prove the wrong thing.

use std::time::{Duration, SystemTime};

use fedmux::identity::development::{Purpose, Request};
use fedmux::relay::settings::Transport;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use crate::scene::{failed, fails, hasty, once, plan, seen};
use crate::support::certificates::{Authority, Certificate};
use crate::support::provider::Plan;
use crate::support::tcp_peer::{Listening, greet};
use crate::support::wire::Wire;
use crate::support::{nobody, soon};

#[tokio::test]
async fn a_closed_port_is_named_and_the_back_off_behind_it() {
    let authority = Authority::new();
    let (_kept, nobody) = nobody();
    let mut a = plan(&authority).await.peer_by(Transport::DirectTls, &["b.test"], nobody).start().await;
    let explanation = fails(&mut a, "b.test", "address", "connection-refused").await;
    assert!(explanation.failed.unwrap().detail.contains(&nobody.to_string()));
    assert!(explanation.configured.unwrap().starts_with(&nobody.to_string()));
    let waiting = once(&a, "b.test", "a back-off", |it| it.state.as_deref() == Some("back-off")).await;
    assert!(
        waiting.retry_seconds.is_some_and(|seconds| (20..=60).contains(&seconds)) && waiting.waiting == 1
    );
}

#[tokio::test]
async fn a_black_hole_is_named() {
    let authority = Authority::new();
    let hole = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut a = plan(&authority).await.peer(&["b.test"], hole.local_addr().unwrap()).start().await;
    a.host("a.test").send("b.test", "1").await;
    let explanation = once(&a, "b.test", "a failure", |it| it.failed.is_some()).await;
    let failed = explanation.failed.clone().unwrap();
    assert_eq!(failed.reason, "connection-timeout", "{explanation:#?}");
    assert!(seen(&explanation).contains(&format!("dialling: {}", hole.local_addr().unwrap())));
}

/// What is wrong with a certificate is named, and what stands in it.
#[tokio::test]
async fn certificates_are_named_with_what_stands_in_them() {
    let authority = Authority::new();
    let dns: &[&str] = &["b.test"];
    let over = SystemTime::now() - Duration::from_secs(60);
    let past =
        Request { dns, not_before: over - Duration::from_secs(3_600), not_after: over, ..Request::default() };
    let client = Request { dns, purposes: &[Purpose::Client], ..Request::default() };
    for (certificate, domain, reason, shown) in [
        (authority.certify(&["c.test"]), "b.test", "certificate-wrong-name", "a certificate for c.test"),
        (authority.certify(dns), "rooms.b.test", "certificate-wrong-name", "a certificate for b.test"),
        (authority.issue(&past), "b.test", "certificate-expired", "a certificate for b.test"),
        (authority.issue(&client), "b.test", "certificate-wrong-purpose", "clientAuth"),
        (Certificate::self_signed(dns), "b.test", "certificate-unknown-issuer", "a certificate for b.test"),
        (Authority::new().certify(dns), "b.test", "certificate-unknown-issuer", "issued by"),
    ] {
        let peer = Listening::with(&certificate).await;
        let mut a =
            plan(&authority).await.peer_by(Transport::DirectTls, &[domain], peer.address).start().await;
        let asking = async {
            let explanation = fails(&mut a, domain, "address", reason).await;
            let seen = seen(&explanation);
            assert!(seen.contains("connected: TCP to ") && seen.contains(shown), "{reason}: {seen}");
        };
        let (_refused, ()) = tokio::join!(peer.direct(), asking);
    }
}

#[tokio::test]
async fn a_peer_of_an_older_tls_is_named() {
    let authority = Authority::new();
    let old = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = old.local_addr().unwrap();
    let mut a = plan(&authority).await.peer_by(Transport::DirectTls, &["b.test"], at).start().await;
    let answering = async {
        let mut tcp = soon("a connection", old.accept()).await.unwrap().0;
        let mut hello = [0; 512];
        let _read = tcp.read(&mut hello).await.unwrap();
        // A fatal alert, protocol_version.
        tcp.write_all(&[21, 3, 1, 0, 2, 2, 70]).await.unwrap();
        tcp
    };
    let (_tcp, _explained) = tokio::join!(answering, fails(&mut a, "b.test", "address", "tls-version"));
}

#[tokio::test]
async fn starttls_that_somebody_took_out_is_named() {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["b.test"])).await;
    let mut a = plan(&authority).await.peer_by(Transport::StartTls, &["b.test"], peer.address).start().await;
    let answering = async {
        let mut wire = Wire::tcp(peer.tcp().await);
        greet(&mut wire, "").await;
        wire
    };
    let (_wire, _explained) =
        tokio::join!(answering, fails(&mut a, "b.test", "address", "starttls-not-offered"));
}

#[tokio::test]
async fn a_host_of_ours_without_certificate_is_named() {
    let authority = Authority::new();
    let peer = Listening::with(&authority.certify(&["b.test"])).await;
    let plan = hasty(Plan::without_certificate(&authority, &["a.test"]).await);
    let mut a = plan.peer_by(Transport::DirectTls, &["b.test"], peer.address).start().await;
    a.host("a.test").send("b.test", "1").await;
    failed(&a, "b.test", "own-certificate", "certificate-none").await;
}
