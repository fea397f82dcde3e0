//! Two connections of one component: the first stays as long as it lives.

use fedmux::proto::admission::Side;
use fedmux::reason::Reason;

use crate::scene::{BOT, BOT_SECRET, IRC, SECRET, Scene};
use crate::support::component;
use crate::support::wire::{Heard, message};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_connection_gets_conflict_and_the_first_goes_on() {
    let mut scene = Scene::set().await;
    let (mut irc, mut b1) = (scene.irc().await, scene.b.host("b1.test"));
    for n in 1..4_u64 {
        let mut second = component::claim(scene.port(), IRC, SECRET).await;
        assert_eq!(second.expect_error("conflict").await, "component-connected");
        assert_eq!(scene.a.refusals(Side::Local, Reason::ComponentConnected), n);
        b1.say(IRC, message("b1.test", IRC, &n.to_string())).await;
        assert_eq!(irc.ear.stanza().await.attribute("id"), Some(&*n.to_string()));
    }
    scene.is_good().await;
}

#[tokio::test]
async fn whoever_does_not_know_the_secret_is_not_told_that_there_is_a_connection() {
    let scene = Scene::set().await;
    let _irc = scene.irc().await;
    let mut wire = component::claim(scene.port(), IRC, BOT_SECRET).await;
    assert_eq!(wire.expect_error("not-authorized").await, "component-secret-wrong");
}

#[tokio::test]
async fn another_component_is_no_rival() {
    let scene = Scene::set().await;
    let _irc = scene.irc().await;
    component::connect(scene.port(), BOT, BOT_SECRET).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_closed_its_stream_or_was_killed_may_come_back() {
    let mut scene = Scene::set().await;
    let mut b1 = scene.b.host("b1.test");
    for (n, closes) in [true, false, true, false].into_iter().enumerate() {
        let mut irc = scene.irc().await;
        b1.say(IRC, message("b1.test", IRC, &n.to_string())).await;
        assert_eq!(irc.ear.stanza().await.attribute("id"), Some(&*n.to_string()));
        if closes {
            irc.close().await;
        } else {
            drop(irc);
        }
        crate::support::until("the connection to end", || {
            scene.a.metric("fedmux_local_streams", &[("direction", "inbound")]) == 0
        })
        .await;
    }
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_connection_makes_the_relay_look_whether_the_first_lives() {
    let scene = Scene::set().await;
    let mut irc = scene.irc().await;
    let mut second = component::claim(scene.port(), IRC, SECRET).await;
    second.expect_error("conflict").await;
    // White space means nothing; it makes a machine that knows nothing of the connection any more answer with a reset.
    assert_eq!(irc.ear.raw(1).await, b" "[..]);
    irc.say("</stream:stream>").await;
    assert_eq!(irc.hear().await, Heard::End);
}
