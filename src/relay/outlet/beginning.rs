//! Who has begun the pair of an outlet: peers may begin so many ([`super::super::outlets`]).

use std::sync::Arc;

use super::Outlet;
use crate::proto::addresses::Network;
use crate::relay::mailbox::lock;

impl Outlet {
    pub(crate) fn is_begun_by_peer(&self) -> bool {
        lock(&self.state).begun_by.is_some()
    }

    pub(crate) fn set_begun_by(&self, peer: Arc<Network>) {
        lock(&self.state).begun_by = Some(peer);
    }

    pub(crate) fn take_begun_by(&self) -> Option<Arc<Network>> {
        lock(&self.state).begun_by.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There are very many.
    #[test]
    fn an_outlet_takes_little_room() {
        let octets = size_of::<Outlet>();
        assert!(octets <= 232, "{octets} octets");
    }
}
