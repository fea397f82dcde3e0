//! One secret: any text, or a true one of which the octets, the request, the keys or the clock were changed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fedmux::proto::mux::secret::{
    Binding, CLOCK_TOLERANCE_SECONDS, Dialled, LIFETIME_SECONDS, SECRET_BYTES_MAX, SecretKeys, SecretRefusal,
    nonce,
};

use super::{EXPIRY_AT, MAC_AT, NONCE_AT, NOW, binding, domain, keys};
use crate::targets::choices::Choices;

/// What is taken is what the keys make for this request, with the nonce and the expiry that stand in it.
pub(super) fn any(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let nonce = nonce(text);
    let verified = keys().verify(text, &binding("n.test"), NOW);
    match nonce {
        Err(refusal) => {
            assert_eq!(verified, Err(refusal));
            assert_eq!(refusal == SecretRefusal::TooLong, text.len() > SECRET_BYTES_MAX);
        }
        Ok(nonce) => {
            let octets = URL_SAFE_NO_PAD.decode(text.trim()).expect("a nonce was read");
            assert_eq!(nonce, octets[NONCE_AT..MAC_AT]);
            let expires = u64::from_be_bytes(octets[EXPIRY_AT..NONCE_AT].try_into().expect("eight octets"));
            let made = |key| SecretKeys::new([[key; 32]]).make(&binding("n.test"), expires, &nonce);
            let ours = [7, 8].into_iter().any(|key| made(key).as_deref() == Some(text.trim()));
            let timely = (NOW..=NOW + LIFETIME_SECONDS + CLOCK_TOLERANCE_SECONDS).contains(&expires);
            assert_eq!(verified.is_ok(), ours && timely, "{text}: {verified:?}");
        }
    }
}

pub(super) fn tampered(choices: &mut Choices<'_>) {
    let maker = SecretKeys::new([[choices.of(&[7, 8, 9]); 32]]);
    let expires = NOW + u64::from(choices.byte());
    let made_for = some_binding(choices);
    let now = NOW + u64::from(choices.byte());
    let secret = maker.make(&made_for, expires, &choices.array()).expect("there is a key");
    let asked_for = if choices.flag() { some_binding(choices) } else { made_for.clone() };
    let mut octets = URL_SAFE_NO_PAD.decode(&secret).expect("it is base64url");
    let original = octets.clone();
    while !choices.is_over() {
        let at = choices.below(octets.len() + 1);
        let change = choices.byte();
        match octets.get_mut(at) {
            Some(octet) => *octet ^= change,
            None if change & 1 == 0 => octets.truncate(usize::from(change)),
            None => octets.push(change),
        }
        if octets.is_empty() {
            break;
        }
    }
    let verified = keys().verify(&URL_SAFE_NO_PAD.encode(&octets), &asked_for, now);
    let known = keys().verify(&secret, &made_for, expires) != Err(SecretRefusal::UnknownKey);
    let same = octets == original && asked_for == made_for && known;
    let timely = now <= expires && expires <= now + LIFETIME_SECONDS + CLOCK_TOLERANCE_SECONDS;
    match verified {
        Ok(()) => assert!(same && timely, "{asked_for:?} {octets:?}"),
        Err(SecretRefusal::Expired) => assert!(same && now > expires),
        Err(SecretRefusal::FromFuture) => assert!(same && now < expires),
        Err(SecretRefusal::UnknownKey) => assert!(!known || octets[2..EXPIRY_AT] != original[2..EXPIRY_AT]),
        Err(_) => assert!(!same),
    }
}

/// Names and ids that run into each other if they are put side by side.
fn some_binding(choices: &mut Choices<'_>) -> Binding {
    let names = ["n.test", "an.test", "v.test", "p.test", "n.testp.test"];
    let fresh = |choices: &mut Choices<'_>| [choices.byte(); 32];
    Binding {
        dialled: choices.of(&[Dialled::ByVerifier, Dialled::ByProver]),
        verifier: domain(choices.of(&names)),
        host: domain(choices.of(&names)),
        prover: domain(choices.of(&names)),
        stream_id: String::from_utf8_lossy(choices.chunk()).into_owned(),
        first: fresh(choices),
        second: fresh(choices),
    }
}
