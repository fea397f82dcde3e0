//! What the age of sessions does to streams: none outlasts it, and nobody notices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dice::Dice;
use super::wire::Wire;
use super::world::{Plan, World};
use crate::proto::limits::Limits;
use crate::reason::Reason;
use crate::relay::mailbox::lock;
use crate::relay::{clock, random};
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

const LONG: Duration = Duration::from_secs(86_400);
const SHORT: Duration = Duration::from_secs(3);

fn limits() -> Limits {
    Limits {
        ack_wait: Duration::from_secs(1),
        drain: Duration::from_secs(1),
        session_idle: LONG,
        path_idle: LONG,
        ..Limits::default()
    }
}

/// What became of a world whose relays have sessions of these ages: how many connections there were, and how many of the sessions
/// were not closed by whoever had dialled.
async fn world(seed: u64, ages: [Duration; 2]) -> (usize, u64) {
    random::set_seed(Some(seed));
    let mut dice = Dice::new(seed);
    let plan = Plan { rate: 30, domains: 2, limits: limits(), ages: ages.to_vec(), ..Plan::quiet() };
    let world = World::new(plan, &mut dice);
    world.start(0);
    world.start(1);
    let domain = |side: usize, n: usize| Domain::parse(&world.servers[side].domains[n]).unwrap();
    let pair = |from, n| Route::new(domain(from, n), domain(1 - from, n));
    // The first relay dials, and one of the pairs speaks both ways.
    world.servers[0].start(&world, &[pair(0, 0), pair(0, 1)], &mut dice);
    tokio::time::sleep(dice.millis(500..1_000)).await;
    world.servers[1].start(&world, &[pair(1, 0)], &mut dice);
    let mut wires: Vec<(Instant, Arc<Wire>)> = Vec::new();
    let until = clock::now() + 5 * SHORT;
    while clock::now() < until {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for wire in lock(&world.wires).iter() {
            if !wires.iter().any(|(_, known)| Arc::ptr_eq(known, wire)) {
                wires.push((clock::now(), Arc::clone(wire)));
            }
        }
        // Time to move, and time to leave.
        let age = SHORT + 2 * (limits().ack_wait + limits().drain) + Duration::from_millis(500);
        let old = wires.iter().filter(|(since, wire)| !wire.is_closed() && clock::now() > *since + age);
        assert_eq!(old.count(), 0, "seed {seed}: connections outlast their age");
    }
    world.hush();
    let hubs = [0, 1].map(|index| world.hub(index).unwrap());
    let still = || hubs.iter().all(|hub| hub.queued.stanzas() == 0);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if still() && world.account.silent().is_empty() {
            break;
        }
    }
    world.observe();
    let sums = world.account.sums();
    assert!(still() && world.account.silent().is_empty(), "seed {seed}: {:?}", world.account.silent());
    assert!(world.account.disordered().is_empty(), "seed {seed}: {:?}", world.account.disordered());
    assert_eq!((sums.twice, sums.bounced, sums.answered, sums.late), (0, 0, 0, 0), "seed {seed}");
    assert_eq!(hubs.each_ref().map(|hub| hub.metrics.custody.lost()), [0, 0], "seed {seed}");
    let left = hubs.iter().map(|hub| hub.metrics.sessions_ended_for(Reason::Reset)).sum();
    drop(hubs);
    for index in 0..2 {
        world.drain(index).await;
    }
    (wires.len(), left)
}

/// Whoever dialled would keep its sessions for a day: those of the other end end earlier, and what they carried goes on in others.
#[tokio::test(start_paused = true)]
async fn a_session_ends_at_the_age_of_whoever_lets_it_become_less_old() {
    for seed in 0..4 {
        for ages in [[LONG, SHORT], [SHORT, LONG]] {
            let (connections, _) = world(seed, ages).await;
            assert!((2..20).contains(&connections), "seed {seed}: {connections} connections");
        }
    }
}

/// Where both ends go by the same age, the one that dialled hands over, and neither has to leave.
#[tokio::test(start_paused = true)]
async fn whoever_dialled_hands_over_at_the_age_of_both() {
    for seed in 0..4 {
        let (connections, left) = world(seed, [SHORT, SHORT]).await;
        assert!((2..20).contains(&connections), "seed {seed}: {connections} connections");
        assert_eq!(left, 0, "seed {seed}");
    }
}
