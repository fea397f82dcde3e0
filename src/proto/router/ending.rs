//! The end of the relay, behind which there is no later.

use std::time::Instant;

use super::Router;
use crate::xmpp::route::Route;

impl Router {
    /// The relay is about to end: whatever would be tried again later is tried now, and from then on soon. What comes back to its senders
    /// would else wait for a back-off that outlasts us.
    pub fn hurries(&mut self, now: Instant) {
        self.jitter.hurry();
        self.peers.values_mut().for_each(|peer| peer.retry.hurry());
        self.servers.values_mut().for_each(|server| server.retry.hurry());
        let later: Vec<Route> = self.later.iter().map(|(_, route)| route.clone()).collect();
        for route in &later {
            self.place_early(route, now);
        }
        self.retry_peers(now);
        self.retry_servers(now);
    }
}
