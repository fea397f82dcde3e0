//! What a certificate proves: every name in it, in each of the forms that XMPP servers use, to both ends.

use fedmux::identity::development::{Purpose, Request};
use fedmux::relay::settings::Placement;

use crate::support::certificates::{Authority, Certificate};
use crate::support::peer::Peer;
use crate::support::provider::{Plan, Provider};
use crate::support::wire::message;

const CERTIFICATE_GRANTED: &[(&str, &str)] = &[("proof", "certificate"), ("result", "granted")];

fn fifty() -> Vec<String> {
    (1..=50).map(|n| format!("b{n}.test")).collect()
}

/// A peer with a certificate for fifty names, and a relay for a1.test that reaches it.
async fn with_fifty_names(placement: Placement) -> (Vec<String>, Peer, Provider) {
    let names = fifty();
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&borrowed));
    let plan = Plan::new(&authority, &["a1.test"]).await;
    let provider = plan.placed_peer(&borrowed, peer.address, placement).start().await;
    (names, peer, provider)
}

#[tokio::test]
async fn a_certificate_with_fifty_names_proves_all_of_them_with_one_authentication() {
    let (names, peer, mut provider) = with_fifty_names(Placement::OneStream).await;
    let mut a1 = provider.host("a1.test");
    let connection = peer.dial(provider.quic, "a1.test").await.unwrap();
    let mut stream = connection.lane("b1.test", "a1.test").await;
    for name in &names {
        stream.say(message(name, "a1.test", name)).await;
        let heard = a1.receive().await;
        assert_eq!(
            (heard.attribute("from"), heard.attribute("id")),
            (Some(name.as_str()), Some(name.as_str()))
        );
    }
    for name in &names {
        a1.send(name, name).await;
        let heard = stream.ear.stanza().await;
        assert_eq!(
            (heard.attribute("to"), heard.attribute("id")),
            (Some(name.as_str()), Some(name.as_str()))
        );
    }
    assert_eq!(provider.metric("fedmux_proofs_total", CERTIFICATE_GRANTED), 1);
    assert_eq!(provider.metric("fedmux_connections_opened_total", &[]), 1);
    assert_eq!(provider.metric("fedmux_quic_streams_opened_total", &[]), 1);
    provider.assert_unharmed();
}

#[tokio::test]
async fn fifty_pairs_have_a_lane_each_on_one_connection_whoever_opens_them() {
    let (names, peer, mut provider) = with_fifty_names(Placement::StreamPerPair).await;
    let mut a1 = provider.host("a1.test");
    let connection = peer.dial(provider.quic, "a1.test").await.unwrap();
    let (theirs, ours) = names.split_at(25);
    let mut lanes = Vec::new();
    for name in theirs {
        let mut lane = connection.lane(name, "a1.test").await;
        lane.say(message(name, "a1.test", name)).await;
        assert_eq!(a1.receive().await.attribute("from"), Some(name.as_str()));
        lanes.push(lane);
    }
    for name in ours {
        a1.send(name, name).await;
        let mut lane = connection.accept().await;
        let accepted = lane.accept().await;
        assert_eq!((accepted.from.as_str(), accepted.to.as_str()), ("a1.test", name.as_str()));
        assert_eq!(lane.ear.stanza().await.attribute("id"), Some(name.as_str()));
        lanes.push(lane);
    }
    assert_eq!(provider.metric("fedmux_lanes", &[]), 50);
    assert_eq!(provider.metric("fedmux_connections_opened_total", &[]), 1);
    provider.assert_unharmed();
}

/// Both ends believe this certificate for `domain`: a peer that dials speaks for it, and one that is dialled hears for
/// it.
async fn is_believed_for(authority: &Authority, certificate: &Certificate, domain: &str) {
    let peer = Peer::start(certificate);
    let plan = Plan::new(authority, &["a1.test"]).await;
    let mut provider = plan.peer(&["*"], peer.address).start().await;
    let mut a1 = provider.host("a1.test");

    a1.send(domain, "out").await;
    let dialled = peer.accept().await;
    let mut lane = dialled.accept().await;
    assert_eq!(lane.accept().await.to, domain);
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("out"));

    let connection = peer.dial(provider.quic, "a1.test").await.unwrap();
    let mut lane = connection.lane(domain, "a1.test").await;
    lane.say(message(domain, "a1.test", "in")).await;
    assert_eq!(a1.receive().await.attribute("id"), Some("in"));
    provider.assert_unharmed();
}

#[tokio::test]
async fn a_wildcard_proves_one_label() {
    let authority = Authority::new();
    is_believed_for(&authority, &authority.certify(&["*.b.test"]), "rooms.b.test").await;
}

#[tokio::test]
async fn an_srv_name_alone_proves_its_domain() {
    let authority = Authority::new();
    let certificate = authority.issue(&Request { srv: &["_xmpp-server.b1.test"], ..Request::default() });
    is_believed_for(&authority, &certificate, "b1.test").await;
}

#[tokio::test]
async fn an_xmpp_address_alone_proves_its_domain() {
    let authority = Authority::new();
    let certificate = authority.issue(&Request { xmpp: &["b1.test"], ..Request::default() });
    is_believed_for(&authority, &certificate, "b1.test").await;
}

#[tokio::test]
async fn a_certificate_for_servers_only_is_believed_from_a_client() {
    let authority = Authority::new();
    let request = Request { dns: &["b1.test"], purposes: &[Purpose::Server], ..Request::default() };
    is_believed_for(&authority, &authority.issue(&request), "b1.test").await;
}

#[tokio::test]
async fn a_certificate_without_extended_key_usage_is_believed() {
    let authority = Authority::new();
    let request = Request { dns: &["b1.test"], purposes: &[], ..Request::default() };
    is_believed_for(&authority, &authority.issue(&request), "b1.test").await;
}

#[tokio::test]
async fn an_internationalised_name_is_one_domain_however_it_is_written() {
    let authority = Authority::new();
    is_believed_for(&authority, &authority.certify(&["xn--bcher-kva.test"]), "bücher.test").await;
}
