//! Which of our certificates is shown: by SNI, else by the host that the stream was opened to in clear text.

use fedmux::proto::admission::Side;
use fedmux::reason::Reason;
use fedmux::relay::settings::Transport;

use crate::support::certificates::Authority;
use crate::support::provider::{Plan, Provider};
use crate::support::tcp_peer::{Dialler, upgrade};
use crate::support::wire::{Wire, header};

/// A relay with a certificate for each host.
async fn provider(authority: &Authority) -> Provider {
    let hosts = ["a1.test", "a2.test"];
    let plan = Plan::without_certificate(authority, &hosts).await;
    for host in hosts {
        plan.add_certificate(&authority.certify(&[host]), host);
    }
    plan.start().await
}

fn dialler(authority: &Authority) -> Dialler {
    Dialler::with(Some(&authority.certify(&["b1.test"])))
}

/// On `wire` the relay has shown the certificate of `host`, and speaks for that one alone.
async fn speaks_for(provider: &Provider, mut wire: Wire, host: &str, other: Option<Wire>) {
    wire.authenticate("b1.test", host).await;
    wire.close().await;
    let Some(mut wire) = other else { return };
    let not = if host == "a1.test" { "a2.test" } else { "a1.test" };
    wire.say(header("b1.test", not)).await;
    assert_eq!(wire.expect_error("host-unknown").await, Reason::HostUnknown.as_str());
    assert!(provider.refusals(Side::Remote, Reason::HostUnknown) > 0);
}

#[tokio::test]
async fn each_host_is_proven_by_its_own_certificate_by_sni() {
    let authority = Authority::new();
    let (provider, dialler) = (provider(&authority).await, dialler(&authority));
    for host in ["a1.test", "a2.test"] {
        let direct = async || dialler.direct(provider.at(Transport::DirectTls), host).await.unwrap();
        speaks_for(&provider, direct().await, host, Some(direct().await)).await;
        let at = provider.at(Transport::StartTls);
        let starttls = async || dialler.starttls(at, "b1.test", host).await.unwrap();
        speaks_for(&provider, starttls().await, host, Some(starttls().await)).await;
    }
}

#[tokio::test]
async fn without_sni_the_streams_to_chooses_and_with_both_sni_does() {
    let authority = Authority::new();
    let provider = provider(&authority).await;
    let at = provider.at(Transport::StartTls);
    let silent = dialler(&authority).without_sni();
    for host in ["a1.test", "a2.test"] {
        let starttls = async || silent.starttls(at, "b1.test", host).await.unwrap();
        speaks_for(&provider, starttls().await, host, Some(starttls().await)).await;
    }
    let tcp = upgrade(tokio::net::TcpStream::connect(at).await.unwrap(), "b1.test", "a1.test").await;
    let wire =
        Dialler::speaking(Some(&authority.certify(&["b1.test"])), crate::support::tcp_peer::ANY_VERSION, &[])
            .secure(tcp, "a2.test")
            .await
            .unwrap();
    speaks_for(&provider, wire, "a2.test", None).await;
}

#[tokio::test]
async fn a_client_that_names_nobody_or_a_stranger_is_shown_no_certificate() {
    let authority = Authority::new();
    let provider = provider(&authority).await;
    let at = provider.at(Transport::DirectTls);
    let silent = dialler(&authority).without_sni();
    silent.direct(at, "a1.test").await.err().unwrap();
    dialler(&authority).direct(at, "c.test").await.err().unwrap();
    crate::support::until("both refusals", || provider.refusals(Side::Remote, Reason::CertificateNone) == 2)
        .await;
}
