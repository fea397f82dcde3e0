//! A server with many pairs on few streams: one for each of its hosts, in both directions. It sends a stanza of each pair, or
//! counts what comes. So that what is measured are the relays' pairs, and not a TCP connection for each.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use memchr::memmem;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::Failed;
use crate::message::{Template, date, host, hosts};
use crate::negotiation::{Negotiation, SM};
use crate::process::{Orders, answer};

const READ_BYTES: usize = 65_536;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    relay: SocketAddr,
    /// Behind which relay it is.
    #[arg(long)]
    side: char,
    #[arg(long)]
    pairs: usize,
    #[arg(long)]
    bytes: usize,
}

/// What one side has heard.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Heard {
    /// Pairs of which something came.
    pub(crate) pairs: usize,
    pub(crate) stanzas: u64,
    /// From the order to the last of them.
    pub(crate) seconds: f64,
}

#[derive(Debug, Default)]
struct Ledger {
    pairs: Mutex<BTreeSet<(String, String)>>,
    stanzas: AtomicU64,
    news: Notify,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failed> {
    let other = if arguments.side == 'a' { 'b' } else { 'a' };
    let count = hosts(arguments.pairs);
    let theirs: Vec<String> = (0..count).map(|at| host(other, at)).collect();
    let (ledger, mut readers, mut writers) = (Arc::new(Ledger::default()), JoinSet::new(), Vec::new());
    for at in 0..count {
        let ours = host(arguments.side, at);
        let mut negotiation = Negotiation::new(TcpStream::connect(arguments.relay).await?)?;
        negotiation.open_shared(&ours, &theirs).await?;
        let (reading, writing) = negotiation.socket.into_split();
        let writing = Arc::new(tokio::sync::Mutex::new(writing));
        readers.spawn(read(reading, negotiation.rest, Arc::clone(&writing), Arc::clone(&ledger)));
        writers.push((ours, writing));
    }
    let mut orders = Orders::new();
    answer(&"open")?;
    loop {
        let order = tokio::select! {
            order = orders.next() => order?,
            Some(ended) = readers.join_next() => return Err(format!("a stream ended: {:?}", ended?).into()),
        };
        let Some(order) = order else { return Ok(()) };
        let began = Instant::now();
        match order.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["each", number] => each(&writers, &theirs, arguments.bytes, number.parse()?).await?,
            ["wait", stanzas] => wait(&ledger, stanzas.parse()?).await,
            _ => return Err(format!("no such order: {order:?}").into()),
        }
        let pairs = ledger.pairs.lock().unwrap_or_else(PoisonError::into_inner).len();
        let stanzas = ledger.stanzas.load(Ordering::Relaxed);
        answer(&Heard { pairs, stanzas, seconds: began.elapsed().as_secs_f64() })?;
    }
}

type Writer = Arc<tokio::sync::Mutex<OwnedWriteHalf>>;

/// Send a stanza of each pair.
async fn each(
    writers: &[(String, Writer)],
    theirs: &[String],
    bytes: usize,
    number: u64,
) -> Result<(), Failed> {
    for (ours, writing) in writers {
        let mut batch = Vec::new();
        for to in theirs {
            Template::new(&(ours.clone(), to.clone()), bytes).write(&mut batch, number, date());
        }
        writing.lock().await.write_all(&batch).await?;
    }
    Ok(())
}

/// Until so many stanzas came, all in all.
async fn wait(ledger: &Ledger, stanzas: u64) {
    loop {
        let news = ledger.news.notified();
        if ledger.stanzas.load(Ordering::Relaxed) >= stanzas {
            return;
        }
        news.await;
    }
}

async fn read(
    mut reading: OwnedReadHalf,
    mut heard: Vec<u8>,
    writing: Writer,
    ledger: Arc<Ledger>,
) -> Result<String, Failed> {
    let mut handled = 0_u32;
    loop {
        let (mut at, mut asked) = (0, false);
        while let Some(end) = memmem::find(&heard[at..], b">") {
            let rest = &heard[at..];
            if rest.starts_with(b"<message") {
                let Some(end) = memmem::find(rest, b"</message>") else { break };
                let text = String::from_utf8_lossy(&rest[..end]).into_owned();
                let pair = pair_of(&text).ok_or_else(|| format!("it said {text}"))?;
                ledger.pairs.lock().unwrap_or_else(PoisonError::into_inner).insert(pair);
                ledger.stanzas.fetch_add(1, Ordering::Relaxed);
                handled = handled.wrapping_add(1);
                at += end + b"</message>".len();
            } else {
                asked |= rest.starts_with(b"<r ");
                at += end + 1;
            }
        }
        heard.drain(..at);
        ledger.news.notify_one();
        if asked {
            let told = format!("<a xmlns='{SM}' h='{handled}'/>");
            writing.lock().await.write_all(told.as_bytes()).await?;
        }
        heard.reserve(READ_BYTES);
        if reading.read_buf(&mut heard).await? == 0 {
            return Ok(String::from_utf8_lossy(&heard).into_owned());
        }
    }
}

/// The domains of a stanza that isn't an error.
fn pair_of(text: &str) -> Option<(String, String)> {
    let between = |begin: &str, end: char| {
        let (_, rest) = text.split_once(begin)?;
        Some(rest.split(end).next()?.to_owned())
    };
    if text.contains("type='error'") {
        return None;
    }
    Some((between("from='romeo@", '/')?, between("to='juliet@", '\'')?))
}
