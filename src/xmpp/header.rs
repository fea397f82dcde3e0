//! Stream headers (RFC 6120 section 4.7): the attributes with which two servers say who they are.

use super::domain::Domain;
use super::element::write_attribute;
use super::escape::unescape_attribute;
use super::namespace;
use crate::reason::Reason;
use quick_xml::Reader;
use quick_xml::events::Event;

/// Longest stream identifier that is accepted, in octets.
pub const STREAM_ID_BYTES_MAX: usize = 256;

/// Room for a header and what usually follows it, in octets.
const HEADER_BYTES: usize = 512;

/// Longest language tag that is kept, in octets; RFC 5646 section 4.4.1 asks for 35.
const LANGUAGE_BYTES_MAX: usize = 64;

/// A stream's version (RFC 6120 section 4.7.5): major and minor number, compared as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamVersion(pub u16, pub u16);

impl StreamVersion {
    /// The version that is spoken here.
    pub const CURRENT: Self = Self(1, 0);
    /// What a header without a version means: no features, no SASL.
    pub const NONE: Self = Self(0, 9);

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let number =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        Some(Self(number(major)?, number(minor)?))
    }
}

/// The attributes of a stream header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHeader {
    /// Who sends on this stream.
    pub from: Option<Domain>,
    /// Whom the sender wants to reach.
    pub to: Option<Domain>,
    /// The identifier that the receiving entity gave to the stream.
    pub id: Option<String>,
    /// The version.
    pub version: StreamVersion,
    /// `xml:lang`
    pub lang: Option<String>,
}

impl StreamHeader {
    /// A header of ours.
    #[must_use]
    pub fn new(from: Option<Domain>, to: Option<Domain>, id: Option<String>) -> Self {
        Self { from, to, id, version: StreamVersion::CURRENT, lang: None }
    }

    /// Parse a frame of [`FrameKind::Header`](super::framer::FrameKind). Attributes that aren't known are ignored.
    ///
    /// # Errors
    /// [`Reason::ImproperAddressing`] if `from` or `to` is no domain, [`Reason::UnsupportedVersion`] if the version is
    /// none, [`Reason::PolicyViolation`] for an identifier over [`STREAM_ID_BYTES_MAX`], [`Reason::NotWellFormed`] for
    /// what the framer would have refused.
    pub fn parse(frame: &[u8]) -> Result<Self, Reason> {
        let text = std::str::from_utf8(frame).map_err(|_| Reason::NotWellFormed)?;
        let Ok(Event::Start(tag)) = Reader::from_str(text).read_event() else {
            return Err(Reason::NotWellFormed);
        };
        let mut header = Self { from: None, to: None, id: None, version: StreamVersion::NONE, lang: None };
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|_| Reason::NotWellFormed)?;
            let value = unescape_attribute(&attribute.value);
            let domain = || Domain::parse(&value).map_err(|_| Reason::ImproperAddressing);
            match attribute.key.0 {
                "from" => header.from = Some(domain()?),
                "to" => header.to = Some(domain()?),
                "id" if value.len() > STREAM_ID_BYTES_MAX => return Err(Reason::PolicyViolation),
                "id" => header.id = Some(value.into_owned()),
                "version" => {
                    header.version = StreamVersion::parse(&value).ok_or(Reason::UnsupportedVersion)?
                }
                "xml:lang" if value.len() <= LANGUAGE_BYTES_MAX => header.lang = Some(value.into_owned()),
                _ => {}
            }
        }
        Ok(header)
    }

    /// Append the header with its XML declaration to `out`.
    pub fn write_into(&self, out: &mut String) {
        out.reserve(HEADER_BYTES);
        out.push_str("<?xml version='1.0'?><stream:stream");
        write_attribute(out, "xmlns", namespace::SERVER);
        write_attribute(out, "xmlns:db", namespace::DIALBACK);
        write_attribute(out, "xmlns:stream", namespace::STREAM);
        for (name, domain) in [("from", &self.from), ("to", &self.to)] {
            if let Some(domain) = domain {
                write_attribute(out, name, domain.as_str());
            }
        }
        if let Some(id) = &self.id {
            write_attribute(out, "id", id);
        }
        if self.version != StreamVersion::NONE {
            write_attribute(out, "version", &format!("{}.{}", self.version.0, self.version.1));
        }
        if let Some(lang) = &self.lang {
            write_attribute(out, "xml:lang", lang);
        }
        out.push('>');
    }

    /// What [`StreamHeader::write_into`] writes.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut out = String::new();
        self.write_into(&mut out);
        out
    }
}

/// The end of a stream.
pub const STREAM_END: &str = "</stream:stream>";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(attributes: &str) -> Result<StreamHeader, Reason> {
        StreamHeader::parse(format!("<stream:stream {attributes}>").as_bytes())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let domain = |text| Some(Domain::parse(text).unwrap());
        let mut header =
            StreamHeader::new(domain("a.test"), domain("b\u{fc}cher.test"), Some("<'1&2'>".into()));
        header.lang = Some("en".into());
        let xml = header.to_xml();
        let tag = xml.strip_prefix("<?xml version='1.0'?>").unwrap();
        assert_eq!(StreamHeader::parse(tag.as_bytes()), Ok(header));
    }

    #[test]
    fn a_header_may_leave_out_everything() {
        let header = parse("").unwrap();
        assert_eq!((header.from, header.to, header.id, header.lang), (None, None, None, None));
        assert_eq!(header.version, StreamVersion::NONE);
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(parse("version='1.10'").unwrap().version > parse("version='1.9'").unwrap().version);
        for version in ["", "1", "1.", ".0", "1.0.0", "+1.0", "1.0 ", "1.99999"] {
            assert_eq!(parse(&format!("version='{version}'")), Err(Reason::UnsupportedVersion), "{version}");
        }
    }

    #[test]
    fn addresses_are_domains_and_identifiers_are_bounded() {
        for attribute in ["from=''", "to='u@a.test'", "to='a.test/r'", "from='127.0.0.1'"] {
            assert_eq!(parse(attribute), Err(Reason::ImproperAddressing), "{attribute}");
        }
        let id = "i".repeat(STREAM_ID_BYTES_MAX);
        assert_eq!(parse(&format!("id='{id}'")).unwrap().id, Some(id.clone()));
        assert_eq!(parse(&format!("id='{id}i'")), Err(Reason::PolicyViolation));
        let long = "l".repeat(LANGUAGE_BYTES_MAX + 1);
        assert_eq!(parse(&format!("xml:lang='{long}' other='x' x:y='z'")).unwrap().lang, None);
    }
}
