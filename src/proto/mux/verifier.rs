//! The verifying entity (XEP-0451 section 3.2): who hands out a secret, and grants a host to the session on which the
//! secret comes back.
//!
//! One of these belongs to each session S1. It keeps one open request for each further host, with a monotonic time-out;
//! a secret without an open request is refused before anything else is looked at, so that replays and restarts end there.
//! The requests go with the session.
//!
//! # Clocks
//!
//! The expiry in a secret is written and read by this end alone, by its own wall clock: however far the clocks of the
//! two ends are apart, it makes no difference. And it is read within [`ANSWER_WAIT`] by the monotonic clock, far below
//! its lifetime, so that it can only be wrong if the wall clock was set in between. Then the secret is refused: one
//! clock that is trusted for grants (they end with certificates) has just proven untrustworthy. How far it was set
//! follows from the monotonic clock, and is told to the operator ([`Refusal::clock_step`]).

use std::time::{Duration, Instant};

use super::secret::{self, Binding, Dialled, LIFETIME_SECONDS, NONCE_BYTES, SecretKeys, SecretRefusal};
use crate::reason::Reason;
use crate::xmpp::domain::Domain;

/// How long an answer is waited for.
pub const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How many requests a session may have: `limits.proofs_open`, `proofs_burst` and `proofs_every`.
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
    /// For a peer that nobody named: the defaults of `[limits]`.
    pub const STRANGER: Self = Self { open: 8, burst: 32, every: Duration::from_secs(1) };
    /// For a `[[peer]]`, if it says nothing else: the operator links hundreds of hosts with it.
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
    /// When it was opened.
    asked: Clocks,
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

impl Clocks {
    /// By how many seconds the wall clock was set between `self` and `later`; forwards is positive. The monotonic clock
    /// says how much time really passed. Exact to a second.
    #[must_use]
    pub fn step_until(&self, later: &Self) -> i64 {
        let passed = later.now.saturating_duration_since(self.now).as_secs();
        let seconds = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        seconds(later.unix).saturating_sub(seconds(self.unix.saturating_add(passed)))
    }
}

/// Why an offer was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Whose request it was and was used up by it; `None`: it belonged to none, and nothing is changed.
    pub host: Option<Domain>,
    /// By how many seconds the wall clock was set while the secret was out, where that is the reason.
    pub clock_step: Option<i64>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, host: None, clock_step: None }
    }
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

/// Why no request was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub reason: Reason,
    /// The limit that was hit, as it is called in `[limits]`.
    pub limit: Option<&'static str>,
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
    ) -> Result<String, Denied> {
        self.expire(clocks.now);
        let Allowance { open, burst, every } = self.allowance;
        let whole_at = self.whole_at.map_or(clocks.now, |at| at.max(clocks.now)) + every;
        let busy = |limit| Err(Denied { reason: Reason::MuxBusy, limit });
        if self.has_open(&binding.host) {
            return busy(None);
        }
        if self.open.len() >= open {
            return busy(Some("proofs_open"));
        }
        if whole_at > clocks.now + every.saturating_mul(burst) {
            return busy(Some("proofs_burst"));
        }
        let secret = keys
            .make(&binding, clocks.unix + LIFETIME_SECONDS, &nonce)
            .ok_or(Denied { reason: Reason::InternalServerError, limit: None })?;
        self.whole_at = Some(whole_at);
        self.open.push(OpenRequest { nonce, binding, asked: clocks, until: clocks.now + ANSWER_WAIT });
        Ok(secret)
    }

    /// How many requests are open.
    #[must_use]
    pub fn open_count(&self, now: Instant) -> usize {
        self.open.iter().filter(|request| request.until > now).count()
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
    /// [`Reason::MuxNoRequest`], [`Reason::MuxForged`], [`Reason::MuxExpired`], [`Reason::MuxClockBack`],
    /// [`Reason::MuxAddress`]; nothing is changed by them beyond the request that was used up.
    pub fn judge(&mut self, keys: &SecretKeys, offer: Offer<'_>, clocks: Clocks) -> Result<Granted, Refusal> {
        self.expire(clocks.now);
        let nonce = secret::nonce(offer.secret).map_err(reason)?;
        let at = self.open.iter().position(|request| request.nonce == nonce).ok_or(Reason::MuxNoRequest)?;
        let timely = match keys.verify(offer.secret, &self.open[at].binding, clocks.unix) {
            Ok(()) => Ok(()),
            Err(refusal @ (SecretRefusal::Expired | SecretRefusal::FromFuture)) => Err(reason(refusal)),
            Err(refusal) => return Err(reason(refusal).into()),
        };
        // The HMAC is right, so this is the answer, and the only one: whatever is wrong with it now stays wrong.
        let OpenRequest { binding, asked, .. } = self.open.swap_remove(at);
        let host = Some(binding.host.clone());
        if let Err(reason) = timely {
            return Err(Refusal { reason, host, clock_step: Some(asked.step_until(&clocks)) });
        }
        let is = |text: &str, domain: &Domain| Domain::parse(text).is_ok_and(|parsed| parsed == *domain);
        // Somebody who shares our name may have had the prover return a secret that was made for another host.
        let misled = offer.host.is_some_and(|host| !is(host, &binding.host));
        if misled || !is(offer.from, &binding.prover) || !is(offer.to, &binding.verifier) {
            return Err(Refusal { host, ..Reason::MuxAddress.into() });
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
        SecretRefusal::FromFuture => Reason::MuxClockBack,
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
        assert_eq!(
            verifier.judge(&keys(), offer(&secret), clocks),
            Err(Reason::MuxNoRequest.into()),
            "a replay"
        );
    }

    #[test]
    fn without_an_open_request_there_is_no_grant() {
        let (mut other, mut verifier, clocks) =
            (Verifier::new(Allowance::STRANGER), Verifier::new(Allowance::STRANGER), start());
        let secret = other.ask(&keys(), binding("n.test"), [9; NONCE_BYTES], clocks).unwrap();
        assert_eq!(
            verifier.judge(&keys(), offer(&secret), clocks),
            Err(Reason::MuxNoRequest.into()),
            "another session's"
        );
        let late = Clocks { now: clocks.now + ANSWER_WAIT, ..clocks };
        assert_eq!(other.judge(&keys(), offer(&secret), late), Err(Reason::MuxNoRequest.into()), "too late");
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
            let refusal = Refusal { host: Some(domain("n.test")), ..Reason::MuxAddress.into() };
            assert_eq!(verifier.judge(&keys(), offer, clocks), Err(refusal), "{from} {to}");
        }
    }

    #[test]
    fn a_clock_that_is_set_while_a_secret_is_out_refuses_it_and_is_told() {
        let outcome = |step: i64| {
            let (mut verifier, asked) = (Verifier::new(Allowance::STRANGER), start());
            let secret = verifier.ask(&keys(), binding("n.test"), [9; NONCE_BYTES], asked).unwrap();
            let unix = (asked.unix + 2).checked_add_signed(step).unwrap();
            let clocks = Clocks { now: asked.now + Duration::from_secs(2), unix };
            let judged = verifier.judge(&keys(), offer(&secret), clocks);
            let open = verifier.has_open(&domain("n.test"));
            assert!(!open, "granted or refused, it was the answer");
            judged.map(drop).map_err(|refusal| (refusal.reason, refusal.host, refusal.clock_step))
        };
        let host = Some(domain("n.test"));
        assert_eq!(outcome(600), Err((Reason::MuxExpired, host.clone(), Some(600))));
        assert_eq!(outcome(-600), Err((Reason::MuxClockBack, host, Some(-600))));
        for step in [-7, -1, 0, 1, 58] {
            assert_eq!(outcome(step), Ok(()), "{step}: what clocks are corrected by");
        }
        assert!(outcome(-8).is_err() && outcome(59).is_err());
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
        let busy = |limit| Err(Denied { reason: Reason::MuxBusy, limit });
        assert_eq!(ask(&mut verifier, "more.test", clocks), busy(Some("proofs_open")));
        assert_eq!(ask(&mut verifier, "n0.test", clocks), busy(None), "one at a time for a host");
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
            busy(None)
        );
        verifier.open.clear();
        verifier.allow(Allowance { burst: 0, ..Allowance::STRANGER });
        assert_eq!(ask(&mut verifier, "n.test", clocks), busy(Some("proofs_burst")));
    }
}
