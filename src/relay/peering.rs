//! The `[[peer]]` entries, and what of them a reload leaves as it is.
//!
//! An entry keeps its identifier as long as whoever is connected by it could have been connected by what it says now. With another
//! address, transport, authority, announcement or placement it is another peer: the sessions that were made by its former rules
//! leave ([`SessionShared::is_outdated`]), and new ones are made. Which domains it has, and how many secrets are made for it, changes
//! in place.
//!
//! An authority may change under the same name: its file is another one. So what was read is compared, and besides the sessions of the
//! entry those leave in which a domain of it was proven otherwise than by their own certificate: by a mux secret or by dialback.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::hub::{Control, Hub};
use super::live::Live;
use super::mailbox::lock;
use super::settings::{Peer, RemoteDialback};
use super::shared::SessionShared;
use crate::identity::trust::TrustStore;
use crate::proto::proof::CertifiedNames;
use crate::proto::router::{PeerId, PeerRule};
use crate::reason::Reason;
use crate::xmpp::domain::{Domain, DomainPattern};

/// The entries, in their order.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    entries: Vec<(PeerId, Peer)>,
    places: FxHashMap<PeerId, usize>,
    /// The next entry that is new has this identifier.
    next: usize,
}

impl Peers {
    /// The entries with which a relay starts.
    pub(crate) fn new(peers: &[Peer]) -> Self {
        let entries = peers.iter().cloned().enumerate().map(|(at, peer)| (PeerId(at), peer)).collect();
        Self::of(entries, peers.len())
    }

    fn of(entries: Vec<(PeerId, Peer)>, next: usize) -> Self {
        let places = entries.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
        Self { entries, places, next }
    }

    /// The entries `wanted`, that follow these: which of them are the same peer as before is known by the identifier.
    pub(crate) fn after(&self, wanted: &[Peer]) -> Self {
        let former = self.former(wanted);
        let mut next = self.next;
        let identified = wanted.iter().zip(former).map(|(peer, former)| {
            let kept = former.filter(|(_, former)| has_same_ways(former, peer)).map(|(id, _)| *id);
            let id = kept.unwrap_or_else(|| {
                next += 1;
                PeerId(next - 1)
            });
            (id, peer.clone())
        });
        let entries = identified.collect();
        Self::of(entries, next)
    }

    pub(crate) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.entries.get(*self.places.get(&id)?).map(|(_, peer)| peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.entries.iter().map(|(id, peer)| (*id, peer))
    }

    /// What the router goes by.
    pub(crate) fn rules(&self) -> Vec<(PeerId, PeerRule)> {
        let rule = |peer: &Peer| PeerRule { domains: peer.domains.clone(), proofs: peer.proofs };
        self.iter().map(|(id, peer)| (id, rule(peer))).collect()
    }

    /// For each entry of `wanted` the one of these that it follows: they have a domain in common, and if possible whoever is
    /// connected may stay.
    fn former<'a>(&'a self, wanted: &[Peer]) -> Vec<Option<&'a (PeerId, Peer)>> {
        let by_domain: FxHashMap<&DomainPattern, usize> = self
            .entries
            .iter()
            .enumerate()
            .flat_map(|(at, (_, peer))| peer.domains.iter().map(move |domain| (domain, at)))
            .collect();
        let mut taken = vec![false; self.entries.len()];
        let mut found = vec![None; wanted.len()];
        for alike in [true, false] {
            for (peer, found) in wanted.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                let candidates = peer.domains.iter().filter_map(|domain| by_domain.get(domain).copied());
                let mut entries = candidates.filter_map(|at| Some((at, self.entries.get(at)?)));
                let fits = |(at, (_, former)): &(usize, &(PeerId, Peer))| {
                    taken.get(*at) == Some(&false) && (!alike || has_same_ways(former, peer))
                };
                if let Some((at, entry)) = entries.find(fits) {
                    taken[at] = true;
                    *found = Some(entry);
                }
            }
        }
        found
    }

    /// What has changed since `former`, a line each.
    pub(super) fn differences(&self, former: &Self) -> Vec<String> {
        let wanted: Vec<Peer> = self.entries.iter().map(|(_, peer)| peer.clone()).collect();
        let pairs = former.former(&wanted);
        let stay: BTreeSet<PeerId> = pairs.iter().flatten().map(|(id, _)| *id).collect();
        let mut changed = Vec::new();
        for (peer, old) in wanted.iter().zip(pairs) {
            match old {
                Some((_, old)) => changed.extend(changes(old, peer)),
                None => changed.push(format!("peer {} added: {}", name(peer), way(peer))),
            }
        }
        let gone = former.entries.iter().filter(|(id, _)| !stay.contains(id));
        changed.extend(gone.map(|(_, peer)| format!("peer {} taken away", name(peer))));
        changed
    }
}

impl Control {
    /// The `[[peer]]` entries are others, or the authorities that they name: the sessions that were made by what has changed
    /// leave, and no other one.
    pub(super) fn follow_peers(&mut self, former: &Live, live: &Live, now: Instant) {
        let by_the_same_rules = former.settings.policy.dialback == live.settings.policy.dialback
            && former.settings.peers == live.settings.peers
            && Arc::ptr_eq(&former.trust, &live.trust);
        if by_the_same_rules {
            return;
        }
        let mut left = Vec::new();
        for (commands, session) in self.sessions.values() {
            let first = self.router.anchor(session.id);
            if session.is_outdated(&former.trust, live, first.map(|pair| pair.to)) {
                session.leave(commands);
                self.router.lanes_leave(session.id, Reason::PeerChanged);
                left.push(session.id);
            }
        }
        self.router.peers_changed(live.peers.rules(), now);
        // Only now: what is placed anew would go to the peers of before.
        for session in left {
            self.router.proofs_leave(session, Reason::PeerChanged, now);
        }
    }
}

impl Hub {
    /// `domain` was proven by dialback in `session`. Whom we believe about it may have changed while its server was asked.
    pub(super) fn dialback_proven(&self, session: &SessionShared, domain: &Domain) {
        let control = lock(&self.control);
        let (live, judged_by) = (self.live(), session.verdict.trust());
        if judged_by.is_some_and(|trust| session.is_outdated(&trust, &live, Some(domain.clone())))
            && let Some((commands, _)) = control.sessions.get(&session.id)
        {
            session.leave(commands);
        }
    }
}

impl SessionShared {
    /// Whether the session was made by rules that no longer hold: its entry is gone or is another peer now, its domains could be proven
    /// by dialback and none can be any more, or others than those of `former` vouch for what its peer has proven. `first`: the domain of its first stream, which stands in no
    /// certificate if it was proven by dialback.
    pub(super) fn is_outdated(&self, former: &Arc<TrustStore>, now: &Live, first: Option<Domain>) -> bool {
        let by_dialback = lock(&self.machine).facts().dialback;
        if self.lacks_entry(&now.peers)
            || by_dialback && now.settings.policy.dialback == RemoteDialback::Never
        {
            return true;
        }
        if Arc::ptr_eq(former, &now.trust) {
            return false;
        }
        let machine = lock(&self.machine);
        let granted = machine.granted().0.iter().map(|(host, _)| host.clone());
        let mut names = shown(&machine.facts().theirs).chain(granted.chain(first).map(DomainPattern::Exact));
        names.any(|name| !former.pins_alike(&now.trust, &name))
    }

    /// Whether an entry by which it was made is gone.
    fn lacks_entry(&self, now: &Peers) -> bool {
        let mut entries = self.pinned.iter().chain(&self.entry).filter(|id| id.is_configured());
        entries.any(|id| now.get(*id).is_none())
    }
}

/// What a certificate speaks for, as rules.
fn shown(names: &CertifiedNames) -> impl Iterator<Item = DomainPattern> {
    let exact = names.exact.iter().cloned().map(DomainPattern::Exact);
    exact.chain(names.wildcard.iter().cloned().map(DomainPattern::Subtree))
}

/// What of an entry decides how its sessions are made.
fn has_same_ways(one: &Peer, other: &Peer) -> bool {
    ways(one, other).into_iter().all(|(_, same)| same)
}

fn ways(old: &Peer, new: &Peer) -> [(&'static str, bool); 5] {
    [
        ("address", old.address == new.address),
        ("transport", old.transport == new.transport),
        ("trust", old.trust == new.trust),
        ("announce", old.announce_all == new.announce_all),
        ("placement", old.placement == new.placement),
    ]
}

fn changes(old: &Peer, new: &Peer) -> Vec<String> {
    let Peer { domains, address: _, transport: _, trust: _, announce_all: _, placement: _, proofs } = new;
    let others = [
        ("domains", old.domains == *domains),
        ("proofs_open", old.proofs.open == proofs.open),
        ("proofs_burst", old.proofs.burst == proofs.burst),
        ("proofs_every", old.proofs.every == proofs.every),
    ];
    let changed = ways(old, new).into_iter().chain(others).filter(|(_, same)| !same);
    let described = |key| match key {
        "address" | "transport" => format!(", from {} to {}", way(old), way(new)),
        _ => String::new(),
    };
    changed.map(|(key, _)| format!("peer {}: {key} changed{}", name(new), described(key))).collect()
}

fn way(peer: &Peer) -> String {
    format!("{} by {}", peer.address, peer.transport)
}

/// Its first domain, for the log.
fn name(peer: &Peer) -> String {
    let more = if peer.domains.len() > 1 { " and others" } else { "" };
    format!("{}{more}", peer.domains.first().map(ToString::to_string).unwrap_or_default())
}
