//! What proves nothing: a name that the certificate doesn't carry, a host of ours, somebody else's domain. Each is refused
//! at the stream and at the stanza, and disturbs nobody.

use fedmux::identity::development::Request;
use fedmux::proto::admission::Side;
use fedmux::reason::Reason;
use fedmux::relay::settings::Placement;

use crate::support::certificates::Authority;
use crate::support::companion::Companion;
use crate::support::log::Log;
use crate::support::peer::{Connection, Peer};
use crate::support::provider::{Plan, Provider};
use crate::support::wire::{Wire, header, message};

/// A relay for a1.test, a2.test and calm.a.test with one session of a peer: a pair in it that behaves, and room for what
/// doesn't.
struct Scene {
    authority: Authority,
    peer: Peer,
    provider: Provider,
    connection: Connection,
    pair: Companion,
    /// Every refusal so far: there must be no other.
    refused: Vec<(Side, Reason)>,
    log: Log,
}

impl Scene {
    /// The peer's certificate names calm.b.test and `names`.
    async fn set(names: &[&str], placement: Placement) -> Self {
        let (authority, log) = (Authority::new(), Log::capture());
        let peer = Peer::start(&authority.certify(&[&["calm.b.test"], names].concat()));
        let plan = Plan::new(&authority, &["a1.test", "a2.test", "calm.a.test"]).await;
        let mut provider = plan.placed_peer(&["*"], peer.address, placement).start().await;
        let connection = peer.dial(provider.quic, "a1.test").await.unwrap();
        let lane = connection.lane("calm.b.test", "calm.a.test").await;
        let mut pair = Companion::start(lane, "calm.b.test", provider.host("calm.a.test"));
        pair.goes_on().await;
        Self { authority, peer, provider, connection, pair, refused: Vec::new(), log }
    }

    /// `stream` ends with `condition`, the reason is counted and logged, and nothing else ends.
    async fn is_refused(&mut self, mut stream: Wire, side: Side, condition: &str, reason: Reason) {
        self.refused.push((side, reason));
        assert_eq!(stream.expect_error(condition).await, reason.as_str());
        let times = self.refused.iter().filter(|refused| **refused == (side, reason)).count();
        assert_eq!(self.provider.refusals(side, reason), times as u64);
        assert_eq!(self.provider.metric("fedmux_refusals_total", &[]), self.refused.len() as u64);
        let line = self.log.line("stream refused").await;
        assert_eq!((line.field("side"), line.field("reason")), (side.as_str(), reason.as_str()));
        assert_eq!(line.field("advice"), reason.advice());
        self.log.clear();
        self.pair.goes_on().await;
        self.provider.assert_unharmed();
    }
}

#[tokio::test]
async fn a_domain_outside_the_certificate_is_refused_at_the_stream() {
    let mut scene = Scene::set(&["b1.test"], Placement::StreamPerPair).await;
    for stranger in ["c.test", "x.b1.test", "test", "b1.test.evil.test"] {
        let mut stream = scene.connection.open().await;
        stream.say(header(stranger, "a1.test")).await;
        scene.is_refused(stream, Side::Remote, "invalid-from", Reason::InvalidFrom).await;
    }
}

#[tokio::test]
async fn a_domain_outside_the_certificate_is_refused_at_the_stanza() {
    for placement in [Placement::StreamPerPair, Placement::OneStream] {
        let mut scene = Scene::set(&["b1.test"], placement).await;
        let mut a1 = scene.provider.host("a1.test");
        let mut stream = scene.connection.lane("b1.test", "a1.test").await;
        let (good, bad) = (message("b1.test", "a1.test", "good"), message("c.test", "a1.test", "bad"));
        stream.say(format!("{good}{bad}{good}")).await;
        scene.is_refused(stream, Side::Remote, "invalid-from", Reason::InvalidFrom).await;
        assert_eq!(a1.receive().await.attribute("id"), Some("good"));
        assert!(a1.received().is_none(), "nothing behind a violation is carried");
    }
}

#[tokio::test]
async fn a_lane_carries_its_own_pair_alone() {
    for (from, to) in [("calm.b.test", "a1.test"), ("b1.test", "a2.test")] {
        let mut scene = Scene::set(&["b1.test"], Placement::StreamPerPair).await;
        let mut stream = scene.connection.lane("b1.test", "a1.test").await;
        stream.say(message(from, to, "x")).await;
        scene.is_refused(stream, Side::Remote, "invalid-from", Reason::WrongPair).await;
    }
}

#[tokio::test]
async fn our_own_server_speaks_for_its_hosts_alone() {
    let mut scene = Scene::set(&["b1.test"], Placement::StreamPerPair).await;
    let mut stream = scene.provider.local().await;
    stream.say(header("c.test", "b1.test")).await;
    scene.is_refused(stream, Side::Local, "invalid-from", Reason::InvalidFrom).await;

    for stranger in ["c.test", "a2.test", "b1.test"] {
        let mut stream = scene.provider.local().await;
        stream.authenticate("a1.test", "b1.test").await;
        stream.say(message(stranger, "b1.test", "x")).await;
        scene.is_refused(stream, Side::Local, "invalid-from", Reason::InvalidFrom).await;
    }
    assert_eq!(scene.provider.metric("fedmux_quic_streams_opened_total", &[("direction", "outbound")]), 0);
}

#[tokio::test]
async fn a_certificate_that_names_a_host_of_ours_does_not_become_it() {
    let mut scene = Scene::set(&["b1.test", "a1.test", "*.a.test"], Placement::OneStream).await;
    for host in ["a1.test", "calm.a.test"] {
        let mut stream = scene.connection.open().await;
        stream.say(header(host, "a2.test")).await;
        scene.is_refused(stream, Side::Remote, "invalid-from", Reason::InvalidFrom).await;
        let mut stream = scene.connection.lane("b1.test", "a2.test").await;
        stream.say(message(host, "a2.test", "x")).await;
        scene.is_refused(stream, Side::Remote, "invalid-from", Reason::InvalidFrom).await;
    }
    let (mut a1, mut a2) = (scene.provider.host("a1.test"), scene.provider.host("a2.test"));
    a2.send("a1.test", "home").await;
    assert_eq!(a1.receive().await.attribute("id"), Some("home"), "what is for our host stays at home");
    assert!(a2.received().is_none());
    assert_eq!(scene.provider.metric("fedmux_quic_streams_opened_total", &[("direction", "outbound")]), 0);
}

#[tokio::test]
async fn nothing_is_relayed_from_remote_to_remote() {
    let mut scene = Scene::set(&["b1.test"], Placement::OneStream).await;
    // Another peer that the relay reaches, and that is there.
    let other = Peer::start(&scene.authority.certify(&["c1.test"]));
    let there = other.dial(scene.provider.quic, "a1.test").await.unwrap();
    let _lane = there.lane("c1.test", "a1.test").await;

    for remote in ["c1.test", "calm.b.test", "nowhere.test"] {
        let mut stream = scene.connection.open().await;
        stream.say(header("b1.test", remote)).await;
        scene.is_refused(stream, Side::Remote, "host-unknown", Reason::NotOurHost).await;
        let mut stream = scene.connection.lane("b1.test", "a1.test").await;
        stream.say(message("b1.test", remote, "x")).await;
        scene.is_refused(stream, Side::Remote, "host-unknown", Reason::NotOurHost).await;
    }
    assert_eq!(scene.provider.metric("fedmux_connections_opened_total", &[("direction", "outbound")]), 0);
    assert_eq!(scene.provider.metric("fedmux_quic_streams_opened_total", &[("direction", "outbound")]), 0);
}

#[tokio::test]
async fn a_wildcard_proves_neither_two_labels_nor_none() {
    let mut scene = Scene::set(&["*.b.test"], Placement::StreamPerPair).await;
    for stranger in ["x.rooms.b.test", "b.test"] {
        let mut stream = scene.connection.open().await;
        stream.say(header(stranger, "a1.test")).await;
        scene.is_refused(stream, Side::Remote, "invalid-from", Reason::InvalidFrom).await;
    }
    let mut a1 = scene.provider.host("a1.test");
    for stranger in ["x.rooms.b.test", "b.test"] {
        a1.send(stranger, "x").await;
        let dialled = scene.peer.try_accept().await;
        if let Ok(connection) = dialled {
            connection.closed().await;
        }
        let bounced = a1.receive().await;
        assert_eq!((bounced.attribute("type"), bounced.attribute("from")), (Some("error"), Some(stranger)));
    }
    assert_eq!(scene.provider.dial_failures("remote", Reason::CertificateWrongName), 2);
}

#[tokio::test]
async fn neither_a_common_name_nor_a_name_for_clients_proves_anything() {
    let authority = Authority::new();
    let peer = Peer::start(&authority.issue(&Request {
        dns: &["other.test"],
        srv: &["_xmpp-client.b1.test"],
        xmpp: &["me@b1.test"],
        common_name: "b1.test",
        ..Request::default()
    }));
    let plan = Plan::new(&authority, &["a1.test"]).await;
    let provider = plan.peer(&["*"], peer.address).start().await;
    let connection = peer.dial(provider.quic, "a1.test").await.unwrap();
    let mut stream = connection.open().await;
    stream.say(header("b1.test", "a1.test")).await;
    assert_eq!(stream.expect_error("invalid-from").await, "invalid-from");
    connection.lane("other.test", "a1.test").await;
    provider.assert_unharmed();
}
