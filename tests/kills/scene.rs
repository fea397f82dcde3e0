//! The relays, the servers on both sides, and who sends what to whom.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::judge::Figures;
use crate::relays::{OURS, Plan, Relays, THEIRS};
use crate::servers::{Ledger, Pair, owned, receive, send};
use crate::support;

/// What goes from the first relay to the second: two pairs.
pub(crate) const THERE: [(&str, &str); 2] = [(OURS, THEIRS[0]), (OURS, THEIRS[1])];
/// What goes the other way, beside them.
pub(crate) const BACK: (&str, &str) = (THEIRS[0], OURS);

/// See the module.
pub(crate) struct Scene {
    pub(crate) relays: Relays,
    pub(crate) ledger: Ledger,
    plan: Plan,
    receivers: [JoinHandle<()>; 2],
    senders: Vec<Sender>,
}

struct Sender {
    pair: (&'static str, &'static str),
    pace: Duration,
    task: JoinHandle<()>,
}

/// Behind which relay a domain is.
fn side(domain: &str) -> usize {
    usize::from(domain != OURS)
}

impl Scene {
    /// Nobody sends yet.
    pub(crate) fn set(plan: Plan) -> Self {
        let (relays, ledger) = (Relays::start(&plan), Ledger::default());
        let receivers = plan.servers.map(|at| receive(at, ledger.clone()));
        Self { relays, ledger, plan, receivers, senders: Vec::new() }
    }

    /// Send from now on, a stanza in `pace`.
    pub(crate) fn send(&mut self, pair: (&'static str, &'static str), pace: Duration) {
        let task = send(self.plan.s2s[side(pair.0)], pair, pace, self.ledger.clone());
        self.senders.push(Sender { pair, pace, task });
    }

    /// The server behind one of the relays dies, with what it holds.
    pub(crate) fn stop_server(&mut self, which: usize) {
        self.receivers[which].abort();
        self.senders
            .iter()
            .filter(|sender| side(sender.pair.0) == which)
            .for_each(|sender| sender.task.abort());
    }

    /// It is back, and sends on.
    pub(crate) fn start_server(&mut self, which: usize) {
        self.receivers[which] = receive(self.plan.servers[which], self.ledger.clone());
        let (back, others) = self.senders.drain(..).partition(|sender| side(sender.pair.0) == which);
        self.senders = others;
        let back: Vec<Sender> = back;
        back.iter().for_each(|sender| self.send(sender.pair, sender.pace));
    }

    /// So many more stanzas arrive, of each pair that is sent.
    pub(crate) async fn flows(&self, more: usize) {
        let begun = self.ledger.arrived();
        let came = || {
            let (arrived, count) = (self.ledger.arrived(), |counts: &BTreeMap<Pair, usize>, pair: &Pair| {
                counts.get(pair).copied().unwrap_or_default()
            });
            let since = |pair| count(&arrived, &pair) - count(&begun, &pair);
            self.senders.iter().map(|sender| (sender.pair, since(owned(sender.pair)))).collect::<Vec<_>>()
        };
        let flow = async {
            while came().iter().any(|(_, stanzas)| *stanzas < more) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(support::PATIENCE, flow).await.is_err() {
            let [a, b] = self.relays.scrape().await;
            let of =
                ["fedmux_queued_", "fedmux_stanzas_", "fedmux_lanes", "fedmux_streams", "fedmux_sessions"];
            panic!(
                "{more} stanzas of each were to arrive, and of {:?} did\n{}\n{}",
                came(),
                a.told(&of),
                b.told(&of)
            );
        }
    }

    /// Nothing more is sent, everybody hears of everything, and the relays have nothing left.
    pub(crate) async fn ends(self, known_uncertain: f64) -> Figures {
        self.ledger.stop();
        let held = async || self.relays.sum("fedmux_queued_stanzas", &[]).await;
        let settled = async {
            while !self.ledger.silent().is_empty() || held().await != 0.0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(support::PATIENCE, settled).await.is_err() {
            panic!("nobody has heard of {:?}; the relays hold {}", self.ledger.silent(), held().await);
        }
        let uncertain = self.relays.sum("fedmux_stanzas_uncertain_total", &[]).await;
        assert_eq!(self.relays.sum("fedmux_tasks_failed_total", &[]).await, 0.0);
        let figures = Figures::of(&self.ledger, known_uncertain + uncertain);
        println!("{figures}");
        figures
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.receivers
            .iter()
            .chain(self.senders.iter().map(|sender| &sender.task))
            .for_each(JoinHandle::abort);
    }
}
