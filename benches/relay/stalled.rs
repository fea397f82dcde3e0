//! Servers that stop reading for some pairs while the others go on at their pace: what the others feel of it, against how it was
//! just before, and while the same pairs sent as much as went and were read. The stalled pairs fill their queues as fast as they
//! can, and go on at the pace of the others then.

use std::path::PathBuf;
use std::time::Duration;

use crate::Failed;
use crate::relays::Link;
use crate::sink::Counted;
use crate::stage::Stage;
use crate::table::Spread;

/// The others' 99th percentile may be so many times what it was.
const P99_FACTOR_MAX: f64 = 2.0;
/// Stanzas of a pair under way: more than a queue holds.
const WINDOW: u64 = 2_000;
/// How often it is looked whether everything has arrived in the end.
const POLL: Duration = Duration::from_millis(100);
const SETTLE_POLLS: u32 = 300;
const PHASES: [&str; 4] =
    ["before", "they send what goes, and are read", "stalled, filling", "stalled, full"];

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Domain pairs.
    #[arg(long, default_value_t = 100)]
    pairs: usize,
    /// Of these, whose server stops reading.
    #[arg(long, default_value_t = 50)]
    stalled: usize,
    /// Stanzas a second of each.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Octets of each stanza.
    #[arg(long, default_value_t = 1_000)]
    bytes: usize,
    /// Stanzas that each stalled pair sends as fast as they go: more than all queues on its way hold.
    #[arg(long, default_value_t = 6_000)]
    fill: u64,
    /// Seconds before, and seconds with full queues.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds in which the queues fill, and what finds no room for `limits.read_pause` comes back; and as many before, in which
    /// these pairs send what goes and are read.
    #[arg(long, default_value_t = 6.0)]
    filling: f64,
    /// How often each figure is taken; the median counts.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// What decides when each stanza leaves.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The relay's binary.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_fedmux"))]
    relay: PathBuf,
}

/// What is under way, and the worst of the source.
#[derive(Default)]
struct Account {
    sent: u64,
    /// Arrived or came back.
    answered: u64,
    returned: u64,
    lag: f64,
}

/// One turn.
struct Turn {
    /// Of 50, 99 and 99.9 in a hundred stanzas of the others, in milliseconds, in each phase.
    waits: [[f64; 3]; 4],
    /// Stanzas of the stalled pairs that were on their way in the end, and those that came back.
    waiting: u64,
    returned: u64,
    /// How late the source was at worst, in milliseconds.
    lag: f64,
}

impl Account {
    /// Let the source do something, and see what has come since.
    async fn play(&mut self, stage: &mut Stage, order: &str) -> Result<Counted, Failed> {
        let sent = stage.order(order).await?;
        self.sent += sent.stanzas;
        self.lag = self.lag.max(sent.lag);
        self.look(stage).await
    }

    async fn look(&mut self, stage: &mut Stage) -> Result<Counted, Failed> {
        let counted: Counted = stage.sink.ask("report").await?;
        if !counted.odd.is_empty() {
            return Err(format!("{:?}", counted.odd).into());
        }
        self.answered += counted.stanzas + counted.returned;
        self.returned += counted.returned;
        Ok(counted)
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failed> {
    let Arguments { pairs, stalled, rate, bytes, repeats, .. } = arguments;
    let others = pairs.checked_sub(*stalled).filter(|others| *others > 0).ok_or("no others are left")?;
    let stage = Stage::cold(&arguments.relay, *pairs, *bytes, Link::default()).await?;
    let mut stage = stage.with_window(Some(WINDOW)).await?.warm_up(*pairs).await?;
    let _: Counted = stage.sink.ask(&format!("apart {stalled} {pairs}")).await?;
    let mut turns = Vec::new();
    for _ in 0..*repeats {
        turns.push(turn(arguments, &mut stage).await?);
    }
    println!(
        "\n{others} pairs, {rate} stanzas of {bytes} octets a second of each, beside {stalled} whose server stops reading\n"
    );
    println!("| | p50 ms | p99 ms | p999 ms | p50, p99, p999: times before |");
    println!("| --- | --- | --- | --- | --- |");
    for (phase, name) in PHASES.iter().enumerate() {
        let of = |at: usize| Spread::of(turns.iter().map(|turn| turn.waits[phase][at]));
        let times =
            |at: usize| Spread::of(turns.iter().map(|turn| turn.waits[phase][at] / turn.waits[0][at]));
        let missed = if phase == 3 && times(1).median > P99_FACTOR_MAX { " (2 due for p99)" } else { "" };
        println!(
            "| {name} | {} | {} | {} | {:.2}, {}{missed}, {:.2} |",
            of(0),
            of(1),
            of(2),
            times(0).median,
            times(1),
            times(2).median,
        );
    }
    println!(
        "\nOf each stalled pair {} kB waited in the end, and {} stanzas had come back. The source was late by {} ms at worst.",
        Spread::of(turns.iter().map(|turn| (turn.waiting * *bytes as u64) as f64 / 1e3 / *stalled as f64)),
        Spread::of(turns.iter().map(|turn| turn.returned as f64 / *stalled as f64)),
        Spread::of(turns.iter().map(|turn| turn.lag)),
    );
    Ok(())
}

async fn turn(arguments: &Arguments, stage: &mut Stage) -> Result<Turn, Failed> {
    let Arguments { stalled, rate, fill, seconds, filling, seed, .. } = arguments;
    let mut account = Account::default();
    let steady = |seconds: &f64| format!("steady {rate} {seconds} {seed}");
    let waits = |Counted { quantiles: [p50, _, p99, p999], .. }| [p50, p99, p999];
    let before = waits(account.play(stage, &steady(seconds)).await?);
    account.play(stage, &format!("hold {stalled} {} {rate}", u64::MAX)).await?;
    let read = waits(account.play(stage, &steady(filling)).await?);
    account.play(stage, "release").await?;
    let _: Counted = stage.sink.ask("stall").await?;
    account.play(stage, &format!("hold {stalled} {fill} {rate}")).await?;
    let filling = waits(account.play(stage, &steady(filling)).await?);
    let full = waits(account.play(stage, &steady(seconds)).await?);
    let (waiting, returned) = (account.sent - account.answered, account.returned);
    // They read on, and all is accounted for.
    let _: Counted = stage.sink.ask("go").await?;
    account.play(stage, "release").await?;
    // What the relay has acknowledged early is still on its way.
    for _ in 0..SETTLE_POLLS {
        if account.sent <= account.answered {
            break;
        }
        tokio::time::sleep(POLL).await;
        account.look(stage).await?;
    }
    let Account { sent, answered, lag, .. } = account;
    if sent != answered {
        return Err(format!("{sent} sent, {answered} arrived or came back").into());
    }
    Ok(Turn { waits: [before, read, filling, full], waiting, returned, lag })
}
