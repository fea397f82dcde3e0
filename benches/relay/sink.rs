//! The server that counts: every stanza of every pair must come once, in its turn and unchanged.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use fedmux::demo::histogram::Histogram;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Failed;
use crate::message::{END, Template, date, pair};
use crate::negotiation::{Negotiation, SM};
use crate::process::{Orders, answer};

const READ_BYTES: usize = 65_536;
/// Whatever a stanza of the bench comes to ends so.
const MESSAGE_END: &[u8] = b"</message>";
/// Differences that are told in full.
const TOLD_MAX: usize = 3;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    bytes: usize,
}

/// What came since the last report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) stanzas: u64,
    /// Pairs of which something came, since the beginning.
    pub(crate) pairs: usize,
    /// Of these, stanzas of the pairs whose waits don't count.
    pub(crate) apart: u64,
    /// Stanzas of those pairs that came back as errors.
    pub(crate) returned: u64,
    /// What came and wasn't due.
    pub(crate) odd: Vec<String>,
    /// Waits from the date of a stanza to its arrival, in milliseconds: of 50, 95, 99 and 99.9 in a hundred.
    pub(crate) quantiles: [f64; 4],
    /// The longest of them, in nanoseconds: of a lone stanza, its wait.
    pub(crate) longest: u64,
    /// Stanzas that waited longer than the last order allowed.
    pub(crate) late: u64,
}

/// From, and to.
type Pair = (String, String);

#[derive(Debug, Default)]
struct Ledger {
    /// What is due next.
    due: HashMap<Pair, u64>,
    counted: Counted,
    waits: Histogram,
    /// What waits longer is late.
    late_after: Option<Duration>,
    /// Pairs whose waits don't count, and of which some stanzas may come back instead of arriving.
    apart: HashSet<Pair>,
    /// Pairs whose streams aren't read.
    stalled: watch::Sender<HashSet<Pair>>,
}

impl Ledger {
    /// Count a stanza, with its number and date if it is one that was sent.
    fn count(&mut self, pair: &Pair, read: Option<(u64, Duration)>, stanza: &[u8], now: Duration) {
        let apart = !self.apart.is_empty() && self.apart.contains(pair);
        let next = match self.due.get_mut(pair) {
            Some(next) => next,
            None => self.due.entry(pair.clone()).or_default(),
        };
        let due = *next;
        match read {
            // Of those that may come back, some are missing in between.
            Some((number, sent)) if number == due || apart && number > due => {
                *next = number + 1;
                self.counted.stanzas += 1;
                if apart {
                    self.counted.apart += 1;
                } else {
                    self.waited(now.saturating_sub(sent));
                }
            }
            None if self.came_back(pair, stanza) => self.counted.returned += 1,
            _ if self.counted.odd.len() < TOLD_MAX => {
                let stanza = String::from_utf8_lossy(stanza);
                self.counted.odd.push(format!("{stanza} where {due} was due"));
            }
            _ => {}
        }
    }

    fn came_back(&self, (from, to): &Pair, stanza: &[u8]) -> bool {
        memmem::find(stanza, b" type='error'").is_some() && self.apart.contains(&(to.clone(), from.clone()))
    }

    fn waited(&mut self, wait: Duration) {
        self.waits.record(wait);
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.counted.longest = self.counted.longest.max(nanos);
        self.counted.late += u64::from(self.late_after.is_some_and(|late| wait > late));
    }
}

type Shared = Arc<Mutex<Ledger>>;

fn lock(ledger: &Shared) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    answer(&listener.local_addr()?)?;
    let (ledger, mut streams, mut orders) = (Shared::default(), JoinSet::new(), Orders::new());
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                streams.spawn(receive(accepted?.0, arguments.bytes, Arc::clone(&ledger)));
            }
            // A relay closes what it doesn't need any more.
            Some(ended) = streams.join_next() => ended??,
            order = orders.next() => match order? {
                None => return Ok(()),
                Some(order) => answer(&obey(&mut lock(&ledger), &order)?)?,
            }
        }
    }
}

/// `report`: what came since the last; what then waits longer than the microseconds behind it, if any, is late. `apart`: from
/// now on the waits of the first so many of so many pairs don't count. `stall`: the streams of these aren't read until `go`.
fn obey(ledger: &mut Ledger, order: &[String]) -> Result<Counted, Failed> {
    match order {
        [report] if report == "report" => ledger.late_after = None,
        [report, micros] if report == "report" => {
            ledger.late_after = Some(Duration::from_micros(micros.parse()?));
        }
        [apart, count, pairs] if apart == "apart" => {
            let (count, pairs): (usize, usize) = (count.parse()?, pairs.parse()?);
            ledger.apart = (0..count).map(|at| pair(at, pairs)).collect();
        }
        [stall] if stall == "stall" => drop(ledger.stalled.send_replace(ledger.apart.clone())),
        [go] if go == "go" => drop(ledger.stalled.send_replace(HashSet::new())),
        _ => return Err(format!("no such order: {order:?}").into()),
    }
    Ok(report(ledger))
}

fn report(ledger: &mut Ledger) -> Counted {
    let waits = std::mem::take(&mut ledger.waits);
    let quantiles = [0.5, 0.95, 0.99, 0.999].map(|share| waits.quantile(share).as_secs_f64() * 1e3);
    Counted { pairs: ledger.due.len(), quantiles, ..std::mem::take(&mut ledger.counted) }
}

async fn receive(socket: TcpStream, bytes: usize, ledger: Shared) -> Result<(), Failed> {
    let mut negotiation = Negotiation::new(socket)?;
    let pair = negotiation.accept().await?;
    let template = Template::new(&pair, bytes);
    let (mut reading, mut writing) = negotiation.socket.into_split();
    let mut heard = BytesMut::from(&negotiation.rest[..]);
    let (mut handled, mut stalled) = (0_u32, lock(&ledger).stalled.subscribe());
    loop {
        let asked = take(&mut heard, &pair, &template, &mut handled, &ledger);
        if heard.starts_with(b"</stream:stream>") {
            return Ok(writing.write_all(b"</stream:stream>").await?);
        }
        if asked {
            writing.write_all(format!("<a xmlns='{SM}' h='{handled}'/>").as_bytes()).await?;
        }
        stalled.wait_for(|stalled| !stalled.contains(&pair)).await?;
        heard.reserve(READ_BYTES);
        if reading.read_buf(&mut heard).await? == 0 {
            return Ok(());
        }
    }
}

/// Count what came. Whether an acknowledgement is asked for.
fn take(heard: &mut BytesMut, pair: &Pair, template: &Template, handled: &mut u32, ledger: &Shared) -> bool {
    let (now, mut asked) = (date(), false);
    let mut ledger = lock(ledger);
    let ledger = &mut *ledger;
    loop {
        if heard.starts_with(b"<r ") {
            let Some(end) = memmem::find(heard, b"/>") else { return asked };
            heard.advance(end + 2);
            asked = true;
            continue;
        }
        if heard.starts_with(b"</stream") {
            return asked;
        }
        let end = if heard.len() >= template.len() && heard[..template.len()].ends_with(END) {
            template.len()
        } else {
            // One that comes back ends otherwise.
            let Some(end) = memmem::find(heard, MESSAGE_END) else { return asked };
            end + MESSAGE_END.len()
        };
        let stanza = heard.split_to(end);
        *handled = handled.wrapping_add(1);
        ledger.count(pair, template.read(&stanza), &stanza, now);
    }
}
