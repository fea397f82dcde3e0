//! How a command fails: one line for each thing that is wrong, and the exit code.

use std::io::Write as _;
use std::process::ExitCode;

use crate::config::ConfigErrors;

/// It failed.
const FAILED: u8 = 1;
/// It was asked for in a way that makes no sense, or configured so.
const USAGE: u8 = 2;

/// Why a command could not do its work.
#[derive(Debug)]
pub(super) struct Failure {
    lines: Vec<String>,
    code: u8,
}

impl Failure {
    /// The work failed: what, where, what to do.
    pub(super) fn failed(what: impl std::fmt::Display, place: impl std::fmt::Display, advice: &str) -> Self {
        Self { lines: vec![format!("{what}: {place}: {advice}")], code: FAILED }
    }

    /// The work failed, and `line` says what, where, and what to do already.
    pub(super) fn failed_as(line: impl std::fmt::Display) -> Self {
        Self { lines: vec![line.to_string()], code: FAILED }
    }

    /// The command line makes no sense.
    pub(super) fn usage(what: impl std::fmt::Display, place: impl std::fmt::Display, advice: &str) -> Self {
        Self { lines: vec![format!("{what}: {place}: {advice}")], code: USAGE }
    }

    /// The command line makes no sense, and `line` says what, where, and what to do already.
    pub(super) fn usage_as(line: impl std::fmt::Display) -> Self {
        Self { lines: vec![line.to_string()], code: USAGE }
    }

    /// Write it to stderr.
    pub(super) fn report(&self) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        for line in &self.lines {
            // An error is one line, whatever the system or a file put into it. If stderr is gone, the code remains.
            let _written = writeln!(stderr, "fedmux: {}", line.replace('\n', "; "));
        }
        ExitCode::from(self.code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.lines.join("; "))
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self { lines: errors.iter().map(ToString::to_string).collect(), code: USAGE }
    }
}
