//! `fedmux certs dev`: certificates to try things with.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::output::print;
use crate::identity::development::write_development_certificates;
use crate::xmpp::domain::Domain;

/// Make certificates.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(Dev),
}

/// Make a development CA, and one certificate for the domains given.
///
/// The certificate goes to DIR/live/DOMAIN, named for the first domain, in certbot's layout; the CA that signed it is
/// DIR/ca.pem, which the other end has to trust. Run it again with the same DIR and other domains for another
/// certificate from the same CA. Nothing is overwritten. Nobody should believe such a CA outside of development.
#[derive(Debug, Args)]
struct Dev {
    /// The folder to write to; it is made if it isn't there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// The domains of the certificate.
    #[arg(value_name = "DOMAIN", required = true, value_parser = parse_domain)]
    domains: Vec<Domain>,
}

fn parse_domain(text: &str) -> Result<Domain, String> {
    Domain::parse(text).map_err(|error| format!("{error}; write it like a.example"))
}

/// Make what is asked for, and name the files.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Command::Dev(dev) = &arguments.command;
    let files = write_development_certificates(&dev.out, &dev.domains).map_err(Failure::failed_as)?;
    let written: String = files.iter().map(|file| format!("wrote {}\n", file.display())).collect();
    let first = dev.domains.first().map(Domain::to_ascii).unwrap_or_default();
    // Absolute, because paths in a configuration are relative to its own folder.
    let out = std::path::absolute(&dev.out).unwrap_or_else(|_| dev.out.clone());
    print(&format!(
        "{written}\nFor the relay that serves these domains:\n    [identity]\n    certificates = {:?}\n    trust = {:?}\n",
        out.join("live").join(first),
        out.join("ca.pem"),
    ))?;
    Ok(ExitCode::SUCCESS)
}
