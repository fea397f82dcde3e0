//! Randomness for the machines, which have none of their own.

use crate::proto::mux::secret::NONCE_BYTES;
#[cfg(not(test))]
use ring::rand::{SecureRandom as _, SystemRandom};

/// 128 random bits as text: an identifier for a stream. `None` only if the system has no randomness.
pub(crate) fn identifier() -> Option<String> {
    let bits = bits()?;
    Some(format!("{:032x}", u128::from_be_bytes(bits)))
}

/// A seed, for what needs no secrecy.
pub(crate) fn seed() -> u64 {
    bits().map_or(1, u64::from_be_bytes)
}

/// A nonce for a mux secret. `None` only if the system has no randomness.
pub(crate) fn nonce() -> Option<[u8; NONCE_BYTES]> {
    bits::<NONCE_BYTES>()
}

#[cfg(not(test))]
fn bits<const N: usize>() -> Option<[u8; N]> {
    let mut bits = [0; N];
    SystemRandom::new().fill(&mut bits).ok()?;
    Some(bits)
}

#[cfg(test)]
pub(crate) use simulated::{bits, set_seed};

/// Under a simulation everything follows from its seed.
#[cfg(test)]
mod simulated {
    use std::cell::Cell;

    use ring::rand::{SecureRandom as _, SystemRandom};

    thread_local! {
        static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    }

    pub(crate) fn bits<const N: usize>() -> Option<[u8; N]> {
        let mut bits = [0; N];
        let Some(mut seed) = SEED.get() else {
            SystemRandom::new().fill(&mut bits).ok()?;
            return Some(bits);
        };
        for octet in &mut bits {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *octet = (seed >> 56) as u8;
        }
        SEED.set(Some(seed));
        Some(bits)
    }

    /// What this thread's simulation draws from; `None`: there is none any more.
    pub(crate) fn set_seed(seed: Option<u64>) {
        SEED.set(seed);
    }
}
