//! Finding a peer: from what DNS says of a domain to the ways in which it is dialled, in order (RFC 6120 section 3.2,
//! RFC 2782, XEP-0368, XEP-0467).
//!
//! Pure: the look-ups themselves are made elsewhere, and their answers come in as [`SrvAnswers`] and [`AddressAnswer`].
//!
//! 1. [`refusal::refuse_domain`] says whether a domain may be looked up at all.
//! 2. [`plan::plan`] turns the answers of the four SRV names into candidates: a transport, a host and a port each.
//! 3. [`found::conclude`] adds the addresses of those hosts, leaves out the ones that must not be dialled
//!    ([`refusal::refuse_address`], [`refused`]), and gives the [`Found`](found::Found) that the rest of the relay works with.
//! 4. [`found::Ways::attempts`] is what [`super::race`] dials.
//!
//! Beside DNS a domain may say all this over HTTPS ([`host_meta`]); when it is asked for that, and how long what it said
//! holds, is told by [`standing`], and what it changes about the answer of DNS by [`Found::with_document`](found::Found).
//! There it may also name the keys that its servers have ([`pins`]).
//!
//! What a domain's DNS says is said by a stranger. So every count is bounded here, and an answer that failed is never
//! taken for one that says "nothing": whoever can make a look-up fail could otherwise choose where we connect.

pub mod found;
pub mod host_meta;
pub mod pins;
pub mod plan;
pub mod refusal;
pub mod refused;
pub mod standing;
mod weigh;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::reason::Reason;

/// The port of XMPP between servers where no SRV record names one (RFC 6120 section 14.7).
pub const S2S_PORT: u16 = 5269;
/// The port of QUIC that is tried unasked, on opt-in: the one that firewalls let pass.
pub const QUIC_443: u16 = 443;

/// How a peer is reached. In the order in which they are preferred within one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// QUIC (XEP-0467).
    Quic,
    /// TLS over TCP from the first octet (XEP-0368).
    DirectTls,
    /// TCP, then TLS by STARTTLS (RFC 6120 section 5).
    StartTls,
}

impl Transport {
    /// The word, as it stands in the configuration and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::DirectTls => "direct-tls",
            Self::StartTls => "starttls",
        }
    }

    /// Whether it runs over UDP; the other transports run over TCP.
    #[must_use]
    pub const fn is_udp(self) -> bool {
        matches!(self, Self::Quic)
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The SRV names that are looked up for a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrvName {
    /// `_xmpp-server._quic`
    Quic,
    /// `_xmppq-server._udp`
    QuicUdp,
    /// `_xmpps-server._tcp`
    DirectTls,
    /// `_xmpp-server._tcp`
    StartTls,
}

impl SrvName {
    /// All four.
    pub const ALL: [SrvName; 4] = [Self::Quic, Self::QuicUdp, Self::DirectTls, Self::StartTls];

    /// The labels in front of the domain.
    #[must_use]
    pub const fn labels(self) -> &'static str {
        match self {
            Self::Quic => "_xmpp-server._quic",
            Self::QuicUdp => "_xmppq-server._udp",
            Self::DirectTls => "_xmpps-server._tcp",
            Self::StartTls => "_xmpp-server._tcp",
        }
    }

    /// The transport of its records.
    #[must_use]
    pub const fn transport(self) -> Transport {
        match self {
            Self::Quic | Self::QuicUdp => Transport::Quic,
            Self::DirectTls => Transport::DirectTls,
            Self::StartTls => Transport::StartTls,
        }
    }
}

/// One SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SrvRecord {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Share of the tries within a priority.
    pub weight: u16,
    /// The port; 0 names none, and such a record is passed over.
    pub port: u16,
    /// The host, without its trailing dot. Some servers' tools put an IP literal here, which is taken as one.
    pub target: String,
}

/// What the look-up of one SRV name came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SrvAnswer {
    /// Its records, at least one.
    Records(Vec<SrvRecord>),
    /// One record with the target `.`: the service is decidedly not available (RFC 2782).
    NotOffered,
    /// The name doesn't exist, or has no SRV record. Only an answer says so, never the lack of one.
    Nothing,
    /// SERVFAIL, no answer in time, or an answer that makes no sense: nothing may be concluded from it.
    Failed(Reason),
}

/// What the look-ups of the four SRV names came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvAnswers([SrvAnswer; 4]);

impl SrvAnswers {
    /// The same for all four: what is known before the first answer.
    #[must_use]
    pub fn all(answer: &SrvAnswer) -> Self {
        Self(std::array::from_fn(|_| answer.clone()))
    }

    /// Put the answer of one name.
    pub fn set(&mut self, name: SrvName, answer: SrvAnswer) {
        self.0[name as usize] = answer;
    }

    /// The answer of one name.
    #[must_use]
    pub fn get(&self, name: SrvName) -> &SrvAnswer {
        &self.0[name as usize]
    }

    /// Each name with its answer.
    pub fn iter(&self) -> impl Iterator<Item = (SrvName, &SrvAnswer)> {
        SrvName::ALL.into_iter().zip(&self.0)
    }

    /// Why a look-up failed, if one did; of the name that matters most.
    #[must_use]
    pub fn failed(&self) -> Option<Reason> {
        self.iter()
            .filter_map(|(_, answer)| match answer {
                SrvAnswer::Failed(reason) => Some(*reason),
                _ => None,
            })
            .last()
    }
}

/// What the look-ups of a host's A and AAAA records came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressAnswer {
    /// The addresses; empty if there are none, or all failed.
    pub addresses: Vec<core::net::IpAddr>,
    /// Why one of the two look-ups failed, if one did.
    pub failed: Option<Reason>,
}

/// How and where a domain may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// How.
    pub transport: Transport,
    /// An SRV target, the domain itself, or the name that a host-meta link has for SNI, as ASCII without a trailing dot; or
    /// an IP literal.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Who names it, or whether it is tried for want of that.
    pub origin: Origin,
    /// Its place: lower ones are tried first.
    pub rank: u32,
    /// Its share of the tries among those with its rank and transport.
    pub weight: u16,
    /// What TLS is told there.
    pub tls: TlsHints,
}

/// What a domain asks us to say in the TLS handshake with it (XEP-0487 section 2.1). Nothing, for what DNS told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsHints {
    /// The name to send in SNI, if not the domain's own. The certificate is verified against the domain all the same.
    pub sni: Option<Arc<str>>,
    /// The ECHConfigList (TLS Encrypted Client Hello). It is kept and not used: rustls has no HPKE with ring, so that the
    /// name is sent in clear, as to everybody else.
    pub ech: Option<Arc<[u8]>>,
}

/// Where a candidate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An SRV record.
    Srv,
    /// The domain's own A and AAAA records, with the port that is usual there.
    Fallback,
    /// A link of the domain's host-meta document (XEP-0487).
    HostMeta,
}

/// When a domain's host-meta document is asked for: `[dns] host_meta`.
///
/// XEP-0156 wants it only where everything else has failed; XEP-0487 wants it first, and of everybody. The default asks those of
/// whom DNS says nothing: a question costs a TLS handshake for each remote domain, and tells a web server, often somebody
/// else's, that we are about to talk to the domain; and XEP-0487 section 4.1 itself has domains keep their SRV records. What
/// that default can't know are the pins of a domain that has SRV records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostMeta {
    /// `"never"`.
    Never,
    /// `"fallback"`: where no SRV record of the domain leads anywhere (XEP-0156 section 2.2, rule 3).
    #[default]
    Fallback,
    /// `"prefer"`: always, beside the SRV records, and what it says counts before them (XEP-0487 section 2.2, rule 2).
    Prefer,
}
