//! Floor 2: identity. Whose certificates we hold, whom we believe, and what a peer's certificate proves.
//!
//! - [`store`] reads our own certificates and their keys; [`trust`] holds the authorities that we believe;
//! - [`verifier`] judges a peer's chain, the same way whether it came from a server or a client (RFC 6120 section
//!   13.7.2), and [`names`] says which XMPP domains it carries;
//! - [`config`] makes a rustls configuration for one connection, with a [`verdict`] beside it that keeps what rustls
//!   and QUIC forget: who the peer is, why it was refused, and which certificate of ours it saw;
//! - [`master_key`] makes the keys of our own secrets, [`component_secret`] reads those of components, [`development`] an authority to try things with.
//!
//! What must be absent: session resumption, tickets and early data at either end. A resumed session skips the
//! verifier, so that an expired certificate would go on proving its names.

pub mod certificate;
mod chain;
pub mod component_secret;
pub mod config;
pub mod development;
mod folder;
pub mod key_ring;
pub mod master_key;
pub mod names;
mod pairing;
mod pem;
mod private_file;
pub mod problem;
pub mod store;
pub mod trust;
pub mod verdict;
pub mod verifier;

#[cfg(test)]
mod handshake_tests;
