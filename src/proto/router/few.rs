//! A set of routes that has one or none in most cases: a lane carries one pair, and only a stream for all pairs has many. Of lanes of
//! the first kind there may be a hundred thousand.

use std::collections::BTreeSet;

use crate::xmpp::route::Route;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) enum Few {
    #[default]
    None,
    One(Route),
    Many(BTreeSet<Route>),
}

impl Few {
    pub(super) fn insert(&mut self, route: Route) {
        match self {
            Self::None => *self = Self::One(route),
            Self::One(one) if *one == route => {}
            Self::One(one) => *self = Self::Many(BTreeSet::from([one.clone(), route])),
            Self::Many(many) => drop(many.replace(route)),
        }
    }

    pub(super) fn remove(&mut self, route: &Route) {
        self.retain(|other| other != route);
    }

    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&Route) -> bool) {
        match self {
            Self::One(one) if !keeps(one) => *self = Self::None,
            Self::Many(many) => many.retain(keeps),
            Self::None | Self::One(_) => {}
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(one) => (Some(one), None),
            Self::Many(many) => (None, Some(many.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn into_vec(self) -> Vec<Route> {
        match self {
            Self::None => Vec::new(),
            Self::One(one) => vec![one],
            Self::Many(many) => many.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::xmpp::domain::Domain;

    fn route(number: u8) -> Route {
        let domain = |name: String| Domain::parse(&name).unwrap();
        Route::new(domain(format!("a{number}.test")), domain("b.test".to_owned()))
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0_u8..4), 0..40)) {
            let (mut few, mut set) = (Few::default(), BTreeSet::new());
            for (adds, number) in steps {
                if adds {
                    few.insert(route(number));
                    set.insert(route(number));
                } else {
                    few.remove(&route(number));
                    set.remove(&route(number));
                }
                prop_assert!(few.iter().eq(&set));
                prop_assert_eq!((few.len(), few.is_empty()), (set.len(), set.is_empty()));
            }
            let mut even = few.clone();
            even.retain(|route| set.iter().position(|other| other == route).unwrap() % 2 == 0);
            prop_assert!(even.iter().eq(set.iter().step_by(2)));
            prop_assert_eq!(few.into_vec(), Vec::from_iter(set));
        }
    }
}
