//! Where each `[[peer]]` is: the operator knows them, and the limits for one address aren't meant for them; and a session leads to
//! those at whose address its other end is.
//!
//! One that is named by a host name is looked up when the relay starts, and then each `limits.peers_poll`, and when it is dialled.
//! As long as the name can't be resolved, what was known of it stays good. A connection never looks up the names of others than
//! whom it is made to: one name that nobody answers for would hold up everybody.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::hub::Hub;
use super::io::resolve;
use super::mailbox::lock;
use super::settings::{Endpoint, Settings};
use crate::reason::Reason;

/// Names that are looked up at once.
const NAMES_AT_ONCE: usize = 16;

/// The addresses of peers that the operator knows.
#[derive(Debug, Default)]
pub(super) struct Acquaintances {
    state: Mutex<State>,
    /// There are other names to look up.
    changed: Notify,
    /// A name was looked up, or is no longer to be.
    told: Notify,
}

#[derive(Debug, Default)]
struct State {
    written: BTreeSet<IpAddr>,
    /// The host names, once each.
    names: Vec<(Endpoint, Known)>,
}

/// What is known of one name.
#[derive(Debug, Clone, Default)]
struct Known {
    addresses: BTreeSet<IpAddr>,
    /// It was looked up once.
    asked: bool,
    /// It couldn't be looked up the last time.
    failed: bool,
}

impl Acquaintances {
    pub(super) fn new(settings: &Settings) -> Self {
        let acquaintances = Self::default();
        acquaintances.follow(settings);
        acquaintances
    }

    /// The peers are those of `settings` from now on. What is known of a name that stays is kept.
    pub(super) fn follow(&self, settings: &Settings) {
        let mut written = BTreeSet::new();
        let mut names: Vec<(Endpoint, Known)> = Vec::new();
        let mut state = lock(&self.state);
        for peer in &settings.peers {
            match &peer.address {
                Endpoint::Address(address) => drop(written.insert(address.ip().to_canonical())),
                name @ Endpoint::Name { .. } if names.iter().all(|(other, _)| other != name) => {
                    let known = state.names.iter().find(|(other, _)| other == name);
                    names.push((name.clone(), known.map(|(_, known)| known.clone()).unwrap_or_default()));
                }
                Endpoint::Name { .. } => {}
            }
        }
        *state = State { written, names };
        drop(state);
        self.changed.notify_one();
        self.told.notify_waiters();
    }

    /// Whether a `[[peer]]` is at `ip`, which is canonical.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        let state = lock(&self.state);
        state.written.contains(&ip) || state.names.iter().any(|(_, known)| known.addresses.contains(&ip))
    }

    /// Whether there is no `[[peer]]`.
    pub(super) fn is_empty(&self) -> bool {
        let state = lock(&self.state);
        state.written.is_empty() && state.names.is_empty()
    }

    /// Whether `peer`, where a `[[peer]]` is, is at `ip`, which is canonical, as far as is known.
    pub(super) fn is_at(&self, peer: &Endpoint, ip: IpAddr) -> bool {
        match peer {
            Endpoint::Address(address) => address.ip().to_canonical() == ip,
            Endpoint::Name { .. } => {
                let state = lock(&self.state);
                state.names.iter().any(|(name, known)| known.addresses.contains(&ip) && name == peer)
            }
        }
    }

    /// Wait until `name` was looked up once: a moment after the relay has started, or a reload has named it.
    pub(super) async fn looked_up(&self, name: &Endpoint) {
        loop {
            let told = self.told.notified();
            if lock(&self.state).names.iter().all(|(other, known)| known.asked || other != name) {
                return;
            }
            told.await;
        }
    }

    /// `name` was looked up.
    pub(super) fn learn(&self, name: &Endpoint, found: Result<&[SocketAddr], Reason>) {
        if let Some((_, known)) = lock(&self.state).names.iter_mut().find(|(other, _)| other == name) {
            known.take(name, found);
        }
        self.told.notify_waiters();
    }

    /// Look up every name once, several at a time: one that nobody answers for holds up few others.
    async fn look<F>(&self, resolve: impl Fn(Endpoint) -> F)
    where
        F: Future<Output = Result<Vec<SocketAddr>, Reason>> + Send + 'static,
    {
        let names: Vec<Endpoint> = lock(&self.state).names.iter().map(|(name, _)| name.clone()).collect();
        let (mut names, mut asked) = (names.into_iter(), JoinSet::new());
        loop {
            for name in names.by_ref().take(NAMES_AT_ONCE - asked.len()) {
                let found = resolve(name.clone());
                asked.spawn(async move { (name, found.await) });
            }
            match asked.join_next().await {
                Some(Ok((name, found))) => self.learn(&name, found.as_deref().map_err(|reason| *reason)),
                // A look-up that panicked has told nothing.
                Some(Err(_)) => {}
                None => return,
            }
        }
    }
}

impl Known {
    /// The answer for `name`.
    fn take(&mut self, name: &Endpoint, found: Result<&[SocketAddr], Reason>) {
        self.asked = true;
        let failed = match found {
            Ok(found) => {
                let found = found.iter().map(|address| address.ip().to_canonical()).collect();
                if found != self.addresses {
                    debug!(peer = %name, addresses = ?found, "a peer's host name was looked up; these aren't counted in the limits of an address");
                    self.addresses = found;
                }
                false
            }
            Err(reason) => {
                if !self.failed {
                    warn!(peer = %name, %reason, advice = reason.advice(), "a peer's host name can't be looked up");
                }
                true
            }
        };
        self.failed = failed;
    }
}

/// Look the names up for as long as the relay lives.
pub(super) async fn watch(hub: Arc<Hub>) {
    let patience = hub.limits.look_up;
    loop {
        hub.acquaintances.look(|name| async move { resolve(&name, patience).await }).await;
        let changed = hub.acquaintances.changed.notified();
        let _either = tokio::time::timeout(hub.limits.peers_poll, changed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str) -> Endpoint {
        Endpoint::Name { host: host.to_owned(), port: 5269 }
    }

    #[tokio::test]
    async fn a_name_that_moves_is_followed_and_one_that_cannot_be_looked_up_stays_where_it_was() {
        let peers = Acquaintances::default();
        *lock(&peers.state) = State {
            written: BTreeSet::from(["192.0.2.1".parse().unwrap()]),
            names: ["b.test", "c.test"].map(|host| (name(host), Known::default())).into(),
        };
        let is = |text: &str| peers.contains(text.parse().unwrap());
        for (b, c, expected) in [
            (None, None, [true, false, false, false]),
            (Some("192.0.2.2"), Some("[::ffff:192.0.2.3]"), [true, true, true, false]),
            (None, Some("192.0.2.4"), [true, true, false, true]),
            (Some("192.0.2.3"), None, [true, false, true, true]),
        ] {
            let answer = |name: &Endpoint| {
                let of = if name.to_string().starts_with('b') { b } else { c };
                of.map(|ip| vec![format!("{ip}:5269").parse().unwrap()]).ok_or(Reason::NameNotResolved)
            };
            peers.look(|name| std::future::ready(answer(&name))).await;
            let are = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"].map(is);
            assert_eq!(are, expected, "{b:?} {c:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_nobody_answers_for_holds_up_no_other() {
        let peers = Arc::new(Acquaintances::default());
        let (silent, other, ip) = (name("b.test"), name("c.test"), "192.0.2.2".parse().unwrap());
        lock(&peers.state).names = [&silent, &other].map(|name| (name.clone(), Known::default())).into();
        let answer = move |name: Endpoint| async move {
            if name.to_string().starts_with('b') {
                std::future::pending::<()>().await;
            }
            Ok(vec![SocketAddr::new(ip, 5269)])
        };
        let (looking, waiting) = (Arc::clone(&peers), Arc::clone(&peers));
        let looking = tokio::spawn(async move { looking.look(answer).await });
        peers.looked_up(&other).await;
        assert!(peers.is_at(&other, ip) && !peers.is_at(&silent, ip));
        let waits = silent.clone();
        let waiting = tokio::spawn(async move { waiting.looked_up(&waits).await });
        tokio::task::yield_now().await;
        assert!(!looking.is_finished() && !waiting.is_finished());
        // Whoever dials it may learn it first.
        peers.learn(&silent, Ok(&[SocketAddr::new(ip, 5269)]));
        waiting.await.unwrap();
        assert!(peers.is_at(&silent, ip));
        looking.abort();
    }
}
