//! From the answers of the four SRV names to candidates, in order (RFC 6120 section 3.2, RFC 2782, XEP-0368, XEP-0467).

use super::weigh::{Draw, order};
use super::{Candidate, Origin, QUIC_443, S2S_PORT, SrvAnswer, SrvAnswers, SrvName, TlsHints, Transport};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// Candidates of one domain. A domain that names more is dialled at those that come first in its own order.
pub const CANDIDATES_MAX: usize = 12;
/// Candidates of one transport, so that thirty records of one name don't leave out the transport that works.
pub const TRANSPORT_CANDIDATES_MAX: usize = 8;
/// Records of one name that are looked at: as many as fit into one UDP answer of usual size.
const RECORDS_MAX: usize = 64;

/// Rank of what is tried for want of records: behind every priority.
const RANK_FALLBACK: u32 = 1 << 16;

/// What the SRV records lead to, before any address is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The candidates in order, at least one. Their hosts are to be looked up.
    Candidates(Vec<Candidate>),
    /// There is none, and this is why.
    Failed(Reason),
}

/// Turn the answers of the four SRV names into candidates.
///
/// - Records of all names are ordered by priority, then transport, then weight.
/// - The domain's own addresses with [`S2S_PORT`] are a candidate only if neither TCP name exists and neither look-up
///   failed. Records for QUIC alone leave that way open: most relays that speak QUIC speak TCP, too.
/// - `quic_443`: where no QUIC name exists, and neither look-up failed, UDP port 443 of the domain's own addresses is a
///   candidate, behind all records.
///
/// The same `seed` gives the same order.
#[must_use]
pub fn plan(domain: &Domain, srv: &SrvAnswers, quic_443: bool, seed: u64) -> Plan {
    let mut candidates: Vec<Candidate> = Vec::new();
    for (name, answer) in srv.iter() {
        let SrvAnswer::Records(records) = answer else { continue };
        for record in records.iter().take(RECORDS_MAX) {
            if record.port == 0 || record.target.is_empty() || record.target == "." {
                continue;
            }
            let candidate = Candidate {
                transport: name.transport(),
                host: record.target.to_ascii_lowercase(),
                port: record.port,
                origin: Origin::Srv,
                rank: u32::from(record.priority),
                weight: record.weight,
                tls: TlsHints::default(),
            };
            add(&mut candidates, candidate);
        }
    }
    let fallback = |transport, port| Candidate {
        transport,
        host: domain.to_ascii(),
        port,
        origin: Origin::Fallback,
        rank: RANK_FALLBACK,
        weight: 0,
        tls: TlsHints::default(),
    };
    let absent = |names: [SrvName; 2]| names.iter().all(|name| *srv.get(*name) == SrvAnswer::Nothing);
    if quic_443 && absent([SrvName::Quic, SrvName::QuicUdp]) {
        add(&mut candidates, fallback(Transport::Quic, QUIC_443));
    }
    if absent([SrvName::DirectTls, SrvName::StartTls]) {
        add(&mut candidates, fallback(Transport::StartTls, S2S_PORT));
    }
    match choose(candidates, seed) {
        candidates if !candidates.is_empty() => Plan::Candidates(candidates),
        // What failed may have held a way; else every name that exists says that there is none.
        _ => Plan::Failed(srv.failed().unwrap_or(Reason::ServiceNotOffered)),
    }
}

/// The two names of QUIC usually say the same: the better of equal candidates stays.
fn add(candidates: &mut Vec<Candidate>, new: Candidate) {
    let same = candidates
        .iter_mut()
        .find(|old| (old.transport, old.port) == (new.transport, new.port) && old.host == new.host);
    match same {
        Some(old) if new.rank < old.rank => *old = new,
        Some(_) => {}
        None => candidates.push(new),
    }
}

/// In order, those that are dialled at all.
pub(super) fn choose(candidates: Vec<Candidate>, seed: u64) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::with_capacity(CANDIDATES_MAX);
    for candidate in order(candidates, &mut Draw::new(seed)) {
        let of_transport = kept.iter().filter(|other| other.transport == candidate.transport).count();
        if of_transport < TRANSPORT_CANDIDATES_MAX && kept.len() < CANDIDATES_MAX {
            kept.push(candidate);
        }
    }
    kept
}
