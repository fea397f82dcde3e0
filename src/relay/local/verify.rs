//! The question of dialback, put to the server of a host of ours.
//!
//! It is asked on a connection of its own, at the host's `deliver` address and nowhere else, so that the answer comes
//! from the server that the operator named.

use tracing::debug;

use crate::proto::proof::DomainProof;
use crate::reason::Reason;
use crate::relay::dialback;
use crate::relay::hub::Hub;
use crate::xmpp::route::Route;

/// Ask the server of `route.from`, a host of ours, whether it made `key` for `route` on our stream `stream_id`.
///
/// # Errors
/// [`Reason::DialbackInvalid`] if it did not, [`Reason::DialbackTimeout`] if it could not be asked.
pub(crate) async fn ask(hub: &Hub, route: &Route, stream_id: &str, key: &str) -> Result<(), Reason> {
    // Half the time that the requesting server has: it hears a failure rather than nothing.
    let answer = tokio::time::timeout(hub.limits.handshake / 2, exchange(hub, route, stream_id, key)).await;
    let outcome = match answer {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Reason::DialbackInvalid),
        Ok(Err(reason)) => {
            debug!(pair = %route, %reason, "the host's own server could not be asked about a dialback key");
            Err(Reason::DialbackTimeout)
        }
        Err(_) => Err(Reason::DialbackTimeout),
    };
    if outcome.is_err() {
        hub.metrics.proof(DomainProof::Dialback, outcome);
    }
    outcome
}

async fn exchange(hub: &Hub, route: &Route, stream_id: &str, key: &str) -> Result<bool, Reason> {
    // The rest is for the answer.
    let (mut connection, _) = super::server::connect(hub, &route.from, hub.limits.handshake / 3).await?;
    dialback::exchange(hub, &mut connection, route, stream_id, key).await
}
