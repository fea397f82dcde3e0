//! What the admin socket answers, of a relay that `fedmux run` runs.

use async_trait::async_trait;
use serde::Serialize;

use super::logging::Level;
use crate::admin::socket::{Operated, Question};
use crate::relay::start::RelayView;
use crate::xmpp::domain::Domain;

/// A running relay, and its log.
pub(super) struct Operator {
    relay: RelayView,
    level: Level,
}

impl Operator {
    pub(super) fn new(relay: RelayView, level: Level) -> Self {
        Self { relay, level }
    }

    fn log(&self, level: Option<&str>) -> Result<String, String> {
        if let Some(level) = level {
            self.level.set(level)?;
            tracing::info!(level, "how much is logged was changed over the admin socket");
        }
        Ok(self.level.now())
    }
}

#[async_trait]
impl Operated for Operator {
    async fn answer(&self, question: Question) -> Result<serde_json::Value, String> {
        match question {
            Question::Status => json(&self.relay.status().await),
            Question::Explain { domain, from } => {
                let parse = |text: &String| Domain::parse(text).map_err(|error| format!("{text:?}: {error}"));
                let from = from.as_ref().map(parse).transpose()?;
                json(&self.relay.explain(&parse(&domain)?, from.as_ref())?)
            }
            Question::Log { level } => json(&self.log(level.as_deref())?),
        }
    }
}

fn json(answer: &impl Serialize) -> Result<serde_json::Value, String> {
    serde_json::to_value(answer).map_err(|error| error.to_string())
}
