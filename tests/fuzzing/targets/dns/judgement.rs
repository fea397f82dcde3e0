//! What must hold of what was found, whatever DNS said.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use fedmux::proto::discovery::found::{
    ATTEMPTS_MAX, Answer, FAILED_VALID, Found, Rules, VALID_MAX, VALID_MIN, Whereabouts, prefer,
};
use fedmux::proto::discovery::plan::{CANDIDATES_MAX, TRANSPORT_CANDIDATES_MAX};
use fedmux::proto::discovery::{AddressAnswer, Candidate, SrvAnswer, SrvAnswers, Transport};
use fedmux::reason::Reason;

use crate::targets::choices::Choices;

/// How a domain is looked for.
pub(crate) struct Asked {
    pub(crate) seed: u64,
    pub(crate) quic_443: bool,
    allow_private: bool,
    own: Vec<SocketAddr>,
}

impl Asked {
    pub(crate) fn new(choices: &mut Choices<'_>) -> Self {
        let bits = choices.byte();
        let own = ["9.9.9.9:5269", "[2600::9]:443", "0.0.0.0:5270"];
        Self {
            seed: choices.byte().into(),
            quic_443: bits & 1 == 1,
            allow_private: bits & 2 == 2,
            own: own.map(|address| address.parse().expect("an address")).into(),
        }
    }

    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules { allow_private: self.allow_private, own: &self.own }
    }

    fn may_be_dialled(&self, address: SocketAddr) -> bool {
        let ip = address.ip();
        let inside = is_inside(ip) && !self.allow_private;
        let own = self.own.contains(&address) || (ip.is_loopback() && address.port() == 5270);
        !(inside || own || ip.is_unspecified() || ip.is_multicast() || address.port() == 0)
    }
}

/// What the standard library knows to be no address of the internet: another reading of the same registries.
fn is_inside(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
        }
        IpAddr::V6(v6) => {
            // 6to4 and NAT64 carry an IPv4 address, and reach as far as that.
            let carried = match v6.segments() {
                [0x2002, high, low, ..] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                    Some(IpAddr::from((u32::from(high) << 16 | u32::from(low)).to_be_bytes()))
                }
                _ => None,
            };
            v6.is_loopback()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.to_ipv4().is_some_and(|v4| is_inside(v4.into()))
                || carried.is_some_and(is_inside)
        }
    }
}

pub(super) fn hold_plan(candidates: &[Candidate]) {
    assert!((1..=CANDIDATES_MAX).contains(&candidates.len()));
    for transport in [Transport::Quic, Transport::DirectTls, Transport::StartTls] {
        let of_transport = candidates.iter().filter(|candidate| candidate.transport == transport);
        assert!(of_transport.count() <= TRANSPORT_CANDIDATES_MAX);
    }
    for candidate in candidates {
        assert!(!candidate.host.is_empty() && candidate.port != 0);
        assert!(is_shown(&candidate.host), "{:?} stands in the log as it is", candidate.host);
    }
}

/// Whether a line of a log holds it as it is.
fn is_shown(host: &str) -> bool {
    host.is_ascii() && !host.contains(|c: char| c.is_ascii_control())
}

pub(super) fn hold(
    found: &Found,
    srv: &SrvAnswers,
    addresses: &HashMap<String, AddressAnswer>,
    asked: &Asked,
) {
    hold_found(found, asked);
    let failed = srv.failed().is_some() || addresses.values().any(|answer| answer.failed.is_some());
    match &found.answer {
        Answer::Nothing => {
            assert!(!failed && found.refused.is_empty(), "a failure is not nothing");
            assert!(srv.iter().all(|(_, answer)| *answer == SrvAnswer::Nothing));
        }
        Answer::Failed(_) => assert!(found.ways().is_empty()),
        Answer::Ways(_) => assert_eq!(found.incomplete.is_some(), failed),
    }
}

/// What must hold of it by itself.
pub(crate) fn hold_found(found: &Found, asked: &Asked) {
    assert!((FAILED_VALID..=VALID_MAX).contains(&found.valid));
    let mut told = BTreeSet::new();
    for refused in found.refused.iter() {
        assert!(told.insert(refused.address), "{} is told twice", refused.address);
        assert!(matches!(refused.reason, Reason::AddressNotPublic | Reason::AddressOwn));
        assert!(is_shown(&refused.host));
    }
    let Answer::Ways(ways) = &found.answer else {
        assert!(found.ways().is_empty());
        return;
    };
    assert!(found.valid >= VALID_MIN && (1..=CANDIDATES_MAX).contains(&ways.as_slice().len()));
    for way in ways.as_slice() {
        assert!(!way.addresses.is_empty());
        for address in &way.addresses {
            assert_eq!(address.ip().to_canonical(), address.ip());
            assert!(asked.may_be_dialled(*address), "{address} would be dialled");
            let (transport, address) = (way.candidate.transport, *address);
            let there = Whereabouts { transport, address, target: None, keys: &[] };
            assert_eq!(found.leads_to(&there), found.pins.allow(&[]), "pins alone keep us away");
        }
    }
    let mut attempts = ways.attempts(asked.seed);
    assert!((1..=ATTEMPTS_MAX).contains(&attempts.len()));
    let each: BTreeSet<_> = attempts.iter().map(|attempt| (attempt.transport, attempt.address)).collect();
    assert_eq!(each.len(), attempts.len(), "an address is dialled twice");
    assert!(attempts.iter().all(|attempt| asked.may_be_dialled(attempt.address)));
    prefer(&mut attempts, Transport::StartTls);
    let again: BTreeSet<_> = attempts.iter().map(|attempt| (attempt.transport, attempt.address)).collect();
    assert_eq!(again, each, "preferring leaves nobody out");
}
