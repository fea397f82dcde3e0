//! `fedmux log`: how much a running relay logs.

use std::process::ExitCode;

use super::ask::Asking;
use super::failure::Failure;
use super::output::print;
use crate::admin::socket::Question;

/// Change how much a running relay logs, until it is started again.
///
/// Without a level it says what is logged now. The contents of stanzas are never logged, at any level.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// error, warn, info, debug or trace, or a list like fedmux::relay=debug,quinn=warn.
    #[arg(value_name = "LEVEL")]
    level: Option<String>,

    #[command(flatten)]
    asking: Asking,
}

/// Ask, and say what is logged.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let level: String = arguments.asking.ask(&Question::Log { level: arguments.level.clone() })?;
    print(&format!("{level}\n"))?;
    Ok(ExitCode::SUCCESS)
}
