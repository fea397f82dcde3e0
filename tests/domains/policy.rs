//! What the operator doesn't want, though it is proven: for one host, for one direction, on a stream that others share.

use fedmux::proto::admission::Side;
use fedmux::proto::policy::{DomainPolicy, Lists};
use fedmux::reason::Reason;
use fedmux::relay::settings::Placement;
use fedmux::xmpp::domain::{Domain, DomainPattern};
use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;

use crate::support::certificates::Authority;
use crate::support::peer::Peer;
use crate::support::provider::{Plan, Provider};
use crate::support::until;
use crate::support::wire::{Heard, auth, header, message};

fn without(domain: &str) -> Lists {
    Lists { deny: vec![DomainPattern::parse(domain).unwrap()], ..Lists::default() }
}

/// A relay for a1.test, which says `own`, and a2.test, which says nothing; and a peer with b1.test, b2.test and x.b2.test.
async fn scene(own: DomainPolicy, placement: Placement) -> (Authority, Peer, Provider) {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["b1.test", "b2.test", "x.b2.test"]));
    let mut plan = Plan::new(&authority, &["a1.test", "a2.test"]).await;
    let mut second = plan.settings.hosts[0].clone();
    second.domains = vec![plan.settings.hosts[0].domains.remove(1)];
    plan.settings.hosts.push(second);
    plan.settings.hosts[0].policy = own;
    let provider = plan.placed_peer(&["*"], peer.address, placement).start().await;
    (authority, peer, provider)
}

/// Its condition, and the reason in its text.
fn error(stanza: &Element) -> (String, String) {
    assert_eq!(stanza.attribute("type"), Some("error"), "{stanza:?}");
    let error = stanza.children().find(|child| child.name() == "error").expect("an error");
    let mut children = error.children();
    let condition = children.next().expect("a condition").name().to_owned();
    let text = children.find(|child| child.name() == "text").map(Element::text).unwrap_or_default();
    (condition, text)
}

#[tokio::test]
async fn what_a_host_denies_is_refused_at_the_stream_and_its_neighbour_is_reached() {
    let own = DomainPolicy { both: without("*.b2.test"), ..DomainPolicy::default() };
    let (_authority, peer, mut provider) = scene(own, Placement::StreamPerPair).await;
    let connection = peer.dial(provider.quic, "a1.test").await.unwrap();
    for (from, to) in [("b2.test", "a1.test"), ("x.b2.test", "a2.test")] {
        let mut host = provider.host(to);
        connection.lane(from, to).await.say(message(from, to, "x")).await;
        assert_eq!(host.receive().await.attribute("from"), Some(from));
    }
    let mut stream = connection.open().await;
    stream.say(header("x.b2.test", "a1.test")).await;
    assert_eq!(stream.expect_error("policy-violation").await, Reason::PolicyDenied.as_str());
    assert_eq!(provider.refusals(Side::Remote, Reason::PolicyDenied), 1);
    provider.assert_unharmed();
}

#[tokio::test]
async fn nobody_is_dialled_for_what_a_host_denies_and_its_sender_is_told() {
    for policy in [
        DomainPolicy { both: without("b1.test"), ..DomainPolicy::default() },
        DomainPolicy { outbound: without("*"), ..DomainPolicy::default() },
    ] {
        let (_authority, peer, mut provider) = scene(policy, Placement::StreamPerPair).await;
        let [mut a1, mut a2] = ["a1.test", "a2.test"].map(|name| provider.host(name));
        a1.send("b1.test", "x").await;
        let (condition, text) = error(&a1.receive().await);
        assert_eq!(condition, "policy-violation");
        assert!(text.contains(Reason::PolicyDenied.as_str()), "{text}");
        assert_eq!(provider.metric("fedmux_connections_opened_total", &[]), 0);
        let bounced = [("reason", Reason::PolicyDenied.as_str())];
        assert_eq!(provider.metric("fedmux_stanzas_bounced_total", &bounced), 1);
        a2.send("b1.test", "y").await;
        let mut lane = peer.accept().await.accept().await;
        lane.accept().await;
        assert_eq!(lane.ear.stanza().await.attribute("id"), Some("y"));
        provider.is_balanced().await;
    }
}

#[tokio::test]
async fn what_may_only_go_out_goes_out_and_what_comes_back_is_answered() {
    let own = DomainPolicy { inbound: without("b1.test"), ..DomainPolicy::default() };
    let (_authority, peer, mut provider) = scene(own, Placement::StreamPerPair).await;
    let mut a1 = provider.host("a1.test");
    a1.send("b1.test", "out").await;
    let connection = peer.accept().await;
    let mut lane = connection.accept().await;
    assert!(lane.accept().await.bidi);
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("out"));
    lane.say(message("b1.test", "a1.test", "back")).await;
    let answer = lane.ear.stanza().await;
    assert_eq!((answer.attribute("id"), error(&answer).0), (Some("back"), "policy-violation".to_owned()));
    // Its answers neither, so nothing is asked that would have to be answered; and to an answer nothing may be said.
    for _ in 0..2 {
        let ask = "<iq from='a1.test' to='b1.test' id='ping' type='get'><p xmlns='urn:xmpp:ping'/></iq>";
        a1.say("b1.test", ask).await;
        let (condition, text) = error(&a1.receive().await);
        assert_eq!(condition, "policy-violation");
        assert!(text.contains(Reason::PolicyDenied.as_str()), "{text}");
    }
    a1.say("b1.test", "<iq from='a1.test' to='b1.test' id='pong' type='result'/>").await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("pong"));
    lane.say("<iq from='b1.test' to='a1.test' id='ping' type='result'/>").await;
    let discarded = [("reason", Reason::PolicyDenied.as_str())];
    until("the answer to be discarded", || {
        provider.metric("fedmux_stanzas_discarded_total", &discarded) == 1
    })
    .await;
    a1.send("b1.test", "again").await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("again"));
    assert!(a1.received().is_none());
    let mut stream = connection.open().await;
    stream.say(header("b1.test", "a1.test")).await;
    assert_eq!(stream.expect_error("policy-violation").await, Reason::PolicyDenied.as_str());
    provider.is_balanced().await;
}

#[tokio::test]
async fn on_a_shared_stream_a_denied_pair_is_dropped_alone() {
    let own = DomainPolicy { both: without("b1.test"), ..DomainPolicy::default() };
    let (_authority, peer, mut provider) = scene(own, Placement::OneStream).await;
    let [mut a1, mut a2] = ["a1.test", "a2.test"].map(|name| provider.host(name));
    let mut stream = peer.dial(provider.quic, "a1.test").await.unwrap().lane("b2.test", "a1.test").await;
    for (from, to, id) in [
        ("b2.test", "a1.test", "1"),
        ("b1.test", "a1.test", "denied"),
        ("b1.test", "a2.test", "2"),
        ("b2.test", "a1.test", "3"),
    ] {
        stream.say(message(from, to, id)).await;
    }
    for id in ["1", "3"] {
        assert_eq!(a1.receive().await.attribute("id"), Some(id));
    }
    assert_eq!(a2.receive().await.attribute("id"), Some("2"));
    let discarded = [("reason", Reason::PolicyDenied.as_str())];
    assert_eq!(provider.metric("fedmux_stanzas_discarded_total", &discarded), 1);
    provider.is_balanced().await;
    provider.assert_unharmed();
}

#[tokio::test]
async fn a_pair_that_is_denied_from_now_on_loses_a_stream_on_which_the_peer_alone_speaks() {
    let (_authority, peer, mut provider) = scene(DomainPolicy::default(), Placement::StreamPerPair).await;
    let mut a1 = provider.host("a1.test");
    let mut lane = peer.dial(provider.quic, "a1.test").await.unwrap().open().await;
    lane.greet("b1.test", "a1.test").await;
    lane.say(format!("<mux xmlns='{}'/>{}", ns::MUX, auth("b1.test"))).await;
    lane.expect_success().await;
    lane.greet("b1.test", "a1.test").await;
    lane.say(message("b1.test", "a1.test", "allowed")).await;
    assert_eq!(a1.receive().await.attribute("id"), Some("allowed"));
    provider.reload(|settings| settings.hosts[0].policy.both = without("b1.test"));
    assert_eq!(lane.hear().await, Heard::End);
    // It goes on all the same.
    lane.say(message("b1.test", "a1.test", "denied")).await;
    let discarded = [("reason", Reason::PolicyDenied.as_str())];
    until("what is denied to be dropped", || {
        provider.metric("fedmux_stanzas_discarded_total", &discarded) == 1
    })
    .await;
    assert!(a1.received().is_none());
    provider.is_balanced().await;
    provider.assert_unharmed();
}

/// The peer hasn't heard yet that the relay has other hosts, or doesn't care.
#[tokio::test]
async fn whoever_speaks_for_what_is_a_host_of_ours_by_now_is_not_heard_and_to_one_that_is_gone_is_heard_out()
{
    let (_authority, peer, mut provider) = scene(DomainPolicy::default(), Placement::StreamPerPair).await;
    let [mut a1, mut a2] = ["a1.test", "a2.test"].map(|name| provider.host(name));
    let connection = peer.dial(provider.quic, "a1.test").await.unwrap();
    let mut moved = connection.lane("b1.test", "a2.test").await;
    let mut gone = connection.lane("b2.test", "a1.test").await;
    let mut both = connection.lane("b1.test", "a1.test").await;
    moved.say(message("b1.test", "a2.test", "1")).await;
    gone.say(message("b2.test", "a1.test", "1")).await;
    both.say(message("b1.test", "a1.test", "2")).await;
    assert_eq!(a2.receive().await.attribute("id"), Some("1"));
    for _ in 0..2 {
        a1.receive().await;
    }
    provider.reload(|settings| {
        settings.hosts.remove(0);
        settings.hosts[0].domains.push(Domain::parse("b1.test").unwrap());
    });
    moved.say(message("b1.test", "a2.test", "stolen")).await;
    both.say(message("b1.test", "a1.test", "stolen")).await;
    gone.say(message("b2.test", "a1.test", "sent before the news came")).await;
    assert_eq!(a1.receive().await.attribute("id"), Some("sent before the news came"));
    until("two streams to be refused", || provider.refusals(Side::Remote, Reason::InvalidFrom) == 2).await;
    assert!(a1.received().is_none() && a2.received().is_none());
    provider.is_balanced().await;
    provider.assert_unharmed();
}

#[tokio::test]
async fn on_a_shared_stream_what_is_said_for_a_host_of_ours_by_now_is_dropped_alone() {
    let (_authority, peer, mut provider) = scene(DomainPolicy::default(), Placement::OneStream).await;
    let mut a1 = provider.host("a1.test");
    let mut stream = peer.dial(provider.quic, "a1.test").await.unwrap().lane("b2.test", "a1.test").await;
    stream.say(message("b1.test", "a1.test", "1")).await;
    assert_eq!(a1.receive().await.attribute("id"), Some("1"));
    provider.reload(|settings| settings.hosts[1].domains.push(Domain::parse("b1.test").unwrap()));
    for (from, id) in [("b1.test", "stolen"), ("b2.test", "2"), ("b1.test", "stolen"), ("b2.test", "3")] {
        stream.say(message(from, "a1.test", id)).await;
    }
    for id in ["2", "3"] {
        assert_eq!(a1.receive().await.attribute("id"), Some(id));
    }
    let discarded = [("reason", Reason::InvalidFrom.as_str())];
    assert_eq!(provider.metric("fedmux_stanzas_discarded_total", &discarded), 2);
    assert_eq!(provider.refusals(Side::Remote, Reason::InvalidFrom), 0);
    provider.is_balanced().await;
    provider.assert_unharmed();
}
