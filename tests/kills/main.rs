//! Two real relays under load, and what happens to relays: they are killed, the path between them is cut, their servers go
//! away, their addresses change. No stanza vanishes without somebody being told, and order is kept.
//!
//! Two real processes between servers that number what they send and write down what arrives, and know stream management. A
//! sender does what Prosody does when a stream breaks: it answers itself for whatever wasn't acknowledged. So each stanza has
//! to be delivered, or to come back, or to be among those; twice only where the relay that sent it again says so.
//!
//! - [`kills`]: the relays are killed and started again
//! - [`outages`]: the path between them is cut, a server goes away
//! - [`moves`]: one of them is seen at another address from one moment to the next; [`addresses`]: its addresses are taken away, and
//!   it gets others
//! - [`soak`]: nothing happens, for long
//!
//! Each prints its figures. What a run may be made longer by stands at each test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod judge;
mod kills;
mod moves;
mod outages;
mod relays;
mod scene;
mod servers;
mod soak;

/// A number out of the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}
