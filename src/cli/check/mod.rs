//! `fedmux check`: what would fail, or surprise, before it does.
//!
//! It reads what the relay would read, decides with the relay's own code, and starts nothing. Each part looks at one
//! thing and adds to the [`Report`]; [`online`] holds the parts that ask the network.

mod acknowledgement;
mod certificates;
mod components;
mod faults;
mod hosts;
mod identity_files;
mod network;
mod online;
mod published;
mod quic_probe;
mod reach;
mod report;
mod sections;
mod table;
mod zone;

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

/// Tell what would fail: configuration, certificates, hosts, components, addresses, DNS records, servers.
///
/// Shows which certificate covers each host, what no certificate covers, and what will expire soon; reads the files of
/// trust and tries the ports and the admin socket. Then it asks the network, for 20 seconds at most: where the DNS records of each host lead,
/// held against the listeners of [remote]; whether the servers in deliver take a connection, and whether the address of
/// each [[peer]] answers. The records to publish are spelled out as lines of a zone file. Nothing is started or changed.
/// Exits with 1 if anything would fail, and with 2 if the configuration is wrong; a warning fails nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,

    /// Ask nobody: no DNS, no server, no peer.
    #[arg(long)]
    offline: bool,

    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Look at everything and print what was found.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let file = &arguments.config.config;
    match config::load(file) {
        Ok(settings) => {
            let mut report = examine(file, &settings, SystemTime::now());
            if arguments.offline {
                report.publish = zone::records(&settings, &[]);
            } else {
                report.offline = false;
                online::examine(&settings, &mut report).map_err(|error| {
                    Failure::failed(
                        error,
                        "the runtime",
                        "look at the limits of the system; or use --offline",
                    )
                })?;
            }
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

/// All that needs no network.
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
