//! What clap says, in our form: help goes to stdout, a mistake becomes one line.

use std::process::ExitCode;

use clap::error::ErrorKind;

use super::failure::Failure;
use super::output::print;

/// Help and version were asked for; everything else is a mistake.
pub(super) fn outcome(error: &clap::Error) -> Result<ExitCode, Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // clap knows whether the terminal takes colours.
            print(&error.render().to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Failure::usage("no command given", "fedmux", "try fedmux demo, or fedmux --help"))
        }
        _ => Err(one_line(&error.render().to_string())),
    }
}

/// clap's paragraphs: what is wrong, perhaps tips, the usage.
fn one_line(text: &str) -> Failure {
    let mut what = "bad usage".to_owned();
    let mut usage = "fedmux".to_owned();
    let mut tip = None;
    for paragraph in text.split("\n\n") {
        let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(rest) = line.strip_prefix("error: ") {
            rest.clone_into(&mut what);
        } else if let Some(rest) = line.strip_prefix("tip: ") {
            tip = Some(rest.to_owned());
        } else if let Some(rest) = line.strip_prefix("Usage: ") {
            rest.clone_into(&mut usage);
        }
    }
    Failure::usage(what.trim_end_matches(':'), usage, &tip.unwrap_or_else(|| "try --help".to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    fn said(line: &str) -> String {
        let words = std::iter::once("fedmux").chain(line.split_whitespace());
        let error = Cli::try_parse_from(words).expect_err("a mistake");
        let failure = super::outcome(&error).expect_err("a failure");
        format!("{failure:?}")
    }

    #[test]
    fn a_mistake_is_one_line_with_what_to_do() {
        for (line, expected) in [
            (
                "chek",
                "unrecognized subcommand 'chek': fedmux <COMMAND>: a similar subcommand exists: 'check'",
            ),
            (
                "run --confg x",
                "unexpected argument '--confg' found: fedmux run --config <FILE>: a similar argument exists: '--config'",
            ),
            (
                "certs dev a.test",
                "required arguments were not provided: --out <DIR>: fedmux certs dev --out <DIR> <DOMAIN>...: try --help",
            ),
            ("demo --hosts x", "invalid value 'x' for '--hosts <N>'"),
            ("", "no command given: fedmux: try fedmux demo, or fedmux --help"),
        ] {
            let said = said(line);
            assert!(said.contains(expected) && said.contains("code: 2"), "{line}: {said}");
            assert!(!said.contains("\\n"), "{said}");
        }
    }
}
