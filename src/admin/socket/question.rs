//! What can be asked, and what is answered.

use serde::{Deserialize, Serialize};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// What the relay is doing: [`Status`](crate::relay::status::Status).
    Status,
    /// What was tried towards a domain: [`Explanation`](crate::relay::explain::Explanation).
    Explain {
        /// The remote domain.
        domain: String,
        /// Only what concerns this host of ours.
        from: Option<String>,
    },
    /// Log this much from now on; what is logged now, if nothing is named.
    Log {
        /// A level, or a list of them.
        level: Option<String>,
    },
}

/// An answer, which has a `T` if there is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer<T> {
    /// What was asked for.
    Answer(T),
    /// Why there is none.
    Error(String),
}

impl<T> From<Result<T, String>> for Answer<T> {
    fn from(outcome: Result<T, String>) -> Self {
        match outcome {
            Ok(answer) => Self::Answer(answer),
            Err(error) => Self::Error(error),
        }
    }
}

impl<T: Serialize> Answer<T> {
    /// As it is sent: JSON.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|error| Answer::<()>::Error(error.to_string()).text())
    }
}
