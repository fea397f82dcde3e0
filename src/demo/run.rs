//! The plot: set the stage, send the traffic, tell the result.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use super::certificates::Certificates;
use super::flow::{Flows, Order};
use super::load::{self, Phase};
use super::pace::{self, Departure};
use super::progress::Progress;
use super::report::{Comparison, FullSpeed, Report, Side, quantile_ms, rounded};
use super::stage::{Cast, Impairment, Links, Stage};
use super::{DemoError, Options, RTT_MS_DEFAULT, STREAM_PER_PAIR_HOSTS_MAX, exit_code, floor};
use crate::relay::settings::Placement;

/// Nothing takes longer, whatever happens.
const RUN_MAX: Duration = Duration::from_secs(58);
/// Stanzas a second for each pair and direction: a link with some life in it.
const PACE: f64 = 20.0;
/// And for all pairs of one direction together, so that many pairs on a small machine measure the relay and not the
/// machine.
const PACE_TOTAL_MAX: f64 = 2_000.0;
/// Stanzas of one direction that may be on a path with a delay at once: at some 420 octets each on the wire, two thirds
/// of the congestion window that the relay keeps at least. With more, congestion control would be measured, and not
/// what waits for what.
const ON_THE_WAY_MAX: f64 = 100.0;
/// At a steady pace, without an impaired path.
const PACED: Duration = Duration::from_secs(2);
/// On the impaired path before it loses anything: this tells the loss-free delay.
const CALM: Duration = Duration::from_secs(1);
/// On the impaired path with losses, for each of the two sides. At 500 stanzas a second and 1% this is 80 losses each
/// way.
const LOSSY: Duration = Duration::from_secs(16);
/// How long second connections may take to close when the traffic is over.
const QUIET_WAIT: Duration = Duration::from_secs(10);
/// The same run again and again.
const SEED: u64 = 20_260_401;

/// Run the demo and print its result; see the module.
///
/// # Errors
/// [`DemoError`] if there is no result. A result with something lost, duplicated, out of order or on another number of
/// connections and streams than promised is no error but a failure ([`ExitCode::FAILURE`]).
pub async fn run(options: Options) -> Result<ExitCode, DemoError> {
    options.check()?;
    check_open_files(&options)?;
    let cast = Cast::new(options.hosts)?;
    let certificates = Certificates::make([&cast.a, &cast.b], options.certificate_per_host)?;
    let mut progress = if options.json { Progress::silent() } else { Progress::on_stderr() };
    let played = async {
        tokio::time::timeout(RUN_MAX, play(&options, &cast, &certificates, &mut progress))
            .await
            .unwrap_or(Err(DemoError::TooSlow(RUN_MAX.as_secs())))
    };
    let (report, stage) = tokio::select! {
        played = played => played?,
        () = interrupted() => return Err(DemoError::Interrupted),
    };
    progress.clear();
    show(&report, &options, &stage.flows)?;
    if options.keep {
        keep(&stage, &mut progress).await;
    }
    stage.end().await;
    Ok(exit_code(&report))
}

/// Run the same traffic without a word, and return what was measured: for benches.
///
/// # Errors
/// As [`run`].
pub async fn measure(options: Options) -> Result<Report, DemoError> {
    options.check()?;
    check_open_files(&options)?;
    let cast = Cast::new(options.hosts)?;
    let certificates = Certificates::make([&cast.a, &cast.b], options.certificate_per_host)?;
    let (report, stage) = play(&options, &cast, &certificates, &mut Progress::silent()).await?;
    stage.end().await;
    Ok(report)
}

/// The whole traffic; the stage that is left standing is the one of the report's own figures.
async fn play(
    options: &Options,
    cast: &Cast,
    certificates: &Certificates,
    progress: &mut Progress,
) -> Result<(Report, Stage), DemoError> {
    if options.loss_percent.is_none() && options.rtt_ms.is_none() {
        return plain(options, cast, certificates, progress).await;
    }
    let rtt_ms = options.rtt_ms.unwrap_or(RTT_MS_DEFAULT);
    let loss_percent = options.loss_percent.unwrap_or(0.0);
    let impairment =
        Impairment { loss: loss_percent / 100.0, round_trip: Duration::from_millis(rtt_ms), seed: SEED };
    let schedule = Schedule::new(options, Some(impairment.round_trip));

    let stage =
        Stage::start(cast, certificates, Placement::OneStream, Some(impairment), &options.limits).await?;
    let (one_stream, _) = lossy(&stage, &schedule, impairment, "one stream for all", progress).await?;
    stage.end().await;

    let stage =
        Stage::start(cast, certificates, Placement::StreamPerPair, Some(impairment), &options.limits).await?;
    let (stream_per_pair, took) =
        lossy(&stage, &schedule, impairment, "a stream for each pair", progress).await?;
    let latencies = [stream_per_pair.p50_ms, stream_per_pair.p95_ms, stream_per_pair.p99_ms];
    let comparison = Comparison { loss_percent, rtt_ms, one_stream, stream_per_pair };
    let mut report = report(options, &stage, took, latencies, schedule.per_second);
    report.comparison = Some(comparison);
    Ok((report, stage))
}

/// A steady pace for latencies, then full speed.
async fn plain(
    options: &Options,
    cast: &Cast,
    certificates: &Certificates,
    progress: &mut Progress,
) -> Result<(Report, Stage), DemoError> {
    let stage = Stage::start(cast, certificates, Placement::StreamPerPair, None, &options.limits).await?;
    let flows = &stage.flows;
    open(flows, progress).await?;
    let opened = flows.timing();
    let schedule = Schedule::new(options, None);
    let turns = schedule.turns(PACED);
    let paced = load::paced(flows, schedule.steady(turns).into(), None, progress, "steady pace").await;
    let flood = load::flood(flows, (schedule.stanzas - turns) as u64, progress).await;

    stage.quiet(QUIET_WAIT).await;
    // Of a single stanza in each flow there is only the time that the opening took.
    let timing = if turns == 0 { &opened } else { &paced.timing };
    let latencies = [0.50, 0.95, 0.99].map(|share| quantile_ms(timing, share));
    let mut report = report(options, &stage, paced.took + flood.took, latencies, schedule.per_second);
    report.full_speed = (flood.delivered > 0).then(|| FullSpeed {
        stanzas_per_second: rounded(flood.delivered as f64 / flood.took.as_secs_f64().max(1e-9)),
        p50_ms: quantile_ms(&flood.timing, 0.50),
        p99_ms: quantile_ms(&flood.timing, 0.99),
    });
    Ok((report, stage))
}

/// One side of the comparison, and how long its traffic took.
async fn lossy(
    stage: &Stage,
    schedule: &Schedule,
    impairment: Impairment,
    label: &str,
    progress: &mut Progress,
) -> Result<(Side, Duration), DemoError> {
    let flows = &stage.flows;
    open(flows, progress).await?;
    let calm =
        load::paced(flows, schedule.steady(schedule.calm()).into(), None, progress, "without losses").await;
    let loss_free = match calm.timing.timed {
        0 => impairment.round_trip / 2,
        _ => calm.timing.latencies.quantile(0.50),
    };
    let departures = schedule.steady(schedule.lossy());
    let before = stage.path_counts();
    stage.set_loss(impairment.loss);
    let Phase { timing, took, .. } = load::paced(
        flows,
        departures.clone().into(),
        Some(loss_free.mul_f64(floor::LATE_FACTOR)),
        progress,
        label,
    )
    .await;
    stage.set_loss(0.0);
    let after = stage.path_counts();
    if after.overflowed > 0 {
        return Err(DemoError::PathOverflow);
    }
    let Links { connections, quic_streams, .. } = stage.links();
    let quantile = |share| quantile_ms(&timing, share);
    let side = Side {
        connections,
        quic_streams,
        stanzas_timed: timing.timed,
        datagrams_lost: after.lost - before.lost,
        datagrams_forwarded: after.forwarded - before.forwarded,
        wrong: flows.counts().wrong(),
        loss_free_ms: rounded(loss_free.as_secs_f64() * 1e3),
        p50_ms: quantile(0.50),
        p95_ms: quantile(0.95),
        p99_ms: quantile(0.99),
        late_percent: rounded(timing.late_share() * 100.0),
        floor_percent: rounded(unavoidable(&departures, flows.forth.len(), impairment) * 100.0),
    };
    Ok((side, calm.took + took))
}

/// The share that must be late, of both directions: each has packets and losses of its own.
fn unavoidable(departures: &[Departure], forth: usize, impairment: Impairment) -> f64 {
    let (there, back): (Vec<_>, Vec<_>) = departures.iter().partition(|departure| departure.flow < forth);
    let late = |direction: &[Departure]| {
        floor::late_share(direction, impairment.loss, impairment.round_trip, impairment.seed)
            * direction.len() as f64
    };
    (late(&there) + late(&back)) / (departures.len() as f64).max(1.0)
}

async fn open(flows: &Flows, progress: &mut Progress) -> Result<(), DemoError> {
    if load::open(flows, progress).await {
        return Ok(());
    }
    let troubles: String = flows.shared.troubles().iter().map(|trouble| format!("; {trouble}")).collect();
    Err(DemoError::NotOpened { arrived: flows.delivered(), sent: flows.sent(), troubles })
}

fn report(options: &Options, stage: &Stage, took: Duration, latencies: [f64; 3], per_second: f64) -> Report {
    let counts = stage.flows.counts();
    let Links { connections, quic_streams, proofs } = stage.links();
    let [p50_ms, p95_ms, p99_ms] = latencies;
    Report {
        hosts: options.hosts,
        pairs: stage.flows.forth.len(),
        connections,
        quic_streams,
        proofs: options.certificate_per_host.then_some(proofs),
        stanzas_sent: counts.sent,
        stanzas_delivered: counts.delivered,
        lost: counts.lost,
        duplicated: counts.duplicated,
        reordered: counts.reordered,
        altered: counts.altered,
        bounced: counts.bounced,
        seconds: rounded(took.as_secs_f64()),
        p50_ms,
        p95_ms,
        p99_ms,
        paced_per_second: rounded(per_second),
        full_speed: None,
        comparison: None,
    }
}

/// How many stanzas leave when, within what was asked for.
struct Schedule {
    flows: usize,
    /// For each flow, after its first stanza.
    stanzas: usize,
    per_second: f64,
}

impl Schedule {
    fn new(options: &Options, round_trip: Option<Duration>) -> Self {
        let pairs = options.hosts * options.hosts;
        let mut total = PACE_TOTAL_MAX;
        if let Some(round_trip) = round_trip {
            total = total.min(ON_THE_WAY_MAX / round_trip.as_secs_f64());
        }
        Self { flows: 2 * pairs, stanzas: options.stanzas - 1, per_second: PACE.min(total / pairs as f64) }
    }

    /// Stanzas of each flow in this time.
    fn turns(&self, time: Duration) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred at most")]
        let turns = (time.as_secs_f64() * self.per_second).round() as usize;
        turns.min(self.stanzas)
    }

    /// Of few stanzas most are for the lossy part.
    fn calm(&self) -> usize {
        self.turns(CALM).min(self.stanzas / 4)
    }

    fn lossy(&self) -> usize {
        self.turns(LOSSY).min(self.stanzas - self.calm())
    }

    fn steady(&self, turns: usize) -> Vec<Departure> {
        pace::steady(self.flows, turns, self.per_second, SEED)
    }
}

/// Each domain pair, or each domain where they are very many, has two TCP streams, and both ends of each are in this
/// process.
fn check_open_files(options: &Options) -> Result<(), DemoError> {
    let shared = options.hosts > STREAM_PER_PAIR_HOSTS_MAX;
    let needed = 4 * options.hosts * if shared { 1 } else { options.hosts } + 128;
    // Where there is no such file, the system's own error must do.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    match soft.and_then(|soft| soft.parse().ok()) {
        Some(allowed) if allowed < needed => Err(DemoError::OpenFiles { needed, allowed }),
        _ => Ok(()),
    }
}

fn show(report: &Report, options: &Options, flows: &Flows) -> Result<(), DemoError> {
    let text = if options.json {
        report.to_json().map_err(|error| DemoError::Output(error.into()))? + "\n"
    } else {
        report.to_table()
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(DemoError::Output)?;
    let faults = report.faults().into_iter().map(|fault| format!("demo: {fault}"));
    let troubles = flows.shared.troubles().into_iter().map(|trouble| format!("demo: {trouble}"));
    let told: String = faults.chain(troubles).map(|line| line + "\n").collect();
    std::io::stderr().write_all(told.as_bytes()).map_err(DemoError::Output)
}

/// A stanza a second for each flow, so that the metrics move, until Ctrl-C.
async fn keep(stage: &Stage, progress: &mut Progress) {
    for (relay, address) in ["A", "B"].iter().zip(stage.metrics()) {
        progress.say(&format!("metrics of relay {relay}: http://{address}/metrics"));
    }
    progress.say("a stanza a second goes on for each pair and direction; Ctrl-C ends it");
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let trickle = async {
        loop {
            seconds.tick().await;
            let now = Instant::now();
            stage.flows.all().for_each(|flow| flow.order(Order::One(now)));
        }
    };
    tokio::select! {
        () = trickle => {}
        () = interrupted() => {}
    }
}

/// Ctrl-C or SIGTERM. Whoever waits for it cleans up, so that no key stays behind.
async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            // It can't be waited for, and ends the process as it always does.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}
