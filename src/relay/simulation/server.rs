//! An XMPP server behind a relay: it numbers what it sends, writes down what arrives, and does what Prosody does when a
//! stream breaks: it answers itself for what wasn't acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::dice::Dice;
use super::link::{Heard, Link};
use super::pipe::{Ear, Mouth};
use super::world::World;
use crate::proto::stream::{Managed, Notice};
use crate::proto::stream_management::element::{REQUEST, write_answer, write_enabled};
use crate::relay::clock;
use crate::relay::mailbox::lock;
use crate::xmpp::header::STREAM_END;
use crate::xmpp::route::Route;

/// Stanzas that it keeps for one stream, as Prosody does.
const KEPT_MAX: usize = 400;

/// The server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) index: usize,
    pub(super) domains: Vec<String>,
    up: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
    /// What it has sent and what wasn't acknowledged.
    kept: Mutex<BTreeMap<Route, VecDeque<u64>>>,
    /// It reads nothing before.
    stalled: Mutex<Option<Instant>>,
    /// It acknowledges nothing.
    mute: AtomicBool,
    /// It takes so long for each stanza, in milliseconds.
    slow: AtomicU64,
}

impl Server {
    pub(super) fn new(index: usize, domains: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            index,
            domains,
            up: AtomicBool::new(true),
            tasks: Mutex::default(),
            kept: Mutex::default(),
            stalled: Mutex::default(),
            mute: AtomicBool::new(false),
            slow: AtomicU64::new(0),
        })
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn stall(&self, until: Instant) {
        *lock(&self.stalled) = Some(until);
    }

    pub(super) fn silence(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
    }

    pub(super) fn slow_down(&self, millis: u64) {
        self.slow.store(millis, Ordering::Relaxed);
    }

    /// It is killed. What it had sent and nobody acknowledged, nobody answers for.
    pub(super) fn kill(&self, world: &World) {
        self.up.store(false, Ordering::Relaxed);
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        for (route, ids) in std::mem::take(&mut *lock(&self.kept)) {
            world.account.answered(&route, ids);
        }
    }

    /// Start again, and send for `routes`.
    pub(super) fn start(self: &Arc<Self>, world: &Arc<World>, routes: &[Route], dice: &mut Dice) {
        self.up.store(true, Ordering::Relaxed);
        for route in routes {
            let sending = send(Arc::clone(world), Arc::clone(self), route.clone(), dice.fork());
            self.run(world, sending);
        }
    }

    fn run(&self, world: &Arc<World>, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        tasks.retain(|task| !task.is_finished());
        tasks.push(world.spawn(task));
    }

    /// The relay opens a stream.
    pub(super) fn accept(self: &Arc<Self>, world: &Arc<World>, halves: (Mouth, Ear)) {
        self.run(world, receive(Arc::clone(world), Arc::clone(self), halves));
    }

    async fn pace(&self) {
        let until = *lock(&self.stalled);
        if let Some(until) = until.filter(|until| *until > clock::now()) {
            tokio::time::sleep_until(until.into()).await;
        }
        if let millis @ 1.. = self.slow.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }
}

async fn receive(world: Arc<World>, server: Arc<Server>, halves: (Mouth, Ear)) {
    let mut link = Link::answer(halves, false);
    let mut handled = 0_u32;
    loop {
        server.pace().await;
        match link.next().await {
            Heard::Stanza(stanza) => {
                world.account.note(&stanza, &server.domains, world.has_lost_state());
                handled = handled.wrapping_add(1);
            }
            Heard::Notice(Notice::Management(Managed::Enable { .. })) => {
                let mut answer = String::new();
                write_enabled(&mut answer, None);
                link.say(&answer);
                handled = 0;
            }
            Heard::Notice(Notice::Management(Managed::Asked)) if !server.mute.load(Ordering::Relaxed) => {
                let mut answer = String::new();
                write_answer(&mut answer, handled);
                link.say(&answer);
            }
            Heard::Notice(Notice::Ended(_)) => {
                let mut answer = String::new();
                write_answer(&mut answer, handled);
                link.say(&(answer + STREAM_END));
                return link.finish().await;
            }
            Heard::Notice(_) => {}
            Heard::Over => return,
        }
        if link.flush().await.is_err() {
            return;
        }
    }
}

async fn send(world: Arc<World>, server: Arc<Server>, route: Route, mut dice: Dice) {
    while !world.is_quiet() {
        let Some(halves) = world.connect_local(server.index) else {
            tokio::time::sleep(dice.millis(50..500)).await;
            continue;
        };
        let link = Link::open(halves, route.clone(), false);
        stream(&world, &server, &route, &mut dice, link).await;
        let left = lock(&server.kept).remove(&route).unwrap_or_default();
        world.account.answered(&route, left);
        tokio::time::sleep(dice.millis(1..200)).await;
    }
}

async fn stream(world: &World, server: &Server, route: &Route, dice: &mut Dice, mut link: Link) {
    let mut open = false;
    let mut next = clock::now();
    let mut told = 0_u32;
    let pairs = (world.plan.relays * world.plan.domains).pow(2) as u64 / 3;
    let pace = 1 + pairs * 1_000 / world.plan.rate;
    let mut last_words: Option<Instant> = None;
    loop {
        let kept = lock(&server.kept).get(route).map_or(0, VecDeque::len);
        if world.is_quiet() {
            let until = *last_words.get_or_insert_with(|| {
                link.say(REQUEST);
                clock::now() + Duration::from_secs(30)
            });
            if !open || kept == 0 || until <= clock::now() {
                link.say(STREAM_END);
                return link.finish().await;
            }
        }
        if link.flush().await.is_err() {
            return;
        }
        let wake = if world.is_quiet() { clock::now() + Duration::from_millis(200) } else { next };
        tokio::select! {
            biased;
            heard = link.next() => match heard {
                Heard::Notice(Notice::Management(Managed::Enabled { .. })) => open = true,
                Heard::Notice(Notice::Management(Managed::Acknowledged { h })) => {
                    let mut kept = lock(&server.kept);
                    let kept = kept.entry(route.clone()).or_default();
                    let count = usize::try_from(h.wrapping_sub(told)).unwrap();
                    assert!(count <= kept.len(), "{route}: more is acknowledged than was sent");
                    kept.drain(..count);
                    tracing::trace!(%route, h, "acknowledged");
                    told = h;
                }
                Heard::Stanza(stanza) => world.account.note(&stanza, &server.domains, world.has_lost_state()),
                Heard::Notice(Notice::Ended(_)) => {
                    link.say(STREAM_END);
                    return link.finish().await;
                }
                Heard::Notice(_) => {}
                Heard::Over => return,
            },
            () = tokio::time::sleep_until(wake.into()), if open || world.is_quiet() => {
                if world.is_quiet() {
                    link.say(REQUEST);
                } else if kept < KEPT_MAX {
                    for _ in 0..if dice.chance(5) { dice.within(2..30) } else { 1 } {
                        let id = world.account.next(route);
                        lock(&server.kept).entry(route.clone()).or_default().push_back(id);
                        link.say(&stanza(route, id, dice));
                    }
                    if dice.chance(20) {
                        link.say(REQUEST);
                    }
                    next = clock::now() + dice.millis(pace / 2..2 * pace);
                } else {
                    link.say(REQUEST);
                    next = clock::now() + Duration::from_millis(100);
                }
            }
        }
    }
}

fn stanza(Route { from, to }: &Route, id: u64, dice: &mut Dice) -> String {
    let filling = if dice.chance(5) { "x".repeat(dice.below(6000)) } else { String::new() };
    match dice.within(0..10) {
        0 | 1 => format!("<iq from='u@{from}' to='u@{to}' type='get' id='{id}'><q xmlns='urn:q'/></iq>"),
        2 => format!("<presence from='u@{from}' to='u@{to}' id='{id}'/>"),
        3 => format!(
            "<message from='u@{from}' to='u@{to}' type='groupchat' id='{id}'><body>{filling}</body></message>"
        ),
        _ => format!(
            "<message from='u@{from}' to='u@{to}' type='chat' id='{id}'><body>{filling}</body></message>"
        ),
    }
}
