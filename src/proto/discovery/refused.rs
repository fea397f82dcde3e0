//! Addresses that were found and must not be dialled, for the operator: the first few of them, and how many there are. A stranger's
//! zone may name thousands, for each of any number of domains.

use core::net::SocketAddr;
use std::collections::HashSet;
use std::sync::Arc;

use crate::reason::Reason;

/// Those that are kept.
pub const REFUSED_SHOWN_MAX: usize = 8;

/// An address that was found and must not be dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedAddress {
    /// Whose address it is.
    pub host: Arc<str>,
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub reason: Reason,
}

/// What is known of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refused {
    shown: Vec<RefusedAddress>,
    counts: Vec<(Reason, usize)>,
}

impl Refused {
    /// The first ones.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &RefusedAddress> {
        self.shown.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// How many there are for each reason.
    #[must_use]
    pub fn counts(&self) -> &[(Reason, usize)] {
        &self.counts
    }
}

/// Refused addresses while they are being found, each of which counts once.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    seen: HashSet<SocketAddr>,
    refused: Refused,
}

impl Refusals {
    /// More of them than `refused`.
    pub(super) fn beside(refused: Refused) -> Self {
        Self { seen: refused.iter().map(|known| known.address).collect(), refused }
    }

    pub(super) fn add(&mut self, host: &str, address: SocketAddr, reason: Reason) {
        if !self.seen.insert(address) {
            return;
        }
        let Refused { shown, counts } = &mut self.refused;
        match counts.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => counts.push((reason, 1)),
        }
        if shown.len() < REFUSED_SHOWN_MAX {
            let last = shown.last().map(|last| &last.host).filter(|last| ***last == *host);
            let host = last.map_or_else(|| Arc::from(host), Arc::clone);
            shown.push(RefusedAddress { host, address, reason });
        }
    }

    pub(super) fn into_refused(self) -> Refused {
        self.refused
    }
}
