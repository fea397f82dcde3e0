//! What each fuzz target plays with an input, and what must hold whatever the input is. A target panics if it doesn't.
//!
//! `tests/fuzzing` and `fuzz/` both play these: what is held stands here once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "whoever plays a target waits for it to panic"
)]

mod choices;
mod config;
mod dns;
mod domain;
mod element;
mod framer;
mod header;
mod host_meta;
#[path = "../../xml/oracle.rs"]
mod oracle;
mod secret;
mod stream;

/// Plays an input.
pub(crate) type Play = fn(&[u8]);

/// Every target by its name, which is that of its corpus.
pub(crate) const TARGETS: [(&str, Play); 9] = [
    ("config", config::run),
    ("dns", dns::run),
    ("domain", domain::run),
    ("element", element::run),
    ("framer", framer::run),
    ("header", header::run),
    ("host_meta", host_meta::run),
    ("secret", secret::run),
    ("stream", stream::run),
];
