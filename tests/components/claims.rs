//! Who may connect as a component, and for whom a component may speak.

use fedmux::proto::admission::Side;
use fedmux::reason::Reason;
use fedmux::xmpp::domain::Domain;
use fedmux::xmpp::namespace as ns;

use crate::scene::{BOT, BOT_SECRET, IRC, SECRET, Scene};
use crate::support::component;
use crate::support::wire::{Wire, header, message};

async fn is_refused(scene: &Scene, wire: &mut Wire, condition: &str, reason: Reason) {
    assert_eq!(wire.expect_error(condition).await, reason.as_str());
    assert_eq!(scene.a.refusals(Side::Local, reason), 1);
    scene.a.assert_unharmed();
}

#[tokio::test]
async fn whoever_does_not_know_the_secret_is_not_authorized() {
    for secret in ["opensesam", "OPENSESAME", BOT_SECRET] {
        let scene = Scene::set().await;
        let mut wire = component::claim(scene.port(), IRC, secret).await;
        is_refused(&scene, &mut wire, "not-authorized", Reason::ComponentSecretWrong).await;
    }
}

#[tokio::test]
async fn a_handshake_of_another_stream_proves_nothing() {
    let scene = Scene::set().await;
    let (first, mut second) =
        (component::greet(scene.port(), IRC).await, component::greet(scene.port(), IRC).await);
    second.say(component::handshake(&first.stream_id, SECRET)).await;
    is_refused(&scene, &mut second, "not-authorized", Reason::ComponentSecretWrong).await;
}

#[tokio::test]
async fn a_name_that_is_no_component_is_unknown() {
    for name in ["a1.test", "b1.test", "x.irc.a1.test"] {
        let scene = Scene::set().await;
        let mut wire = component::open(scene.port()).await;
        wire.say(component::header(name)).await;
        is_refused(&scene, &mut wire, "host-unknown", Reason::HostUnknown).await;
    }
}

#[tokio::test]
async fn a_header_without_a_name_is_improper() {
    let scene = Scene::set().await;
    let mut wire = component::open(scene.port()).await;
    wire.say(component::header(IRC).replace(" to='irc.a1.test'", "")).await;
    is_refused(&scene, &mut wire, "improper-addressing", Reason::ImproperAddressing).await;
}

#[tokio::test]
async fn the_port_of_components_is_for_components_and_the_port_of_servers_is_not() {
    let scene = Scene::set().await;
    for namespace in [ns::SERVER, "jabber:client", "jabber:component:connect"] {
        let mut wire = component::open(scene.port()).await;
        wire.say(component::header(IRC).replace(ns::COMPONENT_ACCEPT, namespace)).await;
        assert_eq!(wire.expect_error("invalid-namespace").await, "invalid-namespace");
    }
    let mut wire = scene.a.local().await;
    wire.say(component::header(IRC)).await;
    assert_eq!(wire.expect_error("invalid-namespace").await, "invalid-namespace");
    scene.a.assert_unharmed();
}

#[tokio::test]
async fn nobody_speaks_for_a_component_on_the_port_of_servers() {
    let scene = Scene::set().await;
    let mut wire = scene.a.local().await;
    wire.say(header(IRC, "b1.test")).await;
    is_refused(&scene, &mut wire, "invalid-from", Reason::InvalidFrom).await;
}

#[tokio::test]
async fn a_component_speaks_for_its_own_domain_alone() {
    for from in ["a1.test", BOT, "b1.test", "x.irc.a1.test", "irc.a1.test@a1.test", "a1.test/irc.a1.test"] {
        let mut scene = Scene::set().await;
        let (mut irc, mut b1) = (scene.irc().await, scene.b.host("b1.test"));
        irc.say(message(from, "b1.test", "forged")).await;
        is_refused(&scene, &mut irc, "invalid-from", Reason::InvalidFrom).await;
        assert!(b1.received().is_none());
    }
}

#[tokio::test]
async fn a_stanza_without_both_addresses_is_improper() {
    for stanza in ["<message to='b1.test'/>", "<message from='irc.a1.test'/>", "<presence/>"] {
        let scene = Scene::set().await;
        let mut irc = scene.irc().await;
        irc.say(stanza).await;
        is_refused(&scene, &mut irc, "improper-addressing", Reason::ImproperAddressing).await;
    }
}

#[tokio::test]
async fn a_stanza_before_the_handshake_is_not_authorized() {
    let mut scene = Scene::set().await;
    let mut wire = component::greet(scene.port(), IRC).await;
    wire.say(message(IRC, "b1.test", "early")).await;
    is_refused(&scene, &mut wire, "not-authorized", Reason::NotAuthorized).await;
    assert!(scene.b.host("b1.test").received().is_none());
}

#[tokio::test]
async fn a_component_is_told_that_nothing_leads_to_a_domain_and_stays() {
    let mut scene = Scene::set().await;
    let mut irc = scene.irc().await;
    irc.say(message(IRC, "nowhere.test", "1")).await;
    let error = irc.ear.stanza().await;
    assert_eq!((error.attribute("id"), error.attribute("type")), (Some("1"), Some("error")));
    irc.say(message(IRC, "b1.test", "2")).await;
    assert_eq!(scene.b.host("b1.test").receive().await.attribute("id"), Some("2"));
    scene.is_good().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_up_another_secret_and_leaves_the_connection_that_stands() {
    let mut scene = Scene::set().await;
    let (mut irc, mut b1) = (scene.irc().await, scene.b.host("b1.test"));
    let settings = scene.a.settings().clone();
    std::fs::write(&settings.components[0].secret_file, "swordfish\n").unwrap();
    let report = scene.a.relay.reload(settings).unwrap();
    assert!(report.needs_restart.is_empty(), "{report:?}");
    irc.say(message(IRC, "b1.test", "1")).await;
    assert_eq!(b1.receive().await.attribute("id"), Some("1"));
    b1.say(IRC, message("b1.test", IRC, "2")).await;
    assert_eq!(irc.ear.stanza().await.attribute("id"), Some("2"));
    for (secret, word) in [(SECRET, "component-secret-wrong"), ("swordfish", "component-connected")] {
        let mut wire = component::claim(scene.port(), IRC, secret).await;
        let condition = if secret == SECRET { "not-authorized" } else { "conflict" };
        assert_eq!(wire.expect_error(condition).await, word);
    }
}

#[tokio::test]
async fn components_that_come_or_go_need_a_restart() {
    let scene = Scene::set().await;
    let mut settings = scene.a.settings().clone();
    settings.components.pop();
    settings.local_components.clear();
    let report = scene.a.relay.reload(settings).unwrap();
    assert_eq!(report.needs_restart, ["[local] components", "[[component]]"]);
    component::connect(scene.port(), BOT, BOT_SECRET).await;
}

#[tokio::test]
async fn a_component_that_goes_with_its_secret_keeps_no_other_change_from_being_taken_up() {
    let scene = Scene::set().await;
    let mut settings = scene.a.settings().clone();
    let gone = settings.components.pop().unwrap();
    std::fs::remove_file(gone.secret_file).unwrap();
    std::fs::write(&settings.components[0].secret_file, "swordfish\n").unwrap();
    settings.hosts[0].domains.push(Domain::parse("a2.test").unwrap());
    let report = scene.a.relay.reload(settings).unwrap();
    assert_eq!(report.changed, ["host a2.test added"]);
    assert_eq!(report.needs_restart, ["[[component]]"]);
    let mut wire = scene.a.local().await;
    wire.greet("a2.test", "b1.test").await;
    // Until the restart it is there, with what it knew; and the one that stays is asked for what its file holds now.
    component::connect(scene.port(), BOT, BOT_SECRET).await;
    component::connect(scene.port(), IRC, "swordfish").await;
}
