//! What a path that is cut for a moment does to streams: each goes on where it was.

use std::time::Duration;

use super::dice::Dice;
use super::world::{Plan, World};
use crate::reason::Reason;
use crate::relay::clock;
use crate::relay::mailbox::lock;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

const HISTORIES: u64 = 100;

/// The path is cut for a moment, both ends notice that each connection is lost, and then the servers fall silent.
async fn cut(world: &World, dice: &mut Dice) {
    world.path(0, 1).cut(clock::now() + dice.millis(1..1_000));
    let noticed = clock::now() + Duration::from_secs(1);
    for wire in lock(&world.wires).iter() {
        for side in 0..2 {
            wire.lose(side, noticed + dice.millis(0..150), Reason::ConnectionLost);
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.hush();
}

/// Both ends find their connections lost, and dial each other at once: whichever of them a stream is asked for on, it isn't given up
/// for what comes on the other.
#[tokio::test(start_paused = true)]
async fn streams_go_on_when_both_ends_dial_at_once() {
    let mut resumed = 0;
    for seed in 0..HISTORIES {
        let mut dice = Dice::new(seed);
        let world = World::new(Plan { rate: 30, ..Plan::quiet() }, &mut dice);
        for index in 0..2 {
            world.start(index);
            let domain = |side: usize, n: usize| Domain::parse(&world.servers[side].domains[n]).unwrap();
            let routes = [Route::new(domain(index, 0), domain(1 - index, 0))];
            world.servers[index].start(&world, &routes, &mut dice);
        }
        tokio::time::sleep(dice.millis(500..1_000)).await;
        cut(&world, &mut dice).await;
        let hubs = [0, 1].map(|index| world.hub(index).unwrap());
        resumed += hubs.iter().map(|hub| hub.metrics.custody.resumed()).sum::<u64>();
        assert_eq!(hubs.each_ref().map(|hub| hub.metrics.custody.lost()), [0, 0], "seed {seed}");
        for index in 0..2 {
            world.drain(index).await;
        }
    }
    assert!(resumed > 0, "{resumed} streams were resumed");
}

/// Whoever only listens for a while resumes its stream all the same: the other end sends on it, and waits for that.
#[tokio::test(start_paused = true)]
async fn a_stream_on_which_one_end_only_listens_goes_on_too() {
    let mut resumed = 0;
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let world = World::new(Plan { rate: 10, ..Plan::quiet() }, &mut dice);
        (0..2).for_each(|index| world.start(index));
        let domain = |side: usize| Domain::parse(&world.servers[side].domains[0]).unwrap();
        world.servers[0].start(&world, &[Route::new(domain(0), domain(1))], &mut dice);
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.hush();
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.speak();
        world.servers[1].start(&world, &[Route::new(domain(1), domain(0))], &mut dice);
        tokio::time::sleep(Duration::from_secs(30)).await;
        cut(&world, &mut dice).await;
        let hubs = [0, 1].map(|index| world.hub(index).unwrap());
        resumed += hubs[1].metrics.custody.resumed();
        assert_eq!(hubs.each_ref().map(|hub| hub.metrics.custody.lost()), [0, 0], "seed {seed}");
        for index in 0..2 {
            world.drain(index).await;
        }
    }
    assert!(resumed > 10, "{resumed} streams were resumed");
}
