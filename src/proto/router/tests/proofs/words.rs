//! What the attacker says: names, secrets and elements, thrown by dice out of all that it has seen.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::proto::mux::authorize::{self, Refused};
use crate::proto::mux::{iq, secret};

impl World {
    pub(super) fn any_name(&mut self) -> Domain {
        let all: Vec<_> = self.everybody.iter().cloned().collect();
        all[self.dice.below(all.len())].clone()
    }

    pub(super) fn own_name(&mut self) -> Domain {
        let all: Vec<_> = self.cast.names(ATTACKER).into_iter().collect();
        all[self.dice.below(all.len())].clone()
    }

    /// A name, mostly of the attacker's own.
    pub(super) fn some_name(&mut self) -> Domain {
        if self.dice.percent(75) { self.own_name() } else { self.any_name() }
    }

    pub(super) fn some_host(&mut self) -> (usize, Domain) {
        let relay = self.dice.below(2);
        let all: Vec<_> = self.cast.names(relay).into_iter().collect();
        (relay, all[self.dice.below(all.len())].clone())
    }

    pub(super) fn some_secret(&mut self) -> (String, Domain) {
        let recent = self.attacker.secrets.len().saturating_sub(6);
        let (text, prover) = match self.dice.pick(&self.attacker.secrets[recent..]).cloned() {
            Some(known) if self.dice.percent(85) => known,
            _ => {
                let made = secret::SecretKeys::new([self.dice.octets()]);
                let name = self.any_name();
                let binding = secret::Binding {
                    dialled: secret::Dialled::ByProver,
                    verifier: self.any_name(),
                    host: name.clone(),
                    prover: name.clone(),
                    stream_id: String::new(),
                    first: [0; 32],
                    second: [0; 32],
                };
                (made.make(&binding, u64::MAX, &self.dice.octets()).unwrap_or_default(), name)
            }
        };
        (if self.dice.percent(20) { self.mutated(text) } else { text }, prover)
    }

    /// One octet of one field is another one, or the field is that of another secret.
    pub(super) fn mutated(&mut self, text: String) -> String {
        let Ok(mut octets) = URL_SAFE_NO_PAD.decode(&text) else { return text };
        // Version, role, key id, expiry, nonce and HMAC, as `mux::secret` lays them out.
        let fields = [0..1, 1..2, 2..10, 10..18, 18..34, 34..66];
        let field = fields[self.dice.below(fields.len())].clone();
        let other =
            self.dice.pick(&self.attacker.secrets).and_then(|(other, _)| URL_SAFE_NO_PAD.decode(other).ok());
        let other = other.filter(|other| other.len() == octets.len());
        if octets.len() != 66 {
            return text;
        }
        match other.filter(|_| field.len() > 2 && self.dice.percent(30)) {
            Some(other) => octets[field.clone()].copy_from_slice(&other[field]),
            None => octets[field.start + self.dice.below(field.len())] ^= 1 << self.dice.below(8),
        }
        URL_SAFE_NO_PAD.encode(octets)
    }

    pub(super) fn compose(&mut self) -> String {
        let mut out = String::new();
        match self.dice.below(100) {
            0..40 => {
                let (secret, prover) = self.some_secret();
                let from = if self.dice.percent(80) { prover } else { self.any_name() };
                let to = self.some_host().1;
                let id = match self.dice.pick(&self.attacker.offers).cloned() {
                    Some((id, ..)) if self.dice.percent(50) => id,
                    _ => "1".to_owned(),
                };
                let host = self.any_name();
                out = self.offer(&id, (&from, &to), &host, &secret);
            }
            40..55 => {
                let Some((id, from, to)) = self.dice.pick(&self.attacker.offers).cloned() else { return out };
                let granted = self.dice.percent(80);
                let from = if self.dice.percent(80) { from } else { self.any_name().to_string() };
                let to = if self.dice.percent(70) { to } else { self.some_name().to_string() };
                iq::write_answer(&mut out, &id, &from, &to, granted);
            }
            55..65 => {
                let prover = self.any_name();
                let stream = self.dice.pick(&self.attacker.streams).cloned().unwrap_or_default();
                authorize::write_request(&mut out, &prover, &stream);
            }
            65..75 => {
                let (secret, prover) = self.some_secret();
                let prover = if self.dice.percent(50) { prover } else { self.any_name() };
                authorize::write_secret(&mut out, &prover, &secret);
            }
            75 => authorize::write_refused(&mut out, Refused::Busy),
            76..78 => authorize::write_refused(&mut out, Refused::NoSession),
            78..90 => {
                let (from, to) = (self.some_name(), self.some_host().1);
                out = format!("<message from='{from}' to='{to}'/>");
                if self.attacker.joins && self.dice.percent(30) {
                    out = out.replacen("/>", "><mux xmlns='urn:xmpp:mux:0'/></message>", 1);
                }
            }
            _ => out = self.dice.pick(&self.attacker.texts).cloned().unwrap_or_default(),
        }
        out
    }

    /// It need not say for which host it takes the secret, and may print it prettily.
    pub(super) fn offer(
        &mut self,
        id: &str,
        (from, to): (&Domain, &Domain),
        host: &Domain,
        secret: &str,
    ) -> String {
        let mut out = String::new();
        let pretty = if self.dice.percent(10) { format!("\n  {secret}\n") } else { secret.to_owned() };
        iq::write_offer(&mut out, id, from, to, host, &pretty);
        if self.dice.percent(3) {
            // Not from the bare domain.
            out = out.replacen(&format!("from='{from}'"), &format!("from='{from}/r'"), 1);
        }
        if self.dice.percent(60) { out.replacen(&format!(" host='{host}'"), "", 1) } else { out }
    }
}
