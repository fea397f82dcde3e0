//! What is wrong with a configuration: always the file, the line, the key and what to do.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A line of a configuration file. Ordered as the files are read: the file itself, then what it includes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// How many files were read before this one.
    pub(super) order: usize,
    /// Line, from 1; 0 stands for the file as a whole.
    pub(super) line: usize,
    /// The file, as it was named.
    pub(super) file: Arc<Path>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&shown(&self.file)),
            line => write!(f, "{}:{line}", shown(&self.file)),
        }
    }
}

/// A path on one line: a file name may hold a line break.
pub(super) fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let each =
        text.chars().map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() });
    each.collect()
}

/// One thing that stops the start. Displayed as one line: what, where, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {problem}: {place}: {advice}")]
pub struct ConfigError {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) problem: String,
    pub(super) advice: String,
}

impl ConfigError {
    /// The file that holds the mistake.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.place.file
    }

    /// The line of the mistake, from 1; `None` if it is about the file as a whole.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        (self.place.line > 0).then_some(self.place.line)
    }

    /// The key with its table, like `limits.stanza_bytes`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// All that stops the start: never empty, in the order of the files and their lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// One error for each mistake.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects errors, so that one start shows all of them. Shared by the readers of all tables.
#[derive(Debug, Default)]
pub(super) struct Errors(RefCell<Vec<ConfigError>>);

impl Errors {
    /// Add one: `key` and `problem` read as a sentence.
    pub(super) fn add(
        &self,
        place: &Place,
        key: impl Into<String>,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let error = ConfigError {
            place: place.clone(),
            key: key.into(),
            problem: problem.into(),
            advice: advice.into(),
        };
        self.0.borrow_mut().push(error);
    }

    /// Whether there is none so far: some checks only make sense then.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// `value`, or all errors in order if there is any. A reader that answered `None` has left one.
    pub(super) fn conclude<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        let mut errors = self.0.into_inner();
        errors.sort_by(|a, b| a.place.cmp(&b.place));
        match value {
            Some(value) if errors.is_empty() => Ok(value),
            _ => Err(ConfigErrors(errors)),
        }
    }
}
