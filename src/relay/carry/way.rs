//! Where the stanzas of one stream go.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::relay::outlet::Outlet;

/// Outlets that one stream remembers; over that it forgets them all and looks them up again.
pub(super) const KNOWN_MAX: usize = 1024;

/// Outlets by the domains as they stand on the wire.
pub(super) type Known = FxHashMap<(Box<str>, Box<str>), Way>;

/// Where stanzas go that were admitted under the present scope.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) outlet: Arc<Outlet>,
    /// The operator lets nothing come back: an IQ request of our own server would have no answer.
    pub(super) mute: bool,
}

/// Where the last stanza went.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) way: Way,
    /// Its domains as they stand on the wire, where they aren't written as its route has them.
    written: Option<Box<(Box<str>, Box<str>)>>,
}

impl Last {
    pub(super) fn new(from: &str, to: &str, way: Way) -> Self {
        let route = &way.outlet.route;
        let same = route.from.as_str() == from && route.to.as_str() == to;
        let written = (!same).then(|| Box::new((from.into(), to.into())));
        Self { way, written }
    }

    /// Whether a stanza with these domains goes there too.
    pub(super) fn is(&self, from: &str, to: &str) -> bool {
        match &self.written {
            Some(written) => *written.0 == *from && *written.1 == *to,
            None => self.way.outlet.route.from.as_str() == from && self.way.outlet.route.to.as_str() == to,
        }
    }
}
