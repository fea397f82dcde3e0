//! Streams that end for want of room, and lanes that aren't read for a while: both ends know all the same what the other one has.

use std::time::Duration;

use fedmux::proto::admission::Side;
use fedmux::proto::budget::Rates;
use fedmux::reason::Reason;
use fedmux::relay::settings::Uncertain;
use fedmux::xmpp::namespace as ns;

use crate::scene::*;
use crate::support::until;
use crate::support::wire::{Heard, Wire};

/// Say that there is no room, and whatever stands before that.
async fn refuse(mut lane: Wire, before: &str) {
    let conditions = ns::STREAM_ERRORS;
    lane.say(format!(
        "{before}<stream:error><resource-constraint xmlns='{conditions}'/></stream:error></stream:stream>"
    ))
    .await;
    lane.mouth.finish().await;
    while !matches!(lane.hear().await, Heard::Finished) {}
}

#[tokio::test]
async fn a_relay_that_has_no_room_says_what_it_has_and_the_rest_goes_again_for_certain() {
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, 1..=3).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, None).await;
    assert_eq!(ids(&mut lane, 3).await, ["1", "2", "3"]);
    refuse(lane, "<a xmlns='urn:xmpp:sm:3' h='1'/>").await;
    let mut lane = managed(connection.accept().await, None).await;
    for id in ["2", "3"] {
        let stanza = stanza(&mut lane).await;
        assert_eq!((stanza.attribute("id"), is_delayed(&stanza)), (Some(id), false));
    }
    acknowledge(&mut lane, 2).await;
    handled(&mut server, 3).await;
    assert_eq!(scene.uncertain("resent"), 0);
    scene.is_good().await;
}

/// A relay that stops, or that has had enough of lanes, doesn't know how much of what it has it will be rid of. What it
/// acknowledged a moment before says nothing of the rest, and it puts a question between the two.
#[tokio::test]
async fn an_acknowledgement_that_is_not_the_last_word_says_nothing_of_the_rest() {
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, 1..=2).await;
    let connection = scene.peer.accept().await;
    let mut lane = managed(connection.accept().await, None).await;
    assert_eq!(ids(&mut lane, 2).await, ["1", "2"]);
    refuse(lane, "<a xmlns='urn:xmpp:sm:3' h='1'/><r xmlns='urn:xmpp:sm:3'/>").await;
    let mut lane = managed(connection.accept().await, None).await;
    let stanza = stanza(&mut lane).await;
    assert_eq!((stanza.attribute("id"), is_delayed(&stanza)), (Some("2"), true));
    acknowledge(&mut lane, 1).await;
    handled(&mut server, 2).await;
    assert_eq!(scene.uncertain("resent"), 1);
    scene.is_good().await;
}

#[tokio::test]
async fn a_stanza_is_not_to_blame_for_a_lack_of_room() {
    let scene = Scene::set().await;
    let mut server = scene.servers_stream().await;
    send(&mut server, OURS, THEIRS, [1]).await;
    let connection = scene.peer.accept().await;
    for _ in 0..3 {
        let mut lane = managed(connection.accept().await, None).await;
        assert_eq!(ids(&mut lane, 1).await, ["1"]);
        refuse(lane, "").await;
    }
    let mut lane = managed(connection.accept().await, None).await;
    assert_eq!(ids(&mut lane, 1).await, ["1"]);
    acknowledge(&mut lane, 1).await;
    handled(&mut server, 1).await;
    assert_eq!(scene.uncertain("resent"), 3);
    scene.is_good().await;
}

#[tokio::test]
async fn a_stream_that_ends_for_want_of_room_says_what_came_and_hears_what_was_handled() {
    let scene = Scene::with(Uncertain::Resend, |limits| {
        limits.pair_queue_bytes = 8_000;
        limits.read_pause = Duration::from_millis(50);
    })
    .await;
    // Nobody takes what the peer sends, and so it fills the queue.
    let Scene { provider, peer, server, _authority } = scene;
    drop(server);
    let connection = peer.dial(provider.quic, OURS).await.unwrap();
    let mut lane = connection.lane(THEIRS, OURS).await;
    enable(&mut lane).await;
    let (mut sent, mut errors, mut last) = (0, 0, None);
    let said = loop {
        sent += 1;
        send(&mut lane, THEIRS, OURS, [sent]).await;
        // Whatever comes back isn't acknowledged, until there is no room for that either.
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(1), lane.hear()).await {
            match heard {
                Heard::Stanza(error) => {
                    errors += 1;
                    assert_eq!(reason(&error), "queue-full");
                    last = error.attribute("id").map(|id| id.parse::<u32>().unwrap());
                }
                Heard::Element(element) if element.is("a", ns::STREAM_MANAGEMENT) => {
                    let h = element.attribute("h").unwrap().parse::<u32>().unwrap();
                    if h > 0 {
                        break h;
                    }
                }
                Heard::Element(element) if element.is("r", ns::STREAM_MANAGEMENT) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(lane.expect_error("resource-constraint").await, "queue-full");
    assert_eq!(Some(said), last, "what came behind the last error wasn't taken");
    assert_eq!(provider.refusals(Side::Remote, Reason::QueueFull), 1);
    let held = || provider.metric("fedmux_queued_bytes", &[]);
    assert!(held() > 16_000, "the errors are the relay's still");
    acknowledge(&mut lane, errors).await;
    lane.say("</stream:stream>").await;
    until("the errors to be gone", || held() <= 8_000).await;
    assert_eq!(provider.metric("fedmux_queued_stanzas", &[]), u64::from(said - errors));
    for outcome in ["resent", "bounced"] {
        assert_eq!(provider.metric("fedmux_stanzas_uncertain_total", &[("outcome", outcome)]), 0);
    }
    provider.is_balanced().await;
    provider.assert_unharmed();
}

#[tokio::test]
async fn a_lane_that_is_not_read_for_a_while_is_listened_to_for_acknowledgements() {
    const STANZAS: u32 = 200;
    let scene = Scene::with(Uncertain::Resend, |limits| {
        limits.hold = Duration::from_millis(100);
        limits.rates = Rates { pair_bounces: 10, burst: Duration::from_secs(6), ..limits.rates };
    })
    .await;
    let Scene { provider, peer, server, _authority } = scene;
    drop(server);
    let connection = peer.dial(provider.quic, OURS).await.unwrap();
    let mut lane = connection.lane(THEIRS, OURS).await;
    enable(&mut lane).await;
    send(&mut lane, THEIRS, OURS, 1..=STANZAS).await;
    // All of them come back, which is too much: the lane isn't read behind what comes next.
    ids(&mut lane, usize::try_from(STANZAS).unwrap()).await;
    send(&mut lane, THEIRS, OURS, [STANZAS + 1]).await;
    let limit = [("limit", "pair_bounces_rate")];
    until("the lane to be held", || provider.metric("fedmux_limit_hits_total", &limit) == 1).await;
    let held = || provider.metric("fedmux_queued_bytes", &[]);
    let accepted = || provider.metric("fedmux_stanzas_accepted_total", &[("side", "remote")]);
    let (before, came) = (held(), accepted());
    send(&mut lane, THEIRS, OURS, [STANZAS + 2]).await;
    // The first would be less than was heard, if it were heard again.
    acknowledge(&mut lane, STANZAS - 1).await;
    acknowledge(&mut lane, STANZAS).await;
    until("the acknowledgement to be heard", || held() < before / 10).await;
    assert_eq!(accepted(), came, "it isn't read");
    // Then it is, and what was heard isn't heard again.
    assert_eq!(ids(&mut lane, 2).await, [(STANZAS + 1).to_string(), (STANZAS + 2).to_string()]);
    acknowledge(&mut lane, STANZAS + 2).await;
    handled(&mut lane, STANZAS + 2).await;
    provider.is_balanced().await;
    provider.assert_unharmed();
}
