//! What goes wrong.

use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::world::World;
use crate::reason::Reason;
use crate::relay::clock;
use crate::relay::mailbox::lock;
use crate::relay::settings::Placement;

/// Certificates that outlast every history.
const LONG: Duration = Duration::from_secs(86_400);

/// Something goes wrong. What.
pub(super) fn strike(world: &Arc<World>, dice: &mut Dice) -> &'static str {
    let relay = dice.below(world.plan.relays);
    let other = (relay + 1 + dice.below(world.plan.relays - 1)) % world.plan.relays;
    let kind = match dice.below(14) {
        0 | 1 => lose_connection(world, dice),
        2 => reset_stream(world, dice),
        3 => partition(world, dice, [relay, other]),
        4 => {
            world.path(relay, other).lose(dice.within(5..60));
            "loss"
        }
        5 | 6 => kill_relay(world, dice, relay),
        7 => drain_relay(world, dice, relay),
        8 => kill_server(world, dice, relay),
        9 => set_clock(world, dice),
        10 => reload(world, dice, relay),
        11 | 12 => {
            super::attacker::attack(world, relay, dice.fork());
            "attack"
        }
        _ => stall_server(world, dice, relay),
    };
    world.tell(format_args!("{kind} at {relay}, {other}"));
    kind
}

/// Nothing is wrong any more.
pub(super) fn repair(world: &Arc<World>) {
    for relay in 0..world.plan.relays {
        for other in relay + 1..world.plan.relays {
            world.path(relay, other).lose(0);
            world.path(relay, other).cut(clock::now());
        }
        if world.hub(relay).is_none() {
            world.start(relay);
        }
        let server = &world.servers[relay];
        server.silence(false);
        server.slow_down(0);
        server.stall(clock::now());
        if !server.is_up() {
            let mut dice = lock(&world.dice).fork();
            server.start(world, &[], &mut dice);
        }
    }
}

/// Connections end, at both ends, though not in the same instant.
fn lose_connection(world: &World, dice: &mut Dice) -> &'static str {
    let wires = lock(&world.wires).clone();
    if wires.is_empty() {
        return "connection lost, but there was none";
    }
    let wire = dice.pick(&wires);
    for side in 0..2 {
        let noticed = clock::now() + dice.millis(0..*dice.clone().pick(&[1, 300, 30_000]));
        wire.lose(side, noticed, Reason::ConnectionLost);
        world.seems_to_stand(noticed);
    }
    "connection lost"
}

fn reset_stream(world: &World, dice: &mut Dice) -> &'static str {
    let wires = lock(&world.wires).clone();
    let choice = dice.below(1_000);
    let reset = !wires.is_empty() && dice.pick(&wires).reset_one(choice);
    if reset { "stream reset" } else { "stream reset, but there was none" }
}

/// Nothing passes between two relays. If it takes longer than connections live, these are lost.
fn partition(world: &World, dice: &mut Dice, between: [usize; 2]) -> &'static str {
    let idle = world.plan.limits.path_idle;
    let long = dice.chance(40);
    let span = if long { idle + dice.millis(1_000..200_000) } else { dice.millis(100..30_000) };
    world.path(between[0], between[1]).cut(clock::now() + span);
    if !long {
        return "partition";
    }
    let at = clock::now() + idle;
    for wire in lock(&world.wires).iter() {
        if wire.between == between || wire.between == [between[1], between[0]] {
            for side in 0..2 {
                let noticed = at + dice.millis(0..500);
                wire.lose(side, noticed, Reason::ConnectionLost);
                // The path is repaired before that, perhaps, and the connection isn't.
                world.seems_to_stand(noticed);
            }
        }
    }
    "path death"
}

fn kill_relay(world: &Arc<World>, dice: &mut Dice, relay: usize) -> &'static str {
    if world.hub(relay).is_none() {
        return "relay killed, but it was dead";
    }
    let noticed = dice.millis(0..*dice.clone().pick(&[100, 5_000, 60_000]));
    world.kill(relay, clock::now() + noticed);
    restart(world, dice, relay);
    "relay killed"
}

fn restart(world: &Arc<World>, dice: &mut Dice, relay: usize) {
    let (after, starter) = (dice.millis(0..5_000), Arc::clone(world));
    world.spawn(async move {
        tokio::time::sleep(after).await;
        if starter.hub(relay).is_none() {
            starter.start(relay);
            starter.tell(format_args!("relay {relay} started"));
        }
    });
}

fn drain_relay(world: &Arc<World>, dice: &mut Dice, relay: usize) -> &'static str {
    if world.hub(relay).is_none_or(|hub| hub.is_draining()) {
        return "relay drained, but it was gone";
    }
    let (after, drained) = (dice.millis(0..5_000), Arc::clone(world));
    world.spawn(async move {
        let report = drained.drain(relay).await;
        drained.tell(format_args!("relay {relay} drained: {report:?}"));
        tokio::time::sleep(after).await;
        if drained.hub(relay).is_none() {
            drained.start(relay);
        }
    });
    "relay drained"
}

fn kill_server(world: &Arc<World>, dice: &mut Dice, relay: usize) -> &'static str {
    let server = &world.servers[relay];
    if !server.is_up() {
        return "server killed, but it was dead";
    }
    server.kill(world);
    let after = dice.millis(0..*dice.clone().pick(&[1_000, 10_000, 100_000]));
    let (starter, mut forked) = (Arc::clone(world), dice.fork());
    world.spawn(async move {
        tokio::time::sleep(after).await;
        let server = &starter.servers[relay];
        if !server.is_up() {
            let routes = super::history::routes(&starter, relay, &mut forked);
            server.start(&starter, &routes, &mut forked);
            starter.tell(format_args!("server {relay} started"));
        }
    });
    "server killed"
}

fn stall_server(world: &World, dice: &mut Dice, relay: usize) -> &'static str {
    let server = &world.servers[relay];
    if dice.chance(30) {
        server.silence(true);
        return "server that acknowledges nothing";
    }
    if dice.chance(40) {
        server.slow_down(*dice.pick(&[5, 50, 500]));
        return "server that reads slowly";
    }
    let until = clock::now() + dice.millis(100..*dice.clone().pick(&[1_000, 20_000, 90_000]));
    server.stall(until);
    // Whoever waits for that goes on waiting when everything is repaired.
    world.seems_to_stand(until);
    "server that reads nothing"
}

/// The system's clock is set, for everybody.
fn set_clock(world: &World, dice: &mut Dice) -> &'static str {
    // Only the ends of the other end's certificates are short in a history, so that the two would disagree for long.
    if world.plan.lifetime < LONG {
        return "clock set, but nobody looked";
    }
    let by = dice.millis(1_000..1_200_000);
    let now = clock::wall();
    clock::set_wall(Some(if dice.chance(50) { now + by } else { now - by }));
    "clock set"
}

/// A host is taken out of the configuration, and comes back.
fn reload(world: &Arc<World>, dice: &mut Dice, relay: usize) -> &'static str {
    // On a stream that many pairs share, the error for a host that has just left finds no way back; elsewhere it rarely does not,
    // if the host comes back at once.
    let shared = world.plan.placement == Placement::OneStream;
    let Some(hub) = world.hub(relay).filter(|_| !shared) else { return "host left, but nobody noticed" };
    let live = hub.live();
    let full = world.settings(relay, live.settings.clone());
    let mut less = full.clone();
    let left = less.hosts.remove(dice.below(less.hosts.len()));
    lock(&world.left).extend(left.domains.iter().map(ToString::to_string));
    hub.replace(live.with_settings(less, true));
    let (after, hub) = (dice.millis(1..5_000), Arc::downgrade(&hub));
    world.spawn(async move {
        tokio::time::sleep(after).await;
        if let Some(hub) = hub.upgrade() {
            let live = hub.live();
            hub.replace(live.with_settings(full, true));
        }
    });
    "host left"
}

/// One of the peers, or all of them, are others from now on, as far as the relay knows.
pub(super) fn change_peers(world: &Arc<World>, dice: &mut Dice) -> &'static str {
    let relay = dice.below(world.plan.relays);
    let Some(hub) = world.hub(relay) else { return "peers changed, but nobody noticed" };
    let live = hub.live();
    let mut settings = live.settings.clone();
    let (all, chosen) = (dice.chance(30), dice.below(settings.peers.len()));
    for (at, peer) in settings.peers.iter_mut().enumerate() {
        if all || at == chosen {
            // Whoever is shown less has connections of its own for its other hosts.
            peer.announce_all = !peer.announce_all;
        }
    }
    hub.replace(live.with_settings(settings, true));
    world.tell(format_args!("peers of {relay} changed"));
    "peers changed"
}
