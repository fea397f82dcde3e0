//! What is known of one domain's host-meta document, and when it is asked for again (XEP-0487 sections 2.1 and 4.2).
//!
//! - A document is asked for again when its ttl is over, or after an hour: a domain that moves is followed within the hour,
//!   as with DNS.
//! - While it can't be had, it counts as it stands until its ttl is over. Then its pins end (a key that was replaced two ttl
//!   ago would else lock the domain's servers out), and its links are only used for a domain of which DNS names no way; that
//!   for a day at most.
//! - A failure is remembered with back-off and jitter. A domain that answers that it has none isn't asked for an hour.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::found::{VALID_MAX, VALID_MIN};
use super::host_meta::{Document, TTL_MAX};
use super::weigh::Draw;
use crate::reason::Reason;

/// How long a document that can't be had anew is of use where nothing else leads to the domain (RFC 8767 section 5 suggests 1 to
/// 3 days for records).
const STALE_MAX: Duration = Duration::from_secs(86_400);

/// Between failures: doubled from `min` to `max`, of which between half and all is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// `limits.retry_min`
    pub min: Duration,
    /// `limits.retry_max`
    pub max: Duration,
}

/// What is known of one domain's document.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    known: Option<Known>,
    ask_at: Option<Instant>,
    failures: u32,
    failed: Option<Reason>,
}

#[derive(Debug, Clone)]
struct Known {
    document: Arc<Document>,
    /// When its ttl is over.
    expires: Instant,
    /// When nothing of it counts any more.
    ends: Instant,
}

/// A document that still counts.
#[derive(Debug, Clone)]
pub struct Counting {
    /// It.
    pub document: Arc<Document>,
    /// Its ttl is over, and it couldn't be had anew: its pins are void, and its links are for want of others.
    pub expired: bool,
    /// When it is asked for again.
    pub fresh_for: Duration,
}

impl Standing {
    /// Whether it is time to ask.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.ask_at.is_none_or(|at| now >= at)
    }

    /// Whether something would be lost by forgetting this: a document, or that there is to be no question yet.
    #[must_use]
    pub fn is_needed(&self, now: Instant) -> bool {
        !self.is_due(now) || self.known.as_ref().is_some_and(|known| now < known.ends)
    }

    /// The document, as far as it counts.
    #[must_use]
    pub fn counting(&self, now: Instant) -> Option<Counting> {
        let known = self.known.as_ref().filter(|known| now < known.ends)?;
        Some(Counting {
            document: Arc::clone(&known.document),
            expired: now >= known.expires,
            fresh_for: self.ask_at.map(|at| at.saturating_duration_since(now)).unwrap_or_default(),
        })
    }

    /// Why the last question failed, if it did.
    #[must_use]
    pub const fn failed(&self) -> Option<Reason> {
        self.failed
    }

    /// The domain was asked, and this came of it; `None`: it has no document. `seed`: for the jitter.
    pub fn answered(
        &mut self,
        answer: Result<Option<Document>, Reason>,
        now: Instant,
        backoff: Backoff,
        seed: u64,
    ) {
        let wait = match answer {
            Ok(Some(document)) => {
                let ttl = document.ttl.clamp(VALID_MIN, TTL_MAX);
                let document = Arc::new(document);
                self.known = Some(Known { document, expires: now + ttl, ends: now + ttl.max(STALE_MAX) });
                self.failures = 0;
                self.failed = None;
                ttl.min(VALID_MAX)
            }
            Ok(None) => {
                *self = Self::default();
                VALID_MAX
            }
            Err(reason) => {
                let wait = backoff.min.saturating_mul(1 << self.failures.min(16)).min(backoff.max);
                self.failures = self.failures.saturating_add(1);
                self.failed = Some(reason);
                let share = u32::try_from(Draw::new(seed).up_to(1 << 16)).unwrap_or_default();
                wait / 2 + (wait / 2).mul_f64(f64::from(share) / 65_536.0)
            }
        };
        self.ask_at = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::discovery::host_meta;

    const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(300) };
    const SECOND: Duration = Duration::from_secs(1);

    fn document(ttl: u64) -> Document {
        host_meta::read(format!("{{\"xmpp\":{{\"ttl\":{ttl}}}}}").as_bytes(), 0).unwrap().unwrap()
    }

    /// Known since `now`, with this ttl in seconds.
    fn known(ttl: u64, now: Instant) -> Standing {
        let mut standing = Standing::default();
        standing.answered(Ok(Some(document(ttl))), now, BACKOFF, 0);
        standing
    }

    #[test]
    fn a_document_is_asked_for_again_when_its_ttl_is_over_and_within_the_hour() {
        let now = Instant::now();
        assert!(Standing::default().is_due(now));
        for (ttl, expected) in [(0, 60), (60, 60), (300, 300), (3_600, 3_600), (86_400, 3_600)] {
            let standing = known(ttl, now);
            let again = now + expected * SECOND;
            assert!(!standing.is_due(again - SECOND) && standing.is_due(again), "{ttl}");
            assert_eq!(standing.counting(now).unwrap().fresh_for, expected * SECOND, "{ttl}");
        }
    }

    #[test]
    fn what_cannot_be_had_anew_counts_until_its_ttl_is_over_and_then_for_want_of_others() {
        let now = Instant::now();
        for (ttl, ends) in [(300, 86_400), (172_800, 172_800), (u64::MAX, 7 * 86_400)] {
            let mut standing = known(ttl, now);
            let ttl = ttl.min(7 * 86_400);
            let mut at = now + 300 * SECOND;
            while at < now + Duration::from_secs(ends) {
                let counting = standing.counting(at).unwrap();
                assert_eq!(counting.expired, at >= now + Duration::from_secs(ttl), "{:?}", at - now);
                standing.answered(Err(Reason::HostMetaFailed), at, BACKOFF, 0);
                at += 1_800 * SECOND;
            }
            assert!(standing.counting(now + Duration::from_secs(ends)).is_none(), "{ttl}");
        }
    }

    #[test]
    fn failures_are_spread_and_further_and_further_apart() {
        let mut waits = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let (mut standing, mut now) = (Standing::default(), Instant::now());
            for failure in 0..40_u32 {
                standing.answered(Err(Reason::HostMetaFailed), now, BACKOFF, seed);
                assert_eq!(standing.failed(), Some(Reason::HostMetaFailed));
                let most = BACKOFF.max.min(SECOND * (1 << failure.min(20)));
                assert!(!standing.is_due(now + most / 2 - Duration::from_millis(1)), "{failure}");
                assert!(standing.is_due(now + most), "{failure}");
                waits.insert(standing.ask_at.unwrap() - now);
                now += most;
            }
            standing.answered(Ok(Some(document(60))), now, BACKOFF, seed);
            assert_eq!(standing.failed(), None);
            standing.answered(Err(Reason::HostMetaFailed), now, BACKOFF, seed);
            assert!(standing.is_due(now + SECOND), "it begins anew");
        }
        assert!(waits.len() > 100, "{}", waits.len());
    }

    #[test]
    fn a_domain_that_has_none_is_not_asked_for_an_hour_and_what_it_had_is_forgotten() {
        let now = Instant::now();
        let mut standing = known(300, now);
        standing.answered(Ok(None), now, BACKOFF, 0);
        assert!(standing.counting(now).is_none());
        assert!(!standing.is_due(now + VALID_MAX - SECOND) && standing.is_due(now + VALID_MAX));
        assert!(standing.is_needed(now + VALID_MAX - SECOND) && !standing.is_needed(now + VALID_MAX));
    }
}
