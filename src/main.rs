//! The `fedmux` command; what it does stands in [`fedmux::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    fedmux::cli::main()
}
