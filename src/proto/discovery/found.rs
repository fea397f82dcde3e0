//! What was found for a domain: the ways to it, with the addresses that may be dialled, and for how long that holds.

use core::net::IpAddr;
use core::net::SocketAddr;
use std::collections::HashMap;
use std::time::Duration;

use super::pins::{KeyDigest, Pins};
use super::plan::Plan;
use super::refusal::refuse_address;
use super::refused::{Refusals, Refused};
use super::standing::Counting;
use super::weigh::{Draw, order};
use super::{AddressAnswer, Candidate, HostMeta, Origin, SrvAnswer, SrvAnswers, TlsHints, Transport};
use crate::reason::Reason;

/// Shortest time for which an answer is taken as it is. A TTL of a second would have every stanza look up again.
pub const VALID_MIN: Duration = Duration::from_secs(60);
/// Longest time. A domain that moves is followed within the hour, whatever its TTL.
pub const VALID_MAX: Duration = Duration::from_secs(3_600);
/// How long a failure stands for everybody who asks: a burst of stanzas makes one round of look-ups. When to try again is
/// the business of whoever asks.
pub const FAILED_VALID: Duration = Duration::from_secs(2);

/// Addresses dialled in one attempt to reach a peer.
pub const ATTEMPTS_MAX: usize = 24;
/// Addresses of one way, where there are few ways.
pub const WAY_ADDRESSES_MAX: usize = 4;
/// Addresses of one way that are kept, so that a session from one of them is known: more than are dialled, and far fewer than a
/// stranger's zone may name.
pub const WAY_ADDRESSES_KEPT_MAX: usize = 8;
/// Addresses of one way, where there are many: one of each family.
const WAY_ADDRESSES_MIN: usize = 2;

/// What was found for a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The ways, or why there is none.
    pub answer: Answer,
    /// The keys that whoever answers there may have, as the domain itself says over HTTPS.
    pub pins: Pins,
    /// Addresses that were found and must not be dialled. The operator is told.
    pub refused: Refused,
    /// A look-up that failed while others gave a way: there may be more ways than these.
    pub incomplete: Option<Reason>,
    /// For how long this holds.
    pub valid: Duration,
}

/// The ways, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// At least one way.
    Ways(Ways),
    /// The domain has no records at all: every answer came, and each said that there is nothing.
    Nothing,
    /// There is no way, and this is why. Never "nothing": a look-up that fails says nothing about the domain.
    Failed(Reason),
}

/// The ways to a domain, at least one, each with at least one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ways(Vec<Way>);

/// A candidate and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Transport, host and port.
    pub candidate: Candidate,
    /// IPv6 and IPv4 in turn, IPv6 first (RFC 8305 section 4).
    pub addresses: Vec<SocketAddr>,
}

/// One address to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// How.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
    /// Whose address it is, for the log.
    pub host: String,
    /// The SRV target that led here; `None` for the domain's own addresses, and those of its host-meta document.
    pub target: Option<String>,
    /// What TLS is told there.
    pub tls: TlsHints,
}

/// Where a session is, for [`Found::leads_to`].
#[derive(Debug, Clone, Copy)]
pub struct Whereabouts<'a> {
    /// Its transport.
    pub transport: Transport,
    /// The peer's address, canonical: no IPv4 address in IPv6 form.
    pub address: SocketAddr,
    /// The SRV target through which we dialled it, if we did.
    pub target: Option<&'a str>,
    /// The keys of the verified path of the peer's certificate.
    pub keys: &'a [KeyDigest],
}

impl Found {
    /// A failure before anything was looked up.
    #[must_use]
    pub fn failed(reason: Reason) -> Self {
        Self {
            answer: Answer::Failed(reason),
            pins: Pins::none(),
            refused: Refused::default(),
            incomplete: None,
            valid: FAILED_VALID,
        }
    }

    /// Whether an SRV record leads to the domain: its DNS names an XMPP server, rather than that one is looked for at the
    /// domain's own addresses.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.ways().iter().any(|way| way.candidate.origin == Origin::Srv)
    }

    /// The same with what the domain's host-meta document says: its links are the ways. They count instead of SRV records if
    /// they are preferred (XEP-0487 section 2.2, rule 2), else only instead of the domain's own addresses; without links that
    /// we speak and may dial the ways stay. Its pins hold for either. A document that has expired has no pins, and stands behind
    /// SRV records.
    #[must_use]
    pub fn with_document(mut self, counting: &Counting, when: HostMeta, rules: Rules<'_>) -> Self {
        let Counting { document, expired, fresh_for } = counting;
        if !expired {
            self.pins = document.pins.clone();
        }
        self.valid = self.valid.min(clamp(*fresh_for));
        if self.is_named() && (*expired || when != HostMeta::Prefer) {
            return self;
        }
        let mut ways = Vec::new();
        let mut refused = Refusals::beside(std::mem::take(&mut self.refused));
        for link in &document.links {
            let addresses = allowed(&link.candidate, &link.addresses, rules, &mut refused);
            if !addresses.is_empty() {
                ways.push(Way { candidate: link.candidate.clone(), addresses });
            }
        }
        self.refused = refused.into_refused();
        if !ways.is_empty() {
            (self.answer, self.incomplete) = (Answer::Ways(Ways(ways)), None);
            self.valid = clamp(*fresh_for);
        } else if let (Answer::Nothing, Some(refused)) = (&self.answer, self.refused.iter().next()) {
            self.answer = Answer::Failed(refused.reason);
        }
        self
    }

    /// The same, to be asked for again in a moment: the domain's host-meta document is on its way.
    #[must_use]
    pub fn awaiting_document(self) -> Self {
        Self { valid: self.valid.min(FAILED_VALID), ..self }
    }

    /// The same, where the domain's host-meta document might have told other ways and can't be had.
    #[must_use]
    pub fn without_document(self, reason: Reason) -> Self {
        if self.is_named() || self.ways().is_empty() {
            return self;
        }
        Self { valid: self.valid.min(VALID_MIN), incomplete: self.incomplete.or(Some(reason)), ..self }
    }

    /// The ways; empty if there is none.
    #[must_use]
    pub fn ways(&self) -> &[Way] {
        match &self.answer {
            Answer::Ways(ways) => &ways.0,
            Answer::Nothing | Answer::Failed(_) => &[],
        }
    }

    /// Whether the domain's own records lead to a session: the same address and port over the same kind of transport,
    /// or the same SRV target. Without this, whoever holds an old or stolen certificate for a name would receive its
    /// stanzas by listing it (RFC 8336 section 4).
    ///
    /// A target counts whatever its port: what listens there was named by the domain's own operator. Equal addresses of
    /// TCP and UDP don't: what the port of one is, says nothing about the other.
    ///
    /// The links of a host-meta document are records of the domain in this sense, and better ones: they came over HTTPS from
    /// who holds a certificate for the domain at the domain's own address, while DNS alone can be forged on the way. They vouch
    /// for addresses; the name that they have for SNI is no target, for one name may be used by many.
    ///
    /// Where the domain has published pins, they don't lead to a session of another key.
    #[must_use]
    pub fn leads_to(&self, session: &Whereabouts<'_>) -> bool {
        self.pins.allow(session.keys)
            && self.ways().iter().any(|way| {
                let target = way.candidate.origin == Origin::Srv
                    && session.target.is_some_and(|target| target.eq_ignore_ascii_case(&way.candidate.host));
                let kind = way.candidate.transport.is_udp() == session.transport.is_udp();
                target || (kind && way.addresses.contains(&session.address))
            })
    }
}

impl Ways {
    /// The ways as they were found.
    #[must_use]
    pub fn as_slice(&self) -> &[Way] {
        &self.0
    }

    /// What is dialled, in order: the weights are drawn anew with each `seed`.
    #[must_use]
    pub fn attempts(&self, seed: u64) -> Vec<Attempt> {
        let candidates = self.0.iter().map(|way| way.candidate.clone()).collect();
        let each = (ATTEMPTS_MAX / self.0.len().max(1)).clamp(WAY_ADDRESSES_MIN, WAY_ADDRESSES_MAX);
        let mut attempts: Vec<Attempt> = Vec::new();
        for candidate in order(candidates, &mut Draw::new(seed)) {
            let Some(way) = self.0.iter().find(|way| way.candidate == candidate) else { continue };
            for address in way.addresses.iter().take(each) {
                let known = attempts
                    .iter()
                    .any(|other| (other.transport, other.address) == (candidate.transport, *address));
                if !known && attempts.len() < ATTEMPTS_MAX {
                    attempts.push(Attempt {
                        transport: candidate.transport,
                        address: *address,
                        host: candidate.host.clone(),
                        target: (candidate.origin == Origin::Srv).then(|| candidate.host.clone()),
                        tls: candidate.tls.clone(),
                    });
                }
            }
        }
        attempts
    }
}

/// Put those first that go over `transport`; else the order stays.
pub fn prefer(attempts: &mut [Attempt], transport: Transport) {
    attempts.sort_by_key(|attempt| attempt.transport != transport);
}

/// Take those out that lead to one of `places`: they are to be tried when the others were. If all of them do, those are left that lead
/// to whichever of these stands first.
#[must_use]
pub fn put_off(attempts: &mut Vec<Attempt>, places: &[(Transport, SocketAddr)]) -> Vec<Attempt> {
    let place = |attempt: &Attempt| {
        let address = SocketAddr::new(attempt.address.ip().to_canonical(), attempt.address.port());
        places.iter().position(|known| *known == (attempt.transport, address))
    };
    attempts.sort_by_key(place);
    let now = attempts.iter().filter(|attempt| place(attempt).is_none()).count().max(1);
    attempts.split_off(now.min(attempts.len()))
}

/// Which addresses may be dialled.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// `[dns] allow_private`
    pub allow_private: bool,
    /// Where this relay itself listens.
    pub own: &'a [SocketAddr],
}

/// Add the addresses of the plan's hosts, and conclude.
///
/// `ttl`: the shortest of all answers; it is kept between [`VALID_MIN`] and [`VALID_MAX`]. A host that isn't in
/// `addresses` has none, unless it is an IP literal.
#[must_use]
pub fn conclude(
    srv: &SrvAnswers,
    plan: Plan,
    addresses: &HashMap<String, AddressAnswer>,
    rules: Rules<'_>,
    ttl: Duration,
) -> Found {
    let candidates = match plan {
        Plan::Candidates(candidates) => candidates,
        Plan::Failed(reason) => {
            let valid = if srv.failed().is_some() { FAILED_VALID } else { clamp(ttl) };
            return Found { valid, ..Found::failed(reason) };
        }
    };
    let nothing = AddressAnswer::default();
    let mut ways = Vec::new();
    let mut refused = Refusals::default();
    let mut failed = srv.failed();
    for candidate in candidates {
        let literal = candidate.host.parse::<IpAddr>().ok();
        let literal = literal.map(|ip| AddressAnswer { addresses: vec![ip], failed: None });
        let answer = literal.as_ref().or_else(|| addresses.get(&candidate.host)).unwrap_or(&nothing);
        failed = failed.or(answer.failed);
        let addresses = allowed(&candidate, &answer.addresses, rules, &mut refused);
        if !addresses.is_empty() {
            ways.push(Way { candidate, addresses });
        }
    }
    let refused = refused.into_refused();
    let no_srv = srv.iter().all(|(_, answer)| *answer == SrvAnswer::Nothing);
    let (answer, incomplete) = match (ways.is_empty(), failed, refused.iter().next()) {
        (false, failed, _) => (Answer::Ways(Ways(ways)), failed),
        (true, Some(reason), _) => (Answer::Failed(reason), None),
        (true, None, Some(refused)) => (Answer::Failed(refused.reason), None),
        (true, None, None) if no_srv => (Answer::Nothing, None),
        (true, None, None) => (Answer::Failed(Reason::NameNotResolved), None),
    };
    let valid = match (&answer, failed) {
        (Answer::Failed(_), Some(_)) => FAILED_VALID,
        (_, Some(_)) => VALID_MIN,
        (_, None) => clamp(ttl),
    };
    Found { answer, pins: Pins::none(), refused, incomplete, valid }
}

/// Of the addresses of a candidate those that may be dialled, as far as they are kept; the others are added to `refused`.
fn allowed(
    candidate: &Candidate,
    addresses: &[IpAddr],
    rules: Rules<'_>,
    refused: &mut Refusals,
) -> Vec<SocketAddr> {
    let mut allowed: Vec<IpAddr> = Vec::new();
    for ip in in_turn(addresses) {
        let address = SocketAddr::new(ip, candidate.port);
        match refuse_address(address, rules.allow_private, rules.own) {
            Ok(()) => allowed.push(ip),
            Err(reason) => refused.add(&candidate.host, address, reason),
        }
    }
    if allowed.len() > WAY_ADDRESSES_KEPT_MAX {
        // The same ones, in whichever order they came: else a session would lead there or not by chance.
        let mut lowest = allowed.clone();
        lowest.sort_unstable();
        lowest = in_turn(&lowest);
        lowest.truncate(WAY_ADDRESSES_KEPT_MAX);
        allowed.retain(|ip| lowest.contains(ip));
    }
    allowed.into_iter().map(|ip| SocketAddr::new(ip, candidate.port)).collect()
}

fn clamp(ttl: Duration) -> Duration {
    ttl.clamp(VALID_MIN, VALID_MAX)
}

/// IPv6 and IPv4 in turn, IPv6 first, each address once and in canonical form (RFC 8305 section 4).
fn in_turn(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut each: Vec<IpAddr> = Vec::with_capacity(addresses.len());
    for ip in addresses.iter().map(IpAddr::to_canonical) {
        if !each.contains(&ip) {
            each.push(ip);
        }
    }
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = each.into_iter().partition(IpAddr::is_ipv6);
    let longest = v6.len().max(v4.len());
    (0..longest).flat_map(|index| [v6.get(index).copied(), v4.get(index).copied()]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_were_in_vain_are_tried_when_the_others_were() {
        let place = |n: u8| (Transport::DirectTls, SocketAddr::from(([198, 51, 100, n], 5269)));
        let attempt = |(transport, address)| Attempt {
            transport,
            address,
            host: "x.test".to_owned(),
            target: None,
            tls: TlsHints::default(),
        };
        let all = [place(0), place(1), place(2)];
        let tried = |places: &[(Transport, SocketAddr)]| {
            let mut first: Vec<_> = all.into_iter().map(attempt).collect();
            let then = put_off(&mut first, places);
            [first, then].map(|tried| tried.iter().map(|at| (at.transport, at.address)).collect::<Vec<_>>())
        };
        assert_eq!(tried(&[]), [all.to_vec(), vec![]]);
        assert_eq!(tried(&[place(1)]), [vec![place(0), place(2)], vec![place(1)]]);
        let elsewhere = (Transport::StartTls, place(1).1);
        assert_eq!(tried(&[elsewhere]), tried(&[]), "by another transport it is somebody else");
        assert_eq!(tried(&[place(2), place(0)]), [vec![place(1)], vec![place(2), place(0)]]);
        assert_eq!(tried(&[place(2), place(0), place(1)]), [vec![place(2)], vec![place(0), place(1)]]);
        assert_eq!(put_off(&mut Vec::new(), &all), []);
    }
}
