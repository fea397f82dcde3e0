//! A hostile peer against a relay that runs as a process: a QUIC and TLS client with a good certificate of its own tries
//! every move that it has. Each move ends in its typed refusal, on the wire, in the metrics and in the log; meanwhile a pair
//! in the same session, and one of another peer, go on as before, and what the relay holds stays within its bounds.
//!
//! - [`identities`]: speaking for others; [`documents`]: XML that isn't what it seems; [`negotiation`]: never getting done
//! - [`counting`]: acknowledgements that aren't true, and streams that aren't one's own; [`proofs`]: secrets used twice
//! - [`crowds`]: lanes, streams, resets and handshakes by the thousand; [`reading`]: taking nothing
//! - [`storms`]: what is answered with errors; [`budgets`]: what comes too fast; [`full`]: both directions full at once
//! - [`scene`]: the relay, the peer, and the pairs that behave; [`relay`]: the process; [`pair`]: how a pair is measured

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod budgets;
mod counting;
mod crowds;
mod documents;
mod full;
mod identities;
mod negotiation;
mod pair;
mod proofs;
mod reading;
mod relay;
mod scene;
mod storms;
#[path = "../support/mod.rs"]
mod support;
