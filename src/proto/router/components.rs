//! External components (XEP-0114): each has one lane, which it opens itself and which carries whatever is for it. We never
//! dial one, so that what is for a component that isn't there waits for it to come.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Action, Carrier, Hop, Lane, LaneId, Router};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;
use crate::xmpp::route::Route;

/// What an XML stream may carry between stanzas without meaning anything (RFC 6120 section 4.6.1).
const WHITE_SPACE: &str = " ";

/// One component, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Component {
    /// Its last lane; whether that is still there, the lanes know.
    pub(super) lane: Option<LaneId>,
    pub(super) waiting: BTreeSet<Route>,
}

impl Router {
    /// The component `domain` has proven itself on `lane`, which is its connection from now on.
    ///
    /// # Errors
    /// [`Reason::ComponentConnected`] if it has another one that isn't known to be over, [`Reason::HostUnknown`] if there
    /// is no such component.
    pub fn component_up(&mut self, lane: LaneId, domain: &Domain, now: Instant) -> Result<(), Reason> {
        if self.hosts.component(domain).is_none() {
            return Err(Reason::HostUnknown);
        }
        if let Some(first) = self.live_lane(domain) {
            // If its machine is gone, or was started again, this makes the system notice.
            self.actions.push(Action::Post { lane: first, octets: WHITE_SPACE.to_owned() });
            return Err(Reason::ComponentConnected);
        }
        self.lanes.insert(lane, Lane::opened(Carrier::Local, now));
        let component = self.components.entry(domain.clone()).or_default();
        component.lane = Some(lane);
        for route in component.waiting.clone() {
            self.place_early(&route, now);
        }
        Ok(())
    }

    pub(super) fn place_component(&mut self, route: &Route) {
        if let Some(lane) = self.live_lane(&route.to) {
            return self.attach(route, lane);
        }
        self.components.entry(route.to.clone()).or_default();
        self.wait_for(route, Hop::Component);
        if let Some(state) = self.routes.get_mut(route) {
            state.reason = Reason::ComponentNotConnected;
        }
    }

    /// The lane of a component, unless it is gone or finishing.
    pub(super) fn live_lane(&self, domain: &Domain) -> Option<LaneId> {
        let lane = self.components.get(domain)?.lane?;
        self.lanes.get(&lane).is_some_and(|known| !known.closing).then_some(lane)
    }
}
