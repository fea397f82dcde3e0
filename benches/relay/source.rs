//! The server that sends: a stream for each domain pair, as Prosody opens them, each stanza numbered and dated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fedmux::demo::pace::{Departure, steady};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::Failed;
use crate::held::Held;
use crate::message::{Template, date, pair};
use crate::negotiation::{Negotiation, SM};
use crate::process::{Orders, answer};

/// Stanzas that wait for their acknowledgement at the most, of all pairs together and of one: what is under way is bounded, the
/// relay always has some, and more pairs are no longer queues.
const UNDER_WAY_MAX: u64 = 120_000;
const WINDOW_MIN: u64 = 10;
const WINDOW_MAX: u64 = 2_000;
/// What is written at once.
const BATCH_BYTES: usize = 16_384;
/// At a pace, an acknowledgement is asked for after so many stanzas of a pair.
const ASK_EVERY: u64 = 16;
/// At a pace, what is due is sent this often.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// How long everything may take to be acknowledged.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// Streams that are opened at once.
const OPENING_MAX: usize = 64;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    relay: SocketAddr,
    #[arg(long)]
    pairs: usize,
    #[arg(long)]
    bytes: usize,
    /// It is behind the second relay.
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false)]
    reverse: bool,
}

/// What came of an order.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) stanzas: u64,
    /// From the first of them to the last acknowledgement; at a pace to the last of them, because what waits then says nothing about the
    /// pace.
    pub(crate) seconds: f64,
    /// How long after its time the latest of a schedule left, in milliseconds: a source that waits would hide waits.
    pub(crate) lag: f64,
}

/// The account of one pair.
#[derive(Debug, Default)]
pub(crate) struct Account {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    /// Something was acknowledged.
    news: Notify,
}

impl Account {
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn under_way(&self) -> u64 {
        self.sent() - self.acknowledged.load(Ordering::Relaxed)
    }
}

/// The sending half of one pair.
pub(crate) struct Pair {
    /// Its number.
    pub(crate) at: usize,
    socket: OwnedWriteHalf,
    template: Template,
    window: u64,
    pub(crate) account: Arc<Account>,
    batch: Vec<u8>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failed> {
    let mut readers = JoinSet::new();
    let mut pairs = open(&arguments, &mut readers).await?;
    let (mut orders, mut held, mut told) = (Orders::new(), Held::default(), 0);
    answer(&"open")?;
    loop {
        let order = tokio::select! {
            order = orders.next() => order?,
            Some(ended) = readers.join_next() => return Err(format!("a stream ended: {:?}", ended?).into()),
        };
        let Some(order) = order else { return Ok(()) };
        let (began, mut lag, mut paced) = (Instant::now(), Duration::ZERO, None);
        let words: Vec<&str> = order.iter().map(String::as_str).collect();
        let work = async {
            match words[..] {
                ["flood", seconds] => flood(&mut pairs, began + span(seconds)?).await?,
                ["pace", rate, seconds] => {
                    pace(&mut pairs, rate.parse()?, began + span(seconds)?).await?;
                    paced = Some(began.elapsed());
                }
                ["one", at] => one(&mut pairs, at.parse()?).await?,
                // Of each pair so many may be under way.
                ["window", stanzas] => {
                    let window = stanzas.parse()?;
                    pairs.iter_mut().for_each(|pair| pair.window = window);
                }
                // Of each pair so many a second; of each but the first; of each but the first, which sends what goes.
                ["steady", rate, seconds, seed] => {
                    let schedule = schedule(pairs.len(), rate, seconds, seed)?;
                    lag = play(&mut pairs, &schedule, began).await?;
                }
                ["light", rate, seconds, seed] => {
                    let (_, light) = pairs.split_first_mut().ok_or("no pair")?;
                    lag = play(light, &schedule(light.len(), rate, seconds, seed)?, began).await?;
                }
                ["beside", rate, seconds, seed] => {
                    let (bulk, light) = pairs.split_first_mut().ok_or("no pair")?;
                    let schedule = schedule(light.len(), rate, seconds, seed)?;
                    let until = began + span(seconds)?;
                    lag = tokio::try_join!(bulk.flood(until), play(light, &schedule, began))?.1;
                }
                // The first so many send so many each, and then at this pace, while further orders are obeyed; until they needn't.
                ["hold", count, fill, rate] => {
                    let count: usize = count.parse()?;
                    held.hold(pairs.drain(..count), fill.parse()?, rate.parse()?);
                }
                ["release"] => held.release(&mut pairs).await?,
                _ => return Err(format!("no such order: {order:?}").into()),
            }
            settle(&mut pairs).await
        };
        tokio::select! {
            done = work => done?,
            Some(ended) = readers.join_next() => return Err(format!("a stream ended: {:?}", ended?).into()),
        }
        // Those that are held go on between two orders.
        let stanzas = sent(&pairs) + held.sent() - told;
        told += stanzas;
        let lag = lag.as_secs_f64() * 1e3;
        let seconds = paced.unwrap_or_else(|| began.elapsed()).as_secs_f64();
        answer(&Sent { stanzas, seconds, lag })?;
    }
}

fn span(seconds: &str) -> Result<Duration, Failed> {
    Ok(Duration::try_from_secs_f64(seconds.parse()?)?)
}

fn sent(pairs: &[Pair]) -> u64 {
    pairs.iter().map(|pair| pair.account.sent()).sum()
}

/// Open a stream for each pair.
async fn open(arguments: &Arguments, readers: &mut JoinSet<String>) -> Result<Vec<Pair>, Failed> {
    let (mut pairs, mut opening) = (Vec::new(), JoinSet::new());
    let window = (UNDER_WAY_MAX / arguments.pairs.max(1) as u64).clamp(WINDOW_MIN, WINDOW_MAX);
    for at in 0..arguments.pairs {
        if opening.len() >= OPENING_MAX {
            pairs.push(opened(&mut opening, readers).await?);
        }
        let (relay, bytes) = (arguments.relay, arguments.bytes);
        let (a, b) = pair(at, arguments.pairs);
        let names = if arguments.reverse { (b, a) } else { (a, b) };
        opening.spawn(async move {
            let mut negotiation = Negotiation::new(TcpStream::connect(relay).await?)?;
            negotiation.open(&names.0, &names.1).await?;
            Ok((negotiation, Template::new(&names, bytes), window, at))
        });
    }
    while !opening.is_empty() {
        pairs.push(opened(&mut opening, readers).await?);
    }
    // They were opened in any order.
    pairs.sort_by_key(|pair| pair.at);
    Ok(pairs)
}

type Opened = (Negotiation, Template, u64, usize);

async fn opened(
    opening: &mut JoinSet<Result<Opened, Failed>>,
    readers: &mut JoinSet<String>,
) -> Result<Pair, Failed> {
    let (negotiation, template, window, at) =
        opening.join_next().await.ok_or("no stream is being opened")???;
    let (reading, socket) = negotiation.socket.into_split();
    let account = Arc::new(Account::default());
    readers.spawn(read(reading, negotiation.rest, Arc::clone(&account)));
    Ok(Pair { at, socket, template, window, account, batch: Vec::new() })
}

/// Take acknowledgements until the stream ends, and say how.
async fn read(mut socket: OwnedReadHalf, mut heard: Vec<u8>, account: Arc<Account>) -> String {
    let begin = format!("<a xmlns='{SM}' h='");
    loop {
        while let Some(end) = memmem::find(&heard, b"/>") {
            let text = String::from_utf8_lossy(&heard[..end]).into_owned();
            let handled = text.strip_prefix(&begin).and_then(|rest| rest.trim_end_matches('\'').parse().ok());
            let Some(handled) = handled else { return format!("it said {text}") };
            account.acknowledged.store(handled, Ordering::Relaxed);
            account.news.notify_one();
            heard.drain(..end + 2);
        }
        if heard.starts_with(b"<message") || heard.starts_with(b"</") {
            return format!("it said {}", String::from_utf8_lossy(&heard));
        }
        match socket.read_buf(&mut heard).await {
            Ok(0) => return "the end of the connection".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

impl Pair {
    fn put(&mut self) {
        let number = self.account.sent.fetch_add(1, Ordering::Relaxed);
        self.template.write(&mut self.batch, number, date());
    }

    /// Write what was put, and ask for its acknowledgement.
    async fn write(&mut self, ask: bool) -> Result<(), Failed> {
        if ask {
            self.batch.extend(format!("<r xmlns='{SM}'/>").into_bytes());
        }
        self.socket.write_all(&self.batch).await?;
        self.batch.clear();
        Ok(())
    }

    /// Send a batch, of so many stanzas at the most, and say of how many it was; or wait until there is room.
    pub(crate) async fn batch(&mut self, count_max: u64) -> Result<u64, Failed> {
        let batch = ((BATCH_BYTES / self.template.len()).max(1) as u64).min(count_max);
        let room = self.window.saturating_sub(self.account.under_way()).min(batch);
        if room == 0 {
            self.account.news.notified().await;
            return Ok(0);
        }
        (0..room).for_each(|_| self.put());
        self.write(true).await?;
        // So that others have their turn where the socket always takes more.
        tokio::task::yield_now().await;
        Ok(room)
    }

    async fn flood(&mut self, until: Instant) -> Result<(), Failed> {
        while Instant::now() < until {
            self.batch(u64::MAX).await?;
        }
        Ok(())
    }
}

/// As many stanzas as the relay takes.
async fn flood(pairs: &mut Vec<Pair>, until: Instant) -> Result<(), Failed> {
    let mut floods = JoinSet::new();
    for mut pair in std::mem::take(pairs) {
        floods.spawn(async move { pair.flood(until).await.map(|()| pair) });
    }
    while let Some(pair) = floods.join_next().await {
        pairs.push(pair??);
    }
    // They end in any order.
    pairs.sort_by_key(|pair| pair.at);
    Ok(())
}

/// So many stanzas a second, of one pair after the other.
async fn pace(pairs: &mut [Pair], rate: f64, until: Instant) -> Result<(), Failed> {
    let (began, mut done, mut at) = (Instant::now(), 0, 0);
    let mut ticks = tokio::time::interval(TICK);
    while Instant::now() < until {
        ticks.tick().await;
        while (done as f64) < began.elapsed().as_secs_f64() * rate {
            let count = pairs.len();
            let pair = &mut pairs[at % count];
            pair.put();
            let asks = pair.account.sent().is_multiple_of(ASK_EVERY);
            pair.write(asks).await?;
            (done, at) = (done + 1, at + 1);
        }
    }
    Ok(())
}

/// One stanza of one pair.
async fn one(pairs: &mut [Pair], at: usize) -> Result<(), Failed> {
    let pair = pairs.get_mut(at).ok_or("no such pair")?;
    pair.put();
    pair.write(false).await
}

/// So many stanzas a second of each of so many pairs, each at a random moment of its own interval.
fn schedule(pairs: usize, rate: &str, seconds: &str, seed: &str) -> Result<Vec<Departure>, Failed> {
    let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
    Ok(steady(pairs, turns(rate, seconds), rate, seed.parse()?))
}

/// Stanzas of each pair in this time.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands at the most")]
pub(crate) fn turns(rate: f64, seconds: f64) -> usize {
    (rate * seconds).round() as usize
}

/// Send each at its time, and say by how much the latest was late.
async fn play(pairs: &mut [Pair], schedule: &[Departure], began: Instant) -> Result<Duration, Failed> {
    let mut lag = Duration::ZERO;
    for departure in schedule {
        tokio::time::sleep_until((began + departure.at).into()).await;
        let pair = pairs.get_mut(departure.flow).ok_or("no such pair")?;
        pair.put();
        let asks = pair.account.sent().is_multiple_of(ASK_EVERY);
        pair.write(asks).await?;
        lag = lag.max(began.elapsed().saturating_sub(departure.at));
    }
    Ok(lag)
}

/// Wait until everything is acknowledged.
async fn settle(pairs: &mut [Pair]) -> Result<(), Failed> {
    let settled = async {
        for pair in pairs.iter_mut() {
            if pair.account.under_way() > 0 {
                pair.write(true).await?;
            }
            while pair.account.under_way() > 0 {
                pair.account.news.notified().await;
            }
        }
        Ok::<_, Failed>(())
    };
    tokio::time::timeout(SETTLE_MAX, settled).await.map_err(|_| "not everything was acknowledged in time")?
}
