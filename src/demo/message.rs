//! The stanzas that the demo sends: numbered, dated, and compared octet for octet where they arrive.

use std::io::Write;
use std::time::Duration;

use crate::xmpp::domain::Domain;

/// Octets of each stanza: a short chat message with the usual attributes.
pub(super) const STANZA_BYTES: usize = 300;
/// What every stanza ends with; it stands nowhere else in one.
pub(super) const END: &[u8] = b"</message>";

const PADDING: &str = "So shaken as we are, so wan with care, find we a time for frighted peace to pant, and breathe \
    short-winded accents of new broils to be commenced in strands afar remote. No more the thirsty entrance of this soil \
    shall daub her lips with her own children's blood.";

/// What tells one stanza of a flow from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Counts from 0 within one direction of a domain pair.
    pub(super) number: u64,
    /// When it was to be sent, since the start of the demo.
    pub(super) sent: Duration,
}

/// What arrived instead of a stanza that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Oddity {
    /// A stanza of type `error`: something on the way gave it back.
    Bounced(String),
    /// Not what was sent in this flow, octet for octet.
    Altered(String),
}

/// Write one stanza behind what stands in `out`.
pub(super) fn write(out: &mut Vec<u8>, from: &Domain, to: &Domain, stamp: Stamp) {
    let start = out.len();
    let Stamp { number, sent } = stamp;
    // Writing to a Vec can't fail.
    let _infallible = write!(
        out,
        "<message type='chat' id='{number}' from='romeo@{from}/demo' to='juliet@{to}'><body>{number} {} ",
        sent.as_nanos()
    );
    let room = STANZA_BYTES.saturating_sub(out.len() - start + "</body>".len() + END.len());
    out.extend(PADDING.bytes().take(room));
    out.extend_from_slice(b"</body>");
    out.extend_from_slice(END);
}

/// Read one stanza, which must be exactly as it was written for this flow. `scratch` saves an allocation.
pub(super) fn read(
    stanza: &[u8],
    from: &Domain,
    to: &Domain,
    scratch: &mut Vec<u8>,
) -> Result<Stamp, Oddity> {
    let oddity = || {
        let text = String::from_utf8_lossy(stanza).into_owned();
        let head = text.split('>').next().unwrap_or_default();
        let error = head.contains("type='error'") || head.contains("type=\"error\"");
        if error { Oddity::Bounced(text) } else { Oddity::Altered(text) }
    };
    let stamp = stamp_of(stanza).ok_or_else(oddity)?;
    scratch.clear();
    write(scratch, from, to, stamp);
    if scratch == stanza { Ok(stamp) } else { Err(oddity()) }
}

/// The domains that a stanza comes from and goes to, as they stand there.
pub(super) fn domains(stanza: &[u8]) -> Option<(&str, &str)> {
    let head = stanza.split(|octet| *octet == b'>').next()?;
    let head = std::str::from_utf8(head).ok()?;
    let domain = |name: &str| {
        let (_, rest) = head.split_once(name)?;
        let quote = rest.chars().next()?;
        let address = rest[1..].split(quote).next()?;
        address.rsplit('@').next()?.split('/').next()
    };
    Some((domain(" from=")?, domain(" to=")?))
}

/// The two numbers at the start of the body.
fn stamp_of(stanza: &[u8]) -> Option<Stamp> {
    let text = std::str::from_utf8(stanza).ok()?;
    let (_, body) = text.split_once("<body>")?;
    let mut words = body.split(' ');
    let number = words.next()?.parse().ok()?;
    let sent = Duration::from_nanos(words.next()?.parse().ok()?);
    Some(Stamp { number, sent })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn written(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let stamp = Stamp { number, sent: Duration::from_nanos(123_456_789) };
        write(&mut out, &domain("a1.test"), &domain("b1.test"), stamp);
        out
    }

    fn read_back(stanza: &[u8], from: &str) -> Result<u64, Oddity> {
        read(stanza, &domain(from), &domain("b1.test"), &mut Vec::new()).map(|stamp| stamp.number)
    }

    #[test]
    fn a_stanza_is_read_as_it_was_written_and_has_the_promised_size() {
        for number in [0, 17, u64::MAX] {
            let stanza = written(number);
            assert_eq!(stanza.len(), STANZA_BYTES);
            assert_eq!(memchr::memmem::find(&stanza, END), Some(STANZA_BYTES - END.len()));
            assert_eq!(read_back(&stanza, "a1.test"), Ok(number));
        }
    }

    #[test]
    fn its_domains_are_read_from_its_addresses() {
        assert_eq!(domains(&written(3)), Some(("a1.test", "b1.test")));
        assert_eq!(domains(b"<message to=\"x@a.test/r\" from=\"b.test\"/>"), Some(("b.test", "a.test")));
        assert_eq!(domains(b"<message to='a.test'/>"), None);
    }

    #[test]
    fn a_changed_octet_a_foreign_pair_and_a_bounce_are_seen() {
        let mut changed = written(3);
        changed[STANZA_BYTES - 30] ^= 1;
        assert!(matches!(read_back(&changed, "a1.test"), Err(Oddity::Altered(_))));
        assert!(matches!(read_back(&written(3), "a2.test"), Err(Oddity::Altered(_))));
        let bounce = String::from_utf8(written(3)).unwrap().replace("'chat'", "'error'");
        assert!(matches!(read_back(bounce.as_bytes(), "a1.test"), Err(Oddity::Bounced(_))));
    }
}
