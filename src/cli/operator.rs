//! What the admin socket answers, of a relay that `fedmux run` runs.

use async_trait::async_trait;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::JoinError;

use super::logging::Level;
use crate::admin::socket::{Answer, Operated, Question};
use crate::relay::explain::Explanation;
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

    /// Of thousands of pairs that takes some time. A thread of its own spends it, so that no lane waits for it.
    async fn status(&self) -> Vec<u8> {
        let relay = self.relay.clone();
        let made = tokio::task::spawn_blocking(move || {
            let status = Handle::current().block_on(relay.status());
            Answer::Answer(status).text()
        });
        let made = self.relay.observe(made.await);
        made.unwrap_or_else(|| {
            text(Err::<(), _>("the status can't be told; the relay's log says why".to_owned()))
        })
    }

    fn explain(&self, domain: &str, from: Option<&str>) -> Result<Explanation, String> {
        let parse = |text: &str| Domain::parse(text).map_err(|error| format!("{text:?}: {error}"));
        let from = from.map(parse).transpose()?;
        self.relay.explain(&parse(domain)?, from.as_ref())
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
    async fn answer(&self, question: Question) -> Vec<u8> {
        match question {
            Question::Status => self.status().await,
            Question::Explain { domain, from } => text(self.explain(&domain, from.as_deref())),
            Question::Log { level } => text(self.log(level.as_deref())),
        }
    }

    fn served(&self, ended: Result<(), JoinError>) {
        self.relay.observe(ended);
    }
}

fn text(outcome: Result<impl Serialize, String>) -> Vec<u8> {
    Answer::from(outcome).text()
}
