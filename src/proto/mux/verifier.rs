//! The verifying entity (XEP-0451 section 3.2): who hands out a secret, and grants a host to the session on which the
//! secret comes back.
//!
//! One of these belongs to each session S1. It keeps one open request for each further host, with a monotonic time-out;
//! a secret without an open request is refused before anything else is looked at, so that replays, restarts and wrong
//! clocks all end there. The requests go with the session.

use std::time::{Duration, Instant};

use super::secret::{self, Binding, Dialled, LIFETIME_SECONDS, NONCE_BYTES, SecretKeys, SecretRefusal};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// How long an answer is waited for.
pub const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How many requests a session may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Open at once.
    pub open: usize,
    /// Made at once after a quiet time.
    pub burst: u32,
    /// And then one in this time.
    pub every: Duration,
}

impl Allowance {
    /// For a peer that nobody named.
    pub const STRANGER: Self = Self { open: 8, burst: 32, every: Duration::from_secs(1) };
    /// For a `[[peer]]`: the operator links hundreds of hosts with it.
    pub const PEER: Self = Self { open: 64, burst: 4096, every: Duration::from_millis(100) };
}

/// A host that the peer of S1 may speak for from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The host.
    pub host: Domain,
    /// Who dialled the second connection.
    pub dialled: Dialled,
}

#[derive(Debug)]
struct OpenRequest {
    nonce: [u8; NONCE_BYTES],
    binding: Binding,
    until: Instant,
}

/// The time, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Monotonic.
    pub now: Instant,
    /// Seconds since 1970.
    pub unix: u64,
}

/// An IQ that offers a secret, as it came on S1.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Its `from`, as it stands there.
    pub from: &'a str,
    /// Its `to`.
    pub to: &'a str,
    /// The host that the prover takes it for, if it says so.
    pub host: Option<&'a str>,
    /// The secret.
    pub secret: &'a str,
}

/// The verifier of one session.
#[derive(Debug)]
pub struct Verifier {
    allowance: Allowance,
    open: Vec<OpenRequest>,
    /// When the allowance will be whole again; each request moves it by [`Allowance::every`].
    whole_at: Option<Instant>,
}

impl Verifier {
    /// A verifier with no request open.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        Self { allowance, open: Vec::new(), whole_at: None }
    }

    /// Allow more, or less, from now on.
    pub fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// Open a request for `binding.host`, and make its secret.
    ///
    /// # Errors
    /// [`Reason::MuxBusy`] if one is open for this host, too many are open, or they come too fast.
    pub fn ask(
        &mut self,
        keys: &SecretKeys,
        binding: Binding,
        nonce: [u8; NONCE_BYTES],
        clocks: Clocks,
    ) -> Result<String, Reason> {
        self.expire(clocks.now);
        let Allowance { open, burst, every } = self.allowance;
        let whole_at = self.whole_at.map_or(clocks.now, |at| at.max(clocks.now)) + every;
        let too_fast = whole_at > clocks.now + every * burst;
        if too_fast || self.open.len() >= open || self.has_open(&binding.host) {
            return Err(Reason::MuxBusy);
        }
        let secret =
            keys.make(&binding, clocks.unix + LIFETIME_SECONDS, &nonce).ok_or(Reason::InternalServerError)?;
        self.whole_at = Some(whole_at);
        self.open.push(OpenRequest { nonce, binding, until: clocks.now + ANSWER_WAIT });
        Ok(secret)
    }

    /// Whether a request for `host` is open.
    #[must_use]
    pub fn has_open(&self, host: &Domain) -> bool {
        self.open.iter().any(|request| request.binding.host == *host)
    }

    /// Judge a secret that came back on this session. A request is used up by the first offer whose HMAC is right; what
    /// is forged changes nothing.
    ///
    /// # Errors
    /// [`Reason::MuxNoRequest`], [`Reason::MuxForged`], [`Reason::MuxExpired`], [`Reason::MuxAddress`]; nothing is
    /// changed by them beyond the request that was used up.
    pub fn judge(&mut self, keys: &SecretKeys, offer: Offer<'_>, clocks: Clocks) -> Result<Granted, Reason> {
        self.expire(clocks.now);
        let nonce = secret::nonce(offer.secret).map_err(reason)?;
        let at = self.open.iter().position(|request| request.nonce == nonce).ok_or(Reason::MuxNoRequest)?;
        let binding = &self.open[at].binding;
        keys.verify(offer.secret, binding, clocks.unix).map_err(reason)?;
        // The HMAC is right, so this is the answer, and the only one: whatever is wrong with it now stays wrong.
        let OpenRequest { binding, .. } = self.open.swap_remove(at);
        let is = |text: &str, domain: &Domain| Domain::parse(text).is_ok_and(|parsed| parsed == *domain);
        // Somebody who shares our name may have had the prover return a secret that was made for another host.
        let other = offer.host.is_some_and(|host| !is(host, &binding.host));
        if other || !is(offer.from, &binding.prover) || !is(offer.to, &binding.verifier) {
            return Err(Reason::MuxAddress);
        }
        Ok(Granted { host: binding.host, dialled: binding.dialled })
    }

    /// Hosts whose requests were not answered in time.
    pub fn expire(&mut self, now: Instant) -> Vec<Domain> {
        let late = self.open.iter().filter(|request| request.until <= now);
        let hosts = late.map(|request| request.binding.host.clone()).collect();
        self.open.retain(|request| request.until > now);
        hosts
    }
}

fn reason(refusal: SecretRefusal) -> Reason {
    match refusal {
        SecretRefusal::TooLong | SecretRefusal::Malformed | SecretRefusal::Forged => Reason::MuxForged,
        SecretRefusal::UnknownKey => Reason::MuxNoRequest,
        SecretRefusal::Expired => Reason::MuxExpired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    fn keys() -> SecretKeys {
        SecretKeys::new([[7; 32]])
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

    fn start() -> Clocks {
        Clocks { now: Instant::now(), unix: 1_700_000_000 }
    }

    fn offer(secret: &str) -> Offer<'_> {
        Offer { from: "p.test", to: "v.test", host: None, secret }
    }

    #[test]
    fn a_secret_that_comes_back_grants_its_host_once() {
        let (mut verifier, clocks) = (Verifier::new(Allowance::STRANGER), start());
        let secret = verifier.ask(&keys(), binding("n.test"), [9; NONCE_BYTES], clocks).unwrap();
        let granted = Granted { host: domain("n.test"), dialled: Dialled::ByVerifier };
        assert_eq!(verifier.judge(&keys(), offer(&secret), clocks), Ok(granted));
        assert_eq!(verifier.judge(&keys(), offer(&secret), clocks), Err(Reason::MuxNoRequest), "a replay");
    }

    #[test]
    fn without_an_open_request_there_is_no_grant() {
        let (mut other, mut verifier, clocks) =
            (Verifier::new(Allowance::STRANGER), Verifier::new(Allowance::STRANGER), start());
        let secret = other.ask(&keys(), binding("n.test"), [9; NONCE_BYTES], clocks).unwrap();
        assert_eq!(
            verifier.judge(&keys(), offer(&secret), clocks),
            Err(Reason::MuxNoRequest),
            "another session's"
        );
        let late = Clocks { now: clocks.now + ANSWER_WAIT, ..clocks };
        assert_eq!(other.judge(&keys(), offer(&secret), late), Err(Reason::MuxNoRequest), "too late");
    }

    #[test]
    fn a_forged_offer_takes_nothing_from_the_true_one() {
        let (mut verifier, clocks) = (Verifier::new(Allowance::STRANGER), start());
        let secret = verifier.ask(&keys(), binding("n.test"), [9; NONCE_BYTES], clocks).unwrap();
        let forged =
            SecretKeys::new([[8; 32]]).make(&binding("n.test"), clocks.unix + 60, &[9; NONCE_BYTES]).unwrap();
        assert!(verifier.judge(&keys(), offer(&forged), clocks).is_err());
        assert!(verifier.judge(&keys(), offer(&secret), clocks).is_ok());
    }

    #[test]
    fn the_offer_comes_from_bare_p_to_bare_v() {
        for (from, to) in
            [("n.test", "v.test"), ("p.test/r", "v.test"), ("u@p.test", "v.test"), ("p.test", "w.test")]
        {
            let (mut verifier, clocks) = (Verifier::new(Allowance::STRANGER), start());
            let secret = verifier.ask(&keys(), binding("n.test"), [9; NONCE_BYTES], clocks).unwrap();
            let offer = Offer { from, to, host: None, secret: &secret };
            assert_eq!(verifier.judge(&keys(), offer, clocks), Err(Reason::MuxAddress), "{from} {to}");
        }
    }

    #[test]
    fn a_prover_that_takes_the_secret_for_another_hosts_is_refused() {
        for (host, good) in [("n.test", true), ("other.test", false), ("n.test/r", false)] {
            let (mut verifier, clocks) = (Verifier::new(Allowance::STRANGER), start());
            let secret = verifier.ask(&keys(), binding("n.test"), [9; NONCE_BYTES], clocks).unwrap();
            let offer = Offer { host: Some(host), ..offer(&secret) };
            assert_eq!(verifier.judge(&keys(), offer, clocks).is_ok(), good, "{host}");
        }
    }

    #[test]
    fn requests_are_bounded_in_number_and_in_rate() {
        let (mut verifier, mut clocks) = (Verifier::new(Allowance::STRANGER), start());
        let ask = |verifier: &mut Verifier, host: &str, clocks| {
            verifier.ask(&keys(), binding(host), [9; NONCE_BYTES], clocks).map(drop)
        };
        for n in 0..Allowance::STRANGER.open {
            assert_eq!(ask(&mut verifier, &format!("n{n}.test"), clocks), Ok(()));
        }
        assert_eq!(ask(&mut verifier, "more.test", clocks), Err(Reason::MuxBusy));
        let mut made = Allowance::STRANGER.open;
        for round in 0..100 {
            clocks.now += ANSWER_WAIT / 50;
            verifier.open.clear();
            made += usize::from(ask(&mut verifier, &format!("r{round}.test"), clocks).is_ok());
        }
        assert!((32..=53).contains(&made), "{made} in 20 s");
        assert_eq!(ask(&mut verifier, "n.test", Clocks { now: clocks.now + ANSWER_WAIT, ..clocks }), Ok(()));
        assert_eq!(
            ask(&mut verifier, "n.test", Clocks { now: clocks.now + ANSWER_WAIT, ..clocks }),
            Err(Reason::MuxBusy)
        );
    }
}
