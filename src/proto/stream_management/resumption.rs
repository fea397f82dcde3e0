//! Streams that the other end opened and may resume (XEP-0198 section 5): where each is, by its id.
//!
//! An id leads to a stream that still lives, as far as we know, or to what is left of one that broke. Both belong to a
//! domain pair, and whoever asks must have authenticated for that pair anew; whatever doesn't fit is unknown, and that is
//! all that is said about it. A stream that many pairs share stands under its first one, and goes on in a shared stream whose other
//! end has proven that one among others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::xmpp::route::Route;

#[derive(Debug)]
enum Place<L, S> {
    Live(L),
    /// Boxed: of very many streams few are broken.
    Broken(Box<Left<S>>),
}

#[derive(Debug)]
struct Left<S> {
    state: S,
    until: Instant,
}

/// What was found under an id.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim<L, S> {
    /// Nothing that this pair may resume.
    Unknown,
    /// The stream lives: it has to end first.
    Live(L),
    /// What is left of it. It is gone from here.
    Broken(S),
}

/// The streams. `L`: what leads to one that lives; `S`: what is left of one that broke.
#[derive(Debug)]
pub struct Resumptions<L, S> {
    streams: FxHashMap<Arc<str>, (Route, Place<L, S>)>,
    expiries: BTreeSet<(Instant, Arc<str>)>,
    broken_max: usize,
}

impl<L: Clone, S> Resumptions<L, S> {
    /// At most `broken_max` broken streams are kept (`limits.resumable`).
    #[must_use]
    pub fn new(broken_max: usize) -> Self {
        Self { streams: FxHashMap::default(), expiries: BTreeSet::new(), broken_max }
    }

    /// A stream was given an id: of `route`, in the initiating entity's direction.
    pub fn opened(&mut self, id: Arc<str>, route: Route, lane: L) {
        self.streams.insert(id, (route, Place::Live(lane)));
    }

    /// It broke, and `state` is left of it. What can't be kept comes back: of the stream that would be forgotten first.
    pub fn broke(&mut self, id: &str, state: S, until: Instant) -> Option<S> {
        let Some((id, (route, _))) = self.streams.remove_entry(id) else { return Some(state) };
        self.expiries.insert((until, Arc::clone(&id)));
        self.streams.insert(id, (route, Place::Broken(Box::new(Left { state, until }))));
        if self.expiries.len() <= self.broken_max {
            return None;
        }
        self.pop_first()
    }

    /// It will not be resumed. What is left of it, if it broke.
    pub fn forget(&mut self, id: &str) -> Option<S> {
        let (id, (_, place)) = self.streams.remove_entry(id)?;
        let Place::Broken(left) = place else { return None };
        self.expiries.remove(&(left.until, id));
        Some(left.state)
    }

    /// The other end asks for the stream `id`; `may`: whether it is authenticated for a stream's pair, in the initiating entity's
    /// direction.
    pub fn claim(&mut self, id: &str, may: impl Fn(&Route) -> bool) -> Claim<L, S> {
        match self.streams.get(id) {
            Some((pair, Place::Live(lane))) if may(pair) => Claim::Live(lane.clone()),
            Some((pair, Place::Broken(_))) if may(pair) => {
                self.forget(id).map_or(Claim::Unknown, Claim::Broken)
            }
            _ => Claim::Unknown,
        }
    }

    /// What is left of streams that were not resumed in time.
    pub fn expire(&mut self, now: Instant) -> Vec<S> {
        let mut expired = Vec::new();
        while self.expiries.first().is_some_and(|(until, _)| *until <= now) {
            expired.extend(self.pop_first());
        }
        expired
    }

    /// What is left of all that broke: nothing is resumed any more.
    pub fn give_up(&mut self) -> Vec<S> {
        std::iter::from_fn(|| self.pop_first()).collect()
    }

    /// When [`Resumptions::expire`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.expiries.first().map(|(until, _)| *until)
    }

    /// The ids of all streams, in order.
    #[cfg(test)]
    pub(crate) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.streams.keys().map(|id| String::from(&**id)).collect();
        ids.sort();
        ids
    }

    /// Broken streams that are kept.
    #[must_use]
    pub fn broken(&self) -> usize {
        self.expiries.len()
    }

    fn pop_first(&mut self) -> Option<S> {
        let (_, id) = self.expiries.pop_first()?;
        match self.streams.remove(&id) {
            Some((_, Place::Broken(left))) => Some(left.state),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::xmpp::domain::Domain;

    fn route(from: &str, to: &str) -> Route {
        Route::new(Domain::parse(from).unwrap(), Domain::parse(to).unwrap())
    }

    #[test]
    fn a_stream_is_resumed_by_its_own_pair_and_once() {
        let (mut streams, now) = (Resumptions::<u8, char>::new(8), Instant::now());
        let pair = route("a.test", "b.test");
        streams.opened("x".into(), pair.clone(), 1);
        assert_eq!(streams.claim("x", |known| *known == pair), Claim::Live(1));
        assert_eq!(streams.broke("x", 's', now), None);
        assert_eq!(streams.claim("x", |known| *known == route("c.test", "b.test")), Claim::Unknown);
        assert_eq!(
            streams.claim("x", |known| *known == pair.reversed()),
            Claim::Unknown,
            "of a stream that it didn't open"
        );
        assert_eq!(streams.claim("y", |known| *known == pair), Claim::Unknown);
        assert_eq!(streams.claim("x", |known| *known == pair), Claim::Broken('s'));
        assert_eq!(streams.claim("x", |known| *known == pair), Claim::Unknown);
        assert_eq!((streams.broken(), streams.deadline()), (0, None));
    }

    #[test]
    fn what_broke_is_kept_for_its_time_and_within_its_number() {
        let (mut streams, now) = (Resumptions::<u8, char>::new(2), Instant::now());
        for (id, state, seconds) in [("x", 'x', 3), ("y", 'y', 1), ("z", 'z', 2)] {
            streams.opened(id.into(), route("a.test", "b.test"), 1);
            let left = streams.broke(id, state, now + Duration::from_secs(seconds));
            assert_eq!(left, (id == "z").then_some('y'), "the first to be forgotten makes room");
        }
        assert_eq!(streams.expire(now + Duration::from_secs(2)), ['z']);
        assert_eq!(streams.forget("x"), Some('x'));
        assert_eq!((streams.broken(), streams.broke("x", 'x', now)), (0, Some('x')));
    }
}
