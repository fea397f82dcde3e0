//! Mux secrets (XEP-0451 section 3.2 and its security considerations): what a verifier hands to a further host, and
//! takes back over the session that is to speak for it.
//!
//! The XEP leaves the format open and asks for unpredictability, protection against reuse, the two domains, the stream
//! and an expiry. XEP-0185, which it suggests, has neither nonce nor expiry, so this has a format of its own. Only the
//! verifier reads it; to everybody else it is opaque.
//!
//! # Format
//!
//! The secret is base64url without padding (RFC 4648 section 5) of 66 octets:
//!
//! | octets | field |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 1 | role: 1 the verifier dialled the second connection, 2 the prover did |
//! | 8 | key id |
//! | 8 | expiry, seconds since 1970-01-01T00:00:00Z, big-endian |
//! | 16 | nonce |
//! | 32 | HMAC-SHA256 |
//!
//! The HMAC covers, each preceded by its length as two octets big-endian: the label `fedmux mux secret`, the five fields
//! above as they stand, the verifier's domain v, the new host n, the proven host p, the id of the stream of v and p, and
//! the exporter values (RFC 5705) of the first and of the second connection. What isn't carried in the secret the
//! verifier knows from its own open request: a secret that was made for another host, stream or connection, or that
//! comes back over another session, doesn't verify.
//!
//! The HMAC key is 32 octets of HKDF-SHA256 of the relay's master key with the info `fedmux mux key 1`; the key id is
//! the first 8 octets of SHA-256 of `fedmux mux key id 1` followed by that key.
//!
//! # Test vector
//!
//! Key: octets 0x00 to 0x1f. Role 1, expiry 1700000060, nonce: octets 0xa0 to 0xaf, v `montague.example`, n
//! `rooms.capulet.example`, p `capulet.example`, stream id `s1`, exporter values 32 times 0x11 and 32 times 0x22:
//!
//! ```text
//! AQFKmIC6zGyZfwAAAABlU_E8oKGio6SlpqeoqaqrrK2uryszyAyJfnyfF1Ibxc_tBOF94WOIg8GVE2-gQJ07pkv3
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::xmpp::domain::Domain;

/// Octets of a nonce.
pub const NONCE_BYTES: usize = 16;
/// How long a secret is good, in seconds.
pub const LIFETIME_SECONDS: u64 = 60;
/// How much further in the future than its lifetime a secret's expiry may lie, in seconds: clocks are corrected by little
/// all the time. Beyond that, the clock was set back after the secret was made.
pub const CLOCK_TOLERANCE_SECONDS: u64 = 5;
/// Longest secret that is looked at, a peer's own format included, in octets.
pub const SECRET_BYTES_MAX: usize = 4096;

const VERSION: u8 = 1;
const LABEL: &[u8] = b"fedmux mux secret";
const FIXED_BYTES: usize = 1 + 1 + KEY_ID_BYTES + 8 + NONCE_BYTES;
const KEY_ID_BYTES: usize = 8;
const MAC_BYTES: usize = 32;

/// Who dialled the second connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialled {
    /// The verifier: for a stanza that waits to go to the new host. The XEP's own case.
    ByVerifier,
    /// The prover: for a stanza that waits to come from the new host. Our extension.
    ByProver,
}

impl Dialled {
    const fn octet(self) -> u8 {
        match self {
            Self::ByVerifier => 1,
            Self::ByProver => 2,
        }
    }
}

/// What a secret is bound to: everything that the verifier knows of its open request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Who dialled the second connection.
    pub dialled: Dialled,
    /// The verifier's domain on the first connection.
    pub verifier: Domain,
    /// The host to be granted.
    pub host: Domain,
    /// The prover's domain on the first connection, proven by certificate.
    pub prover: Domain,
    /// The id of the stream of these two on the first connection.
    pub stream_id: String,
    /// Exporter value of the first connection.
    pub first: [u8; 32],
    /// Exporter value of the second connection.
    pub second: [u8; 32],
}

/// Why a secret is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretRefusal {
    /// Longer than [`SECRET_BYTES_MAX`].
    TooLong,
    /// Not our format: truncated, another version, not base64url.
    Malformed,
    /// Made with a key that is no longer, or was never, ours.
    UnknownKey,
    /// Past its expiry, by the system's clock.
    Expired,
    /// Its expiry lies further in the future than any that was ever written: the system's clock was set back.
    FromFuture,
    /// The HMAC is wrong: forged, or made for something else.
    Forged,
}

/// The keys under which secrets are made and taken. The first makes; all take, so that a rotation loses nothing.
pub struct SecretKeys(Vec<SecretKey>);

struct SecretKey {
    id: [u8; KEY_ID_BYTES],
    key: hmac::Key,
}

impl std::fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKeys({} keys)", self.0.len())
    }
}

impl SecretKeys {
    /// From derived keys, the newest first.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = [u8; 32]>) -> Self {
        let make = |key: [u8; 32]| {
            let mut text = b"fedmux mux key id 1".to_vec();
            text.extend_from_slice(&key);
            let digest = ring::digest::digest(&ring::digest::SHA256, &text);
            let mut id = [0; KEY_ID_BYTES];
            id.copy_from_slice(&digest.as_ref()[..KEY_ID_BYTES]);
            SecretKey { id, key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
        };
        Self(keys.into_iter().map(make).collect())
    }

    /// Make a secret. `None` if there is no key.
    #[must_use]
    pub fn make(&self, binding: &Binding, expires: u64, nonce: &[u8; NONCE_BYTES]) -> Option<String> {
        let key = self.0.first()?;
        let mut octets = Vec::with_capacity(FIXED_BYTES + MAC_BYTES);
        octets.extend_from_slice(&[VERSION, binding.dialled.octet()]);
        octets.extend_from_slice(&key.id);
        octets.extend_from_slice(&expires.to_be_bytes());
        octets.extend_from_slice(nonce);
        let mac = hmac::sign(&key.key, &covered(&octets, binding));
        octets.extend_from_slice(mac.as_ref());
        Some(URL_SAFE_NO_PAD.encode(octets))
    }

    /// Whether `text` is a secret of ours for `binding`, at `now` (seconds since 1970). The comparison takes constant
    /// time. That it is taken once only is the open request's business.
    ///
    /// # Errors
    /// [`SecretRefusal`].
    pub fn verify(&self, text: &str, binding: &Binding, now: u64) -> Result<(), SecretRefusal> {
        let octets = decode(text)?;
        let (fixed, mac) = octets.split_at(FIXED_BYTES);
        let key = self
            .0
            .iter()
            .find(|key| key.id == fixed[2..2 + KEY_ID_BYTES])
            .ok_or(SecretRefusal::UnknownKey)?;
        // The HMAC covers the role of the request: without this, the octet in the secret could be any.
        if fixed[1] != binding.dialled.octet() {
            return Err(SecretRefusal::Forged);
        }
        hmac::verify(&key.key, &covered(fixed, binding), mac).map_err(|_| SecretRefusal::Forged)?;
        let mut expires = [0; 8];
        expires.copy_from_slice(&fixed[2 + KEY_ID_BYTES..2 + KEY_ID_BYTES + 8]);
        match u64::from_be_bytes(expires) {
            expires if expires < now => Err(SecretRefusal::Expired),
            expires if expires > now.saturating_add(LIFETIME_SECONDS + CLOCK_TOLERANCE_SECONDS) => {
                Err(SecretRefusal::FromFuture)
            }
            _ => Ok(()),
        }
    }
}

/// The nonce in a secret of our format, by which its open request is found. It proves nothing yet.
///
/// # Errors
/// [`SecretRefusal::TooLong`] and [`SecretRefusal::Malformed`].
pub fn nonce(text: &str) -> Result<[u8; NONCE_BYTES], SecretRefusal> {
    let octets = decode(text)?;
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(&octets[FIXED_BYTES - NONCE_BYTES..FIXED_BYTES]);
    Ok(nonce)
}

/// White space around a secret comes from pretty-printed XML, the XEP's own examples included.
fn decode(text: &str) -> Result<Vec<u8>, SecretRefusal> {
    if text.len() > SECRET_BYTES_MAX {
        return Err(SecretRefusal::TooLong);
    }
    let octets = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| SecretRefusal::Malformed)?;
    if octets.len() != FIXED_BYTES + MAC_BYTES || octets[0] != VERSION {
        return Err(SecretRefusal::Malformed);
    }
    Ok(octets)
}

fn covered(fixed: &[u8], binding: &Binding) -> Vec<u8> {
    let role = [binding.dialled.octet()];
    let id = 2 + KEY_ID_BYTES;
    let fields: [&[u8]; 12] = [
        LABEL,
        &fixed[..1],
        // From the request, not from the secret: a secret for the other role doesn't verify.
        &role,
        &fixed[2..id],
        &fixed[id..id + 8],
        &fixed[id + 8..],
        binding.verifier.as_str().as_bytes(),
        binding.host.as_str().as_bytes(),
        binding.prover.as_str().as_bytes(),
        binding.stream_id.as_bytes(),
        &binding.first,
        &binding.second,
    ];
    let mut text = Vec::with_capacity(512);
    for field in fields {
        // Domains and stream ids are bounded far below 64 KiB where they are read.
        let len = u16::try_from(field.len()).unwrap_or(u16::MAX);
        text.extend_from_slice(&len.to_be_bytes());
        text.extend_from_slice(field);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn binding() -> Binding {
        Binding {
            dialled: Dialled::ByVerifier,
            verifier: domain("montague.example"),
            host: domain("rooms.capulet.example"),
            prover: domain("capulet.example"),
            stream_id: "s1".to_owned(),
            first: [0x11; 32],
            second: [0x22; 32],
        }
    }

    fn key(start: u8) -> [u8; 32] {
        std::array::from_fn(|at| start + u8::try_from(at).unwrap())
    }

    fn nonce_of(start: u8) -> [u8; NONCE_BYTES] {
        std::array::from_fn(|at| start + u8::try_from(at).unwrap())
    }

    fn secret() -> String {
        SecretKeys::new([key(0)]).make(&binding(), NOW + LIFETIME_SECONDS, &nonce_of(0xa0)).unwrap()
    }

    #[test]
    fn the_published_vector_reproduces() {
        let documented =
            include_str!("secret.rs").split("```text\n//! ").nth(1).unwrap().lines().next().unwrap();
        assert_eq!(secret(), documented);
        assert_eq!(nonce(&secret()), Ok(nonce_of(0xa0)));
    }

    #[test]
    fn a_secret_is_good_for_what_it_was_made_for_and_nothing_else() {
        let keys = SecretKeys::new([key(0)]);
        assert_eq!(keys.verify(&format!("\n  {}\n", secret()), &binding(), NOW), Ok(()));
        let others = [
            Binding { dialled: Dialled::ByProver, ..binding() },
            Binding { verifier: domain("v.example"), ..binding() },
            Binding { host: domain("n.example"), ..binding() },
            Binding { prover: domain("p.example"), ..binding() },
            Binding { stream_id: "s2".to_owned(), ..binding() },
            Binding { first: [0; 32], ..binding() },
            Binding { second: [0; 32], ..binding() },
        ];
        for other in others {
            assert_eq!(keys.verify(&secret(), &other, NOW), Err(SecretRefusal::Forged), "{other:?}");
        }
    }

    #[test]
    fn fields_cant_run_into_each_other() {
        let keys = SecretKeys::new([key(0)]);
        let shifted =
            Binding { host: domain("rooms.capulet.examplec"), prover: domain("apulet.example"), ..binding() };
        assert_eq!(keys.verify(&secret(), &shifted, NOW), Err(SecretRefusal::Forged));
    }

    #[test]
    fn what_is_old_forged_truncated_or_too_long_is_refused() {
        let keys = SecretKeys::new([key(0)]);
        let refused = |text: &str, now| keys.verify(text, &binding(), now).unwrap_err();
        assert_eq!(refused(&secret(), NOW + LIFETIME_SECONDS + 1), SecretRefusal::Expired);
        let earliest = NOW - CLOCK_TOLERANCE_SECONDS;
        assert_eq!(keys.verify(&secret(), &binding(), earliest), Ok(()));
        assert_eq!(refused(&secret(), earliest - 1), SecretRefusal::FromFuture);
        assert_eq!(refused(&secret()[..80], NOW), SecretRefusal::Malformed);
        assert_eq!(refused("", NOW), SecretRefusal::Malformed);
        assert_eq!(refused("secret", NOW), SecretRefusal::Malformed);
        assert_eq!(refused(&"A".repeat(SECRET_BYTES_MAX + 1), NOW), SecretRefusal::TooLong);
        let mut octets = URL_SAFE_NO_PAD.decode(secret()).unwrap();
        for at in [10, 20, 40, 65] {
            octets[at] ^= 1;
            assert_eq!(refused(&URL_SAFE_NO_PAD.encode(&octets), NOW), SecretRefusal::Forged, "{at}");
            octets[at] ^= 1;
        }
    }

    #[test]
    fn a_rotation_takes_what_the_old_key_made() {
        let rotated = SecretKeys::new([key(0x40), key(0)]);
        assert_eq!(rotated.verify(&secret(), &binding(), NOW), Ok(()));
        let gone = SecretKeys::new([key(0x40)]);
        assert_eq!(gone.verify(&secret(), &binding(), NOW), Err(SecretRefusal::UnknownKey));
    }
}
