//! Bad input on every port, held against a whole relay: the right stream error or a refusal, nothing else disturbed, no
//! panic, and bounded memory.
//!
//! - [`stanzas`]: on an established stream; [`negotiation`]: before; [`endings`]: half of something, and nothing more
//! - [`sizes`]: by the gigabyte; [`crowds`]: by the thousand
//! - [`admin`]: on the port of the metrics

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod admin;
mod crowds;
mod endings;
mod negotiation;
mod scene;
mod sizes;
mod stanzas;
#[path = "../support/mod.rs"]
mod support;
