//! A lane's end is always told to the router: by its task, and if that is dropped or panics, by this.

use std::sync::Arc;

use super::hub::Hub;
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
