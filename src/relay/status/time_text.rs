//! Times, as they are shown.

use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `2026-11-28T20:15:00Z`
pub(crate) fn wall_text(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_else(|_| "never".to_owned())
}

/// How long ago `since` was.
pub(crate) fn age(since: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(since)
}
