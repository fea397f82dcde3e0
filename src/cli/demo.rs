//! `fedmux demo`: the newcomer's first command.

use std::process::ExitCode;

use super::failure::Failure;
use crate::demo;
use crate::proto::limits::Limits;

/// See it work: two whole relays on this machine, with real traffic.
///
/// Starts two relays and a small XMPP server for each, makes certificates on the spot, and sends stanzas over every
/// pair of domains through one QUIC connection. Ends with a table: pairs, stanzas, what was lost, connections, delays.
/// With --loss or --rtt the relays are joined by a bad line, and the table shows what one stream for all pairs costs
/// there, beside a stream for each. Nothing outside of this machine is contacted, and nothing is left behind.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Domains behind each relay; every one talks to every one of the other side.
    #[arg(long, value_name = "N", default_value_t = demo::Options::default().hosts)]
    hosts: usize,

    /// Stanzas for each pair of domains and direction. A bad line has a fixed pace, and the time ends it.
    #[arg(long, value_name = "N", default_value_t = demo::Options::default().stanzas)]
    stanzas: usize,

    /// How many of a hundred packets are lost, each way.
    #[arg(long, value_name = "PERCENT")]
    loss: Option<f64>,

    /// How long a packet takes to the other relay and back, in milliseconds; 100 if only a loss is asked for.
    #[arg(long, value_name = "MS")]
    rtt: Option<u64>,

    /// Print the result as JSON, and no progress.
    #[arg(long)]
    json: bool,

    /// Go on with light traffic after the result, and print the address of the metrics. Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
}

/// Run it.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let options = demo::Options {
        hosts: arguments.hosts,
        stanzas: arguments.stanzas,
        loss_percent: arguments.loss,
        rtt_ms: arguments.rtt,
        json: arguments.json,
        keep: arguments.keep,
        limits: Limits::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::failed(error, "the runtime", "the system gives no threads; look at its limits")
    })?;
    let ended = runtime.block_on(demo::run(options)).map_err(|error| match error {
        demo::DemoError::Options(_) => Failure::usage_as(error),
        _ => Failure::failed_as(error),
    });
    runtime.shutdown_background();
    ended
}
