//! Peers that are found by DNS alone: two whole relays, or one and a script, and between them a real DNS server that says
//! what it is told, late, wrongly or not at all.
//!
//! - [`finding`]: over each transport, and what is tried first; [`joining`]: which session carries a domain that was found
//! - [`lies`]: addresses that must not be dialled; [`outages`]: DNS and peers that fail, and how often they are tried
//! - [`ways`]: some of the ways are dead, and the first stanza takes the one that works; [`fallback`]: no record speaks of a way
//! - [`in_vain`]: who answers on one way has no server behind it, and the next attempt takes another one
//! - [`foreign`]: QUIC peers without mux (XEP-0467)
//! - [`host_meta`]: what domains say over HTTPS (XEP-0487): the ways there, and how an answer that is bad or late harms nothing;
//!   [`pins`]: the keys that they publish; [`documents`]: how often they are asked, in virtual time

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../../src/dns/test_server.rs"]
#[allow(dead_code, reason = "the unit tests use the rest")]
mod dns_server;
mod documents;
mod fallback;
mod finding;
mod foreign;
mod host_meta;
mod in_vain;
mod joining;
mod lies;
mod outages;
mod pins;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod ways;
