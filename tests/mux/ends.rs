//! A grant ends with its host's certificate. What the peer still says for that host is refused at once, and nothing else is
//! disturbed.

use std::time::{Duration, SystemTime};

use fedmux::identity::development::Request;
use fedmux::relay::settings::Placement;
use fedmux::xmpp::namespace as ns;

use crate::scene::{Scene, second_with};
use crate::support::log::Log;
use crate::support::until;
use crate::support::wire::{Heard, answer, message};

impl Scene {
    /// n.test has joined, until its certificate ends.
    async fn join_for(&mut self, time: Duration) -> SystemTime {
        let not_after = SystemTime::now() + time;
        let short = self.authority.issue(&Request { dns: &["n.test"], not_after, ..Request::default() });
        let mut second = second_with(&short, &self.relay, "n.test").await;
        let secret = second.ask("p.test", &self.lane.stream_id).await.unwrap();
        assert!(self.offer(&secret).await);
        not_after
    }

    fn discarded(&self) -> u64 {
        self.relay.metric("fedmux_stanzas_discarded_total", &[("reason", "certificate-expired")])
    }
}

#[tokio::test]
async fn a_grant_ends_with_its_certificate_and_nothing_else_does() {
    let mut scene = Scene::set().await;
    let not_after = SystemTime::now() + Duration::from_secs(3);
    let short = scene.authority.issue(&Request { dns: &["n.test"], not_after, ..Request::default() });
    for (host, certificate) in [("n.test", short), ("m.test", scene.authority.certify(&["m.test"]))] {
        let mut second = second_with(&certificate, &scene.relay, host).await;
        let secret = second.ask("p.test", &scene.lane.stream_id).await.unwrap();
        assert!(scene.offer(&secret).await);
    }
    let mut ends = scene.first.lane("n.test", "v.test").await;
    let mut stays = scene.first.lane("m.test", "v.test").await;
    ends.say(message("n.test", "v.test", "in time")).await;
    assert_eq!(scene.v.receive().await.attribute("id"), Some("in time"));

    assert_eq!(ends.hear().await, Heard::End, "in good order");
    assert!(SystemTime::now() + Duration::from_secs(1) > not_after);
    scene.speaks_not_for("n.test").await;
    stays.say(message("m.test", "v.test", "stays")).await;
    assert_eq!(scene.v.receive().await.attribute("id"), Some("stays"));
    scene.speaks_for("m.test").await;
}

#[tokio::test]
async fn a_lane_whose_grant_has_ended_carries_nothing_more_while_it_finishes() {
    let (mut scene, log) = (Scene::set().await, Log::capture());
    scene.join_for(Duration::from_secs(2)).await;
    let mut lane = scene.first.lane("n.test", "v.test").await;
    lane.say(message("n.test", "v.test", "in time")).await;
    assert_eq!(scene.v.receive().await.attribute("id"), Some("in time"));
    log.line("host left the session: its certificate has ended").await;
    // The script doesn't close its half, so the lane is there for as long as it may take.
    lane.say(message("n.test", "v.test", "too late")).await;
    until("the stanza to be refused", || scene.discarded() == 1).await;
    scene.speaks_not_for("n.test").await;
}

#[tokio::test]
async fn one_stream_carries_a_host_as_soon_as_it_joins_and_until_it_leaves() {
    let (mut scene, log) =
        (Scene::with(|settings| settings.peers[0].placement = Placement::OneStream).await, Log::capture());
    scene.lane.say(message("p.test", "v.test", "first")).await;
    assert_eq!(scene.v.receive().await.attribute("id"), Some("first"));
    scene.join_for(Duration::from_secs(2)).await;
    for host in ["n.test", "p.test", "n.test"] {
        scene.lane.say(message(host, "v.test", host)).await;
        assert_eq!(scene.v.receive().await.attribute("id"), Some(host));
    }
    log.line("host left the session: its certificate has ended").await;
    scene.lane.say(message("n.test", "v.test", "too late")).await;
    for host in ["p.test", "q.test"] {
        scene.lane.say(message(host, "v.test", "goes on")).await;
        let heard = scene.v.receive().await;
        assert_eq!((heard.attribute("id"), heard.attribute("from")), (Some("goes on"), Some(host)));
    }
    assert_eq!(scene.discarded(), 1);
    // A host that never joined is a violation as ever.
    scene.lane.say(message("m.test", "v.test", "never")).await;
    assert_eq!(scene.lane.expect_error("invalid-from").await, "invalid-from");
    scene.relay.assert_unharmed();
}

#[tokio::test]
async fn a_host_of_whose_grant_its_own_relay_does_not_know_finds_another_way() {
    let mut scene = Scene::set().await;
    let secret = scene.secret("n.test").await;
    // The answer to this doesn't arrive, or is for a configuration that is replaced at that moment.
    assert!(scene.offer(&secret).await);
    scene.v.send("n.test", "1").await;
    let mut lane = scene.first.accept().await;
    let Heard::Header(_) = lane.hear().await else { panic!("no header") };
    let error =
        format!("<stream:error><host-unknown xmlns='{}'/></stream:error></stream:stream>", ns::STREAM_ERRORS);
    lane.say(answer("n.test", "v.test", "s0") + &error).await;
    // A connection of its own, for which this peer has no certificate.
    let _attempt = scene.prover.try_accept().await;
    assert_eq!(scene.v.receive().await.attribute("type"), Some("error"));
    let bounced = |reason| scene.relay.metric("fedmux_stanzas_bounced_total", &[("reason", reason)]);
    assert_eq!((bounced("host-unknown"), bounced("certificate-wrong-name")), (0, 1));
    scene.speaks_not_for("n.test").await;
}
