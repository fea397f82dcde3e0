//! Pairs of the source that go on sending while it obeys other orders: they fill what stands between them and a server that
//! doesn't read.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Failed;
use crate::source::{Account, Pair};

/// Them.
#[derive(Default)]
pub(crate) struct Held {
    over: watch::Sender<bool>,
    sending: JoinSet<Result<Pair, Failed>>,
    accounts: Vec<Arc<Account>>,
}

impl Held {
    /// From now on each sends so many stanzas as fast as they go, and then so many a second.
    pub(crate) fn hold(&mut self, pairs: impl Iterator<Item = Pair>, fill: u64, rate: f64) {
        self.over.send_replace(false);
        for pair in pairs {
            self.accounts.push(Arc::clone(&pair.account));
            self.sending.spawn(send(pair, fill, rate, self.over.subscribe()));
        }
    }

    /// What they have sent, since the beginning.
    pub(crate) fn sent(&self) -> u64 {
        self.accounts.iter().map(|account| account.sent()).sum()
    }

    /// Let them end, once there is room for what they are writing, and give them back.
    pub(crate) async fn release(&mut self, pairs: &mut Vec<Pair>) -> Result<(), Failed> {
        self.over.send_replace(true);
        while let Some(pair) = self.sending.join_next().await {
            pairs.push(pair??);
        }
        self.accounts.clear();
        pairs.sort_by_key(|pair| pair.at);
        Ok(())
    }
}

async fn send(
    mut pair: Pair,
    mut fill: u64,
    rate: f64,
    mut over: watch::Receiver<bool>,
) -> Result<Pair, Failed> {
    while fill > 0 && !*over.borrow() {
        fill -= pair.batch(fill).await?;
    }
    while !*over.borrow() {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs_f64(1.0 / rate)) => drop(pair.batch(1).await?),
            _ = over.changed() => {}
        }
    }
    Ok(pair)
}
