//! The commands. Each has a file of its own; this one finds out which is meant, and how it ended.
//!
//! Exit codes: 0 it worked, 1 it failed, 2 bad usage or configuration. Errors go to stderr, each as one line that says
//! what, where and what to do.

mod ask;
mod certs;
mod check;
mod completions;
mod demo;
mod explain;
mod failure;
mod lifecycle;
mod log;
mod logging;
mod man;
mod operator;
mod output;
mod run;
mod service_manager;
mod signals;
mod status;
mod threads;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use failure::Failure;

/// A federation relay for XMPP servers.
///
/// fedmux stands between your XMPP servers and other providers. All domains of yours and all domains of a peer share
/// one QUIC connection: each domain is proven once, and each pair of domains has a stream of its own, so that a slow or
/// lossy one holds nobody else up.
///
/// New here? `fedmux demo` runs two whole relays on this machine and shows what they do.
#[derive(Debug, Parser)]
#[command(
    name = "fedmux",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    propagate_version = true
)]
#[command(after_help = "Exit codes: 0 it worked, 1 it failed, 2 bad usage or configuration.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    Status(status::Arguments),
    Explain(explain::Arguments),
    Log(log::Arguments),
    Demo(demo::Arguments),
    Certs(certs::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// The configuration file, as most commands take it.
#[derive(Debug, Args)]
struct ConfigArgument {
    /// The configuration file; paths in it are relative to its folder.
    #[arg(long, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    config: PathBuf,
}

/// Do what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => cli.command.execute(),
        Err(error) => usage::outcome(&error),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}

impl Command {
    fn execute(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Run(arguments) => run::execute(&arguments),
            Self::Check(arguments) => check::execute(&arguments),
            Self::Status(arguments) => status::execute(&arguments),
            Self::Explain(arguments) => explain::execute(&arguments),
            Self::Log(arguments) => log::execute(&arguments),
            Self::Demo(arguments) => demo::execute(&arguments),
            Self::Certs(arguments) => certs::execute(&arguments),
            Self::Completions(arguments) => completions::execute(&arguments),
            Self::Man(arguments) => man::execute(&arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_commands_of_the_design_are_understood() {
        for line in [
            "run",
            "run --config f.toml --log-format json --log-level debug",
            "check --config f.toml --json",
            "status --json",
            "status --socket /run/fedmux/admin.sock",
            "explain b.test --from a.test --json",
            "log",
            "log debug --config f.toml",
            "demo --hosts 3 --stanzas 10 --loss 1.5 --rtt 100 --json --keep",
            "certs dev --out certs a.test rooms.a.test",
            "completions fish",
            "man --out man",
        ] {
            let words = std::iter::once("fedmux").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
