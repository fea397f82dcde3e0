//! Who of the peers is let in: a place for each connection, of which there are `limits.remote_connections`, and no address
//! has more of them than its share (XEP-0205), nor do strangers have those that are kept for whom the operator knows. All
//! listeners of the remote side have one door, and it is held against a connection before anything is done for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use super::acquaintances::{self, Acquaintances};
use super::clock;
use super::hub::Hub;
use super::mailbox::lock;
use crate::metrics::Metrics;
use crate::proto::addresses::{Addresses, counted_as};
use crate::proto::admission::Side;
use crate::reason::Reason;

/// One place in so many is kept for the addresses of `[[peer]]`s, if there are any: strangers are many, and may come from everywhere.
const KEPT: usize = 8;

/// The door of the remote side.
#[derive(Debug)]
pub(crate) struct Door {
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    places_all: usize,
    addresses: Mutex<Addresses>,
    peers: Arc<Acquaintances>,
}

/// A place that is taken by a connection. Free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    door: Arc<Door>,
    /// `None`: that of a `[[peer]]`, which isn't counted.
    address: Option<IpAddr>,
    shaking: bool,
    _permit: OwnedSemaphorePermit,
}

impl Door {
    /// Open, with nobody inside.
    pub(crate) fn new(hub: &Arc<Hub>) -> Arc<Self> {
        let places_all = hub.limits.remote_connections;
        hub.tasks.spawn(acquaintances::watch(Arc::clone(hub)));
        Arc::new(Self {
            metrics: Arc::clone(&hub.metrics),
            places: Arc::new(Semaphore::new(places_all)),
            places_all,
            addresses: Mutex::new(Addresses::new(hub.limits.of_address(), places_all)),
            peers: Arc::clone(&hub.acquaintances),
        })
    }

    /// A place for a connection from `address`. `None`: there is none for it, which has been counted and said.
    pub(crate) fn enter(self: &Arc<Self>, address: SocketAddr) -> Option<Place> {
        let ip = address.ip().to_canonical();
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            self.refused("remote_connections");
            return None;
        };
        let address = (!self.peers.contains(ip)).then_some(ip);
        if let Some(stranger) = address
            && !self.lets_in(stranger)
        {
            return None;
        }
        Some(Place { door: Arc::clone(self), address, shaking: true, _permit: permit })
    }

    /// Whether there is a place for whom the operator doesn't know; then it is taken.
    fn lets_in(&self, stranger: IpAddr) -> bool {
        let kept = if self.peers.is_empty() { 0 } else { self.places_all / KEPT };
        let mut addresses = lock(&self.addresses);
        if addresses.connections() >= self.places_all - kept {
            self.refused("remote_connections");
            return false;
        }
        let Err(refusal) = addresses.connect(stranger, clock::now()) else { return true };
        drop(addresses);
        self.refused(refusal.limit);
        if refusal.tell {
            let (from, limit) = (counted_as(stranger), refusal.limit);
            let advice = "nothing, if it is a flood; for a peer that needs more, raise the limit or name its address in a [[peer]]";
            warn!(address = from, limit, reason = %Reason::TooMany, advice, "connections refused; said once a minute");
        }
        false
    }

    /// Whether a connection from `address` should first show that somebody receives there (RFC 9000 section 8.1.2): half
    /// of all places are taken, or half of what the address may have.
    pub(crate) fn is_crowded(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.places.available_permits() < self.places_all.div_ceil(2)
            || !self.peers.contains(ip) && lock(&self.addresses).is_crowded(ip, clock::now())
    }

    fn refused(&self, limit: &str) {
        self.metrics.limit_hit(limit);
        self.metrics.refused(Side::Remote, Reason::TooMany);
    }
}

impl Place {
    /// The handshake is complete.
    pub(crate) fn shaken(&mut self) {
        if let (Some(ip), true) = (self.address, self.shaking) {
            lock(&self.door.addresses).shaken(ip);
        }
        self.shaking = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shaken();
        if let Some(ip) = self.address {
            lock(&self.door.addresses).closed(ip);
        }
    }
}
