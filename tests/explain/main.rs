//! `fedmux explain` of peers that are broken, each in one way: the fact that failed is named, with its reason, and what was seen on the
//! way to it. Real DNS, real certificates, real connections.
//!
//! - [`finding`]: names that lead nowhere; [`connecting`]: addresses, TLS and certificates; [`negotiating`]: streams and proofs
//! - [`scene`]: a relay that is asked

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod connecting;
#[path = "../../src/dns/test_server.rs"]
#[allow(dead_code, reason = "other suites use the rest")]
mod dns_server;
mod finding;
mod negotiating;
mod scene;
#[path = "../support/mod.rs"]
mod support;
