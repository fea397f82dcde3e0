//! Why something failed: one enum, and its word is the same in the log, the metric's `reason` label, the text of a
//! bounce, and whatever the operator is shown.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $permanent:literal, $advice:literal;)*) => {
        /// Why something failed. See the module.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All reasons, for metrics that start at zero.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The word, as it stands in logs, labels and bounces.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $word,)* }
            }

            /// What the operator can do about it.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Reason::$name => $advice,)* }
            }

            /// Whether trying again without anybody changing something can't help: waiting stanzas bounce at once.
            #[must_use]
            pub const fn is_permanent(self) -> bool {
                match self { $(Reason::$name => $permanent,)* }
            }
        }
    };
}

reasons! {
    // --- certificates (identity) ---
    /// The peer showed no certificate; both ends must (XEP-0178).
    CertificateMissing = "certificate-missing", true, "the other end must present a certificate for its domain";
    /// A certificate of the path has passed its notAfter.
    CertificateExpired = "certificate-expired", true, "renew the certificate and check the clocks of both ends";
    /// A certificate of the path has a notBefore in the future.
    CertificateNotYetValid = "certificate-not-yet-valid", true, "check the clocks of both ends";
    /// No path to a certificate authority that we trust.
    CertificateUnknownIssuer = "certificate-unknown-issuer", true, "have it signed by a trusted authority, send the intermediate certificates, or name its authority in trust";
    /// The certificate is good, but doesn't carry the domain in question.
    CertificateWrongName = "certificate-wrong-name", true, "add the domain to the certificate (a wildcard covers one label)";
    /// Extended key usage allows neither serverAuth nor, for a client, clientAuth.
    CertificateWrongPurpose = "certificate-wrong-purpose", true, "issue the certificate with the serverAuth extended key usage";
    /// The certificate can't be read, its signature is wrong, or a constraint is violated.
    CertificateInvalid = "certificate-invalid", true, "look at the certificate with openssl x509 -text; it is damaged or breaks a constraint of its issuer";
    /// The certificate is good, and none of the keys on its path is one that the domain publishes in its host-meta document
    /// (XEP-0487, RFC 7469).
    CertificatePinMismatch = "certificate-pin-mismatch", true, "the domain publishes other keys (public-key-pins-sha-256 in its host-meta.json) than its server has: its operator must mend one of the two; if both are right, somebody in between answers with a certificate of its own";
    /// None of our certificates covers the domain that we should speak for.
    CertificateNone = "certificate-none", true, "put a certificate for the host into the certificates folder; `fedmux check` lists what is covered";

    // --- connections ---
    /// Nothing listens at the address, or a firewall refused.
    ConnectionRefused = "connection-refused", false, "check the address and that the other end is running";
    /// No answer in time.
    ConnectionTimeout = "connection-timeout", false, "check the address, the route and the firewall (QUIC is UDP)";
    /// The connection was reset, or its path died.
    ConnectionLost = "connection-lost", false, "nothing, if it comes back; else look at the network between the two ends";
    /// TLS or QUIC could not agree, for another reason than a certificate.
    HandshakeFailed = "handshake-failed", false, "the two ends share no TLS version, cipher or protocol; see the detail in the log";
    /// The other end doesn't speak `xmpp-server` (ALPN).
    AlpnRefused = "alpn-refused", true, "the address belongs to a service that is not an XMPP server";
    /// TLS older than 1.2, or its version is forbidden at the other end.
    TlsVersion = "tls-version", true, "one of the two ends speaks no TLS that the other takes; TLS 1.2 or newer is spoken here";
    /// The other end doesn't offer STARTTLS, or somebody in between took the offer out. There is no way on in clear text.
    StarttlsNotOffered = "starttls-not-offered", true, "the other end must offer STARTTLS; if it does, somebody in between takes the offer out: use direct-tls";
    /// The other end offered STARTTLS and then couldn't (RFC 6120 section 5.4.2.2).
    StarttlsFailed = "starttls-failed", false, "the other end has trouble with its own TLS configuration; see its log";
    /// Octets in clear text behind `<starttls/>` or `<proceed/>` (RFC 6120 section 5.3.3).
    StarttlsInjection = "starttls-injection", false, "somebody in between, or the other end by mistake, sent clear text where TLS begins";
    /// Something other than STARTTLS before TLS.
    TlsRequired = "tls-required", true, "the other end must use TLS before anything else";
    /// A name could not be resolved.
    NameNotResolved = "name-not-resolved", false, "check the name in the configuration and the resolver";

    // --- finding a peer by DNS, and by HTTPS ---
    /// A look-up was answered with SERVFAIL, with a refusal, or with what makes no sense.
    DnsFailed = "dns-failed", false, "the domain's name servers or the resolver are broken; try dig with the name that the log says";
    /// A look-up was not answered in time.
    DnsTimeout = "dns-timeout", false, "check that the servers in dns.servers answer, and the domain's own name servers";
    /// Every SRV record of the domain says that the service isn't available (RFC 2782, target `.`).
    ServiceNotOffered = "service-not-offered", true, "the domain's DNS says that it has no XMPP server; name it in a [[peer]] if it has one";
    /// A single label or a special-use name: no public DNS knows it.
    DomainNotPublic = "domain-not-public", true, "name it in a [[peer]], or set dns.allow_private in a closed network";
    /// The domain's DNS leads to a loopback, private or otherwise unreachable address.
    AddressNotPublic = "address-not-public", true, "the domain's DNS points inside; if it is right, name it in a [[peer]] or set dns.allow_private";
    /// The domain's DNS leads to this relay itself.
    AddressOwn = "address-own", true, "the domain's DNS points at this relay: add it as a [[host]], or correct its records";

    /// The domain's web server answered the question for its host-meta document with a status or a redirect that can't be
    /// used.
    HostMetaFailed = "host-meta-failed", false, "look at https://DOMAIN/.well-known/host-meta.json: its web server is broken, or redirects to where nobody can follow";
    /// What the domain's web server sent is no document of XEP-0487, or over `host_meta_bytes`.
    HostMetaInvalid = "host-meta-invalid", false, "look at https://DOMAIN/.well-known/host-meta.json: it is damaged, or too big (limits.host_meta_bytes)";
    /// The domain's web server didn't answer within `look_up`.
    HostMetaTimeout = "host-meta-timeout", false, "nothing, if the domain is reached otherwise; else its web server is too slow for limits.look_up";

    // --- streams: the words of RFC 6120 section 4.9.3 ---
    /// XML that can't be processed here.
    BadFormat = "bad-format", false, "the other end sent XML that makes no sense at this point";
    /// A prefix that isn't declared, or is not `stream` where it must be.
    BadNamespacePrefix = "bad-namespace-prefix", false, "the other end used a namespace prefix that it didn't declare in the stanza itself";
    /// Another stream has taken this one's place.
    Conflict = "conflict", false, "nothing: a newer stream has taken over";
    /// A QUIC stream that doesn't begin as XML.
    FramingNotSpoken = "framing-not-spoken", false, "streams of one of the two ends don't begin with <; only XML streams are spoken here";
    /// The host is no longer served.
    HostGone = "host-gone", true, "the host was taken out of the configuration of the relay that answered";
    /// The host isn't served here.
    HostUnknown = "host-unknown", true, "the end that said so doesn't serve the domain, or has no certificate for it: if it is ours, add a [[host]]; if it is theirs, correct the [[peer]] or ask its operator";
    /// `from` or `to` is missing or changed.
    ImproperAddressing = "improper-addressing", false, "the other end sent a header or stanza without a proper from and to";
    /// Something inside the relay or the server failed.
    InternalServerError = "internal-server-error", false, "look at the log of the end that said so";
    /// `from` isn't proven for this session.
    InvalidFrom = "invalid-from", true, "the sender may not speak for that domain: it is neither in its certificate nor proven otherwise";
    /// The stream or content namespace is wrong.
    InvalidNamespace = "invalid-namespace", false, "the other end is not an XMPP server, or speaks the client protocol";
    /// Something other than authentication was sent before it.
    NotAuthorized = "not-authorized", true, "the stream was not authenticated for what it sent";
    /// Not well-formed XML, or not UTF-8.
    NotWellFormed = "not-well-formed", false, "the other end sent broken XML";
    /// A limit or a local policy.
    PolicyViolation = "policy-violation", false, "a limit of the end that said so was exceeded";
    /// Out of a bounded resource.
    ResourceConstraint = "resource-constraint", false, "raise the limit that the log names, or look at what fills it";
    /// A DTD, a processing instruction, a comment or an entity that RFC 6120 section 11.1 forbids.
    RestrictedXml = "restricted-xml", false, "the other end sent XML that XMPP forbids";
    /// The session has come to its age, or its rules have changed: what follows goes to another one (RFC 6120 section 4.9.3.16).
    Reset = "reset", false, "nothing: a fresh session takes over";
    /// The server is going down.
    SystemShutdown = "system-shutdown", false, "nothing: the other end restarts";
    /// A stream condition that we don't know, or `undefined-condition`.
    UndefinedCondition = "undefined-condition", false, "see the text in the log";
    /// Not UTF-8 as an encoding.
    UnsupportedEncoding = "unsupported-encoding", false, "XMPP is UTF-8";
    /// A feature or mechanism that is needed isn't offered.
    UnsupportedFeature = "unsupported-feature", true, "the other end offers none of the ways to authenticate that are allowed here";
    /// A first-level child that is no stanza and no negotiation.
    UnsupportedStanzaType = "unsupported-stanza-type", false, "the other end sent an element that servers don't exchange";
    /// Stream version below 1.0.
    UnsupportedVersion = "unsupported-version", true, "the other end speaks XMPP before 1.0";

    // --- limits (each is also counted in fedmux_limit_hits_total) ---
    /// A stanza or negotiation element over `stanza_bytes` (or the smaller bound before authentication).
    StanzaTooBig = "stanza-too-big", false, "raise limits.stanza_bytes at both ends, or send less";
    /// Elements nested deeper than `stanza_depth`.
    StanzaTooDeep = "stanza-too-deep", false, "raise limits.stanza_depth, if it is no attack";
    /// More attributes than `element_attributes` on one element.
    TooManyAttributes = "too-many-attributes", false, "raise limits.element_attributes, if it is no attack";
    /// A handshake or negotiation not done within its time.
    NegotiationTimeout = "negotiation-timeout", false, "the other end connected and then fell silent";
    /// A stream with nothing to carry for `lane_idle`, or a session for `session_idle`.
    Idle = "idle", false, "nothing: it comes back with the next stanza";
    /// The queue of a domain pair is full.
    QueueFull = "queue-full", false, "the next hop is too slow or away; raise limits.pair_queue_bytes only if bursts are expected";
    /// A stanza waited longer than `hold_iq`, `hold_groupchat` or `hold` for a way to its destination.
    QueueTimeout = "queue-timeout", false, "the next hop could not be reached in time; see the reason logged for it";
    /// The stream on which it was sent ended before the next hop acknowledged it: it may have arrived or not.
    Unacknowledged = "unacknowledged", false, "nothing, if it is rare: the next hop ended without a word on what it had handled";
    /// Two lanes in a row ended at this stanza.
    PoisonStanza = "poison-stanza", false, "look at why the next hop ends its stream at this stanza; its log says so";
    /// Its sender has taken it back, with its stream.
    TakenBack = "taken-back", false, "nothing: the sender's server ended its stream and answered for the stanza itself";
    /// More domain pairs than `pairs`, or more connections or lanes than their limits.
    TooMany = "too-many", false, "raise the limit that the log names, if it is no attack";

    // --- authentication ---
    /// The other end doesn't offer EXTERNAL: it doesn't believe our certificate, or knows dialback only.
    ExternalNotOffered = "external-not-offered", true, "the other end didn't accept our certificate for the domain, or knows dialback only; see its log, or allow policy.dialback = \"tls\"";
    /// The authorization identity isn't the stream's `from` (XEP-0178 section 3).
    InvalidAuthzid = "invalid-authzid", true, "the other end asked to act as another domain than its stream's from";
    /// SASL EXTERNAL failed at the other end.
    ExternalRefused = "external-refused", true, "the other end didn't accept our certificate for the domain (ejabberd before 25.08 wants clientAuth in it): allow policy.dialback = \"tls\", or see its log";
    /// A SASL mechanism that isn't offered.
    InvalidMechanism = "invalid-mechanism", true, "only EXTERNAL is spoken between servers";
    /// The server of the domain says that it didn't make this dialback key.
    DialbackInvalid = "dialback-invalid", true, "whoever sent it is not the server of that domain, or two servers answer for it";
    /// An answer of dialback to what was not asked on that stream: passed over (XEP-0220 section 3.1).
    DialbackUnsolicited = "dialback-unsolicited", false, "nothing: it has no effect; whoever sends it is broken, or tries its luck";
    /// The server of the domain could not be asked.
    DialbackTimeout = "dialback-timeout", false, "who answers for the domain couldn't be asked about the key in time: for a host of ours its server at `deliver`, for a remote domain its own server; if the peer says so, look at our [remote] listeners and DNS records";
    /// A source that `sources` doesn't name, for a host with `local_auth = "trusted"`.
    SourceNotTrusted = "source-not-trusted", true, "add the server's address to sources, or use local_auth = \"dialback\"";

    /// A component whose handshake isn't made with the secret of its `[[component]]` (XEP-0114).
    ComponentSecretWrong = "component-secret-wrong", true, "the component and the secret_file of its [[component]] must hold the same secret";
    /// The component has a connection, which lives; a second one is refused.
    ComponentConnected = "component-connected", false, "stop one of the two; if the other one's machine is gone, the connection is given up within a minute";

    // --- connection authorization (XEP-0451) ---
    /// A stanza of connection authorization: the relay's own, and never forwarded.
    MuxOwn = "mux-own", true, "nothing: servers and clients have no business with urn:xmpp:mux:0";
    /// Too many proofs under way in a session, or too fast.
    MuxBusy = "mux-busy", false, "nothing: the proof is tried again; raise the limits of the [[peer]] if it has hundreds of hosts";
    /// A secret came back for which no request is open: a replay, a restart in between, or another node.
    MuxNoRequest = "mux-no-request", false, "nothing: a fresh proof follows; if it repeats, two relays answer at one address";
    /// A secret that we didn't make, or not for this.
    MuxForged = "mux-forged", true, "whoever sent it was not handed the secret that it claims";
    /// A secret came back in time, and past its expiry by the system's clock: that was set forward in between.
    MuxExpired = "mux-expired", false, "see why the clock of this relay was set forward while it ran (NTP should slew); the next proof goes by the new time";
    /// A secret came back with an expiry further away than any that is written: the system's clock was set back in
    /// between.
    MuxClockBack = "mux-clock-back", false, "see why the clock of this relay was set back while it ran (NTP should slew); the next proof goes by the new time";
    /// A secret came back between other domains than those that were agreed.
    MuxAddress = "mux-address", true, "the peer returned a secret with another from or to than its own";
    /// The peer took a secret back with an error, or doesn't list what it would have to.
    MuxRefused = "mux-refused", false, "the peer doesn't let the host join the session; it keeps a connection of its own";
    /// No answer in time.
    MuxTimeout = "mux-timeout", false, "the peer never returned the secret; the host keeps a connection of its own";

    // --- stream management (XEP-0198) ---
    /// For `lane_stall` the other end acknowledged nothing of what it was sent, or read nothing.
    Stalled = "stalled", false, "the other end takes nothing and acknowledges nothing, though it is there: look at its log";
    /// The other end acknowledged more stanzas than were sent, or fewer than before.
    HandledTooHigh = "handled-count-too-high", false, "the other end counts stanzas wrongly: a defect there, or here";

    // --- routing ---
    /// No `[[peer]]` carries the domain and nothing else leads to it.
    NoRoute = "no-route", true, "add a [[peer]] for the domain";
    /// The domain has no records: no SRV, no A, no AAAA.
    NoRecords = "no-records", true, "the domain publishes no server; check its spelling, or name it in a [[peer]]";
    /// The domain's records no longer lead to the session.
    PeerMoved = "peer-moved", false, "nothing: the domain's DNS leads elsewhere now, and its pairs follow";
    /// The `[[peer]]` by which the session was made has changed, or the pair's domain belongs to another one now.
    PeerChanged = "peer-changed", false, "nothing: a reload has changed the [[peer]], and its pairs follow";
    /// `[policy]`, or what the host says itself, forbids the domain.
    PolicyDenied = "policy-denied", true, "the domain is not in an allow of [policy] or of the host itself, or it is in a deny of theirs, for this direction";
    /// From a remote session to a domain that isn't ours: never relayed.
    NotOurHost = "not-our-host", true, "the peer sent a stanza for a domain that this relay doesn't serve";
    /// A second pair on a lane that carries one.
    WrongPair = "wrong-pair", true, "the peer sent another domain pair's stanza on this lane";
    /// The peer doesn't speak what the configuration asks of it.
    NotMultiplexed = "not-multiplexed", false, "the peer doesn't offer XEP-0451 or bidirectional streams; each direction uses a connection of its own";
    /// The component isn't connected, and we never dial one (XEP-0114).
    ComponentNotConnected = "component-not-connected", false, "start the component and look at its log: it connects to local.components with the secret of its [[component]]";
    /// The relay itself is stopping.
    Draining = "draining", false, "nothing: the relay is stopping or restarting";
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Reason {}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn each_word_is_used_once_and_fits_a_label() {
        let words: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
    }
}
