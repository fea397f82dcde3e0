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
    /// Domains behind each relay, 100 at most; every one talks to every one of the other side. With more than 30 the
    /// servers share a stream for all pairs of a domain.
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

    /// One certificate for all domains of a side, or one for each: then all but the first are proven by mux secrets.
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Certificates::Shared)]
    certificates: Certificates,

    /// Print the result as JSON, and no progress.
    #[arg(long)]
    json: bool,

    /// Go on with light traffic after the result, and print the address of the metrics. Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
}

/// How the domains of a side are certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Certificates {
    /// One certificate names them all.
    Shared,
    /// Each has a certificate of its own, as with a provider's customers.
    PerHost,
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
        certificate_per_host: arguments.certificates == Certificates::PerHost,
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
