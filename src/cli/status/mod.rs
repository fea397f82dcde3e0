//! `fedmux status`: what a running relay is doing.

mod columns;
mod table;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use super::ask::Asking;
use super::failure::Failure;
use super::output::print;
use crate::admin::socket::Question;
use crate::relay::status::Status;

/// Show what a running relay is doing.
///
/// Sessions with peers and how each domain is proven, peers and servers that can't be reached, what waits for what, queues, and the
/// connections that multiplexing saves. The worst comes first, and long lists are cut; --json has everything. Asks by the
/// admin socket, which its owner and its group may.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    asking: Asking,

    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

/// Ask, and show the answer.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if arguments.json {
        let status: serde_json::Value = arguments.asking.ask(&Question::Status)?;
        print(&format!("{status:#}\n"))?;
    } else {
        let status: Status = arguments.asking.ask(&Question::Status)?;
        print(&table::render(&status))?;
    }
    Ok(ExitCode::SUCCESS)
}
