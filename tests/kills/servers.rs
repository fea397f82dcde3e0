//! The XMPP servers behind the relays: one numbers what it sends, both write down what arrives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fedmux::xmpp::element::Element;
use fedmux::xmpp::namespace as ns;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::wire::{Ear, Heard, Mouth, Wire, message};

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
const ASK: &str = "<r xmlns='urn:xmpp:sm:3'/>";
/// Between two stanzas of one pair.
const PACE: Duration = Duration::from_millis(2);
/// Stanzas that the sender keeps; Prosody drops the oldest of more than 500.
const KEPT_MAX: usize = 450;

/// What became of each stanza, by the domain that it went to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account {
    pub(crate) sent: BTreeMap<String, u64>,
    /// In the order of arrival, with whether it says that it is late.
    pub(crate) delivered: BTreeMap<String, Vec<(u64, bool)>>,
    /// Came back as errors.
    pub(crate) bounced: BTreeSet<(String, u64)>,
    /// Weren't acknowledged when their stream broke: their own server answers for them.
    pub(crate) returned: BTreeSet<(String, u64)>,
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
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Stanzas of which nobody has heard.
    pub(crate) fn silent(&self) -> Vec<(String, u64)> {
        let account = self.account();
        let mut silent = Vec::new();
        for (to, count) in &account.sent {
            let empty = Vec::new();
            let delivered: BTreeSet<u64> =
                account.delivered.get(to).unwrap_or(&empty).iter().map(|(id, _)| *id).collect();
            let heard_of = |id: &u64| {
                let key = (to.clone(), *id);
                delivered.contains(id) || account.bounced.contains(&key) || account.returned.contains(&key)
            };
            silent.extend((0..*count).filter(|id| !heard_of(id)).map(|id| (to.clone(), id)));
        }
        silent
    }

    fn note(&self, stanza: &Element) {
        let mut account = self.account.lock().unwrap();
        let id: u64 = stanza.attribute("id").unwrap().parse().unwrap();
        if stanza.attribute("type") == Some("error") {
            account.bounced.insert((stanza.attribute("from").unwrap().to_owned(), id));
        } else {
            let late = stanza.child("delay", "urn:xmpp:delay").is_some();
            account.delivered.entry(stanza.attribute("to").unwrap().to_owned()).or_default().push((id, late));
        }
    }
}

/// Take every stream that a relay opens at `port`.
pub(crate) fn receive(port: u16, ledger: Ledger) -> JoinHandle<()> {
    tokio::spawn(async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let ledger = ledger.clone();
            // A relay may be killed at any word; then this ends by a panic that means nothing.
            tokio::spawn(async move {
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

/// Send numbered stanzas from one domain to another until the ledger is stopped.
pub(crate) fn send(port: u16, (from, to): (&'static str, &'static str), ledger: Ledger) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !ledger.stopped.load(Ordering::Relaxed) {
            let opened = tokio::spawn(async move {
                let mut wire = Wire::tcp(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
                wire.authenticate(from, to).await;
                wire.say(ENABLE).await;
                wire
            });
            // The relay may be away, or go while the stream is negotiated.
            let Ok(wire) = opened.await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let kept = Arc::new(Mutex::new(VecDeque::new()));
            let Wire { ear, mut mouth, .. } = wire;
            let hearing = tokio::spawn(heed(ear, Arc::clone(&kept), ledger.clone()));
            let saying = say(&mut mouth, (from, to), &kept, &ledger);
            tokio::pin!(saying, hearing);
            tokio::select! {
                () = &mut saying => {
                    // What is under way is still acknowledged, if the stream lives.
                    let _died = tokio::time::timeout(Duration::from_secs(20), async {
                        while !kept.lock().unwrap().is_empty() && !hearing.is_finished() {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }).await;
                    hearing.abort();
                }
                _ = &mut hearing => {}
            }
            let mut account = ledger.account.lock().unwrap();
            account.returned.extend(kept.lock().unwrap().drain(..).map(|id| (to.to_owned(), id)));
        }
    })
}

async fn say(mouth: &mut Mouth, (from, to): (&str, &str), kept: &Mutex<VecDeque<u64>>, ledger: &Ledger) {
    while !ledger.stopped.load(Ordering::Relaxed) {
        tokio::time::sleep(PACE).await;
        if kept.lock().unwrap().len() >= KEPT_MAX {
            continue;
        }
        let id = {
            let mut account = ledger.account.lock().unwrap();
            let next = account.sent.entry(to.to_owned()).or_default();
            *next += 1;
            *next - 1
        };
        kept.lock().unwrap().push_back(id);
        let ask = if id % 10 == 0 { ASK } else { "" };
        if mouth.try_say(message(from, to, &id.to_string()) + ask).await.is_err() {
            return;
        }
    }
    // The relay may be gone by now.
    let _gone = mouth.try_say(ASK).await;
}

/// Take acknowledgements and errors until the stream ends.
async fn heed(mut ear: Ear, kept: Arc<Mutex<VecDeque<u64>>>, ledger: Ledger) {
    let mut told = 0_u32;
    loop {
        match ear.hear_at_last().await {
            Heard::Element(element) if element.is("a", ns::STREAM_MANAGEMENT) => {
                let h: u32 = element.attribute("h").unwrap().parse().unwrap();
                for _ in told..h {
                    kept.lock().unwrap().pop_front().expect("no more than was sent");
                }
                told = h;
            }
            Heard::Stanza(stanza) => ledger.note(&stanza),
            Heard::Element(_) | Heard::Header(_) => {}
            Heard::End | Heard::Finished | Heard::Reset(_) | Heard::Lost(_) => return,
        }
    }
}
