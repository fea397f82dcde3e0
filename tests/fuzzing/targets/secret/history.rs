//! The open requests of one session against a model that knows what was asked: a host is granted once, for the secret
//! that was made for it, in time, from bare p to bare v.

use std::time::{Duration, Instant};

use fedmux::proto::mux::secret::{CLOCK_TOLERANCE_SECONDS, LIFETIME_SECONDS, NONCE_BYTES, SecretKeys};
use fedmux::proto::mux::verifier::{ANSWER_WAIT, Allowance, Clocks, Offer, Verifier};
use fedmux::reason::Reason;

use super::{NOW, binding, domain, keys};
use crate::targets::choices::Choices;

const HOSTS: [&str; 4] = ["n0.test", "n1.test", "n2.test", "n3.test"];
const STEPS_MAX: usize = 200;

/// A secret that was handed out.
struct Made {
    host: &'static str,
    secret: String,
    at: Instant,
    expires: u64,
    open: bool,
}

impl Made {
    fn is_open(&self, now: Instant) -> bool {
        self.open && now < self.at + ANSWER_WAIT
    }
}

struct Model {
    verifier: Verifier,
    allowance: Allowance,
    clocks: Clocks,
    made: Vec<Made>,
}

pub(super) fn play(choices: &mut Choices<'_>) {
    let every = Duration::from_millis(u64::from(choices.byte()));
    let allowance = Allowance { open: choices.below(5), burst: u32::from(choices.byte()), every };
    let clocks = Clocks { now: Instant::now(), unix: NOW };
    let mut model = Model { verifier: Verifier::new(allowance), allowance, clocks, made: Vec::new() };
    for _ in 0..STEPS_MAX {
        if choices.is_over() {
            break;
        }
        match choices.below(4) {
            0 => model.ask(choices.of(&HOSTS)),
            1 => model.clocks.now += Duration::from_millis(100 * u64::from(choices.byte())),
            2 => model.clocks.unix = NOW + u64::from(choices.byte()),
            _ => model.offer(choices),
        }
        model.hold();
    }
}

impl Model {
    fn ask(&mut self, host: &'static str) {
        let now = self.clocks.now;
        let mut nonce = [0; NONCE_BYTES];
        nonce[..8].copy_from_slice(&(self.made.len() as u64).to_be_bytes());
        let open = self.made.iter().filter(|made| made.is_open(now));
        let (count, one) = open.fold((0, false), |(n, one), made| (n + 1, one || made.host == host));
        match self.verifier.ask(&keys(), binding(host), nonce, self.clocks) {
            Ok(secret) => {
                assert!(!one && count < self.allowance.open, "one at a time for a host, and few for all");
                let expires = self.clocks.unix + LIFETIME_SECONDS;
                self.made.push(Made { host, secret, at: now, expires, open: true });
            }
            Err(denied) => {
                assert_eq!(denied.reason, Reason::MuxBusy);
                assert_eq!(denied.limit.is_none(), one);
                assert_eq!(denied.limit == Some("proofs_open"), !one && count >= self.allowance.open);
            }
        }
    }

    /// Somebody returns a secret: one that was handed out, or one that other keys made.
    fn offer(&mut self, choices: &mut Choices<'_>) {
        if self.made.is_empty() {
            return;
        }
        let at = choices.below(self.made.len());
        let forged = choices.byte() >= 0xC0;
        let address = |choices: &mut Choices<'_>, right: &str| {
            choices.of(&[right, right, right, "u@p.test", "v.test/r", "n1.test", "", "P.TEST."]).to_owned()
        };
        let (from, to) = (address(choices, "p.test"), address(choices, "v.test"));
        let host = choices.of(&[None, Some(self.made[at].host), Some("n3.test"), Some("n0.test/r")]);
        let secret = if forged { self.forge(at) } else { self.made[at].secret.clone() };
        let offer = Offer { from: &from, to: &to, host, secret: &secret };
        let judged = self.verifier.judge(&keys(), offer, self.clocks);

        let Clocks { now, unix } = self.clocks;
        let made = &mut self.made[at];
        let answers = made.is_open(now) && !forged;
        let timely =
            unix <= made.expires && made.expires <= unix + LIFETIME_SECONDS + CLOCK_TOLERANCE_SECONDS;
        let is = |text: &str, right: &str| text == right || (text == "P.TEST." && right == "p.test");
        let right = is(&from, "p.test") && is(&to, "v.test") && host.is_none_or(|host| host == made.host);
        match judged {
            Ok(granted) => {
                assert!(answers && timely && right, "{host:?} {from} {to}");
                assert_eq!(granted.host, domain(made.host));
            }
            Err(refusal) => {
                assert!(!(answers && timely && right), "{:?}", refusal.reason);
                let used_up = answers.then(|| domain(made.host));
                assert_eq!(refusal.host, used_up, "only the true answer uses a request up");
            }
        }
        made.open &= !answers;
    }

    /// The same request and nonce, under a key that the verifier doesn't have.
    fn forge(&self, at: usize) -> String {
        let mut nonce = [0; NONCE_BYTES];
        nonce[..8].copy_from_slice(&(at as u64).to_be_bytes());
        let made = &self.made[at];
        SecretKeys::new([[9; 32]]).make(&binding(made.host), made.expires, &nonce).expect("there is a key")
    }

    fn hold(&self) {
        let open = self.made.iter().filter(|made| made.is_open(self.clocks.now)).count();
        assert_eq!(self.verifier.open_count(self.clocks.now), open);
        assert!(open <= self.allowance.open);
    }
}
