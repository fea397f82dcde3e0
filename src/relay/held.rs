//! Streams that peers opened, that broke, and for which outlets are held: nothing leaves these before the peer has resumed its
//! stream, said that it won't, or taken too long.

use std::collections::BTreeSet;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::xmpp::route::Route;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_id: FxHashMap<String, (Instant, Route)>,
    by_time: BTreeSet<(Instant, String)>,
    by_route: FxHashMap<Route, Vec<String>>,
}

impl Held {
    /// The stream `id` of `route`, in the initiating entity's direction, is waited for until then.
    pub(super) fn insert(&mut self, id: &str, route: Route, until: Instant) {
        self.remove(id);
        self.by_time.insert((until, id.to_owned()));
        self.by_route.entry(route.clone()).or_default().push(id.to_owned());
        self.by_id.insert(id.to_owned(), (until, route));
    }

    /// It is waited for no longer.
    pub(super) fn remove(&mut self, id: &str) {
        let Some((until, route)) = self.by_id.remove(id) else { return };
        self.by_time.remove(&(until, id.to_owned()));
        if let Some(ids) = self.by_route.get_mut(&route) {
            ids.retain(|known| known != id);
            if ids.is_empty() {
                self.by_route.remove(&route);
            }
        }
    }

    /// The streams of `route` that are waited for.
    pub(super) fn of(&self, route: &Route) -> Vec<String> {
        self.by_route.get(route).cloned().unwrap_or_default()
    }

    /// When the first of them has taken too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_time.first().map(|(until, _)| *until)
    }

    /// Take out one that has.
    pub(super) fn expire(&mut self, now: Instant) -> Option<String> {
        let (until, id) = self.by_time.first().filter(|(until, _)| *until <= now).cloned()?;
        debug_assert_eq!(self.by_id.get(&id).map(|(known, _)| *known), Some(until));
        self.remove(&id);
        Some(id)
    }

    /// None is waited for.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::xmpp::domain::Domain;

    fn route(from: &str) -> Route {
        Route::new(Domain::parse(from).unwrap(), Domain::parse("b.test").unwrap())
    }

    #[test]
    fn a_stream_is_found_by_its_pair_and_by_its_time_until_it_is_gone() {
        let (mut held, now) = (Held::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for (id, from, seconds) in [("x", "a.test", 2), ("y", "a.test", 1), ("z", "c.test", 3)] {
            held.insert(id, route(from), at(seconds));
        }
        assert_eq!(held.of(&route("a.test")), ["x", "y"]);
        assert_eq!((held.deadline(), held.expire(now)), (Some(at(1)), None));
        assert_eq!(
            (held.expire(at(2)), held.expire(at(2)), held.expire(at(2))),
            (Some("y".into()), Some("x".into()), None)
        );
        assert_eq!((held.of(&route("a.test")).len(), held.of(&route("c.test"))), (0, vec!["z".to_owned()]));
        held.remove("z");
        assert_eq!((held.deadline(), held.by_route.len(), held.by_id.len()), (None, 0, 0));
    }
}
