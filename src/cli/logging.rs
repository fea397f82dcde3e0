//! The log: one line for each event that an operator acts on, on stderr, as text or as JSON.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, reload};

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

/// How much is logged, which can be changed while the process runs.
pub(super) struct Level {
    now: Mutex<String>,
    set: Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

impl Level {
    /// How much is logged, as a list of what is logged of what.
    pub(super) fn now(&self) -> String {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Log so much from now on: a level, or a list like that of `--log-level`.
    ///
    /// # Errors
    /// Why not; then nothing has changed.
    pub(super) fn set(&self, level: &str) -> Result<(), String> {
        let filter = filter(level, "the level").map_err(|failure| failure.to_string())?;
        let text = filter.to_string();
        (self.set)(filter)?;
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = text;
        Ok(())
    }
}

/// Begin to log. To be called once in a process.
pub(super) fn start(arguments: &LogArguments) -> Result<Level, Failure> {
    let filter = match (&arguments.log_level, std::env::var(LEVEL_VARIABLE)) {
        (Some(level), _) => filter(level, "--log-level")?,
        (None, Ok(level)) if !level.is_empty() => filter(&level, LEVEL_VARIABLE)?,
        _ => filter(LEVEL_DEFAULT, "--log-level")?,
    };
    let now = Mutex::new(filter.to_string());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that can't be written (the disk is full, whoever read it has gone) is lost. Told on stderr, which is where
        // that fails, it would be a panic of whatever task had something to say.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let (begun, set) = match arguments.log_format {
        Format::Text => {
            let builder = builder.with_target(false).with_filter_reloading();
            let set = setter(builder.reload_handle());
            (builder.try_init(), set)
        }
        Format::Json => {
            // One session is spoken of at most: its span says all that a list of them would.
            let builder = builder.json().flatten_event(true).with_span_list(false).with_filter_reloading();
            let set = setter(builder.reload_handle());
            (builder.try_init(), set)
        }
    };
    begun.map_err(|error| {
        Failure::failed(error, "the log", "this is a mistake in fedmux; please report it")
    })?;
    Ok(Level { now, set })
}

fn setter<S: 'static>(
    handle: reload::Handle<EnvFilter, S>,
) -> Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>
where
    reload::Handle<EnvFilter, S>: Send + Sync,
{
    Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
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
