//! Stanzas are in the content namespace of the stream on which they go, whether it is written out or not.

use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;

use crate::scene::{IRC, Scene};

/// A stanza with `declared` on it and `inner` in it.
fn stanza(from: &str, to: &str, declared: &str, inner: &str) -> String {
    format!("<message {declared} from='{from}' to='{to}' id='1'>{inner}</message>")
}

/// Ways to write the content namespace out, or not.
const DECLARED: [&str; 5] =
    ["", "xmlns='NS'", "xmlns=\"NS\"", "\n\txmlns = 'NS'\n", "xmlns='jabber&#58;REST'"];

/// What may stand in a stanza, and what it is then.
const INNER: [(&str, &str); 5] = [
    ("<body>x</body>", "NS"),
    ("<body xmlns='NS'>x</body>", "NS"),
    ("<body xmlns=\"NS\">x</body>", "NS"),
    ("<p:body xmlns:p='urn:p'>x</p:body>", "urn:p"),
    ("<body xmlns='urn:p'><q xmlns='NS'/></body>", "urn:p"),
];

fn written(text: &str, namespace: &str) -> String {
    text.replace("NS", namespace).replace("REST", namespace.split_once(':').unwrap().1)
}

fn is_in(heard: &Element, stream: &str, body: &str) {
    assert_eq!(heard.ns(), stream);
    let found = heard.children().next().unwrap();
    assert_eq!((found.name(), found.ns()), ("body", &*written(body, stream)), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_component_writes_out_is_a_servers_stanza_at_the_other_end() {
    let mut scene = Scene::set().await;
    let (mut irc, mut b1, mut a1) = (scene.irc().await, scene.b.host("b1.test"), scene.a.host("a1.test"));
    for declared in DECLARED {
        for (inner, body) in INNER {
            for host in [&mut a1, &mut b1] {
                let text = written(&stanza(IRC, &host.name, declared, inner), ns::COMPONENT_ACCEPT);
                irc.say(&text).await;
                is_in(&host.receive().await, ns::SERVER, body);
            }
        }
    }
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_writes_out_is_a_components_stanza_at_the_other_end() {
    let mut scene = Scene::set().await;
    let (mut irc, mut b1, mut a1) = (scene.irc().await, scene.b.host("b1.test"), scene.a.host("a1.test"));
    for declared in DECLARED {
        for (inner, body) in INNER {
            for host in [&mut a1, &mut b1] {
                let text = written(&stanza(&host.name, IRC, declared, inner), ns::SERVER);
                host.say(IRC, &text).await;
                is_in(&irc.ear.stanza().await, ns::COMPONENT_ACCEPT, body);
            }
        }
    }
    scene.is_good().await;
}

#[tokio::test]
async fn a_payload_keeps_what_it_says() {
    let mut scene = Scene::set().await;
    let (mut irc, mut b1) = (scene.irc().await, scene.b.host("b1.test"));
    let payload = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:component:accept'><body/></message></forwarded>";
    irc.say(stanza(IRC, "b1.test", "xmlns='jabber:component:accept'", payload)).await;
    let heard = b1.receive().await;
    let message = heard.children().next().unwrap().children().next().unwrap();
    assert_eq!((heard.ns(), message.ns()), (ns::SERVER, ns::COMPONENT_ACCEPT));
}

#[tokio::test]
async fn a_stanza_as_large_as_the_limit_passes_with_its_namespace_written_out() {
    let most = 20_000;
    let mut scene = Scene::with_limits(|limits| limits.stanza_bytes = most).await;
    let (mut irc, mut b1) = (scene.irc().await, scene.b.host("b1.test"));
    let fill = |bare: String| bare.replace("FILL", &"x".repeat(most - bare.len() + "FILL".len()));
    let declared = format!("xmlns='{}'", ns::COMPONENT_ACCEPT);
    let text = fill(stanza(IRC, "b1.test", &declared, "<body>FILL</body>"));
    assert_eq!(text.len(), most);
    irc.say(text).await;
    is_in(&b1.receive().await, ns::SERVER, "NS");
    let text = fill(stanza("b1.test", IRC, "xmlns='jabber:server'", "<body>FILL</body>"));
    b1.say(IRC, text).await;
    is_in(&irc.ear.stanza().await, ns::COMPONENT_ACCEPT, "NS");
}
