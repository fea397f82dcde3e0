//! The end of a lane, and of a session, is always told to the router: by its task, and if that is dropped or panics, by
//! these.

use std::sync::Arc;

use tracing::info;

use super::hub::Hub;
use super::shared::SessionShared;
use crate::metrics::Opened;
use crate::proto::admission::Side;
use crate::proto::router::{LaneFailure, LaneId};
use crate::reason::Reason;

/// Held by a lane's task.
#[derive(Debug)]
pub(crate) struct LaneGuard {
    hub: Arc<Hub>,
    lane: LaneId,
    side: Side,
    told: bool,
}

impl LaneGuard {
    pub(crate) fn new(hub: &Arc<Hub>, lane: LaneId, side: Side) -> Self {
        Self { hub: Arc::clone(hub), lane, side, told: false }
    }

    /// A lane of ours did not come to be, and its session stands.
    pub(crate) fn failed(mut self, failure: LaneFailure) {
        self.told = true;
        self.hub.forget_lane(self.lane);
        self.hub.control(|router, now| router.lane_failed(self.lane, failure, now));
    }

    /// The lane has ended.
    pub(crate) fn down(mut self, reason: Reason) {
        self.tell(reason);
    }

    fn tell(&mut self, reason: Reason) {
        self.told = true;
        self.hub.forget_lane(self.lane);
        self.hub.control(|router, now| match self.side {
            Side::Remote => router.lane_down(self.lane, reason, now),
            Side::Local => router.local_lane_down(self.lane, reason, now),
        });
    }
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Reason::InternalServerError);
        }
    }
}

/// Tells the router that a session is gone, whatever ended its task.
#[derive(Debug)]
pub(crate) struct SessionGuard {
    hub: Arc<Hub>,
    session: Arc<SessionShared>,
    opened: Opened,
    /// Why it ends.
    pub(crate) reason: Reason,
}

impl SessionGuard {
    pub(crate) fn new(hub: &Arc<Hub>, session: &Arc<SessionShared>, opened: Opened) -> Self {
        let transport = session.connection.transport().as_str();
        hub.metrics.connections(transport, opened).inc();
        hub.metrics.connection_opened(transport, opened);
        Self {
            hub: Arc::clone(hub),
            session: Arc::clone(session),
            opened,
            reason: Reason::InternalServerError,
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let Self { hub, session, opened, reason } = self;
        let transport = session.connection.transport().as_str();
        hub.metrics.connections(transport, *opened).dec();
        // What nobody has asked for since the last time still counts.
        let _counted = session.look_at_path(hub);
        if session.is_up() {
            hub.metrics.sessions(transport, session.opened).dec();
            hub.metrics.session_ended(*reason);
            info!(parent: &session.span, %reason, "session down");
        }
        let in_vain = *opened == Opened::Outbound && !session.is_up();
        let in_vain = in_vain.then_some((session.place.transport, session.place.address));
        hub.session_down(session.id, in_vain, *reason);
    }
}
