//! Other `[[peer]]` entries while stanzas flow: the sessions of a peer that is another now are drained and new ones made, nothing is
//! lost, and the sessions of the other peers are the same connections.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fedmux::relay::settings::{Endpoint, Peer, Placement, Transport};
use fedmux::relay::status::SessionStatus;
use fedmux::xmpp::domain::DomainPattern;

use crate::scene::{ids, impatient, numbers, send};
use crate::support::certificates::Authority;
use crate::support::path::Path;
use crate::support::provider::{Plan, Provider};
use crate::support::server::Host;
use crate::support::{PATIENCE, until};

/// a1.test with two peers: b1.test, which it reaches over a path, and c1.test.
struct Scene {
    authority: Authority,
    a: Provider,
    b: Provider,
    c: Provider,
    path: Path,
    a1: Host,
    b1: Host,
    c1: Host,
}

impl Scene {
    async fn set() -> Self {
        let authority = Authority::new();
        let plan = async |host: &str| Plan::new(&authority, &[host]).await.limits(impatient).bind();
        let (a, b, c) = (plan("a1.test").await, plan("b1.test").await, plan("c1.test").await);
        let path = Path::between(a.quic, b.quic, Duration::from_millis(1)).await;
        let (at_a, at_c, placement) = (a.quic, c.quic, Placement::default());
        let a = a.peer(&["b1.test"], path.far_as_seen, placement).peer(&["c1.test"], at_c, placement);
        let mut a = a.start().await;
        let mut b = b.peer(&["a1.test"], path.near_as_seen, placement).start().await;
        let mut c = c.peer(&["a1.test"], at_a, placement).start().await;
        let (a1, b1, c1) = (a.host("a1.test"), b.host("b1.test"), c.host("c1.test"));
        let mut scene = Self { authority, a, b, c, path, a1, b1, c1 };
        // Each session carries both directions before anything is changed.
        scene.exchange(0).await;
        scene
    }

    /// A stanza in each direction with each peer.
    async fn exchange(&mut self, n: usize) {
        let expected = numbers(n..n + 1);
        for other in [&mut self.b1, &mut self.c1] {
            let name = other.name.clone();
            send(&mut self.a1, &name, n..n + 1).await;
            assert_eq!(ids(other, "a1.test", 1).await, expected);
            send(other, "a1.test", n..n + 1).await;
            assert_eq!(ids(&mut self.a1, &name, 1).await, expected);
        }
    }

    /// The sessions of a.
    async fn sessions(&self) -> Vec<SessionStatus> {
        self.a.relay.view().status().await.sessions
    }

    /// Its session with whoever is at `peer`.
    async fn session_at(&self, peer: SocketAddr) -> SessionStatus {
        let sessions = self.sessions().await;
        let found = sessions.iter().find(|session| session.peer == peer.to_string());
        found.unwrap_or_else(|| panic!("{peer} in {sessions:?}")).clone()
    }

    /// The session that leads there is gone.
    async fn leaves(&self, peer: SocketAddr) {
        let begun = Instant::now();
        while self.sessions().await.iter().any(|session| session.peer == peer.to_string()) {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.sessions().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn is_good(&self) {
        for provider in [&self.a, &self.b, &self.c] {
            provider.is_balanced().await;
            provider.assert_unharmed();
            assert_eq!(provider.metric("fedmux_stanzas_bounced_total", &[]), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_with_another_address_is_reached_there_and_nothing_is_lost_on_the_way() {
    let mut scene = Scene::set().await;
    let (b_at, c_at) = (scene.b.quic, scene.c.quic);
    let with_c = scene.session_at(c_at).await;
    let over_path = scene.session_at(scene.path.far_as_seen).await;
    // Under way in both directions, with both peers, when it is changed and afterwards.
    for range in [1..100, 100..200] {
        if range.start == 100 {
            let report = scene.a.reload(|settings| settings.peers[0].address = Endpoint::Address(b_at));
            let way = format!("from {} by quic to {b_at} by quic", scene.path.far_as_seen);
            assert_eq!(report.changed, [format!("peer b1.test: address changed, {way}")]);
            assert!(report.needs_restart.is_empty());
        }
        send(&mut scene.a1, "b1.test", range.clone()).await;
        send(&mut scene.a1, "c1.test", range.clone()).await;
        send(&mut scene.b1, "a1.test", range.clone()).await;
        send(&mut scene.c1, "a1.test", range).await;
    }
    // Once and in order, on every way.
    assert_eq!(ids(&mut scene.b1, "a1.test", 199).await, numbers(1..200));
    assert_eq!(ids(&mut scene.c1, "a1.test", 199).await, numbers(1..200));
    let mut heard = [Vec::new(), Vec::new()];
    for _ in 0..2 * 199 {
        let stanza = scene.a1.receive().await;
        let from_c = usize::from(stanza.attribute("from") == Some("c1.test"));
        heard[from_c].push(stanza.attribute("id").unwrap().to_owned());
    }
    assert_eq!(heard, [numbers(1..200), numbers(1..200)]);
    until("the former session to be drained", || {
        scene.a.metric("fedmux_sessions_ended_total", &[("reason", "peer-changed")]) == 1
    })
    .await;
    scene.exchange(200).await;
    let sessions = scene.sessions().await;
    assert!(sessions.iter().all(|session| session.session != over_path.session), "{sessions:?}");
    let now = scene.session_at(b_at).await;
    assert!(now.told.unwrap().opened_by_us && !now.retiring);
    // The other peer's is the same, and so is its connection.
    let still = scene.session_at(c_at).await;
    assert_eq!((still.session, still.retiring), (with_c.session, false));
    assert_eq!(scene.c.metric("fedmux_connections_opened_total", &[]), 1);
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_peer_that_is_not_reached_goes_to_its_new_address_at_once() {
    let mut scene = Scene::set().await;
    let b_at = scene.b.quic;
    scene.path.cut(true);
    until("the connection to be given up", || scene.a.metric("fedmux_sessions", &[]) == 1).await;
    send(&mut scene.a1, "b1.test", 1..20).await;
    until("an attempt to fail", || scene.a.metric("fedmux_dial_failures_total", &[]) > 0).await;
    scene.a.reload(|settings| settings.peers[0].address = Endpoint::Address(b_at));
    assert_eq!(ids(&mut scene.b1, "a1.test", 19).await, numbers(1..20));
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_added_is_reached_and_one_that_is_taken_away_is_not() {
    let mut scene = Scene::set().await;
    let (at_path, c_at) = (scene.path.far_as_seen, scene.c.quic);
    let with_c = scene.session_at(c_at).await;
    let mut taken = None;
    let report = scene.a.reload(|settings| taken = Some(settings.peers.remove(0)));
    assert_eq!(report.changed, ["peer b1.test taken away"]);
    scene.leaves(at_path).await;
    // c1.test stands first in the list now, and is who it was.
    send(&mut scene.a1, "b1.test", 1..2).await;
    let refused = scene.a1.receive().await;
    assert_eq!(crate::scene::reason(&refused), "no-route");
    let report = scene.a.reload(|settings| settings.peers.push(taken.unwrap()));
    assert_eq!(report.changed, [format!("peer b1.test added: {at_path} by quic")]);
    scene.exchange(2).await;
    assert_eq!(scene.session_at(c_at).await.session, with_c.session);
    assert_eq!(scene.c.metric("fedmux_connections_opened_total", &[]), 1);
    for provider in [&scene.a, &scene.b, &scene.c] {
        provider.is_balanced().await;
        provider.assert_unharmed();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_is_shown_and_believed_by_changes_with_a_session_of_its_own() {
    let mut scene = Scene::set().await;
    let (at_path, c_at) = (scene.path.far_as_seen, scene.c.quic);
    let with_c = scene.session_at(c_at).await;
    let mut with_b = scene.session_at(at_path).await;
    let authority = scene.authority.file();
    type Change = Box<dyn Fn(&mut Peer)>;
    let changes: [(&str, Change); 4] = [
        ("announce", Box::new(|peer: &mut Peer| peer.announce_all = true)),
        ("placement", Box::new(|peer: &mut Peer| peer.placement = Placement::OneStream)),
        ("trust", Box::new(move |peer: &mut Peer| peer.trust = Some(authority.clone()))),
        ("placement", Box::new(|peer: &mut Peer| peer.placement = Placement::StreamPerPair)),
    ];
    for (n, (key, change)) in changes.into_iter().enumerate() {
        let report = scene.a.reload(|settings| change(&mut settings.peers[0]));
        assert_eq!(report.changed, [format!("peer b1.test: {key} changed")]);
        scene.exchange(n + 1).await;
        let begun = Instant::now();
        let next = loop {
            let next = scene.session_at(at_path).await;
            if next.session != with_b.session {
                break next;
            }
            assert!(begun.elapsed() < PATIENCE, "{key}: {next:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        with_b = next;
    }
    assert_eq!(scene.session_at(c_at).await.session, with_c.session);
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_authority_in_the_same_file_is_another_one() {
    let mut scene = Scene::set().await;
    let (at_path, c_at) = (scene.path.far_as_seen, scene.c.quic);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.pem");
    let copy = |authority: &Authority| std::fs::copy(authority.file(), &file).unwrap();
    copy(&scene.authority);
    scene.a.reload(|settings| settings.peers[0].trust = Some(file.clone()));
    scene.exchange(1).await;
    let (with_b, with_c) = (scene.session_at(at_path).await, scene.session_at(c_at).await);
    assert!(scene.a.reload(|_| {}).changed.is_empty());
    assert_eq!(scene.session_at(at_path).await.session, with_b.session, "nothing has changed");
    copy(&Authority::new());
    let drained = "the sessions for which they vouched are drained";
    let told = format!("authorities of [[peer]]s have changed in their files: {drained}");
    let report = scene.a.reload(|_| {});
    scene.leaves(at_path).await;
    assert_eq!(report.changed, [told]);
    send(&mut scene.a1, "b1.test", 2..3).await;
    assert_eq!(crate::scene::reason(&scene.a1.receive().await), "certificate-unknown-issuer");
    assert_eq!(scene.session_at(c_at).await.session, with_c.session);
    scene.a.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_domains_and_other_limits_of_a_peer_touch_no_session() {
    let mut scene = Scene::set().await;
    let before: Vec<u64> = scene.sessions().await.iter().map(|session| session.session).collect();
    let report = scene.a.reload(|settings| {
        settings.peers.reverse();
        settings.peers[1].domains.push(DomainPattern::parse("*.b1.test").unwrap());
        settings.peers[1].proofs.open += 1;
        settings.limits.lane_idle *= 2;
    });
    let changes =
        ["peer b1.test and others: domains changed", "peer b1.test and others: proofs_open changed"];
    assert_eq!(report.changed, changes);
    assert_eq!(report.needs_restart, ["[limits] lane_idle"]);
    scene.exchange(1).await;
    let after: Vec<u64> = scene.sessions().await.iter().map(|session| session.session).collect();
    assert_eq!(after, before);
    scene.is_good().await;
}

/// Over TCP the connection is the one stream, and ends with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_reached_otherwise_is_reached_so() {
    let mut scene = Scene::set().await;
    for (n, transport) in [Transport::DirectTls, Transport::StartTls, Transport::Quic].into_iter().enumerate()
    {
        let address = scene.b.at(transport);
        scene.a.reload(|settings| {
            settings.peers[0].address = Endpoint::Address(address);
            settings.peers[0].transport = transport;
        });
        send(&mut scene.a1, "b1.test", n + 1..n + 2).await;
        assert_eq!(ids(&mut scene.b1, "a1.test", 1).await, numbers(n + 1..n + 2));
        let session = scene.session_at(address).await;
        assert_eq!((&*session.transport, session.retiring), (transport.as_str(), false));
    }
    until("the former connections to end", || {
        scene.a.metric("fedmux_sessions_ended_total", &[("reason", "peer-changed")]) >= 3
    })
    .await;
    scene.is_good().await;
}
