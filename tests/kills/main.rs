//! Relays are killed under load and started again: no stanza vanishes without somebody being told, and order is kept.
//!
//! Two real processes between a server that sends and one that receives, both of which know stream management. The sender
//! does what Prosody does when a stream breaks: it answers itself for whatever wasn't acknowledged. So each stanza has to be
//! delivered, or to come back, or to be among those; twice only where the relay that sent it again says so.
//!
//! The relays never acknowledge before the next hop here: what `ack_hold` and `unacked_max` let them acknowledge early is in
//! their memory alone, and lost if they are killed while the next hop is away.
//!
//! `FEDMUX_KILLS` is the number of kills, 4 by default; `FEDMUX_SEED` what they are drawn from.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod relays;
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use relays::{Ports, Relays};
use servers::{Ledger, receive, send};

/// Pauses between kills and restarts, in milliseconds.
const PAUSE: std::ops::Range<u64> = 100..1500;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

/// Numbers that repeat.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stanza_vanishes_when_relays_are_killed_and_the_order_is_kept() {
    let (kills, seed) = (setting("FEDMUX_KILLS", 4), setting("FEDMUX_SEED", 1));
    let ports = Ports::free();
    let (mut relays, ledger) = (Relays::start(ports), Ledger::default());
    let servers = [receive(ports.sender, ledger.clone()), receive(ports.receiver, ledger.clone())];
    let senders: Vec<_> = relays::THEIRS
        .iter()
        .map(|theirs| send(ports.a_s2s, (relays::OURS, *theirs), ledger.clone()))
        .collect();
    let mut dice = Dice(seed);
    for kill in 0..kills {
        let pause = Duration::from_millis(PAUSE.start + dice.below(PAUSE.end - PAUSE.start));
        tokio::time::sleep(pause).await;
        let which = usize::try_from(dice.below(2)).unwrap();
        relays.kill(which);
        tokio::time::sleep(Duration::from_millis(dice.below(500))).await;
        relays.restart(which);
        println!("kill {kill}: relay {which} after {pause:?}");
    }
    ledger.stop();
    for sender in senders {
        support::soon("a sender to be done", sender).await.unwrap();
    }
    let accounted = async {
        while !ledger.silent().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(support::PATIENCE, accounted).await.is_err() {
        panic!("nobody has heard of {:?}\n{}", ledger.silent(), relays.logs());
    }
    for server in servers {
        server.abort();
    }
    judge(&ledger);
}

/// Order, duplicates, and the figures.
fn judge(ledger: &Ledger) {
    let (mut twice, mut sent) = (0, 0);
    let account = ledger.account();
    for (pair, stanzas) in &account.delivered {
        let mut seen = BTreeMap::<u64, usize>::new();
        let mut last = None;
        for (id, delayed) in stanzas {
            let times = seen.entry(*id).or_default();
            *times += 1;
            if *times > 1 {
                twice += 1;
                assert!(delayed, "{pair}: {id} came twice, and nobody said so");
            } else {
                assert!(last < Some(*id), "{pair}: {id} came behind {last:?}");
                last = Some(*id);
            }
        }
        sent += account.sent[pair];
    }
    let delivered: BTreeSet<_> =
        account.delivered.iter().flat_map(|(pair, all)| all.iter().map(move |(id, _)| (pair, *id))).collect();
    println!(
        "sent {sent}, delivered {}, came back {}, answered for by their server {}, twice {twice}, silent 0",
        delivered.len(),
        account.bounced.len(),
        account.returned.len(),
    );
    assert!(sent > 0 && delivered.len() as u64 > sent / 2, "most of them arrive");
}
