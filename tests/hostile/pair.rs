//! A pair that behaves, and how long its stanzas take: its two ends say something to each other in turn, and every round
//! trip is measured.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::support::server::Host;
use crate::support::soon;
use crate::support::wire::{Heard, Wire, message};

/// From one round to the next.
const PACE: Duration = Duration::from_millis(2);

/// A pair at work.
pub(crate) struct Pair {
    measured: Arc<Measured>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Measured {
    rounds: Mutex<Vec<Duration>>,
    more: Notify,
}

impl Pair {
    /// Let `remote` speak on `lane` with `host`.
    pub(crate) fn start(mut lane: Wire, remote: &str, mut host: Host) -> Self {
        let (measured, remote) = (Arc::new(Measured::default()), remote.to_owned());
        let noted = Arc::clone(&measured);
        let task = tokio::spawn(async move {
            for round in 1_u64.. {
                let (id, begun) = (format!("{remote}-{round}"), Instant::now());
                lane.say(message(&remote, &host.name, &id)).await;
                let heard = host.receive().await;
                assert_eq!((heard.attribute("from"), heard.attribute("id")), (Some(&*remote), Some(&*id)));
                host.send(&remote, &id).await;
                let heard = soon("the answer", lane.ear.hear_at_last()).await;
                let Heard::Stanza(heard) = heard else { panic!("{heard:?} instead of the answer") };
                assert_eq!((heard.attribute("from"), heard.attribute("id")), (Some(&*host.name), Some(&*id)));
                noted.rounds.lock().unwrap().push(begun.elapsed());
                noted.more.notify_waiters();
                tokio::time::sleep(PACE).await;
            }
        });
        Self { measured, task }
    }

    /// Rounds so far.
    pub(crate) fn rounds(&self) -> usize {
        self.measured.rounds.lock().unwrap().len()
    }

    /// It goes on, until so many rounds are done.
    pub(crate) async fn reaches(&mut self, rounds: usize) {
        let measured = Arc::clone(&self.measured);
        let reached = async {
            loop {
                let more = measured.more.notified();
                if measured.rounds.lock().unwrap().len() >= rounds {
                    return;
                }
                more.await;
            }
        };
        tokio::select! {
            () = soon("the well-behaved pair", reached) => {}
            ended = &mut self.task => panic!("the well-behaved pair was disturbed: {ended:?}"),
        }
    }

    /// It says no more, so that what it spoke over can go.
    pub(crate) async fn ends(mut self) {
        self.task.abort();
        let ended = (&mut self.task).await;
        assert!(ended.is_err_and(|why| why.is_cancelled()), "the well-behaved pair was disturbed");
    }

    /// What the rounds of this range took.
    pub(crate) fn took(&self, rounds: std::ops::Range<usize>) -> Vec<Duration> {
        self.measured.rounds.lock().unwrap()[rounds].to_vec()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.task.abort();
    }
}
