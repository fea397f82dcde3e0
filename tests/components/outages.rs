//! What is for a component that is away waits for it, for as long as stanzas are held, and then comes back.

use std::time::Duration;

use crate::scene::{BOT, BOT_SECRET, IRC, Scene};
use crate::support::wire::{Heard, message};
use crate::support::{component, until};

fn reason(stanza: &fedmux::xmpp::element::Element) -> (String, String, String) {
    assert_eq!(stanza.attribute("type"), Some("error"), "{stanza:?}");
    let error = stanza.children().find(|child| child.name() == "error").unwrap();
    let condition = error.children().next().unwrap().name().to_owned();
    let text = error.children().find(|child| child.name() == "text").unwrap().text();
    (error.attribute("type").unwrap().to_owned(), condition, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_before_the_component_waits_for_it() {
    let mut scene = Scene::set().await;
    let (mut a1, mut b1) = (scene.a.host("a1.test"), scene.b.host("b1.test"));
    for n in 0..20 {
        a1.say(IRC, message("a1.test", IRC, &n.to_string())).await;
        b1.say(IRC, message("b1.test", IRC, &n.to_string())).await;
    }
    until("all of them to wait", || scene.a.metric("fedmux_queued_stanzas", &[]) == 40).await;
    let mut irc = scene.irc().await;
    let mut next = [0, 0];
    while next != [20, 20] {
        let stanza = irc.ear.stanza().await;
        let of = usize::from(stanza.attribute("from") == Some("b1.test"));
        assert_eq!(stanza.attribute("id"), Some(&*next[of].to_string()));
        next[of] += 1;
    }
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_the_component_is_away_is_there_when_it_returns() {
    let mut scene = Scene::set().await;
    let (mut irc, mut b1) = (scene.irc().await, scene.b.host("b1.test"));
    b1.send(IRC, "0").await;
    assert_eq!(irc.ear.stanza().await.attribute("id"), Some("0"));
    irc.close().await;
    let inbound = || scene.a.metric("fedmux_local_streams", &[("direction", "inbound")]);
    until("the connection to end", || inbound() == 0).await;
    for n in 1..10 {
        b1.send(IRC, &n.to_string()).await;
    }
    until("all of them to wait", || scene.a.metric("fedmux_queued_stanzas", &[]) == 9).await;
    let mut irc = scene.irc().await;
    for n in 1..10 {
        assert_eq!(irc.ear.stanza().await.attribute("id"), Some(&*n.to_string()));
    }
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_too_long_for_a_component_bounces_with_the_reason() {
    let mut scene = Scene::with_limits(|limits| {
        limits.hold = Duration::from_millis(600);
        limits.hold_iq = Duration::from_millis(300);
    })
    .await;
    let (mut a1, mut b1) = (scene.a.host("a1.test"), scene.b.host("b1.test"));
    for host in [&mut a1, &mut b1] {
        let name = host.name.clone();
        host.say(IRC, message(&name, IRC, "m")).await;
        let iq = format!("<iq type='get' id='q' from='u@{name}/r' to='{IRC}'><q xmlns='x'/></iq>");
        host.say(IRC, iq).await;
        for id in ["q", "m"] {
            let error = host.receive().await;
            assert_eq!((error.attribute("id"), error.attribute("from")), (Some(id), Some(IRC)));
            let (kind, condition, text) = reason(&error);
            assert_eq!(
                (&*kind, &*condition, &*text),
                ("wait", "remote-server-timeout", "component-not-connected")
            );
        }
    }
    let mut irc = scene.irc().await;
    b1.send(IRC, "later").await;
    assert_eq!(irc.ear.stanza().await.attribute("id"), Some("later"));
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_tells_its_components_when_it_stops() {
    let scene = Scene::set().await;
    let mut irc = scene.irc().await;
    let hears = async {
        assert_eq!(irc.hear().await, Heard::End);
        irc.say("</stream:stream>").await;
    };
    let ((report, _), ()) = tokio::join!(scene.a.stop(), hears);
    assert_eq!(report.discarded, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_takes_nothing_disturbs_no_other() {
    let mut scene = Scene::with_limits(|limits| {
        limits.pair_queue_bytes = limits.stanza_bytes;
        limits.read_pause = Duration::from_millis(200);
    })
    .await;
    let mut b1 = scene.b.host("b1.test");
    let _takes_nothing = scene.irc().await;
    let mut bot = component::connect(scene.port(), BOT, BOT_SECRET).await;
    let large = message("b1.test", IRC, "large").replace("<body>", &format!("<body>{}", "x".repeat(50_000)));
    let full = || scene.a.metric("fedmux_limit_hits_total", &[("limit", "pair_queue_bytes")]) > 0;
    for n in 0..2000 {
        b1.say(IRC, &large).await;
        b1.say(BOT, message("b1.test", BOT, &n.to_string())).await;
        assert_eq!(bot.ear.stanza().await.attribute("id"), Some(&*n.to_string()));
        bot.say(message(BOT, "b1.test", &n.to_string())).await;
        let heard = loop {
            let heard = b1.receive().await;
            if heard.attribute("type") != Some("error") {
                break heard;
            }
            assert_eq!(reason(&heard).2, "queue-full");
        };
        assert_eq!(heard.attribute("from"), Some(BOT));
        if full() {
            break;
        }
    }
    assert!(full(), "the queue of the pair is bounded");
    scene.a.assert_unharmed();
}
