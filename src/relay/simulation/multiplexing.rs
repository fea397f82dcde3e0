//! What is believed of a peer that multiplexes, when its path is dead for a while.

use std::time::Duration;

use super::dice::Dice;
use super::world::{Plan, World};
use crate::relay::clock;
use crate::relay::mailbox::lock;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// A second pair wants a lane when nothing arrives: that nobody answers doesn't say that the peer takes one stream for each connection.
#[tokio::test(start_paused = true)]
async fn a_peer_whose_path_is_dead_is_not_taken_for_one_of_single_streams() {
    for seed in 0..5 {
        let mut dice = Dice::new(seed);
        let world = World::new(Plan { rate: 30, domains: 2, ..Plan::quiet() }, &mut dice);
        world.start(0);
        world.start(1);
        let domain = |side: usize, n: usize| Domain::parse(&world.servers[side].domains[n]).unwrap();
        let pair = |n| [Route::new(domain(0, n), domain(1, n))];
        world.servers[0].start(&world, &pair(0), &mut dice);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(lock(&world.wires).len(), 1, "seed {seed}: one pair, one connection");
        let limits = world.hub(0).unwrap().limits.clone();
        world.path(0, 1).cut(clock::now() + limits.header_wait * 2);
        world.servers[0].start(&world, &pair(1), &mut dice);
        tokio::time::sleep(limits.header_wait * 2 + limits.retry_max.min(Duration::from_secs(60))).await;
        world.hush();
        assert_eq!(lock(&world.wires).len(), 1, "seed {seed}: two pairs, one connection still");
        for index in 0..2 {
            world.drain(index).await;
        }
    }
}
