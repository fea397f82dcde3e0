//! What a relay takes that stops.

use std::time::Duration;

use super::dice::Dice;
use super::link::{Heard, Link};
use super::world::{Plan, World};
use crate::proto::queue::Mark;
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

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_shut_waits_for_no_last_words() {
    let world = World::new(Plan::quiet(), &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    let domain = |side: usize| Domain::parse(&world.servers[side].domains[0]).unwrap();
    // It ends its stream, and never reads that we end ours.
    let mut stream = Link::open(world.connect_local(0).unwrap(), Route::new(domain(0), domain(1)), false);
    stream.finish().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(hub.lane_count(), 1);
    let begun = clock::now();
    hub.shut().await;
    assert_eq!((hub.lane_count(), clock::now().duration_since(begun).as_secs_f32()), (0, 0.0));
}
