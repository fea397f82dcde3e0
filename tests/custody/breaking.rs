//! Our own servers go away in the middle of things.

use crate::scene::*;
use crate::support::until;

#[tokio::test]
async fn what_a_server_had_not_acknowledged_when_it_died_goes_to_its_next_stream_first() {
    let scene = Scene::set().await;
    let connection = scene.dial().await;
    let mut lane = connection.lane(THEIRS, OURS).await;
    enable(&mut lane).await;
    send(&mut lane, THEIRS, OURS, 1..=3).await;
    let mut server = scene.stream_to_server().await;
    ids(&mut server, 3).await;
    acknowledge(&mut server, 1).await;
    handled(&mut lane, 1).await;
    drop(server);
    send(&mut lane, THEIRS, OURS, [4]).await;
    let mut server = scene.stream_to_server().await;
    for (id, late) in [("2", true), ("3", true), ("4", false)] {
        let stanza = stanza(&mut server).await;
        // The last may have been on its way to the dead server too.
        assert_eq!(stanza.attribute("id"), Some(id));
        assert!(is_delayed(&stanza) || !late, "{stanza:?}");
    }
    acknowledge(&mut server, 3).await;
    handled(&mut lane, 4).await;
    assert!(scene.uncertain("resent") >= 2);
    scene.is_good().await;
}

#[tokio::test]
async fn a_stanza_at_which_two_streams_ended_comes_back_and_the_others_go_on() {
    let scene = Scene::set().await;
    let connection = scene.dial().await;
    let mut lane = connection.lane(THEIRS, OURS).await;
    enable(&mut lane).await;
    send(&mut lane, THEIRS, OURS, 1..=2).await;
    for _ in 0..2 {
        let mut server = scene.stream_to_server().await;
        assert_eq!(stanza(&mut server).await.attribute("id"), Some("1"));
    }
    let error = stanza(&mut lane).await;
    assert_eq!((error.attribute("id"), reason(&error)), (Some("1"), "poison-stanza".to_owned()));
    let mut server = scene.stream_to_server().await;
    assert_eq!(stanza(&mut server).await.attribute("id"), Some("2"));
    acknowledge(&mut server, 1).await;
    acknowledge(&mut lane, 1).await;
    handled(&mut lane, 2).await;
    scene.is_good().await;
}

#[tokio::test]
async fn what_a_server_answers_itself_because_it_ends_its_stream_goes_no_further() {
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    // The peer takes the connection, and no stream yet: so they wait.
    send(&mut server, OURS, THEIRS, 1..=2).await;
    let connection = scene.peer.accept().await;
    server.say("</stream:stream>").await;
    element(&mut server, "a").await;
    let mut lane = managed(connection.accept().await, None).await;
    let discarded = || scene.provider.metric("fedmux_stanzas_discarded_total", &[("reason", "taken-back")]);
    until("both to be dropped", || discarded() == 2).await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, [3]).await;
    assert_eq!(ids(&mut lane, 1).await, ["3"]);
    acknowledge(&mut lane, 1).await;
    scene.is_good().await;
}

#[tokio::test]
async fn what_a_server_left_behind_that_goes_down_goes_on() {
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, [1]).await;
    let connection = scene.peer.accept().await;
    server
        .say(
            "<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
        )
        .await;
    let mut lane = managed(connection.accept().await, None).await;
    assert_eq!(ids(&mut lane, 1).await, ["1"]);
    acknowledge(&mut lane, 1).await;
    scene.is_good().await;
}

#[tokio::test]
async fn a_relay_that_stops_waits_for_acknowledgements_and_says_last_what_it_took() {
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, [1]).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, None).await;
    ids(&mut lane, 1).await;
    let Scene { provider, .. } = scene;
    let stopping = tokio::spawn(provider.stop());
    element(&mut lane, "r").await;
    acknowledge(&mut lane, 1).await;
    assert_eq!(element(&mut server, "a").await.attribute("h"), Some("1"));
    end(&mut lane).await;
    lane.say("</stream:stream>").await;
    end(&mut server).await;
    server.say("</stream:stream>").await;
    let (report, _) = stopping.await.unwrap();
    assert_eq!((report.unfinished, report.discarded), (0, 0));
}
