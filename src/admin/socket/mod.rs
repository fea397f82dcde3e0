//! The admin socket: a unix socket for whoever operates the relay, on this machine. It names tenants, so that the file's mode
//! (0660) says who may ask.
//!
//! One connection, one question, one answer: a line of JSON ([`Question`]) in, a JSON document ([`Answer`]) out, and the end of the
//! stream. It changes nothing of the traffic; [`Question::Log`] changes how much is logged.

mod place;
mod question;

#[cfg(test)]
mod tests;

pub use place::{Place, PlaceError};
pub use question::{Answer, Question};

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinError;

use super::accepting;

/// What one client may take from the others.
#[derive(Clone, Copy)]
struct Bounds {
    /// Connections served at once; more wait in the socket's backlog.
    connections: usize,
    /// From accepting a connection to the end of its question.
    question_time: Duration,
    /// From there to the last octet of the answer.
    answer_time: Duration,
}

const BOUNDS: Bounds =
    Bounds { connections: 8, question_time: Duration::from_secs(5), answer_time: Duration::from_secs(20) };
/// Octets of a question: a command and two domains.
pub const QUESTION_BYTES_MAX: usize = 4 * 1024;

/// What answers.
#[async_trait]
pub trait Operated: Send + Sync {
    /// The answer to `question`, as [`Answer::text`] writes it. An error in it is one line that says what and what to do.
    async fn answer(&self, question: Question) -> Vec<u8>;

    /// A connection was served, or its task has panicked.
    fn served(&self, ended: Result<(), JoinError>);
}

/// Serve `operated` at `place`, for as long as the future is polled. Dropping it ends its connections.
pub async fn serve(place: Arc<Place>, operated: Arc<dyn Operated>) {
    serve_within(BOUNDS, place, operated).await;
}

async fn serve_within(bounds: Bounds, place: Arc<Place>, operated: Arc<dyn Operated>) {
    let serve = |stream| connection(bounds, stream, Arc::clone(&operated));
    let ended = |ended| operated.served(ended);
    accepting::serve("admin socket", bounds.connections, || place.accept(), serve, ended).await;
}

/// One connection. What goes wrong is the client's loss: it sees a closed connection.
async fn connection(bounds: Bounds, mut stream: UnixStream, operated: Arc<dyn Operated>) {
    let asked = tokio::time::timeout(bounds.question_time, question(&mut stream)).await;
    let served = async {
        let text = match asked {
            Ok(Ok(question)) => operated.answer(question).await,
            Ok(Err(error)) => refusal(error),
            Err(_) => refusal("no question came in time".to_owned()),
        };
        stream.write_all(&text).await?;
        stream.shutdown().await
    };
    match tokio::time::timeout(bounds.answer_time, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an answer of the admin socket was not taken"),
        Err(_) => tracing::debug!("an answer of the admin socket was not taken in time"),
    }
}

fn refusal(error: String) -> Vec<u8> {
    Answer::<()>::Error(error).text()
}

/// The question, up to the end of its line.
async fn question(stream: &mut UnixStream) -> Result<Question, String> {
    let mut line = Vec::new();
    let mut limited = stream.take(QUESTION_BYTES_MAX as u64);
    loop {
        let read = limited.read_buf(&mut line).await.map_err(|error| error.to_string())?;
        if let Some(end) = line.iter().position(|octet| *octet == b'\n') {
            line.truncate(end);
            break;
        }
        if read == 0 && limited.limit() == 0 {
            return Err(format!("a question has at most {QUESTION_BYTES_MAX} octets"));
        }
        if read == 0 {
            break;
        }
    }
    serde_json::from_slice(&line).map_err(|error| format!("this is no question: {error}"))
}
