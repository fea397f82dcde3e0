//! The framer against arbitrary octets: cuts make no difference, and what passes is XML to rxml.
//!
//! The first octet says how long the pieces are; its highest bit, that a stream header comes first.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run framer` (from the package's root) runs it on a stable toolchain.

#![no_main]

#[path = "../../tests/xml/oracle.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;

const HEADER: &[u8] = b"<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
    xmlns:stream='http://etherx.jabber.org/streams'>";

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else { return };
    let stream = if first & 0x80 != 0 { [HEADER, rest].concat() } else { rest.to_vec() };
    let piece = usize::from(first & 0x7F);
    let whole = oracle::read(&stream, |_| stream.len());
    assert_eq!(oracle::read(&stream, |_| piece), whole);
    assert_eq!(whole.verify(), Ok(()));
});
