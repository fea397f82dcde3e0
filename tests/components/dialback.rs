//! A host's server that asks by dialback who speaks for a component, or for another host behind the relay: the relay, whose stream
//! it is.

use std::net::Ipv4Addr;

use fedmux::relay::settings::Endpoint;
use fedmux::xmpp::namespace as ns;
use tokio::net::TcpListener;

use crate::scene::{IRC, SECRET};
use crate::support::certificates::Authority;
use crate::support::component;
use crate::support::provider::{Plan, Provider};
use crate::support::soon;
use crate::support::wire::{Heard, Wire, answer, message};

/// What comes from `from` to the server of a1.test is kept until that has asked who speaks for `from`.
async fn is_asked_and_knows(a: &Provider, server: &TcpListener, from: &str) {
    let (connection, _) = soon("the relay at the host's server", server.accept()).await.unwrap();
    let mut stream = Wire::tcp(connection);
    let Heard::Header(opening) = stream.hear().await else { panic!("no stream header") };
    assert_eq!(opening.from.unwrap().as_str(), from);
    let features = format!("<stream:features><dialback xmlns='{}'/></stream:features>", ns::DIALBACK_FEATURE);
    stream.say(answer("a1.test", from, "s0") + &features).await;
    let Heard::Element(result) = stream.hear().await else { panic!("no dialback key") };
    assert!(result.is("result", ns::DIALBACK));
    let key = result.text();

    let mut question = a.local().await;
    question.greet("a1.test", from).await;
    let db = format!("xmlns:db='{}'", ns::DIALBACK);
    for (id, key, expected) in
        [("s1", &*key, "invalid"), ("s0", "guessed", "invalid"), ("s0", &*key, "valid")]
    {
        question.say(format!("<db:verify {db} from='a1.test' to='{from}' id='{id}'>{key}</db:verify>")).await;
        let Heard::Element(said) = question.hear().await else { panic!("no answer") };
        assert_eq!((said.name(), said.attribute("type")), ("verify", Some(expected)), "{id} {key}");
    }
    stream.say(format!("<db:result {db} from='a1.test' to='{from}' type='valid'/>")).await;
    assert_eq!(stream.ear.stanza().await.attribute("id"), Some("1"));
    a.assert_unharmed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_knows_the_keys_of_its_own_open_streams_for_a_component_and_no_others() {
    let authority = Authority::new();
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut a = Plan::new(&authority, &["a1.test"]).await.component(IRC, SECRET);
    a.settings.hosts[0].deliver = vec![Endpoint::Address(server.local_addr().unwrap())];
    let a = a.start().await;
    let mut irc = component::connect(a.components.unwrap(), IRC, SECRET).await;
    irc.say(message(IRC, "a1.test", "1")).await;
    is_asked_and_knows(&a, &server, IRC).await;
}

/// Two servers behind one relay, each of which is led to the relay for everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_knows_the_keys_of_its_own_open_streams_for_another_host_behind_it() {
    let authority = Authority::new();
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut a = Plan::new(&authority, &["a1.test", "a2.test"]).await;
    a.settings.hosts[0].deliver = vec![Endpoint::Address(server.local_addr().unwrap())];
    let a = a.start().await;
    let mut other = a.local().await;
    other.authenticate("a2.test", "a1.test").await;
    other.say(message("a2.test", "a1.test", "1")).await;
    is_asked_and_knows(&a, &server, "a2.test").await;
}
