//! Keys of the design that this version doesn't have yet. To call them unknown would send people looking for a typo.

/// Each key, as it stands in errors, and what to do instead.
const KEYS: &[(&str, &str)] = &[
    ("remote.direct_tls", "remove it; peers are reached over QUIC only"),
    ("remote.starttls", "remove it; peers are reached over QUIC only"),
    ("admin.socket", "remove it; read /metrics at admin.listen"),
    ("dns", "remove the table; name each peer in a [[peer]]"),
    ("host.limits", "remove it; set the limits for all in [limits]"),
    ("peer.limits", "remove it; set the limits for all in [limits]"),
    ("host.allow", "remove it; set it for all hosts in [policy]"),
    ("host.deny", "remove it; set it for all hosts in [policy]"),
];

/// What to do instead of using `key`, if it is one of these.
pub(super) fn advice(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|(name, _)| *name == key).map(|(_, advice)| *advice)
}

/// Values of that kind, of keys that exist: key, value and what to do instead.
const VALUES: &[(&str, &str, &str)] = &[
    ("peer.transport", "direct-tls", "write \"quic\""),
    ("peer.transport", "starttls", "write \"quic\""),
    ("policy.dialback", "tls", "write \"never\", or leave it out"),
];

/// What to do instead of giving `key` this `value`, if it is one of these.
pub(super) fn value_advice(key: &str, value: &str) -> Option<&'static str> {
    VALUES.iter().find(|(name, word, _)| (*name, *word) == (key, value)).map(|(_, _, advice)| *advice)
}
