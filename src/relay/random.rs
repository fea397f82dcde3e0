//! Randomness for the machines, which have none of their own.

use crate::proto::mux::secret::NONCE_BYTES;
use ring::rand::{SecureRandom as _, SystemRandom};

/// 128 random bits as text: an identifier for a stream. `None` only if the system has no randomness.
pub(crate) fn identifier() -> Option<String> {
    let mut bits = [0; 16];
    SystemRandom::new().fill(&mut bits).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(bits)))
}

/// A seed, for what needs no secrecy.
pub(crate) fn seed() -> u64 {
    let mut bits = [0; 8];
    match SystemRandom::new().fill(&mut bits) {
        Ok(()) => u64::from_be_bytes(bits),
        Err(_) => 1,
    }
}

/// A nonce for a mux secret. `None` only if the system has no randomness.
pub(crate) fn nonce() -> Option<[u8; NONCE_BYTES]> {
    let mut bits = [0; NONCE_BYTES];
    SystemRandom::new().fill(&mut bits).ok()?;
    Some(bits)
}
