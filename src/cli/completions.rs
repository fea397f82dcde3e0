//! `fedmux completions`: what a shell needs to complete the command line, made from its definition.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::failure::Failure;
use super::output::print;

/// Print the completions of a shell.
///
/// For bash: `fedmux completions bash > /usr/share/bash-completion/completions/fedmux`. The Debian package brings those of
/// bash, zsh and fish.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Print them.
pub(super) fn execute(arguments: &Arguments) -> Result<ExitCode, Failure> {
    print(&script(arguments.shell))?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "fedmux", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        let shells = Shell::value_variants();
        assert!(shells.len() >= 5);
        for shell in shells {
            let script = script(*shell);
            for command in crate::cli::Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
