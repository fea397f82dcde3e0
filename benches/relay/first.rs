//! How long a stanza takes from the relay's door to the server behind the other relay: the first to a cold peer, the first of a
//! pair where others have a session, and one of a pair that is open; over a path that takes its time.

use std::path::PathBuf;
use std::time::Duration;

use crate::Failed;
use crate::relays::Link;
use crate::stage::Stage;
use crate::table::Spread;

/// Octets of each stanza.
const BYTES: usize = 300;
/// How much longer than the path a new pair on a warm session may take, in milliseconds.
const NEW_PAIR_MAX: f64 = 3.0;
/// Round trips that a cold peer may take: two of the handshake, and the way of the stanza; and what both relays may take.
const COLD_ROUND_TRIPS_MAX: f64 = 2.5;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Round trips, in milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "0,50,200")]
    rtt: Vec<u64>,
    /// Pairs of fresh relays for each: as many samples of a cold peer.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Domain pairs of each: as many samples of an open pair, and one less of a new one.
    #[arg(long, default_value_t = 12)]
    pairs: usize,
    /// The relay's binary.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_fedmux"))]
    relay: PathBuf,
}

/// The samples at one round trip, in milliseconds beyond the way of the path.
#[derive(Default)]
struct Waits {
    cold: Vec<f64>,
    new_pair: Vec<f64>,
    open: Vec<f64>,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<(), Failed> {
    println!(
        "\nFrom a stanza's arrival to its delivery, in milliseconds beyond the delay of the path one way\n"
    );
    println!("| RTT ms | cold peer | in round trips | new pair, warm session | open pair | samples |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut beyond = Vec::new();
    for rtt in &arguments.rtt {
        let mut waits = Waits::default();
        for repeat in 0..arguments.repeats {
            one_pair_of_relays(arguments, Duration::from_millis(*rtt), repeat as u64, &mut waits).await?;
        }
        let Waits { cold, new_pair, open } = waits;
        let counts = format!("{}, {}, {}", cold.len(), new_pair.len(), open.len());
        let [cold, new_pair, open] = [cold, new_pair, open].map(Spread::of);
        let trips = if *rtt > 0 { format!("{:.2}", cold.median / *rtt as f64) } else { "-".to_owned() };
        println!("| {rtt} | {cold} | {trips} | {new_pair} | {open} | {counts} |");
        if new_pair.median > NEW_PAIR_MAX {
            beyond.push(format!("a new pair at {rtt} ms takes {new_pair} more, {NEW_PAIR_MAX} are due"));
        }
        let due = (COLD_ROUND_TRIPS_MAX - 0.5) * *rtt as f64;
        if *rtt > 0 && cold.median > due * 1.1 {
            beyond.push(format!("a cold peer at {rtt} ms takes {cold} more, {due} are due"));
        }
    }
    println!();
    beyond.iter().for_each(|what| println!("Beyond its bound: {what}."));
    Ok(())
}

async fn one_pair_of_relays(
    arguments: &Arguments,
    round_trip: Duration,
    seed: u64,
    waits: &mut Waits,
) -> Result<(), Failed> {
    let link = Link { round_trip: Some(round_trip), seed, ..Link::default() };
    let mut stage = Stage::cold(&arguments.relay, arguments.pairs, BYTES, link).await?;
    let one_way = round_trip.as_secs_f64() / 2.0;
    for turn in 0..2 {
        for at in 0..arguments.pairs {
            let (_, counted) = stage.play(&format!("one {at}")).await?;
            let wait = (counted.longest as f64 / 1e9 - one_way) * 1e3;
            match (turn, at) {
                (0, 0) => waits.cold.push(wait),
                (0, _) => waits.new_pair.push(wait),
                _ => waits.open.push(wait),
            }
        }
    }
    Ok(())
}
