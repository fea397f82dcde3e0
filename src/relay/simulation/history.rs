//! One history: what happens when, and what must hold at any time.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use super::account::{Stanzas, Sums};
use super::dice::Dice;
use super::world::{Plan, World};
use crate::proto::limits::Limits;
use crate::relay::hub::Hub;
use crate::relay::mailbox::lock;
use crate::relay::settings::Placement;
use crate::relay::{clock, random};
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// By when everything has ended after the last fault. Longer than any wait among the limits.
const CALM: Duration = Duration::from_secs(2_000);

/// How many times their bound queues may hold of errors.
const ERRORS: usize = 6;

/// Room for two of the largest stanzas that servers send here.
const STANZAS_BYTES: usize = 16_000;

/// What a history came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) sums: Sums,
    /// How often each kind of fault happened.
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) resumed: u64,
}

/// Let the history of `seed` happen.
///
/// # Panics
/// If something doesn't hold.
pub(super) fn run(seed: u64, peers_change: bool) -> Report {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let report = runtime.block_on(async {
        // The certificates were made just now.
        let today =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 100_000 * 100_000;
        clock::set_wall(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(today + 100_000)));
        random::set_seed(Some(seed));
        history(seed, peers_change).await
    });
    drop(runtime);
    clock::set_wall(None);
    random::set_seed(None);
    report
}

/// Tells what happened if the history comes to a bad end.
struct Teller {
    seed: u64,
    world: Arc<World>,
}

impl Drop for Teller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let events = lock(&self.world.events).join("\n  ");
            eprintln!("seed {}: {:?}\n  {events}", self.seed, self.world.plan);
        }
    }
}

async fn history(seed: u64, peers_change: bool) -> Report {
    let mut dice = Dice::new(seed);
    let plan = Plan { peers_change, ..plan(&mut dice) };
    tracing::trace!(seed, ?plan, "a history begins");
    let world = World::new(plan, &mut dice);
    let _teller = Teller { seed, world: Arc::clone(&world) };
    for index in 0..world.plan.relays {
        world.start(index);
        let routes = routes(&world, index, &mut dice);
        world.servers[index].start(&world, &routes, &mut dice);
    }
    let mut faults = BTreeMap::new();
    for _ in 0..dice.below(7) {
        wait(&world, dice.millis(50..4_000)).await;
        *faults.entry(super::fault::strike(&world, &mut dice)).or_default() += 1;
    }
    for _ in 0..if world.plan.peers_change { 3 } else { 0 } {
        wait(&world, dice.millis(1..2_000)).await;
        *faults.entry(super::fault::change_peers(&world, &mut dice)).or_default() += 1;
    }
    wait(&world, dice.millis(50..4_000)).await;
    let resumed = settle(&world, &mut dice).await;
    let sums = world.account.sums();
    end(&world).await;
    Report { sums, faults, resumed }
}

fn plan(dice: &mut Dice) -> Plan {
    let millis = Duration::from_millis;
    let mut limits =
        Limits { ack_hold: Duration::from_secs(600), unacked_max: u32::MAX, ..Limits::default() };
    if dice.chance(50) {
        limits.pair_queue_bytes = 1_000 + dice.below(16_000);
    }
    if dice.chance(20) {
        limits.queue_bytes = 20_000 + dice.below(100_000);
    }
    if dice.chance(20) {
        limits.resume = millis(dice.within(0..3) * 5_000);
    }
    if dice.chance(50) {
        limits.ack_request_every = u32::try_from(dice.within(1..20)).unwrap();
        limits.ack_every = u32::try_from(dice.within(1..20)).unwrap();
    }
    if dice.chance(30) {
        limits.hold = millis(dice.within(10_000..30_000));
        limits.hold_iq = millis(dice.within(1_000..20_000));
    }
    if dice.chance(20) {
        limits.lane_idle = millis(dice.within(500..5_000));
    }
    Plan {
        relays: if dice.chance(30) { 3 } else { 2 },
        domains: 1 + dice.below(super::identities::DOMAINS_MAX),
        placement: if dice.chance(20) { Placement::OneStream } else { Placement::StreamPerPair },
        bounces: dice.chance(20),
        rate: *dice.pick(&[10, 30, 100]),
        window: *dice.pick(&[1_000, 10_000, 131_072]),
        lifetime: if dice.chance(15) {
            millis(dice.within(2_000..20_000))
        } else {
            Duration::from_secs(86_400 * 30)
        },
        peers_change: false,
        limits,
        ages: Vec::new(),
    }
}

/// Whom the server of the relay `index` writes to.
pub(super) fn routes(world: &World, index: usize, dice: &mut Dice) -> Vec<Route> {
    let others = world.servers.iter().filter(|server| server.index != index);
    let theirs: Vec<&String> = others.flat_map(|server| &server.domains).collect();
    let ours = &world.servers[index].domains;
    let all = ours.iter().flat_map(|from| theirs.iter().map(move |to| (from, *to)));
    let domain = |text: &str| Domain::parse(text).unwrap();
    all.filter(|_| dice.chance(60)).map(|(from, to)| Route::new(domain(from), domain(to))).collect()
}

/// Let time pass, and look whether everything holds meanwhile.
async fn wait(world: &World, span: Duration) {
    let until = clock::now() + span;
    while clock::now() < until {
        let step = lock(&world.dice).millis(1..200);
        tokio::time::sleep_until((clock::now() + step).min(until).into()).await;
        check(world);
    }
}

/// What holds at any time.
fn check(world: &World) {
    world.observe();
    for (index, running) in lock(&world.relays).iter().enumerate() {
        let Some(running) = running else { continue };
        let hub = &running.hub;
        let [accepted, delivered, bounced, discarded] = hub.metrics.ledger();
        let custody = hub.queued.stanzas() as u64;
        assert_eq!(
            accepted,
            delivered + bounced + discarded + custody,
            "relay {index}: accepted = delivered {delivered} + bounced {bounced} + discarded {discarded} + in custody {custody}"
        );
        assert_eq!(hub.metrics.tasks_failed.get(), 0, "relay {index}: a task panicked");
        is_bounded(index, hub);
    }
}

/// What a relay holds stays within its bounds, and the room for stanzas that are always taken. Errors that answer what we held
/// are never refused, and are larger than small stanzas.
fn is_bounded(index: usize, hub: &Hub) {
    let outlets = lock(&hub.outlets);
    for outlet in outlets.values() {
        let ((held, accepted, limit), route) = (outlet.held_bytes(), &outlet.route);
        assert!(held <= ERRORS * limit + STANZAS_BYTES, "relay {index} holds {held} octets for {route}");
        assert!(accepted <= 2 * limit + STANZAS_BYTES, "relay {index} took {accepted} octets for {route}");
    }
    let (held, limit) = (hub.queued.bytes(), hub.limits.queue_bytes);
    assert!(held <= ERRORS * limit + outlets.len() * STANZAS_BYTES, "relay {index} holds {held} octets");
    let broken = lock(&hub.broken).theirs.broken();
    assert!(broken <= hub.limits.resumable, "relay {index} keeps {broken} broken streams");
}

/// Nothing goes wrong any more: everybody hears of everything. How many streams were resumed.
async fn settle(world: &Arc<World>, dice: &mut Dice) -> u64 {
    super::fault::repair(world);
    world.tell("calm");
    world.hush();
    let until = clock::now() + CALM;
    loop {
        tokio::time::sleep(dice.millis(100..1_000)).await;
        check(world);
        let disordered = followed(world, world.account.disordered());
        if disordered.is_empty() && silent(world).is_empty() && is_still(world) {
            break;
        }
        if clock::now() > until {
            let silent = silent(world);
            let early = world.acknowledged_early();
            // What was acknowledged early is in the memory of the relay alone, and gone when that is killed, or on its way to a
            // server for longer than what is sent again.
            let count = silent.iter().chain(&disordered).map(|(_, ids)| ids.len() as u64).sum::<u64>();
            assert!(
                count <= early,
                "nobody has heard of {silent:?}, {disordered:?} came behind later ones; {early} were acknowledged early"
            );
            if is_still(world) {
                break;
            }
            panic!("something is still in custody: {:?}", custody(world));
        }
    }
    let relays = lock(&world.relays);
    let hubs = relays.iter().flatten().map(|running| &running.hub);
    hubs.map(|hub| hub.metrics.custody.resumed()).sum()
}

/// Stanzas of which nobody has heard.
fn silent(world: &World) -> Stanzas {
    followed(world, world.account.silent())
}

/// What is said for a host that left isn't followed any further.
fn followed(world: &World, mut stanzas: Stanzas) -> Stanzas {
    let left = lock(&world.left);
    stanzas.retain(|(pair, _)| !left.iter().any(|host| pair.contains(host.as_str())));
    stanzas
}

fn custody(world: &World) -> Vec<usize> {
    lock(&world.relays).iter().flatten().map(|running| running.hub.queued.stanzas()).collect()
}

fn is_still(world: &World) -> bool {
    custody(world).iter().all(|stanzas| *stanzas == 0)
}

/// Everything ends.
async fn end(world: &Arc<World>) {
    for index in 0..world.plan.relays {
        let hub: Option<Weak<Hub>> = world.hub(index).map(|hub| Arc::downgrade(&hub));
        let report = world.drain(index).await;
        world.tell(format_args!("relay {index} drained: {report:?}"));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let left = hub.and_then(|hub| hub.upgrade());
        assert!(left.is_none(), "relay {index}: something outlives it");
    }
    world.observe();
}
