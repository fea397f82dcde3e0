//! What was sent on one stream and isn't acknowledged yet (XEP-0198 section 4), in order.

use std::collections::VecDeque;

use crate::proto::queue::Run;

/// Stanzas that were sent, and what they came from.
#[derive(Debug)]
pub struct Sent<Q, O> {
    runs: VecDeque<(Run<O>, Q)>,
    /// Stanzas in them.
    count: u32,
    /// And their octets.
    octets: usize,
    /// What the other end has acknowledged, modulo 2^32.
    h: u32,
}

/// The other end acknowledged more than was sent, or less than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooHigh {
    /// What it said.
    pub h: u32,
    /// What was sent.
    pub sent: u32,
}

impl<Q, O> Default for Sent<Q, O> {
    fn default() -> Self {
        Self { runs: VecDeque::new(), count: 0, octets: 0, h: 0 }
    }
}

impl<Q: Clone, O: Clone> Sent<Q, O> {
    /// A run was sent that came from `queue`.
    pub fn push(&mut self, run: Run<O>, queue: Q) {
        self.count += run.len();
        self.octets += run.octets.len();
        if self.runs.capacity() == 0 {
            // Of very many streams with something under way most have one run.
            self.runs.reserve_exact(1);
        }
        self.runs.push_back((run, queue));
    }

    /// Stanzas that aren't acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> u32 {
        self.count
    }

    /// Their octets.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Whether nothing waits for an acknowledgement.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The other end has handled `h` stanzas. Those that this settles, in order.
    ///
    /// # Errors
    /// [`TooHigh`]; nothing is changed.
    pub fn acknowledge(&mut self, h: u32) -> Result<Vec<(Run<O>, Q)>, TooHigh> {
        let mut left = h.wrapping_sub(self.h);
        if left > self.count {
            return Err(TooHigh { h, sent: self.h.wrapping_add(self.count) });
        }
        self.h = h;
        self.count -= left;
        let mut settled = Vec::new();
        while left > 0 {
            let Some((mut run, queue)) = self.runs.pop_front() else { break };
            if run.len() > left {
                let first = run.split_to(left);
                self.runs.push_front((run, queue.clone()));
                run = first;
            }
            left -= run.len();
            self.octets -= run.octets.len();
            settled.push((run, queue));
        }
        if self.runs.is_empty() {
            // A stream that is idle costs next to nothing.
            self.runs = VecDeque::new();
        }
        Ok(settled)
    }

    /// The runs, to be sent again on the resumed stream.
    pub fn runs(&self) -> impl Iterator<Item = &Run<O>> {
        self.runs.iter().map(|(run, _)| run)
    }

    /// Where they came from, for each run.
    pub fn queues(&self) -> impl Iterator<Item = (&Run<O>, &Q)> {
        self.runs.iter().map(|(run, queue)| (run, queue))
    }

    /// Take out everything.
    pub fn take(&mut self) -> Vec<(Run<O>, Q)> {
        self.h = self.h.wrapping_add(self.count);
        (self.count, self.octets) = (0, 0);
        self.runs.drain(..).collect()
    }

    /// Stream management was turned on behind this point: what was sent before is covered by nobody, and counting begins.
    /// Those stanzas.
    pub fn begin(&mut self) -> Vec<(Run<O>, Q)> {
        let before = self.take();
        self.h = 0;
        before
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::proto::queue::{Mark, Queue};

    fn run(stanzas: &[u8]) -> Run<()> {
        let mut queue = Queue::new(1024);
        let marks = vec![Mark::of(1); stanzas.len()];
        queue.push(stanzas, &marks, None, Instant::now()).unwrap();
        queue.take(1024).unwrap()
    }

    fn octets(settled: Vec<(Run<()>, char)>) -> Vec<(Vec<u8>, char)> {
        settled.into_iter().map(|(run, queue)| (run.octets.to_vec(), queue)).collect()
    }

    #[test]
    fn an_acknowledgement_settles_stanzas_in_the_order_in_which_they_were_sent() {
        let mut sent = Sent::default();
        sent.push(run(b"abc"), 'x');
        sent.push(run(b"de"), 'y');
        assert_eq!(octets(sent.acknowledge(2).unwrap()), [(b"ab".to_vec(), 'x')]);
        assert_eq!(octets(sent.acknowledge(4).unwrap()), [(b"c".to_vec(), 'x'), (b"d".to_vec(), 'y')]);
        assert_eq!(octets(sent.acknowledge(4).unwrap()), []);
        assert_eq!((sent.unacknowledged(), octets(sent.take())), (1, vec![(b"e".to_vec(), 'y')]));
    }

    #[test]
    fn more_than_was_sent_and_less_than_before_are_refused_and_change_nothing() {
        let mut sent = Sent::default();
        sent.push(run(b"abc"), 'x');
        sent.acknowledge(2).unwrap();
        assert_eq!(sent.acknowledge(4).unwrap_err(), TooHigh { h: 4, sent: 3 });
        assert_eq!(sent.acknowledge(1).unwrap_err(), TooHigh { h: 1, sent: 3 });
        assert_eq!(octets(sent.acknowledge(3).unwrap()), [(b"c".to_vec(), 'x')]);
    }

    #[test]
    fn counters_wrap() {
        let mut sent = Sent { h: u32::MAX - 1, ..Sent::default() };
        sent.push(run(b"abcd"), 'x');
        assert_eq!(octets(sent.acknowledge(1).unwrap()), [(b"abc".to_vec(), 'x')]);
        assert_eq!(sent.acknowledge(3).unwrap_err(), TooHigh { h: 3, sent: 2 });
        assert_eq!(octets(sent.acknowledge(2).unwrap()), [(b"d".to_vec(), 'x')]);
    }

    proptest! {
        #[test]
        fn nothing_is_settled_twice_or_lost(
            lens in prop::collection::vec(1_usize..5, 0..12),
            steps in prop::collection::vec(0_u32..4, 0..40),
            start in any::<u32>(),
        ) {
            let mut sent = Sent { h: start, ..Sent::default() };
            let mut all = Vec::new();
            for len in lens {
                let stanzas: Vec<u8> = (0..len).map(|_| u8::try_from(all.len() % 251).unwrap()).collect();
                all.extend_from_slice(&stanzas);
                sent.push(run(&stanzas), ());
            }
            prop_assert_eq!(sent.octets(), all.len());
            let (mut seen, mut h) = (Vec::new(), start);
            for step in steps {
                if let Ok(settled) = sent.acknowledge(h.wrapping_add(step)) {
                    h = h.wrapping_add(step);
                    seen.extend(settled.iter().flat_map(|(run, ())| run.octets.to_vec()));
                    prop_assert_eq!(h.wrapping_sub(start) as usize, seen.len());
                    prop_assert_eq!(sent.octets(), all.len() - seen.len());
                } else {
                    prop_assert!(h.wrapping_sub(start) as usize + step as usize > all.len());
                }
            }
            seen.extend(sent.take().iter().flat_map(|(run, ())| run.octets.to_vec()));
            prop_assert_eq!(seen, all);
        }
    }
}
