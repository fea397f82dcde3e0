//! Pins: the public keys that a domain says its servers have (XEP-0487 section 2.1, used as in RFC 7469).
//!
//! A pin is the SHA-256 of a SubjectPublicKeyInfo in DER (RFC 7469 section 2.4). One of the pins has to be the key of a
//! certificate on the path that was verified, from the server's own to the authority (RFC 7469 section 2.6); what a server
//! sends beside that path doesn't count.
//!
//! XEP-0487 section 2.2 would also let a pinned key stand for a certificate that no authority signed, or for one of another
//! name. It never does here: a pin is asked for in addition to all that is asked for without it. Whoever runs the domain's web
//! server could else speak for the domain to us alone, with a certificate that nobody ever saw.

use std::fmt;
use std::sync::Arc;

/// Pins of one domain. Real ones have two or three, of which one is a spare (RFC 7469 section 4.3).
pub const PINS_MAX: usize = 16;

/// SHA-256 of a SubjectPublicKeyInfo in DER.
pub type KeyDigest = [u8; 32];

/// The keys that a domain's servers may have. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Pins(Option<Arc<[KeyDigest]>>);

impl Pins {
    /// The domain has published none: any key is good.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// The domain has published these. An empty list is one of which nothing could be read: no key is good then, for whoever
    /// publishes pins wants others refused.
    #[must_use]
    pub fn published(keys: &[KeyDigest]) -> Self {
        Self(Some(keys.into()))
    }

    /// Whether a peer whose certificates on the verified path have `keys` may be taken for the domain's.
    #[must_use]
    pub fn allow(&self, keys: &[KeyDigest]) -> bool {
        self.0.as_ref().is_none_or(|pins| pins.iter().any(|pin| keys.contains(pin)))
    }

    /// Whether the domain has published none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Pins(none)"),
            Some(pins) => write!(f, "Pins({})", pins.len()),
        }
    }
}
