//! `fedmux demo`: the newcomer's first command.

use std::process::ExitCode;

use super::failure::Failure;

/// See it work: two whole relays on this machine, with real traffic.
///
/// Starts two relays and small XMPP servers on loopback, makes certificates on the spot, and sends stanzas over every
/// pair of domains through one QUIC connection. Then it shows what one stream for all pairs costs under loss, beside a
/// stream for each. Nothing outside of this machine is contacted, and nothing is left behind.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Domains on each side; every one talks to every one of the other side.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100))]
    hosts: u16,

    /// Stanzas to send in all, spread over the pairs.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    stanzas: u64,

    /// How many of a hundred packets between the relays are lost.
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    loss: f64,

    /// How long a packet takes from one relay to the other and back, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(0..=2_000))]
    rtt: u64,

    /// Print the result as JSON, and no progress.
    #[arg(long)]
    json: bool,

    /// Leave it running, and print the address of the metrics. Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
}

/// The most that a connection survives in any useful way.
const LOSS_PERCENT_MAX: f64 = 30.0;

fn percent(text: &str) -> Result<f64, String> {
    let range = format!("a number from 0 to {LOSS_PERCENT_MAX} is expected");
    let value: f64 = text.parse().map_err(|_| range.clone())?;
    if (0.0..=LOSS_PERCENT_MAX).contains(&value) { Ok(value) } else { Err(range) }
}

/// Run it.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    Err(Failure::failed("not connected", format!("{arguments:?}"), "merge the demo"))
}
