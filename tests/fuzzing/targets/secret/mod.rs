//! Mux secrets (XEP-0451 section 3.2): none is taken that our keys didn't make for just this, and none twice. The first
//! octet chooses.
//!
//! - [`texts`]: any text, and true secrets with a few things changed
//! - [`history`]: requests, answers and clocks, in any order, held against a model
//! - [`stanzas`]: the IQs and elements that carry them

mod history;
mod stanzas;
mod texts;

use fedmux::proto::mux::secret::{Binding, Dialled, NONCE_BYTES, SecretKeys};
use fedmux::xmpp::domain::Domain;

use super::choices::Choices;

const NOW: u64 = 1_700_000_000;

pub(super) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    match choices.below(4) {
        0 => texts::any(choices.rest()),
        1 => texts::tampered(&mut choices),
        2 => history::play(&mut choices),
        _ => stanzas::read(choices.rest()),
    }
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

/// The newest, and one from before the rotation.
fn keys() -> SecretKeys {
    SecretKeys::new([[7; 32], [8; 32]])
}

fn binding(host: &str) -> Binding {
    Binding {
        dialled: Dialled::ByVerifier,
        verifier: domain("v.test"),
        host: domain(host),
        prover: domain("p.test"),
        stream_id: "s1".to_owned(),
        first: [1; 32],
        second: [2; 32],
    }
}

/// The key ids in a secret end here, the expiry follows, then the nonce.
const EXPIRY_AT: usize = 10;
const NONCE_AT: usize = EXPIRY_AT + 8;
const MAC_AT: usize = NONCE_AT + NONCE_BYTES;
