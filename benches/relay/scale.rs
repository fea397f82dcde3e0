//! Many pairs in one session: the time until a stanza of each has arrived where none was open before, the memory of each pair in
//! either relay, and what quiet ones cost.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::crowd::Heard;
use crate::process::Process;
use crate::relays::{Link, Relays};
use crate::stage::words;
use crate::{Failed, usage};

/// Octets of each stanza.
const BYTES: usize = 300;
/// How long nothing is said before, and while, quiet pairs are measured.
const QUIET: Duration = Duration::from_secs(5);
/// With fewer the handshake, and what every relay needs, is most of it.
const MANY: usize = 1_000;
const OPENING_MAX: Duration = Duration::from_secs(300);
/// Nobody delivers there: the second server opens its streams itself.
const NOWHERE: &str = "127.0.0.1:9";

pub(crate) async fn run(counts: &[usize], relay: &Path) -> Result<(), Failed> {
    println!("\nMany pairs in one session: a stanza of each, where none was open\n");
    println!(
        "| pairs | until all arrived | CPU us a pair: sending | receiving | kB a pair: sending | receiving | again, open | idle: % of a core |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut points = Vec::new();
    for count in counts {
        let point = measure(*count, relay).await?;
        println!("{point}");
        points.push(point);
    }
    points.retain(|point| point.pairs >= MANY);
    if let [first, .., last] = &points[..] {
        println!(
            "\nFrom {} to {} pairs, with which power of their number it grows (least squares): until all arrived {:.2}, CPU of both relays \
             {:.2}, again {:.2}, memory of both {:.2}.",
            first.pairs,
            last.pairs,
            exponent(&points, |point| point.opening.as_secs_f64()),
            exponent(&points, |point| (point.spent[0] + point.spent[1]).as_secs_f64()),
            exponent(&points, |point| point.again.as_secs_f64()),
            exponent(&points, |point| (point.memory[0] + point.memory[1]) as f64),
        );
    }
    Ok(())
}

/// The slope of the line through the logarithms.
fn exponent(points: &[Point], of: impl Fn(&Point) -> f64) -> f64 {
    let logarithms = points.iter().map(|point| ((point.pairs as f64).ln(), of(point).ln()));
    let count = points.len() as f64;
    let (x, y) = logarithms.clone().fold((0.0, 0.0), |(x, y), at| (x + at.0 / count, y + at.1 / count));
    let product: f64 = logarithms.clone().map(|at| (at.0 - x) * (at.1 - y)).sum();
    product / logarithms.map(|at| (at.0 - x).powi(2)).sum::<f64>()
}

/// What was measured with so many pairs.
struct Point {
    pairs: usize,
    opening: Duration,
    again: Duration,
    spent: [Duration; 2],
    memory: [u64; 2],
    /// Of both relays, in percent of one core.
    idle: [f64; 2],
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pairs, opening, again, spent, memory, idle } = self;
        let cost = |spent: Duration| spent.as_secs_f64() * 1e6 / *pairs as f64;
        let held = |octets: u64| octets as f64 / 1e3 / *pairs as f64;
        write!(
            f,
            "| {pairs} | {opening:.2?} | {:.0} | {:.0} | {:.1} | {:.1} | {again:.2?} | {:.2}, {:.2} |",
            cost(spent[0]),
            cost(spent[1]),
            held(memory[0]),
            held(memory[1]),
            idle[0],
            idle[1]
        )
    }
}

async fn measure(pairs: usize, relay: &Path) -> Result<Point, Failed> {
    let relays = Relays::start(relay, pairs, NOWHERE.parse()?, Link::default()).await?;
    let ids = relays.ids()?;
    let mut servers = Vec::new();
    for (side, entrance) in ['b', 'a'].into_iter().zip([relays.entrances[1], relays.entrances[0]]) {
        let settings = [
            ("relay", entrance.to_string()),
            ("side", side.to_string()),
            ("pairs", pairs.to_string()),
            ("bytes", BYTES.to_string()),
        ];
        servers.push(Process::start(&words("crowd", &settings)).await?.0);
    }
    let [mut sink, mut source]: [Process; 2] = servers.try_into().map_err(|_| "two servers")?;
    let hosts = crate::message::hosts(pairs);
    let count = (hosts * hosts) as u64;
    tokio::time::sleep(QUIET).await;
    let (cpu, memory) = (both(ids, usage::cpu)?, both(ids, usage::memory)?);
    let opening = each(&mut source, &mut sink, 0, count).await?;
    let spent = both(ids, usage::cpu)?;
    let again = each(&mut source, &mut sink, 1, 2 * count).await?;
    tokio::time::sleep(QUIET).await;
    let (quiet, held) = (both(ids, usage::cpu)?, both(ids, usage::memory)?);
    tokio::time::sleep(QUIET).await;
    let after = both(ids, usage::cpu)?;
    let share = |at: usize| (after[at] - quiet[at]).as_secs_f64() / QUIET.as_secs_f64() * 100.0;
    Ok(Point {
        pairs: hosts * hosts,
        opening,
        again,
        spent: [spent[0] - cpu[0], spent[1] - cpu[1]],
        memory: [held[0].saturating_sub(memory[0]), held[1].saturating_sub(memory[1])],
        idle: [share(0), share(1)],
    })
}

fn both<T>(ids: [u32; 2], of: impl Fn(u32) -> Result<T, Failed>) -> Result<[T; 2], Failed> {
    Ok([of(ids[0])?, of(ids[1])?])
}

/// A stanza of each pair: how long until all have arrived.
async fn each(source: &mut Process, sink: &mut Process, number: u64, due: u64) -> Result<Duration, Failed> {
    let began = Instant::now();
    let sent = format!("each {number}");
    let waited = format!("wait {due}");
    let both = async { tokio::try_join!(source.ask::<Heard>(&sent), sink.ask::<Heard>(&waited)) };
    let done = tokio::time::timeout(OPENING_MAX, both).await;
    let (_, heard) = done.map_err(|_| "not every stanza has arrived in time")??;
    if heard.stanzas != due {
        return Err(format!("{} stanzas arrived where {due} were due", heard.stanzas).into());
    }
    Ok(began.elapsed())
}
