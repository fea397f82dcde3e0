//! What one peer takes of the places that there are for pairs.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;

use super::dice::Dice;
use super::promising::read;
use super::world::{Plan, World};
use crate::proto::admission::{Proven, Scope, Side};
use crate::proto::limits::Limits;
use crate::proto::router::LaneId;
use crate::reason::Reason;
use crate::relay::carry::{Carry, Place};
use crate::relay::hub::Hub;
use crate::relay::mailbox::lock;
use crate::relay::outlets::Begins;
use crate::relay::shared::SessionShared;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// Places for directions of pairs, of which peers may take all but two.
const PLACES: usize = 22;

fn crowded() -> (Arc<World>, Arc<Hub>) {
    let limits = Limits { pairs: PLACES, ..Limits::default() };
    let world = World::new(Plan { relays: 3, limits, ..Plan::quiet() }, &mut Dice::new(1));
    world.start(0);
    let hub = world.hub(0).unwrap();
    (world, hub)
}

fn route(from: &str, to: &str) -> Route {
    Route::new(Domain::parse(from).unwrap(), Domain::parse(to).unwrap())
}

/// A stream that all pairs share brings a stanza of each of so many.
async fn bring(
    hub: &Arc<Hub>,
    session: Option<&Arc<SessionShared>>,
    names: Range<usize>,
) -> Result<(), Reason> {
    let side = if session.is_some() { Side::Remote } else { Side::Local };
    let scope = Scope { side, theirs: Proven::Any, ours: Proven::Any, pair: None };
    let stands = session.map(|session| Place {
        session: Arc::clone(session),
        lane: LaneId(1),
        route: route("b0.test", "a0.test"),
        initiating: false,
    });
    let stanzas: String = names
        .map(|n| match side {
            Side::Remote => format!("<message from='u@n{n}.b0.test' to='u@a0.test' id='1'/>"),
            Side::Local => format!("<message from='u@a0.test' to='u@n{n}.b0.test' id='1'/>"),
        })
        .collect();
    read(hub, &mut Carry::new(hub, scope, stands), &stanzas).await
}

fn stand(hub: &Hub) -> usize {
    lock(&hub.outlets).len()
}

fn hits(hub: &Hub) -> bool {
    hub.metrics.text().contains("fedmux_limit_hits_total{limit=\"pairs\"}")
}

#[tokio::test(start_paused = true)]
async fn a_peer_begins_no_more_pairs_than_it_leaves_places() {
    let (world, hub) = crowded();
    let (greedy, other) = (world.accepted(&hub, 1).await, world.accepted(&hub, 2).await);
    // As many as are left, and one.
    bring(&hub, Some(&greedy), 0..11).await.unwrap();
    assert_eq!((stand(&hub), hits(&hub)), (11, false));
    // The next one comes back, by a place for as long as that takes.
    bring(&hub, Some(&greedy), 11..12).await.unwrap();
    let [_, _, bounced, discarded] = hub.metrics.ledger();
    assert_eq!((bounced, discarded, hits(&hub)), (1, 0, true));
    // Whatever else it tries.
    for n in 12..100 {
        let _refused = bring(&hub, Some(&greedy), n..n + 1).await;
    }
    assert_eq!(stand(&hub), 11);
    // Answers take a little more until they have found their way, and lead to no other pair.
    let answer = |n| hub.begin(&route("a0.test", &format!("n{n}.b0.test")), Begins::Answer(greedy.address()));
    assert_eq!((100..120).filter(|n| answer(*n).is_ok()).count(), 4);
    let _refused = bring(&hub, Some(&greedy), 100..120).await;
    assert_eq!(stand(&hub), 11, "there is no way");
    // Another one still has places, and what stands goes on.
    bring(&hub, Some(&other), 200..203).await.unwrap();
    bring(&hub, Some(&greedy), 0..11).await.unwrap();
    let standing = |n| hub.known_outlet(&route(&format!("n{n}.b0.test"), "a0.test")).is_some();
    assert!((0..11).chain(200..203).all(standing));
}

#[tokio::test(start_paused = true)]
async fn what_our_own_servers_begin_is_refused_only_when_there_is_no_place_and_so_is_what_comes_back() {
    let (world, hub) = crowded();
    let peer = world.accepted(&hub, 1).await;
    // It may begin no other pair.
    bring(&hub, Some(&peer), 0..11).await.unwrap();
    for n in 11..15 {
        hub.outlet(&route("a0.test", &format!("n{n}.b0.test"))).unwrap();
    }
    bring(&hub, Some(&peer), 11..15).await.unwrap();
    assert_eq!((stand(&hub), hits(&hub)), (19, false));
    for n in 0..3 {
        hub.outlet(&route("a0.test", &format!("n{n}.b0.test"))).unwrap();
    }
    assert!(hub.outlet(&route("a0.test", "n3.b0.test")).is_err());
    assert_eq!((stand(&hub), hits(&hub)), (PLACES, true));
}

#[tokio::test(start_paused = true)]
async fn there_are_places_for_our_own_servers_from_however_many_addresses_peers_come() {
    let (_world, hub) = crowded();
    let begins = |n: usize, begins: fn(IpAddr) -> Begins| {
        let address = Ipv6Addr::from((0x2001_0db8_u128 << 96) + ((n as u128) << 64));
        hub.begin(&route(&format!("n{n}.b0.test"), "a0.test"), begins(address.into())).is_ok()
    };
    assert_eq!((0..1_000).filter(|n| begins(*n, Begins::Peer)).count(), PLACES - 2);
    // Answers leave at once, and have half of what is kept.
    assert_eq!((1_000..2_000).filter(|n| begins(*n, Begins::Answer)).count(), 1);
    hub.outlet(&route("a0.test", "n2000.b0.test")).unwrap();
    assert_eq!(stand(&hub), PLACES);
}

#[tokio::test(start_paused = true)]
async fn whoever_finds_no_place_because_of_what_is_kept_hears_of_it_and_the_stream_goes_on() {
    let (world, hub) = crowded();
    let peer = world.accepted(&hub, 1).await;
    for n in 0..PLACES - 2 {
        hub.outlet(&route("a0.test", &format!("n{n}.b0.test"))).unwrap();
    }
    bring(&hub, Some(&peer), 100..101).await.unwrap();
    let [_, _, bounced, discarded] = hub.metrics.ledger();
    assert_eq!((bounced, discarded), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pair_counts_for_who_has_begun_it_until_both_of_its_directions_are_given_up() {
    let (world, hub) = crowded();
    let peer = world.accepted(&hub, 1).await;
    let there = |n| route(&format!("n{n}.b0.test"), "a0.test");
    let give_up = |route: &Route| {
        let outlet = hub.known_outlet(route).unwrap();
        outlet.drain();
        outlet.detach();
        hub.retire(route, &outlet);
    };
    bring(&hub, Some(&peer), 0..11).await.unwrap();
    for n in 0..2 {
        // One of our servers has answered.
        hub.outlet(&there(n).reversed()).unwrap();
        give_up(&there(n));
    }
    let bounced = || hub.metrics.ledger()[2];
    bring(&hub, Some(&peer), 11..12).await.unwrap();
    assert_eq!((stand(&hub), bounced()), (11, 1));
    (0..2).for_each(|n| give_up(&there(n).reversed()));
    bring(&hub, Some(&peer), 11..12).await.unwrap();
    assert_eq!((stand(&hub), bounced()), (10, 1));
    (2..12).for_each(|n| give_up(&there(n)));
    assert_eq!(stand(&hub), 0);
    bring(&hub, Some(&peer), 0..11).await.unwrap();
    assert_eq!((stand(&hub), bounced()), (11, 1));
}
