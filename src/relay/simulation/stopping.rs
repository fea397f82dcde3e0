//! What a relay takes that stops.

use super::dice::Dice;
use super::link::{Heard, Link};
use super::world::{Plan, World};
use crate::relay::drain;
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
