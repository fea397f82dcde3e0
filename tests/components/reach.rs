//! A component is a host like any other: whoever may reach those reaches it, and hears from it.

use crate::scene::{BOT, BOT_SECRET, IRC, Scene};
use crate::support::component;
use crate::support::wire::message;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_and_a_host_behind_the_other_relay_reach_each_other() {
    let mut scene = Scene::set().await;
    let (mut irc, mut b1) = (scene.irc().await, scene.b.host("b1.test"));
    for (n, address) in [IRC, "%23room@irc.a1.test", "nick@irc.a1.test/laptop"].into_iter().enumerate() {
        b1.say(IRC, message("u@b1.test/r", address, &format!("to{n}"))).await;
        let heard = irc.ear.stanza().await;
        assert_eq!(heard.attribute("to"), Some(address));
        assert_eq!(heard.attribute("id"), Some(&*format!("to{n}")));
        irc.say(message(address, "u@b1.test/r", &format!("back{n}"))).await;
        let answer = b1.receive().await;
        assert_eq!(answer.attribute("from"), Some(address));
        assert_eq!(answer.attribute("id"), Some(&*format!("back{n}")));
    }
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_may_be_the_first_to_speak() {
    let mut scene = Scene::set().await;
    let (mut irc, mut b1) = (scene.irc().await, scene.b.host("b1.test"));
    irc.say(message(IRC, "b1.test", "first")).await;
    assert_eq!(b1.receive().await.attribute("id"), Some("first"));
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_and_a_host_beside_it_reach_each_other_without_leaving_the_relay() {
    let mut scene = Scene::set().await;
    let (mut irc, mut a1) = (scene.irc().await, scene.a.host("a1.test"));
    irc.say(message("nick@irc.a1.test", "u@a1.test", "1")).await;
    assert_eq!(a1.receive().await.attribute("id"), Some("1"));
    a1.say(IRC, message("u@a1.test", "nick@irc.a1.test", "2")).await;
    assert_eq!(irc.ear.stanza().await.attribute("id"), Some("2"));
    irc.say(message("nick@irc.a1.test", "u@a1.test", "3")).await;
    assert_eq!(a1.receive().await.attribute("id"), Some("3"));
    assert_eq!(scene.a.metric("fedmux_sessions", &[]), 0);
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_components_reach_each_other() {
    let scene = Scene::set().await;
    let mut irc = scene.irc().await;
    let mut bot = component::connect(scene.port(), BOT, BOT_SECRET).await;
    bot.say(message(BOT, IRC, "1")).await;
    assert_eq!(irc.ear.stanza().await.attribute("id"), Some("1"));
    irc.say(message(IRC, BOT, "2")).await;
    assert_eq!(bot.ear.stanza().await.attribute("id"), Some("2"));
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stanzas_of_many_pairs_arrive_in_order_on_the_one_connection() {
    let mut scene = Scene::set().await;
    let (mut irc, mut a1) = (scene.irc().await, scene.a.host("a1.test"));
    let mut b1 = scene.b.host("b1.test");
    for n in 0..200 {
        a1.say(IRC, message("a1.test", IRC, &n.to_string())).await;
        b1.say(IRC, message("b1.test", IRC, &n.to_string())).await;
    }
    let (mut of_a, mut of_b) = (0, 0);
    while of_a + of_b < 400 {
        let stanza = irc.ear.stanza().await;
        let next = if stanza.attribute("from") == Some("a1.test") { &mut of_a } else { &mut of_b };
        assert_eq!(stanza.attribute("id"), Some(&*next.to_string()));
        *next += 1;
    }
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_follows_the_handshake_at_once_is_carried() {
    let mut scene = Scene::set().await;
    let mut b1 = scene.b.host("b1.test");
    let mut irc = component::greet(scene.port(), IRC).await;
    let flight = component::handshake(&irc.stream_id, crate::scene::SECRET) + &message(IRC, "b1.test", "1");
    irc.say(flight).await;
    assert_eq!(b1.receive().await.attribute("id"), Some("1"));
}
