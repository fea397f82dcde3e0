//! What a relay takes that stops.

use std::time::Duration;

use super::dice::Dice;
use super::link::{Heard, Link};
use super::world::{Plan, World};
use crate::proto::queue::Mark;
use crate::proto::stream::Notice;
use crate::reason::Reason;
use crate::relay::outlets::Begins;
use crate::relay::{clock, drain};
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

#[tokio::test(start_paused = true)]
async fn a_relay_that_has_drained_takes_no_stream_of_a_server_any_more() {
    for drained in [false, true] {
        let world = World::new(Plan::quiet(), &mut Dice::new(1));
        (0..2).for_each(|index| world.start(index));
        let hub = world.hub(0).unwrap();
        if drained {
            drain::drain(&hub).await;
        }
        let domain = |side: usize| Domain::parse(&world.servers[side].domains[0]).unwrap();
        let route = Route::new(domain(0), domain(1));
        let mut stream = Link::open(world.connect_local(0).unwrap(), route, false);
        assert_eq!(matches!(stream.next().await, Heard::Over), drained);
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_has_drained_opens_no_lane_for_what_comes_too_late() {
    let world = World::new(Plan::quiet(), &mut Dice::new(1));
    (0..2).for_each(|index| world.start(index));
    let hub = world.hub(0).unwrap();
    drain::drain(&hub).await;
    let domain = |side: usize| Domain::parse(&world.servers[side].domains[0]).unwrap();
    let stanza = format!("<message from='u@{}' to='u@{}' id='1'/>", domain(0), domain(1));
    let mark = [Mark::of(stanza.len())];
    for route in [Route::new(domain(0), domain(1)), Route::new(domain(1), domain(0))] {
        hub.bounce_run(&route, stanza.as_bytes(), &mark, &None, Reason::QueueFull, Begins::Ours).unwrap();
        assert_eq!(hub.lane_count(), 0, "{route}");
    }
}

/// A lane of relay 0 whose other end has ended it, and reads no more of what it says last. `told`: after it was sent an error, of which
/// it says nothing.
async fn saying_its_last_words(world: &World, told: bool) -> Link {
    let hub = world.hub(0).unwrap();
    let domain = |side: usize| Domain::parse(&world.servers[side].domains[0]).unwrap();
    let route = Route::new(domain(0), domain(1));
    let mut stream = Link::open(world.connect_local(0).unwrap(), route.clone(), true);
    while !matches!(stream.next().await, Heard::Notice(Notice::Proven { .. })) {}
    if told {
        let stanza = format!("<message from='u@{}' to='u@{}' id='1'/>", domain(0), domain(1));
        let mark = [Mark::of(stanza.len())];
        hub.bounce_run(&route, stanza.as_bytes(), &mark, &None, Reason::QueueFull, Begins::Ours).unwrap();
        while !matches!(stream.next().await, Heard::Stanza(_)) {}
    }
    stream.say("</stream:stream>");
    stream.finish().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(hub.lane_count(), 1);
    stream
}

#[tokio::test(start_paused = true)]
async fn what_a_lane_holds_that_says_its_last_words_is_counted_when_the_relay_ends() {
    for told in [true, false] {
        let world = World::new(Plan::quiet(), &mut Dice::new(1));
        world.start(0);
        let _stream = saying_its_last_words(&world, told).await;
        let (hub, begun) = (world.hub(0).unwrap(), clock::now());
        hub.shut().await;
        let waited = clock::now().duration_since(begun);
        assert_eq!(waited < Duration::from_secs(1), told, "{waited:?}");
        assert_eq!((hub.lane_count(), hub.discard_everything(Reason::Draining)), (0, (0, usize::from(told))));
    }
}
