//! The keys that a domain publishes (XEP-0487, RFC 7469): whoever answers for it must have one of them, besides everything else.

use std::net::SocketAddr;

use fedmux::proto::admission::Side;
use fedmux::proto::proof::DomainProof;
use fedmux::reason::Reason;
use fedmux::relay::settings::{HostMeta, RemoteDialback, Transport};
use fedmux::xmpp::namespace as ns;

use crate::dns_server::{TestServer, Zone};
use crate::scene::{document, listing, plan, said_reason, way, zone};
use crate::support::certificates::{Authority, Certificate};
use crate::support::log::Log;
use crate::support::peer::Peer;
use crate::support::provider::Provider;
use crate::support::server::Host;
use crate::support::tcp_peer::{Dialler, Listening, greet};
use crate::support::until;
use crate::support::web::{Page, WebServer};
use crate::support::wire::Heard;

/// A relay that finds x.test by a document with these pins; of its server it is known by `by_srv`, or by the document itself.
async fn relay(
    authority: &Authority,
    at: (Transport, SocketAddr),
    pins: &[[u8; 32]],
    by_srv: bool,
) -> (Provider, Host, (WebServer, TestServer)) {
    let (transport, address) = at;
    let link = [(transport, address, "x.test")];
    let said = document(if by_srv { &[] } else { &link }, pins);
    let web = WebServer::start(&authority.certify(&["x.test"])).await.with("x.test", Page::Text(said));
    let own = vec!["x.test A 127.0.0.1".to_owned()];
    let dns = if by_srv { zone(&[way("x.test", transport, address), own]) } else { zone(&[own]) };
    let dns = dns.serve().await;
    let plan = plan(authority, &["a1.test"]).await.finding_by(dns.address);
    let mut relay = plan.asking_the_web(HostMeta::Prefer, web.address.port()).start().await;
    let a1 = relay.host("a1.test");
    (relay, a1, (web, dns))
}

#[tokio::test]
async fn a_server_with_a_published_key_is_taken_by_whatever_way_it_was_found() {
    let authority = Authority::new();
    let certificate = authority.certify(&["x.test"]);
    for by_srv in [false, true] {
        for pin in [certificate.pin(), authority.pin()] {
            let peer = Listening::with(&certificate).await;
            let at = (Transport::DirectTls, peer.address);
            let (relay, mut a1, _others) = relay(&authority, at, &[[7; 32], pin], by_srv).await;
            a1.send("x.test", "first").await;
            let mut wire = peer.direct().await.unwrap();
            wire.accept().await;
            assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"));
            assert_eq!(relay.metric("fedmux_host_meta_duration_seconds_count", &[("result", "found")]), 1);
            relay.assert_unharmed();
        }
    }
}

/// The stanza comes back, and everybody hears why: the sender, the log, the metric.
async fn is_refused(relay: &Provider, a1: &mut Host, log: &Log) {
    let reason = Reason::CertificatePinMismatch;
    assert_eq!(said_reason(&a1.receive().await), reason.as_str());
    let line = log.line("peer not reached").await;
    assert_eq!(line.field("reason"), reason.as_str());
    assert!(line.field("advice").contains("public-key-pins-sha-256"), "{line:?}");
    until("the refusal to be counted", || relay.dial_failures("remote", reason) > 0).await;
    assert_eq!(relay.metric("fedmux_sessions", &[]), 0);
    relay.is_balanced().await;
    relay.assert_unharmed();
}

#[tokio::test]
async fn a_good_certificate_with_another_key_is_refused_by_whatever_way_it_was_found() {
    let authority = Authority::new();
    let (certificate, former) = (authority.certify(&["x.test"]), authority.certify(&["x.test"]));
    for by_srv in [false, true] {
        for pins in [vec![former.pin()], vec![Authority::new().pin(), [7; 32]]] {
            let log = Log::capture();
            let peer = Listening::with(&certificate).await;
            let at = (Transport::DirectTls, peer.address);
            let (relay, mut a1, _others) = relay(&authority, at, &pins, by_srv).await;
            a1.send("x.test", "first").await;
            let (_, ()) = tokio::join!(peer.direct(), is_refused(&relay, &mut a1, &log));
        }
    }
}

#[tokio::test]
async fn a_good_certificate_with_another_key_is_refused_over_quic() {
    let authority = Authority::new();
    let log = Log::capture();
    let peer = Peer::start(&authority.certify(&["x.test"]));
    let at = (Transport::Quic, peer.address);
    let (relay, mut a1, _others) = relay(&authority, at, &[[7; 32]], false).await;
    a1.send("x.test", "first").await;
    let (_, ()) = tokio::join!(peer.try_accept(), is_refused(&relay, &mut a1, &log));
}

/// Of two servers of the domain one has a key that it publishes.
#[tokio::test]
async fn the_other_server_is_tried() {
    let authority = Authority::new();
    let (good, bad): (Certificate, Certificate) =
        (authority.certify(&["x.test"]), authority.certify(&["x.test"]));
    let (right, wrong) = (Listening::with(&good).await, Peer::start(&bad));
    let links = [(Transport::Quic, wrong.address, "x.test"), (Transport::DirectTls, right.address, "x.test")];
    let said = document(&links, &[good.pin()]);
    let web = WebServer::start(&good).await.with("x.test", Page::Text(said));
    let dns = Zone::new(&["x.test A 127.0.0.1"]).serve().await;
    let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
    let mut relay = plan.asking_the_web(HostMeta::Fallback, web.address.port()).start().await;
    relay.host("a1.test").send("x.test", "first").await;
    let (_, wire) = tokio::join!(wrong.try_accept(), right.direct());
    let mut wire = wire.unwrap();
    wire.accept().await;
    assert_eq!(wire.ear.stanza().await.attribute("id"), Some("first"));
}

/// The documents of y.test and z.test lead to where x.test is, whose certificate carries all three; but the key is not one of
/// those that z.test publishes.
#[tokio::test]
async fn a_session_of_another_key_does_not_carry_a_domain_that_publishes_its_own() {
    const NAMES: [&str; 3] = ["x.test", "y.test", "z.test"];
    let authority = Authority::new();
    let all = authority.certify(&NAMES);
    let peer = Peer::start(&all);
    let web = WebServer::start(&all).await;
    for (name, pins) in NAMES.into_iter().zip([vec![], vec![all.pin()], vec![[7; 32]]]) {
        web.put(name, Page::Text(document(&[(Transport::Quic, peer.address, name)], &pins)));
    }
    let dns = Zone::new(&["x.test A 127.0.0.1", "y.test A 127.0.0.1", "z.test A 127.0.0.1"]).serve().await;
    let plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
    let mut relay = plan.asking_the_web(HostMeta::Fallback, web.address.port()).start().await;
    let mut a1 = relay.host("a1.test");
    a1.send("x.test", "x.test").await;
    let session = peer.accept().await;
    let mut lane = session.accept().await;
    lane.accept_with(&listing(&NAMES)).await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("x.test"));
    a1.send("y.test", "y.test").await;
    let mut joins = session.accept().await;
    joins.accept().await;
    assert_eq!(joins.ear.stanza().await.attribute("id"), Some("y.test"));
    a1.send("z.test", "z.test").await;
    let (refused, bounced) = tokio::join!(peer.try_accept(), a1.receive());
    assert_eq!(said_reason(&bounced), Reason::CertificatePinMismatch.as_str());
    if let Ok(refused) = refused {
        refused.closed().await;
    }
    relay.is_balanced().await;
    relay.assert_unharmed();
}

/// Whoever is asked about a dialback key has to have one of the published keys, too.
#[tokio::test]
async fn a_server_of_another_key_does_not_vouch_by_dialback() {
    let authority = Authority::new();
    let certificate = authority.certify(&["x.test"]);
    let peer = Listening::with(&certificate).await;
    for (pin, good) in [(certificate.pin(), true), ([7; 32], false)] {
        let web = WebServer::start(&certificate).await;
        web.put(
            "x.test",
            Page::Text(document(&[(Transport::DirectTls, peer.address, "front.test")], &[pin])),
        );
        let dns = Zone::new(&["x.test A 127.0.0.1"]).serve().await;
        let mut plan = plan(&authority, &["a1.test"]).await.finding_by(dns.address);
        plan.settings.policy.dialback = RemoteDialback::Tls;
        let relay = plan.asking_the_web(HostMeta::Fallback, web.address.port()).start().await;
        let dialler = Dialler::with(None);
        let mut stranger = dialler.direct(relay.at(Transport::DirectTls), "a1.test").await.unwrap();
        stranger.greet("x.test", "a1.test").await;
        let key =
            format!("<db:result xmlns:db='{}' from='x.test' to='a1.test'>key</db:result>", ns::DIALBACK);
        stranger.say(key).await;
        let asked = peer.direct().await;
        if good {
            greet(&mut asked.unwrap(), "").await;
            assert_eq!(peer.names(), ["front.test"]);
            continue;
        }
        let Heard::Element(result) = stranger.hear().await else { panic!("no answer") };
        assert_eq!(result.attribute("type"), Some("error"), "{result:?}");
        assert_eq!(relay.refusals(Side::Remote, Reason::CertificatePinMismatch), 1);
        assert_eq!(relay.relay.metrics().proven(DomainProof::Dialback), 0);
    }
}
