//! The XMPP servers behind the relays: one numbers what it sends, both write down what arrives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::wire::{Ear, Heard, Mouth, Wire, message};

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
const ASK: &str = "<r xmlns='urn:xmpp:sm:3'/>";
/// Between two stanzas of one pair, if nothing else is said.
pub(crate) const PACE: Duration = Duration::from_millis(2);
/// Stanzas that the sender keeps; Prosody drops the oldest of more than 500.
const KEPT_MAX: usize = 450;

/// From where to where.
pub(crate) type Pair = (String, String);

/// What became of each stanza, by its pair.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account {
    pub(crate) sent: BTreeMap<Pair, u64>,
    /// In the order of arrival, with whether it says that it is late.
    pub(crate) delivered: BTreeMap<Pair, Vec<(u64, bool)>>,
    /// Came back as errors.
    pub(crate) bounced: BTreeSet<(Pair, u64)>,
    /// Weren't acknowledged when their stream broke: their own server answers for them.
    pub(crate) returned: BTreeSet<(Pair, u64)>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    account: Arc<Mutex<Account>>,
    stopped: Arc<AtomicBool>,
}

impl Ledger {
    pub(crate) fn account(&self) -> Account {
        self.account.lock().unwrap().clone()
    }

    pub(crate) fn stop(&self) {
        let _account = self.account.lock().unwrap();
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Stanzas of which nobody has heard.
    pub(crate) fn silent(&self) -> Vec<(Pair, u64)> {
        let account = self.account();
        let mut silent = Vec::new();
        for (pair, count) in &account.sent {
            let empty = Vec::new();
            let delivered: BTreeSet<u64> =
                account.delivered.get(pair).unwrap_or(&empty).iter().map(|(id, _)| *id).collect();
            let heard_of = |id: &u64| {
                let key = (pair.clone(), *id);
                delivered.contains(id) || account.bounced.contains(&key) || account.returned.contains(&key)
            };
            silent.extend((0..*count).filter(|id| !heard_of(id)).map(|id| (pair.clone(), id)));
        }
        silent
    }

    /// How many copies came.
    pub(crate) fn arrived(&self) -> BTreeMap<Pair, usize> {
        let account = self.account.lock().unwrap();
        account.delivered.iter().map(|(pair, stanzas)| (pair.clone(), stanzas.len())).collect()
    }

    fn note(&self, stanza: &Element) {
        let mut account = self.account.lock().unwrap();
        let id: u64 = stanza.attribute("id").unwrap().parse().unwrap();
        let [from, to] = ["from", "to"].map(|name| stanza.attribute(name).unwrap().to_owned());
        if stanza.attribute("type") == Some("error") {
            account.bounced.insert(((to, from), id));
        } else {
            let late = stanza.child("delay", "urn:xmpp:delay").is_some();
            account.delivered.entry((from, to)).or_default().push((id, late));
        }
    }
}

/// Take every stream that a relay opens at this address, until it is aborted: then they break.
pub(crate) fn receive(at: SocketAddr, ledger: Ledger) -> JoinHandle<()> {
    tokio::spawn(async move {
        let listener = TcpListener::bind(at).await.unwrap();
        let mut streams = JoinSet::new();
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let ledger = ledger.clone();
            // A relay may be killed at any word; then this ends by a panic that means nothing.
            streams.spawn(async move {
                let mut wire = Wire::tcp(connection);
                wire.accept_with("<sm xmlns='urn:xmpp:sm:3'/>").await;
                let Wire { ear, mut mouth, .. } = wire;
                hear(ear, &mut mouth, &ledger).await;
            });
        }
    })
}

/// Write down what arrives, and acknowledge it.
async fn hear(mut ear: Ear, mouth: &mut Mouth, ledger: &Ledger) {
    let mut handled = 0_u32;
    loop {
        let answer = match ear.hear_at_last().await {
            Heard::Stanza(stanza) => {
                ledger.note(&stanza);
                handled += 1;
                continue;
            }
            Heard::Element(element) if element.is("enable", ns::STREAM_MANAGEMENT) => {
                handled = 0;
                "<enabled xmlns='urn:xmpp:sm:3'/>".to_owned()
            }
            Heard::Element(element) if element.is("r", ns::STREAM_MANAGEMENT) => {
                format!("<a xmlns='urn:xmpp:sm:3' h='{handled}'/>")
            }
            Heard::Element(_) | Heard::Header(_) => continue,
            Heard::End | Heard::Finished | Heard::Reset(_) | Heard::Lost(_) => return,
        };
        if mouth.try_say(answer).await.is_err() {
            return;
        }
    }
}

/// Send numbered stanzas from one domain to another, one in `pace`, until the ledger is stopped. The stream stays open for what
/// comes the other way until this is aborted.
pub(crate) fn send(
    relay: SocketAddr,
    (from, to): (&'static str, &'static str),
    pace: Duration,
    ledger: Ledger,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !ledger.stopped.load(Ordering::Relaxed) {
            let opened = tokio::spawn(async move {
                let mut wire = Wire::tcp(TcpStream::connect(relay).await.unwrap());
                wire.authenticate(from, to).await;
                wire.say(ENABLE).await;
                wire
            });
            // The relay may be away, or go while the stream is negotiated.
            let Ok(Wire { ear, mouth, .. }) = opened.await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let sender =
                Sender { pair: (from, to), mouth: mouth.into(), kept: Mutex::default(), ledger: &ledger };
            tokio::select! {
                () = sender.say(pace) => {}
                () = sender.heed(ear) => {}
            }
        }
    })
}

pub(crate) fn owned((from, to): (&str, &str)) -> Pair {
    (from.to_owned(), to.to_owned())
}

/// One stream of a server to its relay.
struct Sender<'a> {
    pair: (&'static str, &'static str),
    mouth: tokio::sync::Mutex<Mouth>,
    /// What the relay hasn't acknowledged.
    kept: Mutex<VecDeque<u64>>,
    ledger: &'a Ledger,
}

/// The stream broke, or its server died: that answers for what wasn't acknowledged.
impl Drop for Sender<'_> {
    fn drop(&mut self) {
        let kept = self.kept.lock().unwrap().drain(..).map(|id| (owned(self.pair), id)).collect::<Vec<_>>();
        self.ledger.account.lock().unwrap().returned.extend(kept);
    }
}

impl Sender<'_> {
    async fn say(&self, pace: Duration) {
        let (from, to) = self.pair;
        while !self.ledger.stopped.load(Ordering::Relaxed) {
            tokio::time::sleep(pace).await;
            if self.kept.lock().unwrap().len() >= KEPT_MAX {
                continue;
            }
            let id = {
                let mut account = self.ledger.account.lock().unwrap();
                // Under the lock: whoever stops the ledger and then looks at it has seen all that is ever sent.
                if self.ledger.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let next = account.sent.entry(owned(self.pair)).or_default();
                *next += 1;
                *next - 1
            };
            self.kept.lock().unwrap().push_back(id);
            let ask = if id % 10 == 0 { ASK } else { "" };
            let said = message(from, to, &id.to_string()) + ask;
            if self.mouth.lock().await.try_say(said).await.is_err() {
                return;
            }
        }
        // The relay may be gone by now.
        let _gone = self.mouth.lock().await.try_say(ASK).await;
        std::future::pending().await
    }

    /// Take acknowledgements, and what comes the other way, until the stream ends.
    async fn heed(&self, mut ear: Ear) {
        let (mut told, mut handled) = (0_u32, 0_u32);
        loop {
            match ear.hear_at_last().await {
                Heard::Element(element) if element.is("a", ns::STREAM_MANAGEMENT) => {
                    let h: u32 = element.attribute("h").unwrap().parse().unwrap();
                    for _ in told..h {
                        self.kept.lock().unwrap().pop_front().expect("no more than was sent");
                    }
                    told = h;
                }
                Heard::Element(element) if element.is("r", ns::STREAM_MANAGEMENT) => {
                    let answer = format!("<a xmlns='urn:xmpp:sm:3' h='{handled}'/>");
                    if self.mouth.lock().await.try_say(answer).await.is_err() {
                        return;
                    }
                }
                Heard::Stanza(stanza) => {
                    self.ledger.note(&stanza);
                    handled += 1;
                }
                Heard::Element(_) | Heard::Header(_) => {}
                Heard::End | Heard::Finished | Heard::Reset(_) | Heard::Lost(_) => return,
            }
        }
    }
}
