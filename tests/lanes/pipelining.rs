//! All of the negotiation and the first stanzas in one flight (XEP-0305): of a new pair on a warm session, and what is left of a
//! connection's first stream when its features have come.

use fedmux::relay::settings::Placement;
use fedmux::xmpp::namespace as ns;

use crate::support::certificates::Authority;
use crate::support::peer::{Connection, Peer};
use crate::support::provider::{Plan, Provider};
use crate::support::until;
use crate::support::wire::{Heard, Wire, answer, message};

const OURS: [&str; 3] = ["a1.test", "a2.test", "a3.test"];

/// Features of a peer that takes pipelined negotiation.
fn features() -> String {
    format!(
        "<stream:features><mux xmlns='{}'/><bidi xmlns='{}'/><pipelining xmlns='{}'/>\
         <mechanisms xmlns='{}'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>",
        ns::MUX,
        ns::BIDI_FEATURE,
        ns::PIPELINING,
        ns::SASL
    )
}

/// A relay that is connected to a scripted peer which takes pipelined negotiation, and their first lane.
async fn warm() -> (Provider, Peer, Connection, Wire) {
    warm_with(Placement::StreamPerPair).await
}

async fn warm_with(placement: Placement) -> (Provider, Peer, Connection, Wire) {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    let plan = Plan::new(&authority, &OURS).await;
    let mut provider = plan.placed_peer(&["b1.test"], peer.address, placement).start().await;
    let mut a1 = provider.host("a1.test");
    a1.send("b1.test", "first").await;
    let connection = peer.accept().await;
    let mut lane = connection.accept().await;
    grant(&mut lane, "a1.test").await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("first"));
    drop(a1);
    (provider, peer, connection, lane)
}

/// As the receiving entity: go through the negotiation with whoever speaks for `from`, step by step or not.
async fn grant(lane: &mut Wire, from: &str) {
    assert!(matches!(lane.hear().await, Heard::Header(_)));
    lane.say(answer("b1.test", from, "s0") + &features()).await;
    requests(lane).await;
    lane.say(format!("<success xmlns='{}'/>", ns::SASL)).await;
    assert!(matches!(lane.hear().await, Heard::Header(_)));
    lane.say(answer("b1.test", from, "s1") + "<stream:features/>").await;
}

/// What an initiating entity asks for, up to `<auth/>`.
async fn requests(lane: &mut Wire) {
    loop {
        match lane.hear().await {
            Heard::Element(element) if element.is("auth", ns::SASL) => return lane.ear.restart(),
            Heard::Element(element) if element.is("bidi", ns::BIDI) || element.is("mux", ns::MUX) => {}
            other => panic!("{other:?} instead of <auth/>"),
        }
    }
}

#[tokio::test]
async fn a_new_pair_on_a_warm_session_costs_no_round_trip() {
    let (mut provider, _peer, connection, _lane) = warm().await;
    let mut a2 = provider.host("a2.test");
    a2.send("b1.test", "1").await;
    let mut lane = connection.accept().await;
    // All of it is there before the peer has said a single octet.
    assert!(matches!(lane.hear().await, Heard::Header(_)));
    requests(&mut lane).await;
    assert!(matches!(lane.hear().await, Heard::Header(_)));
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("1"));
    a2.send("b1.test", "2").await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("2"), "and the next one needs no answer either");
    // Nothing counts as delivered before the peer has agreed.
    assert_eq!(provider.relay.metrics().stanzas(fedmux::proto::admission::Side::Remote).1, 1);
    lane.say(answer("b1.test", "a2.test", "s0") + &features()).await;
    lane.say(format!("<success xmlns='{}'/>", ns::SASL)).await;
    lane.say(answer("b1.test", "a2.test", "s1") + "<stream:features/>").await;
    lane.say(message("b1.test", "a2.test", "back")).await;
    assert_eq!(a2.receive().await.attribute("id"), Some("back"));
    assert_eq!(provider.relay.metrics().stanzas(fedmux::proto::admission::Side::Remote).1, 3);
    provider.assert_unharmed();
}

/// How a peer may refuse a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// As RFC 6120 section 6.4.5 has it.
    Failure,
    /// And it wants no more octets, and says so at once.
    Stopped,
    /// Features that offer no EXTERNAL on this stream, then the failure.
    NotOffered,
}

async fn refuse(lane: &mut Wire, refusal: Refusal) {
    let offered = if refusal == Refusal::NotOffered { "<stream:features/>".to_owned() } else { features() };
    lane.say(answer("b1.test", "a2.test", "s0") + &offered).await;
    lane.say(format!("<failure xmlns='{}'><not-authorized/></failure></stream:stream>", ns::SASL)).await;
    if refusal == Refusal::Stopped {
        lane.ear.stop(1);
    }
    lane.mouth.finish().await;
}

#[tokio::test]
async fn a_refused_flight_is_said_again_step_by_step_and_nothing_is_lost_or_doubled() {
    for refusal in [Refusal::Failure, Refusal::Stopped, Refusal::NotOffered] {
        let (mut provider, _peer, connection, _lane) = warm().await;
        let mut a2 = provider.host("a2.test");
        a2.send("b1.test", "0").await;
        let mut lane = connection.accept().await;
        assert!(matches!(lane.hear().await, Heard::Header(_)));
        a2.send("b1.test", "1").await;
        refuse(&mut lane, refusal).await;
        let mut again = connection.accept().await;
        assert!(matches!(again.hear().await, Heard::Header(_)));
        for n in 2..20 {
            a2.send("b1.test", &n.to_string()).await;
        }
        // Step by step: nothing but the header came.
        again.say(answer("b1.test", "a2.test", "s0") + &features()).await;
        requests(&mut again).await;
        again.say(format!("<success xmlns='{}'/>", ns::SASL)).await;
        assert!(matches!(again.hear().await, Heard::Header(_)));
        again.say(answer("b1.test", "a2.test", "s1") + "<stream:features/>").await;
        for n in 0..20 {
            assert_eq!(again.ear.stanza().await.attribute("id"), Some(&*n.to_string()), "{refusal:?}");
        }
        let delivered = || provider.relay.metrics().stanzas(fedmux::proto::admission::Side::Remote).1;
        until("the last one to be counted", || delivered() == 21).await;
        assert!(a2.received().is_none(), "nothing bounced");
        provider.is_balanced().await;
        provider.assert_unharmed();
    }
}

#[tokio::test]
async fn behind_a_refused_flight_of_a_shared_stream_each_pair_gets_its_own_back() {
    let (mut provider, _peer, connection, lane) = warm_with(Placement::OneStream).await;
    lane.close().await;
    until("the stream to end", || provider.relay.metrics().lanes.get() == 0).await;
    let (mut a2, mut a3) = (provider.host("a2.test"), provider.host("a3.test"));
    a2.send("b1.test", "a2.test").await;
    let mut lane = connection.accept().await;
    a3.send("b1.test", "a3.test").await;
    // Both pairs have left with the flight.
    assert!(matches!(lane.hear().await, Heard::Header(_)));
    requests(&mut lane).await;
    assert!(matches!(lane.hear().await, Heard::Header(_)));
    for from in ["a2.test", "a3.test"] {
        assert_eq!(lane.ear.stanza().await.attribute("from"), Some(from));
    }
    refuse(&mut lane, Refusal::Failure).await;
    let mut again = connection.accept().await;
    grant(&mut again, "a2.test").await;
    for _ in 0..2 {
        let stanza = again.ear.stanza().await;
        assert_eq!(stanza.attribute("id"), stanza.attribute("from"));
    }
    provider.is_balanced().await;
    assert_eq!(provider.metric("fedmux_queued_bytes", &[]), 0);
}

#[tokio::test]
async fn a_pair_that_the_peer_refuses_for_good_bounces_and_the_others_stay() {
    let (mut provider, _peer, connection, mut first) = warm().await;
    let mut a2 = provider.host("a2.test");
    a2.send("b1.test", "0").await;
    for refusal in [Refusal::Failure, Refusal::Failure] {
        let mut lane = connection.accept().await;
        assert!(matches!(lane.hear().await, Heard::Header(_)));
        refuse(&mut lane, refusal).await;
    }
    let bounced = a2.receive().await;
    assert_eq!(bounced.attribute("id"), Some("0"));
    assert_eq!(crate::scene::reason(&bounced), "external-refused");
    a2.send("b1.test", "1").await;
    assert_eq!(crate::scene::reason(&a2.receive().await), "external-refused", "at once, without another try");
    first.say(message("b1.test", "a1.test", "still")).await;
    let mut a3 = provider.host("a3.test");
    a3.send("b1.test", "3").await;
    let mut lane = connection.accept().await;
    grant(&mut lane, "a3.test").await;
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("3"));
    provider.is_balanced().await;
}

/// Those of a peer that says in its first features what it will offer behind them.
fn promising() -> String {
    let sm = format!("<sm xmlns='{}'/></stream:features>", ns::STREAM_MANAGEMENT);
    features().replace("</stream:features>", &sm)
}

/// The first lane of a connection that a relay makes because it has something to say, up to the features.
async fn first_lane(peer: &Peer) -> (Connection, Wire) {
    let connection = peer.accept().await;
    let mut lane = connection.accept().await;
    assert!(matches!(lane.hear().await, Heard::Header(_)));
    lane.say(answer("b1.test", "a1.test", "s0") + &promising()).await;
    requests(&mut lane).await;
    (connection, lane)
}

#[tokio::test]
async fn the_first_stanza_to_a_cold_peer_leaves_with_the_answer_to_its_features() {
    let authority = Authority::new();
    let peer = Peer::start(&authority.certify(&["b1.test"]));
    let plan = Plan::new(&authority, &OURS).await;
    let mut provider = plan.placed_peer(&["b1.test"], peer.address, Placement::StreamPerPair).start().await;
    let mut a1 = provider.host("a1.test");
    a1.send("b1.test", "1").await;
    let (_connection, mut lane) = first_lane(&peer).await;
    // The peer has said nothing else, and says nothing before all of it is there.
    assert!(matches!(lane.hear().await, Heard::Header(_)));
    assert!(
        matches!(lane.hear().await, Heard::Element(element) if element.is("enable", ns::STREAM_MANAGEMENT))
    );
    assert_eq!(lane.ear.stanza().await.attribute("id"), Some("1"));
    let delivered = || provider.relay.metrics().stanzas(fedmux::proto::admission::Side::Remote).1;
    assert_eq!(delivered(), 0, "nothing counts as delivered before the peer has agreed");
    lane.say(format!("<success xmlns='{}'/>", ns::SASL)).await;
    lane.say(answer("b1.test", "a1.test", "s1") + "<stream:features/>").await;
    lane.say(format!("<enabled xmlns='{0}'/><a xmlns='{0}' h='1'/>", ns::STREAM_MANAGEMENT)).await;
    until("it to be acknowledged", || delivered() == 1).await;
    provider.is_balanced().await;
    provider.assert_unharmed();
}

#[tokio::test]
async fn a_cold_peer_that_refuses_the_flight_is_dialled_again_and_nothing_is_lost_or_doubled() {
    for stops in [false, true] {
        let authority = Authority::new();
        let peer = Peer::start(&authority.certify(&["b1.test"]));
        let plan = Plan::new(&authority, &OURS).await;
        let plan = plan.placed_peer(&["b1.test"], peer.address, Placement::StreamPerPair);
        let mut provider = plan.start().await;
        let mut a1 = provider.host("a1.test");
        a1.send("b1.test", "0").await;
        let (_connection, mut lane) = first_lane(&peer).await;
        a1.send("b1.test", "1").await;
        lane.say(format!("<failure xmlns='{}'><not-authorized/></failure></stream:stream>", ns::SASL)).await;
        if stops {
            lane.ear.stop(1);
        }
        lane.mouth.finish().await;
        let (_connection, mut again) = first_lane(&peer).await;
        for n in 2..20 {
            a1.send("b1.test", &n.to_string()).await;
        }
        again.say(format!("<success xmlns='{}'/>", ns::SASL)).await;
        assert!(matches!(again.hear().await, Heard::Header(_)));
        again.say(answer("b1.test", "a1.test", "s1") + "<stream:features/>").await;
        for n in 0..20 {
            assert_eq!(again.ear.stanza().await.attribute("id"), Some(&*n.to_string()), "stops: {stops}");
        }
        let delivered = || provider.relay.metrics().stanzas(fedmux::proto::admission::Side::Remote).1;
        until("the last one to be counted", || delivered() == 20).await;
        assert!(a1.received().is_none(), "nothing bounced");
        provider.is_balanced().await;
        provider.assert_unharmed();
    }
}
