//! Peers over TCP: Direct TLS (XEP-0368) and STARTTLS (RFC 6120 section 5), as whoever dials and as whoever is dialled.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod chatting;
