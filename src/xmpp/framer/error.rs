//! What the framer refuses, and the stream error condition (RFC 6120 section 4.9.3) that says so.

use crate::reason::Reason;

/// Why a stream's XML is refused. The stream ends with the condition that [`XmlError::reason`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum XmlError {
    /// Octets that are not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// A character outside `Char` of XML 1.0 section 2.2: a control character, U+FFFE or U+FFFF.
    #[error("a character that XML forbids")]
    ForbiddenCharacter,
    /// A tag or a CDATA section that doesn't follow the grammar.
    #[error("a broken tag")]
    BrokenMarkup,
    /// A name that isn't a qualified name, or holds characters that the parsers behind us refuse.
    #[error("a name that XML forbids")]
    BadName,
    /// `&` that begins no reference, or a reference to a character that XML forbids.
    #[error("a bare & or a reference to no character")]
    BadReference,
    /// `]]>` in text (XML 1.0 section 2.4).
    #[error("]]> in text")]
    CdataEndInText,
    /// An end tag for another element than the one that is open.
    #[error("an end tag without its start tag")]
    MismatchedEndTag,
    /// Two attributes with one name, as written or as namespaces expand it.
    #[error("the same attribute twice")]
    DuplicateAttribute,
    /// Something after `</stream:stream>`.
    #[error("something after the end of the stream")]
    AfterEnd,
    /// An XML declaration that doesn't follow the grammar, or not version 1.0.
    #[error("a broken XML declaration")]
    BrokenDeclaration,
    /// An XML declaration with another encoding than UTF-8.
    #[error("an encoding that is not UTF-8")]
    UnsupportedEncoding,
    /// `<!DOCTYPE` or another declaration (RFC 6120 section 11.1).
    #[error("a document type declaration")]
    Doctype,
    /// `<!--` (RFC 6120 section 11.1).
    #[error("a comment")]
    Comment,
    /// `<?` anywhere but before a stream header (RFC 6120 section 11.1).
    #[error("a processing instruction")]
    ProcessingInstruction,
    /// A reference to an entity that isn't one of the five (RFC 6120 section 11.1).
    #[error("an entity that XML doesn't predefine")]
    UnknownEntity,
    /// A prefix that is not declared where it must be: in the stanza itself.
    #[error("a namespace prefix that is not declared in the stanza")]
    UndeclaredPrefix,
    /// A namespace declaration that Namespaces in XML section 3 forbids, or a name that no URI can be.
    #[error("a namespace declaration that XML forbids")]
    BadNamespaceDeclaration,
    /// Something else where a stream header must be.
    #[error("no stream header")]
    HeaderExpected,
    /// A stream header whose prefix is not `stream` (RFC 6120 section 4.8.5).
    #[error("a stream header without the prefix stream")]
    HeaderPrefix,
    /// A stream header with another streams or content namespace (RFC 6120 sections 4.8.1 and 4.8.2).
    #[error("a stream header that is not of a server stream")]
    HeaderNamespace,
    /// A stream header inside a stream.
    #[error("a second stream header")]
    SecondHeader,
    /// Text between stanzas.
    #[error("text between stanzas")]
    TextBetweenStanzas,
    /// A stanza or negotiation element over its limit.
    #[error("an element over the size limit")]
    TooBig,
    /// Elements nested too deep.
    #[error("elements nested too deep")]
    TooDeep,
    /// Too many attributes on an element, or too many prefixes declared at one place.
    #[error("too many attributes on one element")]
    TooManyAttributes,
}

impl XmlError {
    /// The one word under which it is logged, counted and told to the peer.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::NotUtf8
            | Self::ForbiddenCharacter
            | Self::BrokenMarkup
            | Self::BadName
            | Self::BadReference
            | Self::CdataEndInText
            | Self::MismatchedEndTag
            | Self::DuplicateAttribute
            | Self::AfterEnd
            | Self::BrokenDeclaration => Reason::NotWellFormed,
            Self::UnsupportedEncoding => Reason::UnsupportedEncoding,
            Self::Doctype | Self::Comment | Self::ProcessingInstruction | Self::UnknownEntity => {
                Reason::RestrictedXml
            }
            Self::UndeclaredPrefix | Self::BadNamespaceDeclaration | Self::HeaderPrefix => {
                Reason::BadNamespacePrefix
            }
            Self::HeaderNamespace => Reason::InvalidNamespace,
            Self::HeaderExpected | Self::SecondHeader | Self::TextBetweenStanzas => Reason::BadFormat,
            Self::TooBig => Reason::StanzaTooBig,
            Self::TooDeep => Reason::StanzaTooDeep,
            Self::TooManyAttributes => Reason::TooManyAttributes,
        }
    }
}
