//! `fedmux demo`: two whole relays and a small XMPP server for each, on loopback, with real traffic over every domain
//! pair. It is the newcomer's first command, and a test of the whole relay from outside.
//!
//! `stage.rs` puts everything in place; `endpoint/` are the XMPP servers, `flow.rs` and `ledger.rs` their accounts;
//! `load.rs` is the traffic, by the schedule of `pace.rs`. With `--loss` or `--rtt` the relays are joined by `path.rs`,
//! the same traffic runs once on one QUIC stream and once on a stream for each pair, and `floor.rs` says what no
//! relay could have avoided. `report.rs` and `table.rs` tell.
//!
//! The benches use the path, the schedule, the floor and the histogram too: these four are public.
//!
//! The figures about connections and streams are the relays' own metrics; all others are counted by the servers at
//! the ends.

mod certificates;
mod endpoint;
pub mod floor;
mod flow;
pub mod histogram;
mod ledger;
mod load;
mod message;
pub mod pace;
pub mod path;
mod progress;
mod report;
mod rng;
mod run;
mod stage;
mod table;

use std::process::ExitCode;

use crate::proto::limits::Limits;

pub use self::report::{Comparison, FullSpeed, Report, Side};
pub use self::run::{measure, run};
use crate::relay::StartError;

/// Most domains behind each relay.
pub const HOSTS_MAX: usize = 100;
/// With more domains than this the servers have a stream for each of their domains instead of each pair: a process may
/// not open that many files.
const STREAM_PER_PAIR_HOSTS_MAX: usize = 30;
/// Most datagrams lost, in percent; beyond, no congestion control keeps up with the schedule.
pub const LOSS_PERCENT_MAX: f64 = 10.0;
/// Longest round trip of the impaired path.
pub const RTT_MS_MAX: u64 = 500;
/// Round trip of the impaired path, if only a loss is asked for.
pub const RTT_MS_DEFAULT: u64 = 100;

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Domains behind each relay, 1 to [`HOSTS_MAX`]; each talks to each on the other side.
    pub hosts: usize,
    /// Most stanzas for each domain pair and direction. On an impaired path, whose pace is fixed, the time ends it.
    pub stanzas: usize,
    /// Lose so many datagrams each way, in percent, up to [`LOSS_PERCENT_MAX`].
    pub loss_percent: Option<f64>,
    /// Delay datagrams by half of this each way, 1 to [`RTT_MS_MAX`].
    pub rtt_ms: Option<u64>,
    /// One JSON object on standard output instead of the table.
    pub json: bool,
    /// Go on with light traffic after the result, until Ctrl-C.
    pub keep: bool,
    /// A certificate for each domain instead of one for each side: all but the first are proven by mux secrets.
    pub certificate_per_host: bool,
    /// What bounds both relays. The command takes the defaults; the benches compare others.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hosts: 5,
            stanzas: 20_000,
            loss_percent: None,
            rtt_ms: None,
            json: false,
            keep: false,
            certificate_per_host: false,
            limits: Limits::default(),
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), DemoError> {
        let wrong = |text: String| Err(DemoError::Options(text));
        if !(1..=HOSTS_MAX).contains(&self.hosts) {
            return wrong(format!("--hosts {} is not between 1 and {HOSTS_MAX}", self.hosts));
        }
        if self.stanzas == 0 {
            return wrong("--stanzas 0 leaves nothing to show; ask for at least 1".to_owned());
        }
        match self.loss_percent {
            Some(loss) if !(0.0..=LOSS_PERCENT_MAX).contains(&loss) => {
                return wrong(format!("--loss {loss} is not between 0 and {LOSS_PERCENT_MAX} percent"));
            }
            _ => {}
        }
        match self.rtt_ms {
            Some(rtt) if !(1..=RTT_MS_MAX).contains(&rtt) => {
                wrong(format!("--rtt {rtt} is not between 1 and {RTT_MS_MAX} ms"))
            }
            _ => Ok(()),
        }
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A figure out of range.
    #[error("{0}")]
    Options(String),
    /// No certificates could be made.
    #[error("demo: can't make certificates: {0}")]
    Certificates(#[source] std::io::Error),
    /// A socket, a thread or a file.
    #[error("demo: {0}: {1}")]
    Io(&'static str, #[source] std::io::Error),
    /// Too few files may be open.
    #[error(
        "demo: this needs about {needed} open files and {allowed} are allowed; ask for fewer --hosts, or run `ulimit -n {needed}` before"
    )]
    OpenFiles {
        /// How many sockets there will be, and some.
        needed: usize,
        /// The soft limit.
        allowed: usize,
    },
    /// A relay didn't start.
    #[error("demo: a relay didn't start: {0}")]
    Relay(#[source] StartError),
    /// A relay without a listener.
    #[error("demo: a relay bound no listener")]
    NoListener,
    /// A server's stream to its relay.
    #[error("demo: no stream {0}: {1}; this is a fault of the relay, please report it")]
    Stream(String, String),
    /// The first stanzas did not all arrive.
    #[error(
        "demo: {arrived} of {sent} first stanzas arrived{troubles}; this is a fault of the relay, please report it"
    )]
    NotOpened {
        /// First stanzas and their answers that arrived.
        arrived: u64,
        /// How many were sent.
        sent: u64,
        /// What the servers noted.
        troubles: String,
    },
    /// The impaired path itself lost what it should have kept.
    #[error("demo: the impaired path was too busy to show anything; ask for fewer --hosts")]
    PathOverflow,
    /// It would have ended by itself.
    #[error("demo: not done within {0} s; is this machine very busy?")]
    TooSlow(u64),
    /// Ctrl-C or SIGTERM.
    #[error("demo: interrupted")]
    Interrupted,
    /// The result could not be written.
    #[error("demo: can't write the result: {0}")]
    Output(#[source] std::io::Error),
}

/// The verdict as the process tells it.
fn exit_code(report: &Report) -> ExitCode {
    if report.faults().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_out_of_range_are_refused_with_the_range() {
        assert!(Options::default().check().is_ok());
        let bad = [
            Options { hosts: 0, ..Options::default() },
            Options { hosts: HOSTS_MAX + 1, ..Options::default() },
            Options { stanzas: 0, ..Options::default() },
            Options { loss_percent: Some(-0.1), ..Options::default() },
            Options { loss_percent: Some(f64::NAN), ..Options::default() },
            Options { loss_percent: Some(50.0), ..Options::default() },
            Options { rtt_ms: Some(0), ..Options::default() },
            Options { rtt_ms: Some(9_999), ..Options::default() },
        ];
        for options in bad {
            assert!(matches!(options.check(), Err(DemoError::Options(_))), "{options:?}");
        }
    }
}
