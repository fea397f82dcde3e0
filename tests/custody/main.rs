//! Who has a stanza: acknowledgements from hop to hop (XEP-0198), streams that break and are resumed, and what becomes of
//! what nobody can tell of. Whole relays against peers and servers that follow a script.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod breaking;
mod counting;
mod cuts;
mod overload;
mod resuming;
mod scene;
mod stalling;
