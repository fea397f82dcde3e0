//! Streams that broke are resumed, by whoever opened them.

use std::time::Duration;

use fedmux::relay::settings::{Transport, Uncertain};
use fedmux::xmpp::namespace as ns;

use crate::scene::*;
use crate::support::peer::Connection;
use crate::support::tcp_peer::Dialler;
use crate::support::wire::{Heard, Wire};

/// A lane of the peer on which 1, 2 and 3 were sent, and the server that has heard them and acknowledged the first; the id.
async fn three_sent(scene: &Scene) -> (Connection, Wire, Wire, String) {
    let connection = scene.dial().await;
    let mut lane = connection.lane(THEIRS, OURS).await;
    let id = enable(&mut lane).await.unwrap();
    send(&mut lane, THEIRS, OURS, 1..=3).await;
    let mut server = scene.stream_to_server().await;
    ids(&mut server, 3).await;
    acknowledge(&mut server, 1).await;
    handled(&mut lane, 1).await;
    (connection, lane, server, id)
}

fn resume(id: &str, h: u32) -> String {
    format!("<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='{h}'/>")
}

#[tokio::test]
async fn a_peer_resumes_its_stream_on_another_connection_and_nothing_arrives_twice() {
    let scene = Scene::set().await;
    let (connection, _lane, mut server, id) = three_sent(&scene).await;
    connection.0.close(0_u32.into(), b"");
    let connection = scene.dial().await;
    let mut lane = connection.lane(THEIRS, OURS).await;
    lane.say(resume(&id, 0)).await;
    let resumed = element(&mut lane, "resumed").await;
    assert_eq!((resumed.attribute("h"), resumed.attribute("previd")), (Some("1"), Some(&*id)));
    send(&mut lane, THEIRS, OURS, 2..=4).await;
    assert_eq!(ids(&mut server, 1).await, ["4"]);
    acknowledge(&mut server, 4).await;
    handled(&mut lane, 4).await;
    assert_eq!(scene.provider.metric("fedmux_stanzas_passed_over_total", &[]), 2);
    assert_eq!(scene.provider.metric("fedmux_streams_resumed_total", &[("result", "resumed")]), 1);
    scene.is_good().await;
}

#[tokio::test]
async fn another_pairs_stream_is_as_unknown_as_one_that_never_was() {
    let scene = Scene::set().await;
    let (connection, _lane, _server, id) = three_sent(&scene).await;
    connection.0.close(0_u32.into(), b"");
    let connection = scene.dial().await;
    let mut refusals = Vec::new();
    for (from, asked) in [("b2.test", id.as_str()), (THEIRS, "never")] {
        let mut lane = connection.lane(from, OURS).await;
        lane.say(resume(asked, 0)).await;
        let failed = element(&mut lane, "failed").await;
        assert!(failed.child("item-not-found", ns::STANZA_ERRORS).is_some());
        refusals.push(failed);
        assert!(enable(&mut lane).await.is_some(), "and the stream stands");
    }
    assert_eq!(refusals[0], refusals[1]);
    let mut lane = connection.lane(THEIRS, OURS).await;
    lane.say(resume(&id, 0)).await;
    element(&mut lane, "resumed").await;
}

#[tokio::test]
async fn a_stream_that_many_pairs_share_is_resumed_by_who_has_proven_its_first_pair() {
    let scene = Scene::set().await;
    let dial = async |names: &[&str], from| {
        let dialler = Dialler::with(Some(&scene._authority.certify(names)));
        let mut wire = dialler.direct(scene.provider.at(Transport::DirectTls), OURS).await.unwrap();
        wire.authenticate_as(from, OURS, true).await;
        wire
    };
    let mut lane = dial(&[THEIRS, "b2.test"], THEIRS).await;
    let id = enable(&mut lane).await.unwrap();
    send(&mut lane, "b2.test", OURS, [1]).await;
    let mut server = scene.stream_to_server().await;
    ids(&mut server, 1).await;
    acknowledge(&mut server, 1).await;
    handled(&mut lane, 1).await;
    drop(lane);
    for stranger in ["b2.test", "c.test"] {
        let mut lane = dial(&[stranger], stranger).await;
        lane.say(resume(&id, 0)).await;
        assert!(element(&mut lane, "failed").await.child("item-not-found", ns::STANZA_ERRORS).is_some());
    }
    let mut lane = dial(&[THEIRS, "b2.test"], "b2.test").await;
    lane.say(resume(&id, 0)).await;
    assert_eq!(element(&mut lane, "resumed").await.attribute("h"), Some("1"));
    scene.is_good().await;
}

#[tokio::test]
async fn a_peer_that_opens_a_stream_anew_is_not_waited_for_to_resume_the_old_one() {
    let scene = Scene::with(Uncertain::Resend, |limits| limits.resume_wait = Duration::from_secs(600)).await;
    let connection = scene.dial().await;
    let mut lane = connection.lane(THEIRS, OURS).await;
    enable(&mut lane).await.unwrap();
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, [1]).await;
    assert_eq!(ids(&mut lane, 1).await, ["1"]);
    connection.0.close(0_u32.into(), b"");
    let resumable = || scene.provider.metric("fedmux_queued_stanzas", &[]);
    assert_eq!(resumable(), 1, "nobody has acknowledged it");
    // Whoever was killed knows of no stream, and begins anew.
    let connection = scene.dial().await;
    let mut lane = connection.lane(THEIRS, OURS).await;
    enable(&mut lane).await.unwrap();
    let again = stanza(&mut lane).await;
    assert!(again.attribute("id") == Some("1") && is_delayed(&again));
    acknowledge(&mut lane, 1).await;
    handled(&mut server, 1).await;
    scene.is_good().await;
}

#[tokio::test]
async fn a_stream_that_still_lives_ends_with_conflict_when_it_is_resumed_elsewhere() {
    let scene = Scene::set().await;
    let (_connection, mut old, mut server, id) = three_sent(&scene).await;
    let other = scene.dial().await;
    let mut lane = other.lane(THEIRS, OURS).await;
    lane.say(resume(&id, 0)).await;
    assert_eq!(element(&mut lane, "resumed").await.attribute("h"), Some("1"));
    old.expect_error("conflict").await;
    send(&mut lane, THEIRS, OURS, 2..=4).await;
    assert_eq!(ids(&mut server, 1).await, ["4"]);
    scene.is_good().await;
}

#[tokio::test]
async fn a_peer_that_resumes_with_more_than_it_was_sent_is_refused() {
    let scene = Scene::set().await;
    let (_connection, _live, _server, id) = three_sent(&scene).await;
    let other = scene.dial().await;
    let mut lane = other.lane(THEIRS, OURS).await;
    lane.say(resume(&id, 7)).await;
    assert_eq!(lane.expect_error("undefined-condition").await, "handled-count-too-high");
}

#[tokio::test]
async fn the_relay_resumes_its_own_stream_and_sends_again_what_was_not_handled() {
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, 1..=3).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, Some("x")).await;
    assert_eq!(ids(&mut lane, 3).await, ["1", "2", "3"]);
    acknowledge(&mut lane, 1).await;
    send(&mut lane, THEIRS, OURS, [9]).await;
    assert_eq!(ids(&mut server, 1).await, ["9"]);
    acknowledge(&mut server, 1).await;
    cut(&connection, &mut lane, 1).await;

    let connection = scene.peer.accept().await;
    let mut lane = connection.accept().await;
    lane.accept_with(FEATURE).await;
    let asked = element(&mut lane, "resume").await;
    assert_eq!((asked.attribute("previd"), asked.attribute("h")), (Some("x"), Some("1")));
    send(&mut server, OURS, THEIRS, [4]).await;
    lane.say("<resumed xmlns='urn:xmpp:sm:3' previd='x' h='2'/>").await;
    let again = stanza(&mut lane).await;
    assert!(again.attribute("id") == Some("3") && !is_delayed(&again));
    assert_eq!(ids(&mut lane, 1).await, ["4"]);
    acknowledge(&mut lane, 4).await;
    handled(&mut server, 4).await;
    assert_eq!((scene.uncertain("resent"), scene.uncertain("bounced")), (0, 0));
    scene.is_good().await;
}

#[tokio::test]
async fn where_the_peer_has_lost_the_stream_messages_go_again_and_requests_come_back() {
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, 1..=2).await;
    server.say(format!("<iq from='{OURS}' to='{THEIRS}' id='3' type='get'><q xmlns='x'/></iq>")).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, Some("x")).await;
    ids(&mut lane, 3).await;
    cut(&connection, &mut lane, 0).await;

    let connection = scene.peer.accept().await;
    let mut lane = connection.accept().await;
    lane.accept_with(FEATURE).await;
    element(&mut lane, "resume").await;
    lane.say("<failed xmlns='urn:xmpp:sm:3' h='1'/>").await;
    element(&mut lane, "enable").await;
    lane.say("<enabled xmlns='urn:xmpp:sm:3'/>").await;
    let again = stanza(&mut lane).await;
    assert!(again.attribute("id") == Some("2") && is_delayed(&again), "the first was handled: {again:?}");
    let error = stanza(&mut server).await;
    assert_eq!((error.attribute("id"), reason(&error)), (Some("3"), "unacknowledged".to_owned()));
    assert_eq!((scene.uncertain("resent"), scene.uncertain("bounced")), (1, 1));
    acknowledge(&mut lane, 1).await;
    acknowledge(&mut server, 1).await;
    handled(&mut server, 3).await;
    scene.is_good().await;
}

#[tokio::test]
async fn a_peer_that_offers_nothing_to_resume_by_gets_what_was_under_way_at_once() {
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, [1]).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, Some("x")).await;
    ids(&mut lane, 1).await;
    cut(&connection, &mut lane, 0).await;

    // It has other software now.
    let connection = scene.peer.accept().await;
    let mut lane = connection.accept().await;
    lane.accept_with("").await;
    let again = stanza(&mut lane).await;
    assert!(again.attribute("id") == Some("1") && is_delayed(&again), "{again:?}");
    assert_eq!(scene.uncertain("resent"), 1);
    scene.is_good().await;
}

#[tokio::test]
async fn a_peer_that_never_answers_for_a_stream_is_asked_until_its_time_is_over() {
    let scene = Scene::with(Uncertain::Resend, |limits| {
        limits.resume = Duration::from_millis(1_500);
        limits.handshake = Duration::from_secs(1);
    })
    .await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, [1]).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, Some("x")).await;
    ids(&mut lane, 1).await;
    cut(&connection, &mut lane, 0).await;

    let connection = scene.peer.accept().await;
    let mut asked = 0;
    let mut lane = loop {
        let mut lane = connection.accept().await;
        lane.accept_with(FEATURE).await;
        match lane.hear().await {
            Heard::Element(element) if element.is("resume", ns::STREAM_MANAGEMENT) => asked += 1,
            Heard::Element(element) if element.is("enable", ns::STREAM_MANAGEMENT) => break lane,
            other => panic!("{other:?}"),
        }
        assert!(asked < 10);
        lane.expect_error("connection-timeout").await;
    };
    assert!(asked > 0);
    lane.say("<enabled xmlns='urn:xmpp:sm:3'/>").await;
    let again = stanza(&mut lane).await;
    assert!(again.attribute("id") == Some("1") && is_delayed(&again), "{again:?}");
    acknowledge(&mut lane, 1).await;
    handled(&mut server, 1).await;
    scene.is_good().await;
}

#[tokio::test]
async fn messages_come_back_too_if_the_operator_prefers_that() {
    let scene = Scene::with(Uncertain::Bounce, |_| {}).await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, [1]).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, None).await;
    ids(&mut lane, 1).await;
    cut(&connection, &mut lane, 0).await;
    assert_eq!(reason(&stanza(&mut server).await), "unacknowledged");
    assert_eq!((scene.uncertain("resent"), scene.uncertain("bounced")), (0, 1));
}

#[tokio::test]
async fn many_stanzas_that_go_again_are_counted_as_they_are_sent() {
    const STANZAS: u32 = 300;
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, 1..=STANZAS).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, Some("x")).await;
    ids(&mut lane, STANZAS as usize).await;
    cut(&connection, &mut lane, 0).await;

    let connection = scene.peer.accept().await;
    let mut lane = connection.accept().await;
    lane.accept_with(FEATURE).await;
    element(&mut lane, "resume").await;
    lane.say("<failed xmlns='urn:xmpp:sm:3'/>").await;
    element(&mut lane, "enable").await;
    lane.say("<enabled xmlns='urn:xmpp:sm:3'/>").await;
    for n in 1..=STANZAS {
        assert_eq!(stanza(&mut lane).await.attribute("id"), Some(&*n.to_string()));
        acknowledge(&mut lane, n).await;
    }
    send(&mut server, OURS, THEIRS, [STANZAS + 1]).await;
    ids(&mut lane, 1).await;
    acknowledge(&mut lane, STANZAS + 1).await;
    handled(&mut server, STANZAS + 1).await;
    scene.is_good().await;
}
