//! `fedmux man`: the manual pages, made from the definition of the command line, so that they say what `--help` says.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::failure::Failure;
use super::output::print;

/// Print the manual page, or write those of all commands.
///
/// `fedmux man > fedmux.1` and `man ./fedmux.1` shows it. The Debian package brings all of them.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A folder to write all pages to, fedmux.1 and one for each command; it is made if it isn't there, and pages in it
    /// are replaced.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Print the page, or write them all and name them.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let Some(folder) = &arguments.out else {
        let page = render(&command()).map_err(|error| Failure::failed(error, "fedmux.1", "report this"))?;
        print(&String::from_utf8_lossy(&page))?;
        return Ok(ExitCode::SUCCESS);
    };
    let written = write(folder).map_err(|error| {
        Failure::failed(error, folder.display(), "name a folder that can be written to with --out DIR")
    })?;
    print(&written.iter().map(|file| format!("wrote {}\n", file.display())).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

/// The command line with all that clap adds to it, but for `help`: what that prints stands in the pages.
fn command() -> Command {
    let mut command = super::Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

fn write(folder: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    let mut written = Vec::new();
    for command in with_subcommands(command()) {
        let file = folder.join(format!("{}.1", name(&command)));
        std::fs::write(&file, render(&command)?)?;
        written.push(file);
    }
    Ok(written)
}

/// The command, and all below it.
fn with_subcommands(command: Command) -> Vec<Command> {
    let below: Vec<Command> = command.get_subcommands().cloned().flat_map(with_subcommands).collect();
    std::iter::once(command).chain(below).collect()
}

/// The name of its page: `fedmux-certs-dev`.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

fn render(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone())
        .title(name(command).to_uppercase())
        .source(concat!("fedmux ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_name_and_its_options() {
        let pages = with_subcommands(command());
        let names: Vec<String> = pages.iter().map(name).collect();
        for expected in ["fedmux", "fedmux-run", "fedmux-check", "fedmux-certs-dev", "fedmux-man"] {
            assert!(names.iter().any(|name| name == expected), "{expected} is not in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("help")), "{names:?}");
        for command in &pages {
            let page = String::from_utf8(render(command).unwrap()).unwrap();
            // What begins with a dash is written with \- in roff.
            let name = name(command).replace('-', "\\-");
            assert!(page.contains(&format!("\n.SH NAME\n{name} \\- ")), "{page}");
            for option in command.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(page.contains(&format!("\\-\\-{}", option.replace('-', "\\-"))), "{option}: {page}");
            }
        }
    }
}
