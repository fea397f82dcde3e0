//! What may pass on a stream changes while it stands: hosts join its session and leave it, and the configuration is read again.

use std::sync::Arc;

use super::{Carry, Place};
use crate::proto::admission::{Proven, Scope};
use crate::proto::hosts::Hosts;
use crate::relay::mailbox::lock;

impl Carry {
    /// What may pass has changed: everything is judged anew.
    pub(crate) fn rescope(&mut self, scope: Scope) {
        self.scope = scope;
        self.known = None;
        self.last = None;
    }

    /// The configuration has changed.
    fn reconsider(&mut self) {
        self.generation = self.hub.generation();
        self.meter.reconsider(self.stands.as_ref().map(|it| it.session.address()));
        let live = self.hub.live();
        if !self.is_heard_out(&live.hosts) {
            self.hosts = Arc::clone(&live.hosts);
            self.known = None;
            self.last = None;
        }
    }

    /// Whether this is the lane of a single pair whose host of ours is gone. Nobody is heard out in the name of a domain that
    /// is our own by now.
    fn is_heard_out(&self, hosts: &Hosts) -> bool {
        let (Some(pair), Some(stands)) = (&self.scope.pair, &self.stands) else { return false };
        let (ours, theirs) = if stands.initiating { (&pair.from, &pair.to) } else { (&pair.to, &pair.from) };
        hosts.has_gone(ours) && !hosts.serves(theirs)
    }

    /// Whether hosts have joined or left the session since the scope was made. Looked at for each stanza, so that no grant
    /// outlives its end here.
    pub(super) fn is_outdated(&self) -> bool {
        self.stands.as_ref().is_some_and(|place| place.session.grants.count() != self.grants)
    }

    /// Go by what may pass now.
    pub(super) fn renew(&mut self) {
        if self.generation != self.hub.generation() {
            self.reconsider();
        }
        if self.is_outdated() {
            self.refresh();
        }
    }

    /// Make the scope anew, if it follows from the session.
    fn refresh(&mut self) {
        let Some(Place { session, route, initiating, .. }) = &self.stands else { return };
        // The count first: what changes after it is seen at the next stanza.
        self.grants = session.grants.count();
        if matches!(self.scope.theirs, Proven::Session(..)) {
            let scope = lock(&session.machine).scope(route, *initiating);
            self.rescope(scope);
        }
    }
}
