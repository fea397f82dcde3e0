//! The elements of stream management (XEP-0198 sections 3 to 6), read and written.

use std::time::Duration;

use crate::reason::Reason;
use crate::xmpp::element::Element;
use crate::xmpp::escape::escape_into;
use crate::xmpp::namespace as ns;

/// Stands in the features after authentication.
pub const FEATURE: &str = "<sm xmlns='urn:xmpp:sm:3'/>";

/// Asks for an acknowledgement.
pub const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";

/// `<a/>` as [`write_answer`] writes it, read without a parser: a busy stream is answered again and again, with another number each
/// time. `None`: it is something else, or written otherwise.
#[must_use]
pub fn read_answer(octets: &[u8]) -> Option<Element> {
    let h = octets.strip_prefix(b"<a xmlns='urn:xmpp:sm:3' h='")?.strip_suffix(b"'/>")?;
    let h = std::str::from_utf8(h).ok().filter(|h| h.bytes().all(|octet| octet.is_ascii_digit()))?;
    Some(Element::new("a", ns::STREAM_MANAGEMENT).with_attribute("h", h))
}

/// Turns stream management on, so that the stream may be resumed.
pub const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";

/// Longest id of a stream that is kept. Ours have 32 octets; the specification bounds them by 4000.
pub const ID_BYTES_MAX: usize = 4000;

/// An element of stream management.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Management {
    /// `<enable/>`: turn it on.
    Enable {
        /// The stream shall be resumable.
        resume: bool,
    },
    /// `<enabled/>`: it is on.
    Enabled {
        /// The id with which the stream may be resumed, if it may.
        id: Option<String>,
        /// For how long after it broke; `None`: the other end doesn't say.
        max: Option<Duration>,
    },
    /// `<resume/>`: go on with the stream `previd`.
    Resume {
        /// Its id.
        previd: String,
        /// Stanzas of the other direction that are handled.
        h: u32,
    },
    /// `<resumed/>`: it goes on.
    Resumed {
        /// Stanzas that are handled at the other end.
        h: u32,
    },
    /// `<failed/>`: it doesn't, or it can't be turned on.
    Failed {
        /// Stanzas of the stream that was to be resumed and that are handled, if the other end knows.
        h: Option<u32>,
    },
    /// `<r/>`: say how many are handled.
    Request,
    /// `<a/>`: so many are.
    Answer {
        /// How many, modulo 2^32.
        h: u32,
    },
}

impl Management {
    /// Read `element`; `None` if it isn't of stream management.
    ///
    /// # Errors
    /// [`Reason::BadFormat`] if it is and makes no sense.
    pub fn parse(element: &Element) -> Result<Option<Self>, Reason> {
        if element.ns() != ns::STREAM_MANAGEMENT {
            return Ok(None);
        }
        let h = || number(element)?.ok_or(Reason::BadFormat);
        let id = |name| match element.attribute(name) {
            Some(id) if id.len() > ID_BYTES_MAX => Err(Reason::BadFormat),
            id => Ok(id.map(str::to_owned)),
        };
        let resume = || matches!(element.attribute("resume"), Some("true" | "1"));
        Ok(Some(match element.name() {
            "enable" => Self::Enable { resume: resume() },
            "enabled" => {
                let max = element.attribute("max").and_then(|max| max.parse().ok()).map(Duration::from_secs);
                Self::Enabled { id: id("id")?.filter(|_| resume()), max }
            }
            "resume" => Self::Resume { previd: id("previd")?.ok_or(Reason::BadFormat)?, h: h()? },
            "resumed" => Self::Resumed { h: h()? },
            "failed" => Self::Failed { h: number(element)? },
            "r" => Self::Request,
            "a" => Self::Answer { h: h()? },
            _ => return Err(Reason::UnsupportedStanzaType),
        }))
    }
}

/// The attribute `h`, an `xs:unsignedInt`.
fn number(element: &Element) -> Result<Option<u32>, Reason> {
    let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    match element.attribute("h") {
        None => Ok(None),
        // The parser of numbers takes a sign, which is no part of one here.
        Some(h) if digits(h) => h.parse().map(Some).map_err(|_| Reason::BadFormat),
        Some(_) => Err(Reason::BadFormat),
    }
}

/// Write `<a/>`.
pub fn write_answer(out: &mut String, h: u32) {
    out.push_str(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
}

/// Write `<enabled/>`; `resumable`: with this id, for this long.
pub fn write_enabled(out: &mut String, resumable: Option<(&str, Duration)>) {
    out.push_str("<enabled xmlns='urn:xmpp:sm:3'");
    if let Some((id, max)) = resumable {
        out.push_str(" id='");
        escape_into(out, id);
        out.push_str(&format!("' resume='true' max='{}'", max.as_secs()));
    }
    out.push_str("/>");
}

/// Write `<resume/>`.
pub fn write_resume(out: &mut String, previd: &str, h: u32) {
    write_with_id(out, "resume", previd, h);
}

/// Write `<resumed/>`.
pub fn write_resumed(out: &mut String, previd: &str, h: u32) {
    write_with_id(out, "resumed", previd, h);
}

fn write_with_id(out: &mut String, name: &str, previd: &str, h: u32) {
    out.push_str(&format!("<{name} xmlns='urn:xmpp:sm:3' h='{h}' previd='"));
    escape_into(out, previd);
    out.push_str("'/>");
}

/// Write `<failed/>` with a stanza error's condition (section 3, example 7, and section 5, example 12).
pub fn write_failed(out: &mut String, condition: &str) {
    out.push_str(&format!(
        "<failed xmlns='urn:xmpp:sm:3'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Management>, Reason> {
        Management::parse(&Element::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn what_is_written_is_read_again() {
        type Write = fn(&mut String);
        let cases: [(Write, Management); 7] = [
            (|out| out.push_str(ENABLE), Management::Enable { resume: true }),
            (|out| out.push_str(REQUEST), Management::Request),
            (|out| write_answer(out, u32::MAX), Management::Answer { h: u32::MAX }),
            (
                |out| write_enabled(out, Some(("<'id", Duration::from_secs(300)))),
                Management::Enabled { id: Some("<'id".to_owned()), max: Some(Duration::from_secs(300)) },
            ),
            (|out| write_enabled(out, None), Management::Enabled { id: None, max: None }),
            (|out| write_resume(out, "x&y", 7), Management::Resume { previd: "x&y".to_owned(), h: 7 }),
            (|out| write_resumed(out, "x", 0), Management::Resumed { h: 0 }),
        ];
        for (write, expected) in cases {
            let mut out = String::new();
            write(&mut out);
            assert_eq!(read(&out), Ok(Some(expected)), "{out}");
        }
        let mut out = String::new();
        write_failed(&mut out, "item-not-found");
        assert_eq!(read(&out), Ok(Some(Management::Failed { h: None })));
    }

    #[test]
    fn numbers_that_are_none_and_ids_that_are_too_long_are_refused() {
        for h in ["", "-1", "+1", "1.0", "4294967296", "x"] {
            assert_eq!(read(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>")), Err(Reason::BadFormat), "{h}");
        }
        assert_eq!(read("<a xmlns='urn:xmpp:sm:3'/>"), Err(Reason::BadFormat));
        assert_eq!(read("<resume xmlns='urn:xmpp:sm:3' h='1'/>"), Err(Reason::BadFormat));
        let long = "x".repeat(ID_BYTES_MAX + 1);
        assert_eq!(
            read(&format!("<enabled xmlns='urn:xmpp:sm:3' resume='true' id='{long}'/>")),
            Err(Reason::BadFormat)
        );
        assert_eq!(read("<z xmlns='urn:xmpp:sm:3'/>"), Err(Reason::UnsupportedStanzaType));
        assert_eq!(read("<a xmlns='urn:xmpp:sm:2' h='1'/>"), Ok(None));
    }

    #[test]
    fn an_id_without_the_offer_to_resume_is_none() {
        assert_eq!(
            read("<enabled xmlns='urn:xmpp:sm:3' id='x'/>"),
            Ok(Some(Management::Enabled { id: None, max: None }))
        );
    }

    #[test]
    fn an_answer_is_read_without_a_parser_as_by_one() {
        for h in [0, 1, 17, u32::MAX] {
            let mut octets = String::new();
            write_answer(&mut octets, h);
            let element = Element::parse(octets.as_bytes()).unwrap();
            assert_eq!(read_answer(octets.as_bytes()), Some(element), "{h}");
        }
        for other in [
            REQUEST,
            "<a xmlns='urn:xmpp:sm:3' h='-1'/>",
            "<a xmlns='urn:xmpp:sm:3' h='1' x='2'/>",
            "<a xmlns='urn:xmpp:sm:3' h='1'></a>",
            "<a h='1' xmlns='urn:xmpp:sm:3'/>",
        ] {
            assert_eq!(read_answer(other.as_bytes()), None, "{other}");
        }
    }
}
