//! A real `fedmux run` under a service manager that holds its sockets: who connects while it is being restarted waits, and is
//! served by the next one.
//!
//! - [`restarts`]: killed and stopped, with somebody at every listener
//! - [`mistakes`]: what is handed over and doesn't fit
//! - [`telling`]: what the service manager is told
//! - [`manager`]: that service manager

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod manager;
mod mistakes;
mod restarts;
#[path = "../support/mod.rs"]
mod support;
mod telling;
