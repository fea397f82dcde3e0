//! What the servers of hosts answer about dialback keys, for the stream on which the keys came. Few streams ever ask, and there are
//! very many: nothing is kept for it before the first question.

use std::future::poll_fn;
use std::task::Poll;

use tokio::sync::mpsc;

use crate::reason::Reason;
use crate::xmpp::route::Route;

/// The answer of a host's server about a dialback key.
pub(super) type KeyAnswer = (Route, Result<(), Reason>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct KeyAnswers(Option<(mpsc::UnboundedSender<KeyAnswer>, mpsc::UnboundedReceiver<KeyAnswer>)>);

impl KeyAnswers {
    /// Where the answer to a question goes.
    pub(super) fn sender(&mut self) -> mpsc::UnboundedSender<KeyAnswer> {
        self.0.get_or_insert_with(mpsc::unbounded_channel).0.clone()
    }

    /// The next answer; never, if there was no question.
    pub(super) fn next(&mut self) -> impl Future<Output = Option<KeyAnswer>> + Send {
        poll_fn(|context| match &mut self.0 {
            Some((_, answers)) => answers.poll_recv(context),
            None => Poll::Pending,
        })
    }
}
