//! Delayed delivery (XEP-0203): when a stanza first came, for one that is sent again.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use time::OffsetDateTime;
use time::macros::format_description;

use super::domain::Domain;

/// `stanza`, a whole stanza that passed our checks, with `<delay/>` as its last child: held back by `by` since `came`.
///
/// `None` if it isn't a stanza after all.
#[must_use]
pub fn stamp(stanza: &[u8], by: &Domain, came: SystemTime) -> Option<Bytes> {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let stamp = OffsetDateTime::from(came).format(format).ok()?;
    let delay = format!("<delay xmlns='urn:xmpp:delay' from='{by}' stamp='{stamp}'/>");
    let mut stamped = BytesMut::with_capacity(stanza.len() + delay.len() + 16);
    if let Some(open) = stanza.strip_suffix(b"/>") {
        let name = stanza.get(1..)?;
        let name = &name
            [..name.iter().position(|octet| matches!(octet, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>'))?];
        for part in [open, b">", delay.as_bytes(), b"</", name, b">"] {
            stamped.extend_from_slice(part);
        }
    } else {
        // The last end tag of a well-formed element is its own.
        let end = stanza.windows(2).rposition(|octets| octets == b"</")?;
        let (inner, end) = stanza.split_at(end);
        for part in [inner, delay.as_bytes(), end] {
            stamped.extend_from_slice(part);
        }
    }
    Some(stamped.freeze())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::xmpp::element::Element;

    #[test]
    fn the_stamp_is_the_last_child_however_the_stanza_is_written() {
        let (by, came) =
            (Domain::parse("a.test").unwrap(), SystemTime::UNIX_EPOCH + Duration::from_millis(1500));
        for stanza in [
            "<message from='u@a.test' to='b.test'><body>x</body></message>",
            "<message from='u@a.test' to='b.test'><body>&lt;/x&gt;<![CDATA[</message>]]></body></message\n>",
            "<presence from='u@a.test' to='b.test'/>",
            "<presence/>",
            "<message from='a'><x xmlns='y'/></message>",
        ] {
            let before = Element::parse(stanza.as_bytes()).unwrap();
            let stamped = stamp(stanza.as_bytes(), &by, came).unwrap();
            let after = Element::parse(&stamped).unwrap();
            assert_eq!(
                (after.name(), after.children().count()),
                (before.name(), before.children().count() + 1)
            );
            let delay = after.children().last().unwrap();
            assert!(delay.is("delay", "urn:xmpp:delay"));
            assert_eq!(delay.attribute("stamp"), Some("1970-01-01T00:00:01.500Z"));
            assert_eq!(delay.attribute("from"), Some("a.test"));
        }
        assert_eq!(stamp(b"", &by, came), None);
    }
}
