//! Who may speak for which domain, held against a whole relay: over real QUIC, with real certificates.
//!
//! - [`names`]: what a certificate proves, and to whom; [`refusals`]: what proves nothing, on either side
//! - [`policy`]: what the operator doesn't want, for all hosts, for one, and one way
//! - [`renewals`]: certificates that are renewed while it runs
//! - [`judgement`]: certificates that are no good, and that each has its own reason in log, metric and bounce

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod judgement;
mod names;
mod policy;
mod refusals;
mod renewals;
#[path = "../support/mod.rs"]
mod support;
