//! `[[peer]]`: remote domains reached without DNS, or with rules of their own.

use super::host::domains;
use super::identity::path;
use super::limits;
use super::reader::Reader;
use super::values::{Located, pattern, peer_address};
use crate::proto::mux::verifier::Allowance;
use crate::relay::settings::{Endpoint, Peer, Placement, Transport};
use crate::xmpp::domain::DomainPattern;

/// A `[[peer]]` with the lines of what others may contradict.
pub(super) struct PeerEntry {
    pub(super) domains: Vec<Located<DomainPattern>>,
    /// `None` if it could not be read.
    pub(super) address: Option<Located<Endpoint>>,
    transport: Transport,
    trust: Option<std::path::PathBuf>,
    announce_all: bool,
    placement: Placement,
    proofs: Allowance,
}

impl PeerEntry {
    /// `None` if its address could not be read, which has been reported.
    pub(super) fn into_peer(self) -> Option<Peer> {
        Some(Peer {
            domains: self.domains.into_iter().map(|domain| domain.value).collect(),
            address: self.address?.value,
            transport: self.transport,
            trust: self.trust,
            announce_all: self.announce_all,
            placement: self.placement,
            proofs: self.proofs,
        })
    }
}

/// Read one table.
pub(super) fn read(mut reader: Reader<'_>) -> PeerEntry {
    let domains = domains(&mut reader, "b.example", pattern);
    let address = reader
        .require("address", "\"192.0.2.1:5269\", where the peer listens")
        .and_then(|entry| Some(Located { value: peer_address(&entry)?, place: entry.place.clone() }));
    let transport = reader
        .take("transport")
        .and_then(|entry| entry.choice(&[("quic", Transport::Quic)]))
        .unwrap_or(Transport::Quic);
    let announce_all = reader
        .take("announce")
        .and_then(|entry| entry.choice(&[("default", false), ("all", true)]))
        .unwrap_or(false);
    let trust =
        reader.take("trust").and_then(|entry| path(&entry, "a PEM file of CA certificates, like \"b.pem\""));
    let placements = [("stream-per-pair", Placement::StreamPerPair), ("one-stream", Placement::OneStream)];
    let placement = reader.take("placement").and_then(|entry| entry.choice(&placements)).unwrap_or_default();
    let proofs = limits::read_of_peer(&mut reader);
    reader.finish();
    PeerEntry { domains, address, transport, trust, announce_all, placement, proofs }
}
