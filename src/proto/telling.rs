//! How often the same thing is said: whoever is refused again and again is counted each time, and fills no log.

use std::time::{Duration, Instant};

use super::budget::Bucket;

/// Lines that are said at once after a quiet time.
const LINES_BURST: u32 = 100;
/// And then one in this time.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What is said of one source.
#[derive(Debug, Default)]
pub struct Telling {
    lines: Bucket,
    unsaid: u64,
}

impl Telling {
    /// There is something to say. `Some`: it may be said, and so much of the kind was not said before it.
    pub fn tell(&mut self, now: Instant) -> Option<u64> {
        let mut lines = self.lines;
        if lines.spend(LINE_EVERY, LINE_EVERY * LINES_BURST, now).is_some() {
            self.unsaid += 1;
            return None;
        }
        self.lines = lines;
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_said_at_its_beginning_and_then_now_and_then_with_what_was_left_out() {
        let (mut telling, start) = (Telling::default(), Instant::now());
        let said = (0..1_000).filter(|_| telling.tell(start).is_some()).count();
        assert_eq!(said, 100);
        assert_eq!(telling.tell(start + LINE_EVERY), Some(900));
        assert_eq!(telling.tell(start + LINE_EVERY), None);
        assert_eq!(telling.tell(start + 3_600 * LINE_EVERY), Some(1));
        assert_eq!(telling.tell(start + 3_600 * LINE_EVERY), Some(0));
    }
}
