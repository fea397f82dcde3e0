//! XML namespaces, each with the document that defines it.

/// Stanzas between servers: the content namespace of a server stream (RFC 6120 section 4.8.2).
pub const SERVER: &str = "jabber:server";
/// Stanzas of a component's stream: its content namespace (XEP-0114 section 3).
pub const COMPONENT_ACCEPT: &str = "jabber:component:accept";
/// `<stream:stream/>`, `<stream:features/>`, `<stream:error/>` (RFC 6120 section 4.8.1).
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Conditions inside `<stream:error/>` (RFC 6120 section 4.9.2).
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Conditions inside a stanza's `<error/>` (RFC 6120 section 8.3.2).
pub const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// SASL (RFC 6120 section 6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// STARTTLS (RFC 6120 section 5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// Server dialback: `<db:result/>` and `<db:verify/>` (XEP-0220 section 2).
pub const DIALBACK: &str = "jabber:server:dialback";
/// The dialback stream feature (XEP-0220 section 2.4).
pub const DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";
/// The bidirectional-streams feature. Not the namespace of the element that turns it on (XEP-0288 section 2.1).
pub const BIDI_FEATURE: &str = "urn:xmpp:features:bidi";
/// The element that turns bidirectional streams on (XEP-0288 section 2.2).
pub const BIDI: &str = "urn:xmpp:bidi";
/// Stanza multiplexing: feature, request and proofs (XEP-0451).
pub const MUX: &str = "urn:xmpp:mux:0";
/// Asking for a mux secret: our extension to XEP-0451, see `proto::mux::authorize`.
pub const MUX_AUTHORIZE: &str = "urn:fedmux:mux-authorize:0";
/// Pipelining (XEP-0305 section 3).
pub const PIPELINING: &str = "urn:xmpp:features:pipelining";
/// Stream management: feature, elements and acknowledgements (XEP-0198).
pub const STREAM_MANAGEMENT: &str = "urn:xmpp:sm:3";
/// The prefix `xml` (Namespaces in XML section 3).
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// The prefix `xmlns` (Namespaces in XML section 3).
pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
