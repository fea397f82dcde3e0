//! Peers over TCP: Direct TLS (XEP-0368) and STARTTLS (RFC 6120 section 5), as whoever dials and as whoever is dialled.
//!
//! - [`chatting`]: two relays; [`plain_servers`]: servers that know neither mux nor us
//! - [`accepting`]: whom we refuse; [`dialling`]: whom we don't believe when we dial; each with its reason
//! - [`clear_text`]: before TLS; [`certificates`]: which one is shown; [`crowds`]: the slow and the many; [`floods`]: one address
//!   that takes too much
//! - [`names`]: a peer whose name nobody can look up
//! - [`dialback`]: domains that no certificate proves; [`endings`]: what was sent just before a close

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod accepting;
mod certificates;
mod chatting;
mod clear_text;
mod crowds;
mod dialback;
mod dialling;
mod endings;
mod floods;
mod names;
mod plain_servers;
#[path = "../support/mod.rs"]
mod support;

/// A ClientHello of TLS 1.1 (RFC 4346 section 7.4.1.2), as no library here would send it.
const TLS_1_1_CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x02\
    01234567890123456789012345678901\x00\x00\x02\x00\x2f\x01\x00";

/// A ServerHello of TLS 1.1.
const TLS_1_1_SERVER_HELLO: &[u8] = b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02\
    01234567890123456789012345678901\x00\x00\x2f\x00";
