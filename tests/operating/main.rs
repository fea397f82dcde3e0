//! What whoever operates a relay is told by it, and how: the commands that ask a running one, and what they show.
//!
//! - [`status`]: the facts about two relays, one of which may be hard to reach
//! - [`metrics`]: what a scrape shows, against what was done
//! - [`commands`]: `fedmux status` and `fedmux log` as commands, with a real `fedmux run`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod commands;
mod metrics;
mod status;
#[path = "../support/mod.rs"]
mod support;
