//! External components (XEP-0114) at a relay, over real connections.
//!
//! - [`reach`]: reached from the other relay, from a host of ours and from another component, and the way back
//! - [`claims`]: who may connect, and speak for whom; [`rivals`]: two connections of one component
//! - [`dialback`]: a host's server that asks who speaks for a component
//! - [`outages`]: what is for a component that is away
//! - [`namespaces`]: stanzas in the namespace of the stream on which they go
//! - [`bad_input`]: on the port of components
//! - [`scene`]: two relays, one with components

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod bad_input;
mod claims;
mod dialback;
mod namespaces;
mod outages;
mod reach;
mod rivals;
mod scene;
#[path = "../support/mod.rs"]
mod support;
