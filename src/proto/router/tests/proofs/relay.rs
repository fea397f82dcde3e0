//! An honest relay: the real router and sessions, and the least of a shell around them.

use super::*;
use crate::proto::admission::Scope;
use crate::proto::policy::DomainPolicy;

/// A connection, at the end of an honest relay.
pub(super) struct Held {
    pub(super) conn: usize,
    /// Which end of it this is: 0 dialled.
    pub(super) end: usize,
    /// The shell's copy of the session; the router has one of its own.
    pub(super) machine: Session,
    pub(super) up: bool,
    /// How many grants the router's copy and this one had when they were last checked.
    pub(super) checked: [Option<(usize, usize)>; 2],
    pub(super) pinned: Vec<PeerId>,
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
    pub(super) key: [u8; 32],
    /// How far its wall clock is off, in seconds.
    pub(super) skew: i64,
    pub(super) sessions: BTreeMap<SessionId, Held>,
    pub(super) lanes: BTreeMap<LaneId, Line>,
    pub(super) outlets: BTreeMap<Route, Outlet>,
    /// What a server of ours ever sent a stanza for.
    pub(super) wanted: BTreeSet<Route>,
}

impl Relay {
    pub(super) fn new(cast: &Cast, party: usize, key: [u8; 32], life: u64) -> Self {
        let facts = |name: &str| HostFacts { entry: 0, announce: !(cast.shy && name.contains('2')) };
        let hosts = cast.names(party).into_iter().map(|name| (name.clone(), facts(name.as_str())));
        let hosts = Arc::new(Hosts::new(hosts, DomainPolicy::default()));
        let rule = |names: BTreeSet<Domain>| {
            let domains = names.iter().map(|name| DomainPattern::parse(name.as_str()).unwrap());
            PeerRule { domains: domains.collect(), proofs: Allowance::PEER }
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
        let limits = Limits::default();
        let router = Router::new(Arc::clone(&hosts), vec![rule(others), rule(attackers)], limits, keys, life);
        Self {
            life,
            hosts,
            router,
            key,
            skew: 0,
            sessions: BTreeMap::new(),
            lanes: BTreeMap::new(),
            outlets: BTreeMap::new(),
            wanted: BTreeSet::new(),
        }
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

/// Who has which certificates. Nobody ever shows another one.
pub(super) struct Cast {
    certificates: Vec<Vec<Arc<CertifiedNames>>>,
    /// The second further host of each honest relay stands in no list.
    shy: bool,
}

impl Cast {
    /// `owner`: the honest relay one of whose names the attacker's certificate carries too,
    /// and `apart`: in a certificate of its own at the honest relay.
    pub(super) fn new(owner: usize, apart: bool, shy: bool) -> Self {
        let mut lists: Vec<Vec<Vec<&str>>> = vec![
            vec![vec!["v.test", "w.test"], vec!["v1.test"], vec!["v2.test"]],
            vec![vec!["p.test"], vec!["n1.test"], vec!["n2.test"], vec![TENANT]],
            vec![vec!["mallory.test", SHARED], vec!["m2.test"], vec![SHARED]],
        ];
        if apart {
            lists[owner].push(vec![SHARED]);
        } else {
            lists[owner][0].push(SHARED);
        }
        let mut ends = 4_000_000_000;
        let mut certificate = |list: Vec<&str>| {
            // Each ends at a time of its own, so that a grant shows whose end it took.
            ends += 1;
            let not_after = SystemTime::UNIX_EPOCH + seconds(ends);
            Arc::new(CertifiedNames { not_after, ..(*names(&list)).clone() })
        };
        let certificates =
            lists.into_iter().map(|of| of.into_iter().map(&mut certificate).collect()).collect();
        Self { certificates, shy }
    }

    pub(super) fn certificates(&self, party: usize) -> &[Arc<CertifiedNames>] {
        &self.certificates[party]
    }

    /// The certificate that `party` shows where it is to be `name`.
    pub(super) fn certificate(&self, party: usize, name: &Domain) -> Option<Arc<CertifiedNames>> {
        self.certificates[party].iter().find(|certificate| certificate.covers(name)).cloned()
    }

    pub(super) fn names(&self, party: usize) -> BTreeSet<Domain> {
        self.certificates[party].iter().flat_map(|certificate| certificate.exact.iter().cloned()).collect()
    }

    pub(super) fn everybody(&self) -> BTreeSet<Domain> {
        (0..self.certificates.len()).flat_map(|party| self.names(party)).collect()
    }
}
