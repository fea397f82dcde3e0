//! What a stanza costs: a server that sends, one relay, another, and a server that counts, each a process of its own on
//! loopback, beside QUIC with nothing on it (`raw.rs`) in the same run.
//!
//! ```text
//! cargo bench --bench relay                    # saturated, paced and lone; takes some minutes
//! cargo bench --bench relay -- saturated       # one scene: saturated, paced, lone, scale, first, impaired, stalled
//! cargo bench --bench relay -- saturated --pairs 1,20,400 --bytes 100,1000 --both
//! cargo bench --bench relay -- saturated --relay OTHER/fedmux       # two binaries, in turns
//! cargo bench --bench relay -- saturated --help                     # another pair of proxies beside, a picture
//! ```
//!
//! `scene.rs` plays, `first.rs` and `impaired.rs` over a path with delay and losses; `source.rs` and `sink.rs` are the servers: they speak to the relays as Prosody with its module does (RFC
//! 6120, SASL EXTERNAL on loopback, XEP-0198), and number every stanza of every pair. A run in which one is lost, doubled or out of
//! order is no figure but an error. CPU is that of whole processes, from the system's own account (`usage.rs`).

mod crowd;
mod first;
mod held;
mod impaired;
mod message;
mod negotiation;
mod peer;
mod process;
mod raw;
mod relays;
mod scale;
mod scene;
mod sink;
mod source;
mod stage;
mod stalled;
mod svg;
mod table;
mod usage;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// What went wrong, in words.
type Failed = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Parser)]
#[command(name = "relay", about = "What a stanza costs in a relay, beside QUIC with nothing on it")]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Clone, Subcommand)]
enum Part {
    /// As many stanzas as go.
    Saturated {
        #[command(flatten)]
        setting: Setting,
        /// Draw what a stanza costs by the number of pairs, for `--pairs 1,20,400`.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// So many a second.
    Paced {
        #[command(flatten)]
        setting: Setting,
        /// Stanzas a second, over all pairs.
        #[arg(long, value_delimiter = ',', default_value = "2000,20000,60000")]
        rate: Vec<u64>,
    },
    /// One at a time, on one pair.
    Lone(Setting),
    /// Many pairs in one session: what it takes to open them, and to keep them.
    Scale {
        #[arg(long, value_delimiter = ',', default_value = "100,1000,10000,100000")]
        pairs: Vec<usize>,
        /// The relay's binary.
        #[arg(long, default_value = env!("CARGO_BIN_EXE_fedmux"))]
        relay: PathBuf,
    },
    /// The first stanza: to a cold peer, of a new pair, of a warm one.
    First(first::Arguments),
    /// A path that loses datagrams: one stream for all pairs, and a stream for each.
    Impaired(impaired::Arguments),
    /// Servers that stop reading for some pairs: what the others feel of it.
    Stalled(stalled::Arguments),
    /// A process of the bench: a server with many pairs on few streams.
    #[command(hide = true)]
    Crowd(crowd::Arguments),
    /// A process of the bench: the server that sends.
    #[command(hide = true)]
    Source(source::Arguments),
    /// A process of the bench: the server that counts.
    #[command(hide = true)]
    Sink(sink::Arguments),
    /// For `path.py`: the shares that must be late on paths that lose datagrams.
    #[command(hide = true)]
    Floor(impaired::Arguments),
    /// A process of the bench: one end of raw QUIC.
    #[command(hide = true)]
    Raw(raw::Arguments),
}

/// What is the same in every scene.
#[derive(Debug, Clone, clap::Args)]
struct Setting {
    /// Domain pairs.
    #[arg(long, value_delimiter = ',', default_value = "20")]
    pairs: Vec<usize>,
    /// Octets of each stanza.
    #[arg(long, value_delimiter = ',', default_value = "300", value_parser = stanza_bytes)]
    bytes: Vec<usize>,
    /// Beside it, in turns: the same in both directions at once, as many stanzas in each.
    #[arg(long)]
    both: bool,
    /// Stanzas of each pair that wait for their acknowledgement at the most, where as many are sent as go. By default 120,000 of
    /// all pairs together, and 2,000 of each.
    #[arg(long)]
    window: Option<u64>,
    /// How often each figure is taken; the median counts.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Seconds of each.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The relay's binary; several are measured in turns.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_fedmux"))]
    relay: Vec<PathBuf>,
    /// Without QUIC with nothing on it.
    #[arg(long)]
    no_raw: bool,
    #[command(flatten)]
    peer: peer::Peer,
}

impl Setting {
    /// Each number of pairs with each size.
    fn each(&self) -> impl Iterator<Item = (usize, usize)> {
        self.pairs.iter().flat_map(|pairs| self.bytes.iter().map(|bytes| (*pairs, *bytes)))
    }
}

/// None is shorter than its number, its date and its addresses.
fn stanza_bytes(words: &str) -> Result<usize, String> {
    let bytes: usize = words.parse().map_err(|error| format!("{error}"))?;
    (bytes >= message::BYTES_MIN).then_some(bytes).ok_or(format!("at least {}", message::BYTES_MIN))
}

fn main() -> Result<(), Failed> {
    let Arguments { part, .. } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match part {
            Some(Part::Scale { pairs, relay }) => scale::run(&pairs, &relay).await,
            Some(Part::Crowd(arguments)) => crowd::run(arguments).await,
            Some(Part::Source(arguments)) => source::run(arguments).await,
            Some(Part::Sink(arguments)) => sink::run(arguments).await,
            Some(Part::Raw(arguments)) => raw::run(arguments).await,
            Some(Part::First(arguments)) => first::run(&arguments).await,
            Some(Part::Floor(arguments)) => process::answer(&impaired::floors(&arguments)),
            Some(Part::Impaired(arguments)) => impaired::run(&arguments).await,
            Some(Part::Stalled(arguments)) => stalled::run(&arguments).await,
            Some(Part::Saturated { setting, svg }) => scene::saturated(&setting, svg.as_deref()).await,
            Some(Part::Paced { setting, rate }) => scene::paced(&setting, &rate).await,
            Some(Part::Lone(setting)) => scene::lone(&setting).await,
            None => scene::all().await,
        }
    })
}
