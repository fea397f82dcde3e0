//! Two relays, of which one is told to go by other settings while stanzas flow: hosts are taken away and added.
//! Whoever isn't concerned notices nothing.

use std::path::Path;

use fedmux::proto::policy::DomainPolicy;
use fedmux::relay::settings::{Endpoint, Settings};
use fedmux::xmpp::domain::{Domain, DomainPattern};
use fedmux::xmpp::element::Element;

use crate::relays::{names, plan};
use crate::scene::{condition, proofs};
use crate::support::certificates::Authority;
use crate::support::provider::{Plan, Provider};
use crate::support::server::Host;
use crate::support::until;
use crate::support::wire::Heard;

/// Two relays that reach each other, a1..aN and b1..bN behind them, each with a certificate of its own.
struct Scene {
    /// Its file is read at each reload.
    _authority: Authority,
    a: Provider,
    b: Provider,
    a_hosts: Vec<Host>,
    b_hosts: Vec<Host>,
}

impl Scene {
    async fn set(hosts: usize, change: impl FnOnce(&mut Plan)) -> Self {
        let authority = Authority::new();
        let mut a = plan(&authority, &names('a', hosts)).await;
        change(&mut a);
        let b = plan(&authority, &names('b', hosts)).await;
        let [mut a, mut b] = crate::relays::start([a, b]).await;
        let a_hosts = names('a', hosts).iter().map(|name| a.host(name)).collect();
        let b_hosts = names('b', hosts).iter().map(|name| b.host(name)).collect();
        Self { _authority: authority, a, b, a_hosts, b_hosts }
    }

    /// `b` sends to `a`, which hears it; both count from 1.
    async fn arrives(&mut self, b: usize, a: usize, id: &str) {
        self.b_hosts[b - 1].send(&format!("a{a}.test"), id).await;
        let heard = self.a_hosts[a - 1].receive().await;
        let from = format!("b{b}.test");
        assert_eq!((heard.attribute("from"), heard.attribute("id")), (Some(&*from), Some(id)), "{heard:?}");
        assert_eq!(heard.attribute("type"), Some("chat"), "{heard:?}");
    }

    /// And the other way.
    async fn answers(&mut self, a: usize, b: usize, id: &str) {
        self.a_hosts[a - 1].send(&format!("b{b}.test"), id).await;
        let heard = self.b_hosts[b - 1].receive().await;
        let from = format!("a{a}.test");
        assert_eq!((heard.attribute("from"), heard.attribute("id")), (Some(&*from), Some(id)), "{heard:?}");
        assert_eq!(heard.attribute("type"), Some("chat"), "{heard:?}");
    }

    /// `b` sends to `a`, and is told that nobody is there. What crossed the news on its way still arrives.
    async fn is_refused(&mut self, b: usize, a: usize, id: &str) {
        self.is_refused_with("remote-server-not-found", b, a, id).await;
    }

    async fn is_refused_with(&mut self, expected: &str, b: usize, a: usize, id: &str) {
        let heard = loop {
            self.b_hosts[b - 1].send(&format!("a{a}.test"), id).await;
            tokio::select! {
                heard = self.b_hosts[b - 1].receive() => break heard,
                crossed = self.a_hosts[a - 1].receive() => assert_eq!(crossed.attribute("id"), Some(id)),
            }
        };
        assert_eq!(heard.attribute("id"), Some(id), "{heard:?}");
        assert_eq!(condition(&heard), expected);
    }
}

fn without(host: &str) -> impl FnOnce(&mut Settings) {
    let host = Domain::parse(host).unwrap();
    move |settings| settings.hosts[0].domains.retain(|domain| *domain != host)
}

fn with(host: &str) -> impl FnOnce(&mut Settings) {
    let host = Domain::parse(host).unwrap();
    move |settings| settings.hosts[0].domains.push(host)
}

#[tokio::test]
async fn a_host_that_is_taken_away_is_gone_and_its_neighbours_lose_nothing() {
    let mut scene = Scene::set(3, |_| {}).await;
    // b1 and a1 make the session; a2 and a3 join it by secrets.
    scene.arrives(1, 1, "0").await;
    for a in [2, 3] {
        scene.arrives(2, a, "0").await;
        scene.answers(a, 2, "0").await;
    }
    for n in 1..=50 {
        // Sent before it is taken away, and read by the relay: handed over, or answered if it waits, each once and in order.
        scene.b_hosts[1].send("a2.test", &n.to_string()).await;
        scene.b_hosts[1].send("a3.test", &n.to_string()).await;
    }
    for n in 1..=25 {
        assert_eq!(scene.a_hosts[1].receive().await.attribute("id"), Some(&*n.to_string()));
    }
    let report = scene.a.reload(without("a2.test"));
    assert_eq!(report.changed, ["host a2.test taken away"]);
    let (mut arrived, mut back) = (Vec::new(), Vec::new());
    while arrived.len() + back.len() < 25 {
        let number = |heard: &Element| heard.attribute("id").unwrap().parse::<u32>().unwrap();
        tokio::select! {
            heard = scene.a_hosts[1].receive() => arrived.push(number(&heard)),
            heard = scene.b_hosts[1].receive() => {
                assert_eq!(condition(&heard), "remote-server-not-found");
                back.push(number(&heard));
            }
        }
    }
    assert_eq!([arrived, back].concat(), (26..=50).collect::<Vec<_>>());
    for n in 1..=50 {
        assert_eq!(scene.a_hosts[2].receive().await.attribute("id"), Some(&*n.to_string()));
    }
    scene.is_refused(2, 2, "gone").await;
    scene.is_refused(3, 2, "gone").await;
    for n in 51..=60 {
        scene.arrives(2, 3, &n.to_string()).await;
        scene.answers(3, 2, &n.to_string()).await;
    }
    // Its own server is told too, and can't speak for it.
    scene.a_hosts[1].send("b2.test", "speaks").await;
    scene.answers(1, 1, "last").await;
    assert!(scene.b_hosts[1].received().is_none());
    assert_eq!(scene.a.metric("fedmux_hosts", &[]), 2);
    for relay in [&scene.a, &scene.b] {
        relay.assert_unharmed();
        relay.is_balanced().await;
    }
}

#[tokio::test]
async fn pairs_that_are_denied_from_now_on_end_and_the_others_lose_nothing() {
    let mut scene = Scene::set(2, |_| {}).await;
    // b1 and a1 make the session, b2 joins it; each end opens one of the lanes.
    scene.arrives(1, 1, "0").await;
    scene.arrives(2, 1, "0").await;
    scene.answers(1, 2, "0").await;
    scene.answers(2, 2, "0").await;
    scene.arrives(1, 2, "0").await;
    let denied = DomainPattern::parse("b2.test").unwrap();
    let report = scene.a.reload(|settings| settings.hosts[0].policy.both.deny.push(denied));
    assert_eq!(report.changed, ["host a1.test: policy changed", "host a2.test: policy changed"]);
    for a in [1, 2] {
        // What our own server sends is answered at once.
        scene.a_hosts[a - 1].send("b2.test", "denied").await;
        let heard = scene.a_hosts[a - 1].receive().await;
        assert_eq!((heard.attribute("id"), &*condition(&heard)), (Some("denied"), "policy-violation"));
        scene.is_refused_with("policy-violation", 2, a, "denied").await;
    }
    for n in 1..=20 {
        scene.arrives(1, 1, &n.to_string()).await;
        scene.answers(2, 1, &n.to_string()).await;
    }
    let report = scene.a.reload(|settings| settings.hosts[0].policy = DomainPolicy::default());
    assert_eq!(report.changed.len(), 2);
    scene.answers(1, 2, "again").await;
    for relay in [&scene.a, &scene.b] {
        relay.assert_unharmed();
        relay.is_balanced().await;
    }
}

#[tokio::test]
async fn a_host_that_comes_back_is_served_again() {
    let mut scene = Scene::set(2, |_| {}).await;
    scene.arrives(1, 1, "0").await;
    scene.arrives(2, 2, "0").await;
    scene.a.reload(without("a2.test"));
    scene.is_refused(2, 2, "gone").await;
    assert_eq!(scene.a.reload(with("a2.test")).changed, ["host a2.test added"]);
    // It speaks first: that the peer remembers it as gone doesn't stand in its way.
    scene.answers(2, 2, "again").await;
    scene.arrives(2, 2, "again").await;
}

#[tokio::test]
async fn a_domain_that_moves_from_the_peer_to_us_speaks_and_hears_here() {
    let authority = Authority::new();
    let mut a = plan(&authority, &["a1.test", "a2.test", "b2.test"].map(str::to_owned)).await;
    without("b2.test")(&mut a.settings);
    let b = plan(&authority, &names('b', 2)).await;
    let [mut a, mut b] = crate::relays::start([a, b]).await;
    let mut moved = a.host("b2.test");
    let a_hosts = names('a', 2).iter().map(|name| a.host(name)).collect();
    let b_hosts = names('b', 2).iter().map(|name| b.host(name)).collect();
    let mut scene = Scene { _authority: authority, a, b, a_hosts, b_hosts };
    // Each end opens one of the lanes of b2.test, which joins the session of b1.test.
    scene.arrives(1, 1, "0").await;
    scene.arrives(2, 1, "0").await;
    scene.answers(1, 2, "0").await;
    scene.answers(2, 2, "0").await;
    scene.arrives(2, 2, "0").await;
    assert_eq!(scene.a.reload(with("b2.test")).changed, ["host b2.test added"]);
    for a in [1, 2] {
        let own = format!("a{a}.test");
        for n in 1..=20 {
            scene.a_hosts[a - 1].send("b2.test", &n.to_string()).await;
            let heard = moved.receive().await;
            assert_eq!(
                (heard.attribute("from"), heard.attribute("id")),
                (Some(&*own), Some(&*n.to_string()))
            );
        }
        moved.send(&own, "here").await;
        let heard = scene.a_hosts[a - 1].receive().await;
        assert_eq!((heard.attribute("from"), heard.attribute("id")), (Some("b2.test"), Some("here")));
        // Who had it until now is told that it speaks for it no more.
        scene.b_hosts[1].send(&own, "there").await;
        let refused = scene.b_hosts[1].receive().await;
        assert_eq!((refused.attribute("id"), refused.attribute("type")), (Some("there"), Some("error")));
        assert!(scene.a_hosts[a - 1].received().is_none());
        scene.arrives(1, a, "as before").await;
    }
    assert!(scene.b_hosts[1].received().is_none());
    for relay in [&scene.a, &scene.b] {
        relay.assert_unharmed();
        relay.is_balanced().await;
    }
}

#[tokio::test]
async fn a_host_that_is_added_joins_the_session_that_stands() {
    let mut scene = Scene::set(3, |plan| without("a3.test")(&mut plan.settings)).await;
    scene.arrives(1, 1, "0").await;
    scene.answers(1, 1, "0").await;
    assert_eq!(scene.a.reload(with("a3.test")).changed, ["host a3.test added"]);
    scene.answers(3, 1, "new").await;
    scene.arrives(1, 3, "new").await;
    until("one connection to remain", || {
        [&scene.a, &scene.b]
            .iter()
            .all(|relay| relay.metric("fedmux_connections", &[("transport", "quic")]) == 1)
    })
    .await;
    assert_eq!(proofs(&scene.a, "granted"), 1);
}

#[tokio::test]
async fn a_host_list_that_has_changed_is_shown_on_the_next_stream() {
    let mut scene = Scene::set(3, |plan| without("a3.test")(&mut plan.settings)).await;
    // b dials, so that a shows the list.
    scene.arrives(1, 1, "0").await;
    scene.a.reload(with("a3.test"));
    scene.arrives(2, 1, "at first on the second connection").await;
    until("b2.test to join", || proofs(&scene.b, "granted") == 1).await;
    let streams = |scene: &Scene| scene.b.metric("fedmux_quic_streams_opened_total", &[]);
    let before = streams(&scene);
    scene.arrives(2, 1, "on a stream of the session, which shows the list").await;
    assert_eq!(streams(&scene), before + 1);
    scene.arrives(1, 3, "to a host that stands in it").await;
    until("a3.test to join", || proofs(&scene.b, "granted") == 2).await;
    assert_eq!(proofs(&scene.b, "refused"), 0);
}

/// n.test, which has a `[[peer]]` entry of its own, joins the session of p.test by a secret.
#[tokio::test]
async fn a_session_that_speaks_for_a_host_leaves_when_others_vouch_for_that_host() {
    let mut scene = crate::scene::Scene::with(|settings| {
        let mut other = settings.peers[0].clone();
        other.domains = vec![DomainPattern::parse("n.test").unwrap()];
        other.address = Endpoint::Address(([127, 0, 0, 1], 1).into());
        settings.peers.push(other);
    })
    .await;
    let secret = scene.secret("n.test").await;
    assert!(scene.offer(&secret).await);
    scene.speaks_for("n.test").await;
    let authority = Authority::new();
    let report = scene.relay.reload(|settings| settings.peers[1].trust = Some(authority.file()));
    assert_eq!(report.changed, ["peer n.test: trust changed"]);
    assert_eq!(scene.lane.hear().await, Heard::End);
    scene.relay.assert_unharmed();
}

#[tokio::test]
async fn settings_that_can_not_be_had_leave_the_old_ones() {
    let mut scene = Scene::set(2, |_| {}).await;
    scene.arrives(1, 1, "0").await;
    let mut wanted = scene.a.settings().clone();
    without("a2.test")(&mut wanted);
    wanted.identity.certificates = Path::new("/nowhere/certs").to_owned();
    let error = scene.a.relay.reload(wanted).unwrap_err().to_string();
    assert!(error.contains("/nowhere/certs"), "{error}");
    assert_eq!(scene.a.metric("fedmux_reloads_total", &[("result", "refused")]), 1);
    scene.arrives(2, 2, "still served").await;
    let report = scene.a.reload(|settings| settings.limits.lane_idle *= 2);
    assert_eq!((report.changed.len(), report.needs_restart), (0, vec!["[limits] lane_idle"]));
    assert_eq!(scene.a.metric("fedmux_reloads_total", &[("result", "done")]), 1);
}
