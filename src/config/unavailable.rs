//! Keys of the design that this version doesn't have yet. To call them unknown would send people looking for a typo.

/// Each key, as it stands in errors, and what to do instead.
const KEYS: &[(&str, &str)] = &[
    ("host.limits", "remove it; set the limits for all in [limits]"),
    ("peer.limits", "remove it; set the limits for all in [limits]"),
];

/// What to do instead of using `key`, if it is one of these.
pub(super) fn advice(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|(name, _)| *name == key).map(|(_, advice)| *advice)
}
