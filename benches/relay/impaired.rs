//! A path that loses datagrams: the same stanzas over it on one stream for all pairs and on a stream for each, beside the share
//! that must be late whatever is done; and what pairs with little to say suffer from one that sends what goes, where they
//! share a bottleneck.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fedmux::demo::floor::{LATE_FACTOR, late_share};
use fedmux::demo::pace::steady;
use fedmux::demo::path::{Counts, Path};

use crate::Failed;
use crate::relays::Link;
use crate::sink::Counted;
use crate::source::turns;
use crate::stage::Stage;
use crate::svg::{Bars, bars};

/// Octets of each stanza.
const BYTES: usize = 300;
/// Seconds without losses, which tell the delay of the path; and as many that tell what the machine alone makes late.
const CALM: f64 = 5.0;
/// The late share may be so much more than what must be.
const FLOOR_FACTOR_MAX: f64 = 1.2;
/// One stream for all must be late so much more often.
const ONE_STREAM_FACTOR_MIN: f64 = 8.0;
/// The bench sleeps this long, again and again, and takes what it is woken later than `STALL` for time that the machine took.
const WATCH: Duration = Duration::from_millis(5);
const STALL: Duration = Duration::from_millis(5);
/// Where the machine alone makes a larger part of the unavoidable share late, a row shows the machine.
const MACHINE_MAX: f64 = 0.1;
/// A bulk pair may lengthen what 95 of 100 stanzas of the others take by so much.
const BULK_FACTOR_MAX: f64 = 1.3;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Domain pairs.
    #[arg(long, default_value_t = 20)]
    pairs: usize,
    /// Stanzas a second of each.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Datagrams that are lost, in percent.
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    loss: Vec<f64>,
    /// Round trips, in milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "100,200")]
    rtt: Vec<u64>,
    /// Seconds with losses; and those beside a bulk pair.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// What the bottleneck lets through beside a bulk pair, in megabits a second.
    #[arg(long, default_value_t = 20.0)]
    bottleneck: f64,
    /// How long its queue takes to empty when full, in milliseconds.
    #[arg(long, default_value_t = 20)]
    queue: u64,
    /// What decides which datagrams are lost.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The relay's binary.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_fedmux"))]
    relay: PathBuf,
    /// Without the pair that sends what goes.
    #[arg(long)]
    no_bulk: bool,
    /// Draw the late shares.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What came of the stanzas on one of the two.
struct Side {
    counted: Counted,
    /// The share that was late before anything was lost.
    before: f64,
    /// The share of the time in which the machine let nobody work.
    stalled: f64,
    path: Counts,
}

impl Side {
    fn late(&self) -> f64 {
        late(&self.counted)
    }
}

fn late(counted: &Counted) -> f64 {
    counted.late as f64 / counted.stanzas.max(1) as f64
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p95, p99, _] = self.counted.quantiles;
        write!(f, "{:.2}% | {p50:.0}, {p95:.0}, {p99:.0}", self.late() * 100.0)
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failed> {
    let Arguments { pairs, rate, seconds, .. } = arguments;
    println!("\n{pairs} pairs, {rate} stanzas a second of each, {seconds} s; the same seed for both\n");
    println!(
        "| loss, RTT | one stream for all: late | p50, p95, p99 ms | a stream for each: late | p50, p95, p99 ms | must be late | \
         of that | one stream: times that | datagrams lost | late before: one, each | machine stalled |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let (mut drawn, mut busy) = (Bars::new(), false);
    for rtt in &arguments.rtt {
        for loss in &arguments.loss {
            let (name, share) = (format!("{loss}%, {rtt} ms"), loss / 100.0);
            let floor = unavoidable(arguments, share, Duration::from_millis(*rtt));
            let sides = both(arguments, share, Duration::from_millis(*rtt)).await?;
            println!("| {name} | {} |", row(&sides, floor));
            busy |= sides.iter().any(|side| side.before.max(side.stalled) > floor * MACHINE_MAX);
            let [one, each] = sides;
            drawn.push((name, [one.late(), each.late(), floor].map(|share| share * 100.0)));
        }
    }
    if busy {
        println!(
            "\nThe machine was too busy: it made stanzas late without any loss, and that is in these figures."
        );
    }
    if let Some(svg) = &arguments.svg {
        let title = format!("Late stanzas, in percent: {pairs} pairs, {rate} a second of each");
        std::fs::write(svg, bars(&title, ["one stream", "a stream for each", "must be late"], &drawn))?;
    }
    if arguments.no_bulk { Ok(()) } else { beside_bulk(arguments).await }
}

fn row([one, each]: &[Side; 2], floor: f64) -> String {
    let (above, times) = (each.late() / floor, one.late() / each.late());
    format!(
        "{one} | {each} | {:.2}% | {above:.2}{} | {times:.1}{} | {}, {} | {:.2}%, {:.2}% | {:.1}%",
        floor * 100.0,
        if above > FLOOR_FACTOR_MAX { " (1.2 due)" } else { "" },
        if times < ONE_STREAM_FACTOR_MIN { " (8 due)" } else { "" },
        one.path.lost,
        each.path.lost,
        one.before * 100.0,
        each.before * 100.0,
        one.stalled.max(each.stalled) * 100.0,
    )
}

/// The shares that must be late, by round trip and loss.
pub(crate) fn floors(arguments: &Arguments) -> Vec<f64> {
    let paths = arguments.rtt.iter().flat_map(|rtt| arguments.loss.iter().map(move |loss| (rtt, loss)));
    paths.map(|(rtt, loss)| unavoidable(arguments, loss / 100.0, Duration::from_millis(*rtt))).collect()
}

/// The share that must be late.
fn unavoidable(arguments: &Arguments, loss: f64, round_trip: Duration) -> f64 {
    let Arguments { pairs, rate, seconds, seed, .. } = *arguments;
    late_share(&steady(pairs, turns(rate, seconds), rate, seed), loss, round_trip, seed)
}

async fn set(arguments: &Arguments, round_trip: Duration, one_stream: bool) -> Result<Stage, Failed> {
    let link = Link { round_trip: Some(round_trip), seed: arguments.seed, one_stream };
    let mut stage = Stage::cold(&arguments.relay, arguments.pairs, BYTES, link).await?;
    // Every lane is open.
    stage.play(&format!("steady {} 1 {}", arguments.rate.max(1.0), arguments.seed)).await?;
    Ok(stage)
}

/// One stream for all, and a stream for each; both at the same time, so that whatever else the machine does strikes both.
async fn both(arguments: &Arguments, loss: f64, round_trip: Duration) -> Result<[Side; 2], Failed> {
    let side = async |one_stream| {
        let mut stage = set(arguments, round_trip, one_stream).await?;
        lossy(arguments, &mut stage, loss).await
    };
    let (one, each) = tokio::try_join!(side(true), side(false))?;
    Ok([one, each])
}

async fn lossy(arguments: &Arguments, stage: &mut Stage, loss: f64) -> Result<Side, Failed> {
    let Arguments { rate, seconds, seed, .. } = arguments;
    let (_, calm) = stage.play(&format!("steady {rate} {CALM} {seed}")).await?;
    let late_after = Duration::from_secs_f64(calm.quantiles[0] / 1e3).mul_f64(LATE_FACTOR);
    let report = format!("report {}", late_after.as_micros());
    let _: Counted = stage.sink.ask(&report).await?;
    let (_, calm) = stage.play_and(&report, &format!("steady {rate} {CALM} {seed}")).await?;
    let before = path(stage)?.counts();
    path(stage)?.set_loss(loss);
    let order = format!("steady {rate} {seconds} {seed}");
    let (played, stalled) = watched(stage.play(&order)).await;
    let (_, counted) = played?;
    path(stage)?.set_loss(0.0);
    let after = path(stage)?.counts();
    if after.overflowed > 0 {
        return Err("the path was too busy to show anything".into());
    }
    let lost = after.lost - before.lost;
    Ok(Side { counted, before: late(&calm), stalled, path: Counts { lost, ..after } })
}

/// Let something be done; and which share of that time the machine let nobody work.
async fn watched<T>(work: impl Future<Output = T>) -> (T, f64) {
    let (began, mut stalled) = (Instant::now(), Duration::ZERO);
    tokio::pin!(work);
    loop {
        let asleep = Instant::now();
        tokio::select! {
            done = &mut work => return (done, stalled.as_secs_f64() / began.elapsed().as_secs_f64()),
            () = tokio::time::sleep(WATCH) => {
                let late = asleep.elapsed().saturating_sub(WATCH);
                stalled += if late > STALL { late } else { Duration::ZERO };
            }
        }
    }
}

fn path(stage: &Stage) -> Result<&Path, Failed> {
    Ok(stage.relays.path.as_ref().ok_or("no path between the relays")?)
}

/// All pairs but the first alone, and beside the first, which sends what goes.
async fn beside_bulk(arguments: &Arguments) -> Result<(), Failed> {
    let Arguments { pairs, rate, seconds, bottleneck, queue, seed, .. } = arguments;
    let light = pairs.saturating_sub(1);
    println!(
        "\n{light} pairs, {rate} stanzas a second of each, through {bottleneck} Mbit/s with a queue of {queue} ms\n"
    );
    println!(
        "| RTT | placement | alone: p50, p95, p99 ms | beside a bulk pair | p95, times alone | bulk: Mbit/s of stanzas | came back | dropped by the queue |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for rtt in &arguments.rtt {
        for (one_stream, name) in [(true, "one stream for all"), (false, "a stream for each")] {
            let mut stage = set(arguments, Duration::from_millis(*rtt), one_stream).await?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "octets a second")]
            path(&stage)?.set_bottleneck((bottleneck * 1e6 / 8.0) as u64, Duration::from_millis(*queue));
            let _: Counted = stage.sink.ask(&format!("apart 1 {pairs}")).await?;
            let (_, alone) = stage.play(&format!("light {rate} {seconds} {seed}")).await?;
            let before = path(&stage)?.counts();
            let (sent, beside) = stage.play(&format!("beside {rate} {seconds} {seed}")).await?;
            let dropped = path(&stage)?.counts().crowded - before.crowded;
            let waits = |counted: &Counted| {
                let [p50, p95, p99, _] = counted.quantiles;
                format!("{p50:.0}, {p95:.0}, {p99:.0}")
            };
            let times = beside.quantiles[1] / alone.quantiles[1];
            println!(
                "| {rtt} ms | {name} | {} | {} | {times:.2}{} | {:.1} | {} | {dropped} |",
                waits(&alone),
                waits(&beside),
                if !one_stream && times > BULK_FACTOR_MAX { " (1.3 due)" } else { "" },
                (beside.apart * BYTES as u64 * 8) as f64 / 1e6 / sent.seconds,
                beside.returned,
            );
        }
    }
    Ok(())
}
