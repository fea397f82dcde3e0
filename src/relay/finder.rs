//! The look-up of a peer's records as a task (`proto::discovery`): its answer is always told to the router.

use std::sync::Arc;

use tracing::{debug, warn};

use super::hub::Hub;
use crate::proto::admission::Side;
use crate::proto::discovery::found::{Answer, Found};
use crate::proto::router::PeerId;
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// Tells the router that nothing was found, if the task ends without an answer.
struct FindGuard {
    hub: Arc<Hub>,
    peer: PeerId,
    answer: Option<Arc<Found>>,
}

impl Drop for FindGuard {
    fn drop(&mut self) {
        let failed = || Arc::new(Found::failed(Reason::InternalServerError));
        let answer = self.answer.take().unwrap_or_else(failed);
        self.hub.control(|router, now| router.found(self.peer, answer, now));
    }
}

/// Ask where the records of `domain` lead, for `peer`.
pub(crate) async fn find(hub: Arc<Hub>, peer: PeerId, domain: Domain) {
    let Some(finder) = hub.finder.as_ref() else { return };
    let mut guard = FindGuard { hub: Arc::clone(&hub), peer, answer: None };
    let found = finder.find(&domain, super::random::seed()).await;
    for refused in &found.refused {
        let (host, address, reason) = (&refused.host, refused.address, refused.reason);
        warn!(%domain, %host, %address, %reason, advice = reason.advice(), "address not dialled");
    }
    match &found.answer {
        Answer::Ways(_) => debug!(%domain, ways = found.ways().len(), "peer found"),
        Answer::Nothing => {
            let reason = Reason::NoRecords;
            warn!(%domain, %reason, advice = reason.advice(), "peer not found");
        }
        Answer::Failed(reason) => {
            hub.metrics.dial_failed(Side::Remote, *reason);
            warn!(%domain, %reason, advice = reason.advice(), "peer not found");
        }
    }
    guard.answer = Some(found);
}
