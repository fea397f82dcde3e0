//! A relay that verifies and dials the second connection itself, for a stanza that waits to go to n.test; and peers that
//! don't take part. What fails is the saving, never a stanza.

use fedmux::proto::admission::Side;
use fedmux::reason::Reason;
use fedmux::xmpp::namespace as ns;

use crate::proving::{carried_at_once, goodbye, listing};
use crate::scene::{offer, proofs};
use crate::support::certificates::Authority;
use crate::support::peer::{Connection, Peer};
use crate::support::provider::{Plan, Provider};
use crate::support::server::Host;
use crate::support::until;
use crate::support::wire::Wire;

struct Scene {
    relay: Provider,
    v: Host,
    /// It shows n.test's certificate to who asks for n.test, and p.test's else.
    peer: Peer,
    first: Connection,
    lane: Wire,
}

impl Scene {
    /// S1 is up; the peer says `late` in its features after authentication.
    async fn set(late: &str) -> Self {
        let authority = Authority::new();
        let (p, n) = (authority.certify(&["p.test"]), authority.certify(&["n.test"]));
        let peer = Peer::serving(&[("p.test", &p), ("n.test", &n)]);
        let plan = Plan::new(&authority, &["v.test", "w.test"]).await;
        let mut relay = plan.peer(&["*"], peer.address).announcing().start().await;
        let mut v = relay.host("v.test");
        v.send("p.test", "first").await;
        let first = peer.accept().await;
        let mut lane = first.accept().await;
        assert!(lane.accept_with(late).await.mux);
        assert_eq!(lane.ear.stanza().await.attribute("id"), Some("first"));
        Self { relay, v, peer, first, lane }
    }

    /// The relay dials n.test; the peer says `late` there. Whether it asked for mux.
    async fn second(&mut self, late: &str) -> (Connection, Wire, bool) {
        self.v.send("n.test", "at once").await;
        let second = self.peer.accept().await;
        let mut wire = second.accept().await;
        let accepted = wire.accept_with(late).await;
        assert_eq!(accepted.to, "n.test");
        (second, wire, accepted.mux)
    }

    /// n.test keeps a connection of its own, and no other attempt is made.
    async fn has_its_own(&mut self, wire: &mut Wire) {
        for id in ["later", "last"] {
            self.v.send("n.test", id).await;
            assert_eq!(wire.ear.stanza().await.attribute("id"), Some(id));
        }
        assert_eq!(proofs(&self.relay, "granted"), 0);
        assert_eq!(self.relay.metric("fedmux_connections_opened_total", &[("direction", "outbound")]), 2);
        self.relay.assert_unharmed();
    }
}

#[tokio::test]
async fn a_host_that_is_listed_joins_by_a_secret() {
    let mut scene = Scene::set(&listing(&["p.test", "n.test"])).await;
    let (_second, mut wire, mux) = scene.second(&listing(&["n.test", "p.test"])).await;
    assert!(!mux, "or it could be taken for a first session");
    let handed = carried_at_once(&mut wire).await;
    assert!(handed.is("mux", ns::MUX) && handed.attribute("host") == Some("p.test"), "{handed:?}");
    assert!(offer(&mut scene.lane, "p.test", "v.test", &handed.text()).await);
    goodbye(&mut wire).await;
    scene.v.send("n.test", "joined").await;
    let mut lane = scene.first.accept().await;
    assert_eq!(lane.accept().await.to, "n.test");
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("joined"));
    assert_eq!(proofs(&scene.relay, "granted"), 1);
}

#[tokio::test]
async fn a_host_that_is_not_listed_has_a_connection_of_its_own() {
    for late in ["", &*listing(&[]), &*listing(&["p.test"])] {
        let mut scene = Scene::set(late).await;
        let (_second, mut wire, mux) = scene.second(late).await;
        assert!(mux, "a session like any other");
        assert_eq!(wire.ear.stanza().await.attribute("id"), Some("at once"));
        scene.has_its_own(&mut wire).await;
        assert_eq!(proofs(&scene.relay, "refused"), 0, "nothing was tried");
    }
}

#[tokio::test]
async fn a_host_that_does_not_list_p_has_a_connection_of_its_own() {
    let mut scene = Scene::set(&listing(&["p.test", "n.test"])).await;
    let (_second, mut wire, _) = scene.second(&listing(&["n.test"])).await;
    assert_eq!(wire.ear.stanza().await.attribute("id"), Some("at once"), "and no secret before it");
    scene.has_its_own(&mut wire).await;
    assert_eq!(scene.relay.refusals(Side::Remote, Reason::MuxRefused), 1);
}

#[tokio::test]
async fn a_host_whose_secret_never_comes_back_has_a_connection_of_its_own() {
    let mut scene = Scene::set(&listing(&["p.test", "n.test"])).await;
    let (_second, mut wire, _) = scene.second(&listing(&["n.test", "p.test"])).await;
    let secret = carried_at_once(&mut wire).await.text();
    // The patience of the test is longer than that of the relay.
    until("the proof to time out", || scene.relay.refusals(Side::Remote, Reason::MuxTimeout) == 1).await;
    scene.has_its_own(&mut wire).await;
    assert!(!offer(&mut scene.lane, "p.test", "v.test", &secret).await, "it is too late");
    assert_eq!(scene.relay.refusals(Side::Remote, Reason::MuxNoRequest), 1);
}

#[tokio::test]
async fn a_peer_that_lists_a_third_partys_host_gets_nothing_for_it() {
    let mut scene = Scene::set(&listing(&["p.test", "third.test"])).await;
    scene.v.send("third.test", "private").await;
    // Nobody there has a certificate for it.
    if let Ok(connection) = scene.peer.try_accept().await {
        connection.closed().await;
    }
    let bounced = scene.v.receive().await;
    assert_eq!(
        (bounced.attribute("type"), bounced.attribute("from"), bounced.attribute("id")),
        (Some("error"), Some("third.test"), Some("private"))
    );
    assert_eq!(proofs(&scene.relay, "granted"), 0);
    scene.v.send("p.test", "next").await;
    assert_eq!(scene.lane.ear.stanza().await.attribute("id"), Some("next"));
}

#[tokio::test]
async fn a_list_makes_the_relay_dial_nobody() {
    let mut scene = Scene::set(&listing(&["p.test", "n.test", "third.test", "localhost"])).await;
    scene.v.send("p.test", "next").await;
    assert_eq!(scene.lane.ear.stanza().await.attribute("id"), Some("next"));
    assert_eq!(scene.relay.metric("fedmux_connections_opened_total", &[("direction", "outbound")]), 1);
    assert_eq!(scene.relay.metric("fedmux_dial_failures_total", &[]), 0);
}
