//! SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): small, seeded and good
//! enough to decide which datagram is lost, so that a run can be repeated from its seed.

/// A seeded stream of numbers.
#[derive(Debug, Clone)]
pub(super) struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly from 0 up to, and without, 1.
    pub(super) fn unit(&mut self) -> f64 {
        // 53 bits: every value is exact in a double.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn a_seed_repeats_and_chances_come_true_as_often_as_they_should() {
        let numbers = |seed| {
            let mut rng = Rng::new(seed);
            (0..100_000).map(|_| rng.chance(0.03)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        let hits = numbers(7).iter().filter(|hit| **hit).count();
        assert!((2_800..3_200).contains(&hits), "{hits} of 100,000 at 3%");
    }
}
