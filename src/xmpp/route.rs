//! One direction of a domain pair: what a stanza's `from` and `to` come down to.

use super::domain::Domain;

/// One direction of a domain pair. The pair itself is a route and its reverse.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// The domain that sends.
    pub from: Domain,
    /// The domain that receives.
    pub to: Domain,
}

impl Route {
    /// The direction from `from` to `to`.
    #[must_use]
    pub fn new(from: Domain, to: Domain) -> Self {
        Self { from, to }
    }

    /// The other direction of the same pair.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { from: self.to.clone(), to: self.from.clone() }
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}->{}", self.from, self.to)
    }
}
