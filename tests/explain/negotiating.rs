//! Streams that are refused, proofs that come to nothing, and peers that are well.

use fedmux::relay::settings::Transport;
use fedmux::xmpp::domain::Domain;
use fedmux::xmpp::namespace as ns;

use crate::scene::{failed, once, plan, seen};
use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::provider::Provider;
use crate::support::tcp_peer::{Listening, greet};
use crate::support::wire::{Heard, Wire, answer};

/// A relay that has just connected to a peer by Direct TLS, and the peer's end.
async fn connected(authority: &Authority) -> (Provider, Wire) {
    let peer = Listening::with(&authority.certify(&["b.test"])).await;
    let mut a = plan(authority).await.peer_by(Transport::DirectTls, &["b.test"], peer.address).start().await;
    a.host("a.test").send("b.test", "1").await;
    let wire = peer.direct().await.unwrap();
    (a, wire)
}

fn mechanisms(of: &str) -> String {
    format!("<mechanisms xmlns='{}'><mechanism>{of}</mechanism></mechanisms>", ns::SASL)
}

#[tokio::test]
async fn a_peer_that_refuses_external_is_named_with_its_words() {
    let (a, mut wire) = connected(&Authority::new()).await;
    greet(&mut wire, &mechanisms("EXTERNAL")).await;
    while !matches!(wire.hear().await, Heard::Element(element) if element.is("auth", ns::SASL)) {}
    wire.say(format!("<failure xmlns='{}'><not-authorized/></failure></stream:stream>", ns::SASL)).await;
    let explanation = failed(&a, "b.test", "refused", "external-refused").await;
    let seen = seen(&explanation);
    assert!(
        seen.contains("features: mechanisms EXTERNAL\n") && seen.contains("<failure/>: not-authorized"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_peer_that_knows_dialback_only_is_named_with_what_it_offers() {
    let (a, mut wire) = connected(&Authority::new()).await;
    greet(&mut wire, &format!("<dialback xmlns='{}'/>", ns::DIALBACK_FEATURE)).await;
    let explanation = failed(&a, "b.test", "features", "external-not-offered").await;
    assert_eq!(explanation.failed.unwrap().detail, "dialback");
}

#[tokio::test]
async fn a_stream_error_is_named() {
    let (a, mut wire) = connected(&Authority::new()).await;
    let Heard::Header(_) = wire.hear().await else { panic!("no header") };
    let error =
        format!("<stream:error><host-unknown xmlns='{}'/></stream:error></stream:stream>", ns::STREAM_ERRORS);
    wire.say(answer("b.test", "a.test", "s0") + &error).await;
    let explanation = failed(&a, "b.test", "refused", "host-unknown").await;
    assert!(explanation.failed.unwrap().detail.contains("host-unknown"));
}

#[tokio::test]
async fn a_host_that_may_not_join_is_named_and_so_is_what_it_costs() {
    let authority = Authority::new();
    let (p, n) = (authority.certify(&["p.test"]), authority.certify(&["n.test"]));
    let peer = Peer::serving(&[("p.test", &p), ("n.test", &n)]);
    let mut a = plan(&authority).await.peer(&["*"], peer.address).announcing().start().await;
    let mut host = a.host("a.test");
    host.send("p.test", "1").await;
    let first = peer.accept().await;
    let mut lane = first.accept().await;
    let listed = format!("<mux xmlns='{}'><host>p.test</host><host>n.test</host></mux>", ns::MUX);
    lane.accept_with(&listed).await;
    lane.ear.stanza().await;
    host.send("n.test", "2").await;
    let second = peer.accept().await;
    let mut wire = second.accept().await;
    // It lists nobody here, and so hands nothing out.
    wire.accept_with("").await;
    let explanation = once(&a, "n.test", "a proof that failed", |it| {
        it.attempts.iter().any(|attempt| attempt.attempt == "proof" && attempt.result == "failed")
    })
    .await;
    let proof = explanation.attempts.iter().find(|attempt| attempt.attempt == "proof").unwrap();
    assert_eq!(proof.reason.as_deref(), Some("mux-refused"), "{explanation:#?}");
    // Its own connection works all the same.
    assert_eq!(explanation.failed, None, "{explanation:#?}");
}

#[tokio::test]
async fn a_peer_that_is_well_is_explained_too() {
    let authority = Authority::new();
    let (a, mut wire) = connected(&authority).await;
    wire.accept().await;
    let explanation = once(&a, "b.test", "a session", |it| !it.sessions.is_empty()).await;
    assert_eq!(explanation.failed, None);
    let seen = seen(&explanation);
    for step in [
        "configured: ",
        "dialling: ",
        "tls: TLSv1_3, a certificate for b.test",
        "features: mux, bidi, mechanisms EXTERNAL",
        "authenticated: ",
        "established: ",
    ] {
        assert!(seen.contains(step), "{step:?} is not in\n{seen}");
    }
    let view = a.relay.view();
    let domain = |text: &str| Domain::parse(text).unwrap();
    assert!(
        view.explain(&domain("b.test"), Some(&domain("z.test")))
            .unwrap_err()
            .contains("is no host of this relay")
    );
    assert!(view.explain(&domain("a.test"), None).unwrap().own);
    let untried = view.explain(&domain("x.test"), Some(&domain("a.test"))).unwrap();
    assert!(untried.attempts.is_empty() && untried.failed.is_none() && untried.state.is_none());
    assert_eq!(a.metric("fedmux_domains_remembered", &[]), 1);
}
