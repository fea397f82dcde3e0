//! Hosts outside of a session's certificates (XEP-0451 section 3.2), held against a whole relay over real QUIC.
//!
//! - [`scene`]: a relay that verifies, and a script that proves
//! - [`offers`]: secrets that come back otherwise than they were handed out; [`requests`]: who may ask for one
//! - [`ends`]: what a grant that ends takes with it
//! - [`proving`]: a relay that proves, and a script that verifies
//! - [`alone`]: peers that don't take part; [`stanzas`]: the protocol's stanzas on other ways
//! - [`relays`]: two relays with a certificate for each host; [`reloads`]: one of them goes by other settings meanwhile;
//!   [`keys`]: its keys rotate while secrets are out

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod alone;
mod ends;
mod keys;
mod offers;
mod proving;
mod relays;
mod reloads;
mod requests;
mod scene;
mod stanzas;
#[path = "../support/mod.rs"]
mod support;
