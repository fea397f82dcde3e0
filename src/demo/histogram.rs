//! Latencies, counted in buckets: bounded memory for any number of stanzas, percentiles exact to 3%.
//!
//! Microseconds up to 32 have a bucket each; above, each power of two is cut into 32 equal buckets.

use std::time::Duration;

const SUB_BUCKETS: u64 = 32;
const SUB_BUCKET_BITS: u32 = SUB_BUCKETS.trailing_zeros();
/// What is longer is counted as this: two minutes and a bit.
const MICROSECONDS_MAX: u64 = (1 << 27) - 1;

/// A histogram of durations.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Count one duration.
    pub fn record(&mut self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(MICROSECONDS_MAX);
        let bucket = bucket_of(microseconds.min(MICROSECONDS_MAX));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// Count everything that `other` counted.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// The duration that this share (0 to 1) of all stays at or below; zero if nothing was counted.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let mut left = (share.clamp(0.0, 1.0) * self.total as f64).ceil().max(1.0);
        for (bucket, count) in self.counts.iter().enumerate() {
            left -= *count as f64;
            if left <= 0.0 {
                return middle_of(bucket as u64);
            }
        }
        Duration::ZERO
    }
}

fn bucket_of(microseconds: u64) -> usize {
    let bits = u64::BITS - microseconds.leading_zeros();
    let shift = bits.saturating_sub(SUB_BUCKET_BITS + 1);
    // Below 2 * SUB_BUCKETS the shift is 0 and the bucket is the value; above, the top bits count on from there.
    let bucket = u64::from(shift) * SUB_BUCKETS + (microseconds >> shift);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

fn middle_of(bucket: u64) -> Duration {
    let shift = (bucket / SUB_BUCKETS).saturating_sub(1);
    let low = (bucket - shift * SUB_BUCKETS) << shift;
    // In half microseconds, so that the narrow buckets keep their middle.
    Duration::from_nanos((2 * low + (1 << shift)) * 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_three_percent() {
        let mut histogram = Histogram::default();
        for microseconds in 1..=100_000_u64 {
            histogram.record(Duration::from_micros(microseconds));
        }
        for (share, exact) in [(0.5, 50_000.0), (0.95, 95_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
            let found = histogram.quantile(share).as_secs_f64() * 1e6;
            assert!((found / exact - 1.0).abs() < 0.03, "{share}: {found} instead of {exact}");
        }
    }

    #[test]
    fn every_duration_lies_in_the_bucket_that_names_it() {
        for microseconds in (0..5_000).chain([MICROSECONDS_MAX / 2, MICROSECONDS_MAX]) {
            let middle = middle_of(bucket_of(microseconds) as u64).as_secs_f64() * 1e6;
            let off = (middle - microseconds as f64).abs();
            assert!(off <= 0.5 + microseconds as f64 / 32.0, "{microseconds} us became {middle}");
        }
    }

    #[test]
    fn merged_counts_are_the_sum_and_nothing_is_no_latency() {
        let mut one = Histogram::default();
        assert_eq!(one.quantile(0.5), Duration::ZERO);
        one.record(Duration::from_millis(1));
        let mut two = Histogram::default();
        two.record(Duration::from_secs(1_000));
        one.merge(&two);
        assert!(one.quantile(0.5) < Duration::from_millis(2));
        assert!(one.quantile(0.99) > Duration::from_secs(100));
    }
}
