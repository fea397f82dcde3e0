//! The framer and its checks (RFC 6120 sections 4 and 11): cuts make no difference, and what passes is XML to rxml.
//!
//! The first octet says how long the pieces are; its highest bit, that a stream header comes first.

use super::oracle;

/// As our own header binds it.
pub(super) const HEADER: &[u8] = b"<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
    xmlns:stream='http://etherx.jabber.org/streams'>";

pub(super) fn run(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let stream = if first & 0x80 != 0 { [HEADER, rest].concat() } else { rest.to_vec() };
    let piece = usize::from(first & 0x7F);
    let whole = oracle::read(&stream, |_| stream.len());
    assert_eq!(oracle::read(&stream, |_| piece), whole);
    assert_eq!(whole.verify(), Ok(()));
}
