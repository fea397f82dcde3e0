//! An honest relay: the real router and sessions, and the least of a shell around them.

use super::*;
use crate::proto::admission::Scope;
use crate::proto::mux::secret::LIFETIME_SECONDS;
use crate::proto::policy::DomainPolicy;

/// A connection, at the end of an honest relay.
pub(super) struct Held {
    pub(super) conn: usize,
    /// Which end of it this is: 0 dialled.
    pub(super) end: usize,
    /// The shell's copy of the session; the router has one of its own.
    pub(super) machine: Session,
    /// The stream that was authenticated first.
    pub(super) first: Option<usize>,
    /// How many grants the router's copy and this one had when they were last checked, and how many stood to reason.
    pub(super) checked: ([Option<(usize, usize)>; 2], usize),
    pub(super) pinned: Vec<PeerId>,
    /// When the first of the two certificates ends, and the session.
    pub(super) ends: Instant,
}

/// A stream, at the end of an honest relay. Without a scope it isn't authenticated yet.
pub(super) struct Line {
    pub(super) conn: usize,
    pub(super) strand: usize,
    pub(super) scope: Option<Scope>,
}

/// The queue of one route.
#[derive(Default)]
pub(super) struct Outlet {
    pub(super) lane: Option<LaneId>,
    pub(super) waiting: Vec<String>,
}

/// A relay, from one start to the next.
pub(super) struct Relay {
    /// How often it was restarted: what was meant for an earlier life doesn't arrive.
    pub(super) life: u64,
    pub(super) hosts: Arc<Hosts>,
    pub(super) router: Router,
    pub(super) limits: Limits,
    /// The key that makes secrets, and those that did; when each of them left.
    pub(super) key: [u8; 32],
    pub(super) gone: Vec<([u8; 32], Instant)>,
    /// How far its wall clock is off, in seconds.
    pub(super) skew: i64,
    pub(super) sessions: BTreeMap<SessionId, Held>,
    pub(super) lanes: BTreeMap<LaneId, Line>,
    pub(super) outlets: BTreeMap<Route, Outlet>,
    /// What a server of ours ever sent a stanza for.
    pub(super) wanted: BTreeSet<Route>,
    /// Proofs under way that it dialled for, before the router was told the last thing.
    pub(super) begun: BTreeSet<(SessionId, Domain)>,
    /// Hosts that were refused for good: no proof of theirs is begun with that peer again.
    pub(super) refused: BTreeSet<(PeerId, Domain)>,
}

impl Relay {
    pub(super) fn new(cast: &Cast, party: usize, key: [u8; 32], life: u64) -> Self {
        let hosts = Arc::new(Self::hosts(cast, party, None));
        let limits = cast.limits.clone();
        let rule = |names: BTreeSet<Domain>| {
            let domains = names.iter().map(|name| DomainPattern::parse(name.as_str()).unwrap());
            PeerRule { domains: domains.collect(), proofs: limits.proofs() }
        };
        let mut attackers = cast.names(ATTACKER);
        attackers.remove(&domain(SHARED));
        let mut others = cast.names(1 - party);
        others.remove(&domain(SHARED));
        // The operator knows the shared name as the honest provider's, unless it is his own.
        if !cast.names(party).contains(&domain(SHARED)) {
            others.insert(domain(SHARED));
        }
        let keys = Arc::new(SecretKeys::new([key]));
        let rules = vec![rule(others), rule(attackers)];
        let router = Router::new(Arc::clone(&hosts), rules, limits.clone(), keys, life);
        Self {
            life,
            hosts,
            router,
            limits,
            key,
            gone: Vec::new(),
            skew: 0,
            sessions: BTreeMap::new(),
            lanes: BTreeMap::new(),
            outlets: BTreeMap::new(),
            wanted: BTreeSet::new(),
            begun: BTreeSet::new(),
            refused: BTreeSet::new(),
        }
    }

    /// The hosts of a relay, `without` one of them.
    fn hosts(cast: &Cast, party: usize, without: Option<&Domain>) -> Hosts {
        let facts = |name: &str| HostFacts { entry: 0, announce: !(cast.shy && name.contains('2')) };
        let hosts = cast.names(party).into_iter().filter(|name| Some(name) != without);
        Hosts::new(hosts.map(|name| (name.clone(), facts(name.as_str()))), DomainPolicy::default())
    }

    /// The configuration is read again: it is without this host.
    pub(super) fn reload(&mut self, cast: &Cast, party: usize, without: Option<&Domain>) -> Arc<Hosts> {
        let hosts = Arc::new(Self::hosts(cast, party, without).after(&self.hosts));
        for held in self.sessions.values_mut() {
            held.machine.set_hosts(&hosts);
            // What it may believe is another thing now.
            held.checked.1 = usize::MAX;
        }
        // The operator may just have mended what was refused.
        self.refused.clear();
        self.hosts = Arc::clone(&hosts);
        hosts
    }

    /// Another key makes secrets from now on. The former ones take theirs for as long as those are good, as
    /// `relay::live` keeps them.
    pub(super) fn rotate(&mut self, key: [u8; 32], now: Instant) {
        self.gone.push((std::mem::replace(&mut self.key, key), now));
        self.gone.retain(|(_, at)| now.duration_since(*at) < seconds(LIFETIME_SECONDS));
        let gone = self.gone.iter().rev().map(|(key, _)| *key);
        self.router.set_keys(Arc::new(SecretKeys::new(std::iter::once(key).chain(gone))));
    }

    /// Before the router is told something.
    pub(super) fn note_wishes(&mut self) {
        let router = &self.router;
        let dialled = |second: &SessionId| router.sessions.get(second).is_some_and(|entry| entry.dialled);
        let wishes = router.proofs.iter().filter(|(_, proof)| dialled(&proof.second));
        self.begun = wishes.map(|(key, _)| key.clone()).collect();
    }

    /// A proof came to nothing. If we dialled for it, and it was refused for good, no other is begun.
    pub(super) fn remember(&mut self, session: Option<SessionId>, host: Option<Domain>, reason: Reason) {
        let (Some(session), Some(host)) = (session, host) else { return };
        let passes = !reason.is_permanent()
            && !matches!(reason, Reason::MuxRefused | Reason::MuxTimeout | Reason::TooMany);
        let key = (session, host.clone());
        // A secret that came unasked may be refused while a proof of ours goes on.
        if passes || self.router.proofs.contains_key(&key) || !self.begun.remove(&key) {
            return;
        }
        let pinned = self.sessions.get(&session).map(|held| held.pinned.clone()).unwrap_or_default();
        self.refused.extend(pinned.into_iter().map(|peer| (peer, host.clone())));
    }

    /// What an offer that is not this session's may not change: proofs, open requests, grants.
    pub(super) fn record(&self, now: Instant) -> String {
        let proofs: BTreeSet<_> = self.router.proofs.keys().collect();
        let sessions = self.router.sessions.iter().map(|(id, entry)| {
            let session = entry.session.as_ref().map(Session::grants);
            (id, session, entry.verifier.open_count(now))
        });
        format!("{proofs:?} {:?}", sessions.collect::<Vec<_>>())
    }

    /// The lane of a stream at this relay.
    pub(super) fn lane_of(&self, conn: usize, strand: usize) -> Option<LaneId> {
        let found = self.lanes.iter().find(|(_, line)| (line.conn, line.strand) == (conn, strand));
        found.map(|(lane, _)| *lane)
    }

    /// The session of a connection at this relay.
    pub(super) fn session_of(&self, conn: usize) -> Option<SessionId> {
        self.sessions.iter().find(|(_, held)| held.conn == conn).map(|(id, _)| *id)
    }
}
