//! What whoever operates a relay is told by it, and how: the commands that ask a running one, and what they show.
//!
//! - [`status`]: the facts about two relays, one of which may be hard to reach
//! - [`metrics`]: what a scrape shows, against what was done
//! - [`commands`]: `fedmux status`, `fedmux log` and `fedmux explain` as commands, with a real `fedmux run`
//! - [`logs`]: that each line of a session says which one it is
//! - [`secrecy`]: that nothing of what people write is logged
//! - [`checks`]: `fedmux check` with a real DNS server, and with whoever answers or doesn't

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod checks;
mod commands;
#[path = "../../src/dns/test_server.rs"]
#[allow(dead_code, reason = "the unit tests use the rest")]
mod dns_server;
mod logs;
mod metrics;
mod secrecy;
mod status;
#[path = "../support/mod.rs"]
mod support;
