//! What waits for one direction of a domain pair: whole stanzas, in order, within a bound.
//!
//! A queue belongs to its route and not to a lane: it is filled before there is a lane, it goes along when the lane
//! changes, and so the order within a pair can't change. Stanzas lie one behind the other in one buffer, so that what a
//! lane takes leaves as one piece, without another copy.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

/// What is known of one queued stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its octets.
    pub len: usize,
    /// Whether it is an IQ: somebody waits for the answer, so it is held for a shorter time.
    pub iq: bool,
    /// Whether it is an error of our own making. It was accepted from nobody, so the ledger doesn't count it.
    pub ours: bool,
}

#[derive(Debug, Clone, Copy)]
struct Queued {
    mark: Mark,
    since: Instant,
}

/// How long stanzas wait for a way to their destination.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    /// IQ stanzas.
    pub iq: Duration,
    /// Messages and presence.
    pub other: Duration,
}

impl Hold {
    fn of(self, queued: &Queued) -> Instant {
        queued.since + if queued.mark.iq { self.iq } else { self.other }
    }
}

/// A stanza that waited in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// The stanza.
    pub octets: Bytes,
    /// See [`Mark::ours`].
    pub ours: bool,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Octets taken from the head of a queue: whole stanzas.
#[derive(Debug, Clone)]
pub struct Run {
    /// The stanzas, one behind the other.
    pub octets: Bytes,
    marks: Vec<Queued>,
}

/// The queue of one route.
#[derive(Debug)]
pub struct Queue {
    octets: BytesMut,
    marks: VecDeque<Queued>,
    limit: usize,
}

impl Queue {
    /// An empty queue for at most `limit` octets. One stanza always fits into an empty queue.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { octets: BytesMut::new(), marks: VecDeque::new(), limit }
    }

    /// Octets waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Stanzas waiting, those of our own making not counted.
    #[must_use]
    pub fn stanzas(&self) -> usize {
        self.marks.iter().filter(|queued| !queued.mark.ours).count()
    }

    /// Since when the oldest stanza waits.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.marks.front().map(|queued| queued.since)
    }

    /// Append whole stanzas, all or none.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn push(&mut self, octets: &[u8], marks: &[Mark], now: Instant) -> Result<(), Full> {
        debug_assert_eq!(octets.len(), marks.iter().map(|mark| mark.len).sum::<usize>());
        if !self.is_empty() && self.octets.len() + octets.len() > self.limit {
            return Err(Full);
        }
        self.octets.extend_from_slice(octets);
        self.marks.extend(marks.iter().map(|mark| Queued { mark: *mark, since: now }));
        Ok(())
    }

    /// Take stanzas from the head: as many as fit into `most` octets, and one at least.
    pub fn take(&mut self, most: usize) -> Option<Run> {
        let mut len = self.marks.front()?.mark.len;
        let mut count = 1;
        for queued in self.marks.iter().skip(1) {
            if len + queued.mark.len > most {
                break;
            }
            len += queued.mark.len;
            count += 1;
        }
        let octets = self.octets.split_to(len).freeze();
        let marks = self.marks.drain(..count).collect();
        if self.marks.is_empty() {
            // A queue that is idle costs next to nothing.
            self.octets = BytesMut::new();
            self.marks.shrink_to(16);
        }
        Some(Run { octets, marks })
    }

    /// Put a run back at the head: the lane that took it can't have passed it on. The one taken last comes first.
    pub fn put_back(&mut self, run: &Run) {
        let mut octets = BytesMut::with_capacity(run.octets.len() + self.octets.len());
        octets.extend_from_slice(&run.octets);
        octets.extend_from_slice(&self.octets);
        self.octets = octets;
        for queued in run.marks.iter().rev() {
            self.marks.push_front(*queued);
        }
    }

    /// Take out what has waited for its full time, and say when the next of the others will have.
    pub fn expire(&mut self, hold: Hold, now: Instant) -> (Vec<Waited>, Option<Instant>) {
        let mut expired = Vec::new();
        if self.marks.iter().any(|queued| hold.of(queued) <= now) {
            let marks = std::mem::take(&mut self.marks);
            let mut octets = std::mem::take(&mut self.octets);
            for queued in marks {
                let stanza = octets.split_to(queued.mark.len);
                if hold.of(&queued) <= now {
                    expired.push(Waited { octets: stanza.freeze(), ours: queued.mark.ours });
                } else {
                    self.octets.extend_from_slice(&stanza);
                    self.marks.push_back(queued);
                }
            }
        }
        (expired, self.marks.iter().map(|queued| hold.of(queued)).min())
    }

    /// Take out everything, stanza by stanza.
    pub fn drain(&mut self) -> Vec<Waited> {
        let mut octets = std::mem::take(&mut self.octets);
        let waited = |queued: Queued| Waited {
            octets: octets.split_to(queued.mark.len).freeze(),
            ours: queued.mark.ours,
        };
        self.marks.drain(..).map(waited).collect()
    }
}

impl Run {
    /// How many stanzas the ledger counts in it.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.marks.iter().filter(|queued| !queued.mark.ours).count()
    }

    /// The stanzas of the run, one by one.
    pub fn stanzas(&self) -> impl Iterator<Item = Waited> {
        let mut octets = self.octets.clone();
        self.marks
            .iter()
            .map(move |queued| Waited { octets: octets.split_to(queued.mark.len), ours: queued.mark.ours })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Hold = Hold { iq: Duration::from_secs(20), other: Duration::from_secs(60) };

    fn mark(len: usize, iq: bool) -> Mark {
        Mark { len, iq, ours: false }
    }

    #[test]
    fn stanzas_leave_whole_and_in_order() {
        let (mut queue, now) = (Queue::new(100), Instant::now());
        queue.push(b"aaabb", &[mark(3, false), mark(2, true)], now).unwrap();
        queue.push(b"cccc", &[mark(4, false)], now).unwrap();
        let run = queue.take(6).unwrap();
        assert_eq!((&run.octets[..], run.counted()), (&b"aaabb"[..], 2));
        assert_eq!(queue.take(1).unwrap().octets, b"cccc"[..], "one stanza at least");
        assert!(queue.take(1).is_none());
    }

    #[test]
    fn what_is_put_back_goes_before_what_came_later() {
        let (mut queue, now) = (Queue::new(100), Instant::now());
        queue.push(b"abc", &[mark(1, false), mark(1, false), mark(1, true)], now).unwrap();
        let runs = [queue.take(1).unwrap(), queue.take(1).unwrap()];
        queue.push(b"d", &[mark(1, false)], now).unwrap();
        runs.iter().rev().for_each(|run| queue.put_back(run));
        let drained: Vec<_> = queue.drain().into_iter().map(|waited| waited.octets).collect();
        assert_eq!(drained, [&b"a"[..], b"b", b"c", b"d"]);
    }

    #[test]
    fn a_queue_is_bounded_but_one_stanza_always_fits() {
        let (mut queue, now) = (Queue::new(4), Instant::now());
        queue.push(b"123456", &[mark(6, false)], now).unwrap();
        assert_eq!(queue.push(b"1", &[mark(1, false)], now), Err(Full));
        assert_eq!((queue.len(), queue.stanzas()), (6, 1));
    }

    #[test]
    fn an_iq_is_held_for_a_shorter_time_and_overtakes_nothing() {
        let (mut queue, now) = (Queue::new(100), Instant::now());
        queue.push(b"mim", &[mark(1, false), mark(1, true), mark(1, false)], now).unwrap();
        assert_eq!(queue.expire(HOLD, now), (vec![], Some(now + HOLD.iq)));
        assert_eq!(
            queue.expire(HOLD, now + HOLD.iq),
            (vec![Waited { octets: Bytes::from_static(b"i"), ours: false }], Some(now + HOLD.other))
        );
        assert_eq!(queue.stanzas(), 2);
        let (expired, next) = queue.expire(HOLD, now + HOLD.other);
        assert_eq!((expired.len(), next), (2, None));
    }
}
