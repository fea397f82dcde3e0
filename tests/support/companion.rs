//! A domain pair that behaves: its two ends say something to each other in turn, on and on, and compare every stanza.
//! Whatever else goes on in the relay must not disturb it.

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::server::Host;
use super::soon;
use super::wire::{Wire, message};

/// Rounds after which a pair counts as undisturbed.
const ROUNDS: u64 = 3;

/// A pair at work.
pub(crate) struct Companion {
    rounds: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Companion {
    /// Let `remote` speak on `lane` with `host`.
    pub(crate) fn start(mut lane: Wire, remote: &str, mut host: Host) -> Self {
        let (done, rounds) = watch::channel(0);
        let remote = remote.to_owned();
        let task = tokio::spawn(async move {
            for round in 1_u64.. {
                let id = format!("{remote}-{round}");
                lane.say(message(&remote, &host.name, &id)).await;
                let heard = host.receive().await;
                assert_eq!((heard.attribute("from"), heard.attribute("id")), (Some(&*remote), Some(&*id)));
                host.send(&remote, &id).await;
                let heard = lane.ear.stanza().await;
                assert_eq!((heard.attribute("from"), heard.attribute("id")), (Some(&*host.name), Some(&*id)));
                done.send_replace(round);
            }
        });
        Self { rounds, task }
    }

    /// It goes on: some whole rounds, from now.
    pub(crate) async fn goes_on(&mut self) {
        let until = *self.rounds.borrow_and_update() + ROUNDS;
        let outcome = soon("the well-behaved pair", self.rounds.wait_for(|round| *round >= until)).await;
        if outcome.is_err() {
            let failure = (&mut self.task).await;
            panic!("the well-behaved pair was disturbed: {failure:?}");
        }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.task.abort();
    }
}
