//! Lanes over real connections: which stanza goes over which stream, what a lane costs, and what becomes of stanzas when
//! lanes, connections, relays and servers end.
//!
//! - [`placement`]: one connection and one lane for a pair; [`rivals`]: both relays dial at once
//! - [`pipelining`]: all in one flight; [`single_stream`]: peers that take one stream for each connection
//! - [`many`]: many pairs at once
//! - [`reloads`]: another configuration of peers
//! - [`endings`]: closed, drained and idle; [`ages`]: at the age of their session; [`outages`]: peers and servers that are away for a while
//! - [`scene`]: two relays that pin each other

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

mod ages;
mod credit;
mod endings;
mod many;
mod outages;
mod pipelining;
mod placement;
mod reloads;
mod rivals;
mod scene;
mod single_stream;
#[path = "../support/mod.rs"]
mod support;
