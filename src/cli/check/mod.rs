//! `fedmux check`: what would fail, or surprise, before it does.
//!
//! It reads what the relay would read, decides with the relay's own code, and starts nothing. Each part looks at one
//! thing and adds to the [`Report`].

mod acknowledgement;
mod certificates;
mod components;
mod hosts;
mod identity_files;
mod network;
mod report;
mod table;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use super::ConfigArgument;
use super::failure::Failure;
use super::output::print;
use crate::config::{self, ConfigErrors};
use crate::relay::settings::Settings;
use report::{Report, Severity};
pub(super) use table::paragraph;

/// Tell what would fail: configuration, certificates, hosts, components, addresses.
///
/// Shows which certificate covers each host, what no certificate covers, and what will expire soon; reads the files of
/// trust, tries the ports and looks up the names of servers. Nothing is started or changed. Exits with 1 if anything
/// would fail, and with 2 if the configuration is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,

    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Look at everything and print what was found.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let file = &arguments.config.config;
    match config::load(file) {
        Ok(settings) => {
            let report = examine(file, &settings, SystemTime::now());
            let text = if arguments.json { report.to_json() } else { table::render(&report) };
            print(&text)?;
            Ok(if report.would_fail() { ExitCode::from(1) } else { ExitCode::SUCCESS })
        }
        Err(errors) if arguments.json => {
            print(&misconfigured(file, &errors).to_json())?;
            Err(errors.into())
        }
        Err(errors) => Err(errors.into()),
    }
}

fn examine(file: &Path, settings: &Settings, now: SystemTime) -> Report {
    let mut report = Report::new(file, settings);
    if let Some(store) = certificates::examine(settings, now, &mut report) {
        hosts::examine(settings, &store, now, &mut report);
    }
    acknowledgement::examine(settings, &mut report);
    identity_files::examine(settings, &mut report);
    components::examine(settings, &mut report);
    network::examine(settings, &mut report);
    report
}

/// A report that says only what is wrong with the configuration.
fn misconfigured(file: &Path, errors: &ConfigErrors) -> Report {
    let mut report = Report::empty(file);
    for error in errors.iter() {
        report.add(Severity::Error, "configuration", error.to_string(), "");
    }
    report
}
