//! The log: one line for each event that an operator acts on, on stderr, as text or as JSON.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use super::failure::Failure;

/// The environment variable that stands in for `--log-level`.
const LEVEL_VARIABLE: &str = "FEDMUX_LOG";
const LEVEL_DEFAULT: &str = "info";

/// How and how much is logged.
#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// How log lines look, on stderr: text for people, json for machines.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,

    /// How much is logged: error, warn, info, debug or trace, or a list like fedmux::relay=debug,quinn=warn.
    /// Left out, FEDMUX_LOG says so, or else it is info.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Begin to log. To be called once in a process.
pub(super) fn start(arguments: &LogArguments) -> Result<(), Failure> {
    let filter = match (&arguments.log_level, std::env::var(LEVEL_VARIABLE)) {
        (Some(level), _) => filter(level, "--log-level")?,
        (None, Ok(level)) if !level.is_empty() => filter(&level, LEVEL_VARIABLE)?,
        _ => filter(LEVEL_DEFAULT, "--log-level")?,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let begun = match arguments.log_format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    begun.map_err(|error| Failure::failed(error, "the log", "this is a mistake in fedmux; please report it"))
}

/// A single level speaks of fedmux: the libraries below it only tell what goes wrong.
fn filter(level: &str, place: &str) -> Result<EnvFilter, Failure> {
    let single = level.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let directives = if single { format!("warn,fedmux={level}") } else { level.to_owned() };
    EnvFilter::try_new(directives).map_err(|error| {
        let advice = "write error, warn, info, debug or trace, or a list like fedmux::relay=debug,quinn=warn";
        Failure::usage(format!("{level:?} is no log level ({error})"), place, advice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_speaks_of_fedmux_and_a_list_of_what_it_names() {
        assert_eq!(filter("debug", "").unwrap().to_string(), "fedmux=debug,warn");
        assert_eq!(filter("fedmux::relay=trace", "").unwrap().to_string(), "fedmux::relay=trace");
    }

    #[test]
    fn what_is_no_level_is_refused() {
        let failure = filter("fedmux=loud", "FEDMUX_LOG").unwrap_err();
        assert!(format!("{failure:?}").contains("FEDMUX_LOG: write error, warn"), "{failure:?}");
    }
}
