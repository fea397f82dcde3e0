//! What waits for one direction of a domain pair: whole stanzas, in order, within a bound.
//!
//! A queue belongs to its route and not to a lane: it is filled before there is a lane, it goes along when the lane
//! changes, and so the order within a pair can't change. Stanzas lie one behind the other in `pieces`, so that what a
//! lane takes leaves as one piece, without another copy. Whence they came, and since when they wait, is kept for each run
//! as it was appended, not for each stanza.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

mod pieces;

use self::pieces::Pieces;
use super::stream_management::receipts::Ticket;
use crate::xmpp::stanza::StanzaKind;

/// How long a stanza may wait for a way to its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// An IQ: somebody waits for the answer (`limits.hold_iq`).
    Iq,
    /// What a room says to its occupants, who are dropped from it when it comes back (`limits.hold_groupchat`).
    Groupchat,
    /// Messages and presence (`limits.hold`).
    Other,
    /// An error or a result: it answers somebody, and nobody can be told that it didn't arrive ([`ANSWERS_WAIT`] times as long).
    Answer,
}

/// How many times as long as messages an answer may wait.
pub const ANSWERS_WAIT: u32 = 10;

/// What is known of one queued stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its octets.
    pub len: usize,
    /// Which of the three it is.
    pub kind: StanzaKind,
    /// How long it may wait.
    pub wait: Wait,
    /// Whether it is an error of our own making. It was accepted from nobody, so the ledger doesn't count it.
    pub ours: bool,
    /// It was the first unacknowledged stanza when a lane ended.
    pub struck: bool,
    /// It was sent before, and says when it first came.
    pub delayed: bool,
}

impl Mark {
    /// A message or presence of `len` octets.
    #[must_use]
    pub const fn of(len: usize) -> Self {
        Self { len, kind: StanzaKind::Message, wait: Wait::Other, ours: false, struck: false, delayed: false }
    }
}

/// Stanzas that came together from one stream.
#[derive(Debug, Clone)]
struct Segment<O> {
    count: u32,
    /// The stream, and the ticket of the first stanza there; `None`: it isn't waiting for an acknowledgement.
    origin: Option<(O, Ticket)>,
    since: Instant,
}

impl<O: Clone> Segment<O> {
    /// The segment of the stanza at `at` alone.
    fn one(&self, at: u32) -> Self {
        let origin = self.origin.clone().map(|(origin, ticket)| (origin, ticket.plus(at)));
        Self { count: 1, origin, since: self.since }
    }

    /// Cut the first `count` stanzas off.
    fn split_to(&mut self, count: u32) -> Self {
        let first = Self { count, ..self.clone() };
        *self = Self { count: self.count - count, ..self.one(count) };
        first
    }
}

/// How long stanzas wait for a way to their destination.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    /// IQ stanzas.
    pub iq: Duration,
    /// What rooms say.
    pub groupchat: Duration,
    /// Messages and presence.
    pub other: Duration,
}

impl Hold {
    /// The shortest of them.
    #[must_use]
    pub fn shortest(self) -> Duration {
        self.iq.min(self.groupchat).min(self.other)
    }

    /// When a stanza that waits since then has waited long enough.
    #[must_use]
    pub fn of(self, mark: Mark, since: Instant) -> Instant {
        since
            + match mark.wait {
                Wait::Iq => self.iq,
                Wait::Groupchat => self.groupchat,
                Wait::Other => self.other,
                Wait::Answer => self.other * ANSWERS_WAIT,
            }
    }
}

/// A stanza that waited in a queue. `O` is whence it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited<O> {
    /// The stanza.
    pub octets: Bytes,
    /// What is known of it.
    pub mark: Mark,
    /// The stream that it came on, and its ticket there, if that waits for an acknowledgement.
    pub origin: Option<(O, Ticket)>,
    /// Since when it waits.
    pub since: Instant,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Octets taken from the head of a queue: whole stanzas.
#[derive(Debug, Clone)]
pub struct Run<O> {
    /// The stanzas, one behind the other.
    pub octets: Bytes,
    marks: VecDeque<Mark>,
    segments: VecDeque<Segment<O>>,
}

/// The queue of one route.
#[derive(Debug)]
pub struct Queue<O> {
    /// Boxed, and there only while something waits: there are very many queues.
    waiting: Option<Box<Waiting<O>>>,
    limit: usize,
}

/// What waits in a queue.
#[derive(Debug)]
struct Waiting<O> {
    octets: Pieces,
    marks: VecDeque<Mark>,
    segments: VecDeque<Segment<O>>,
}

impl<O> Default for Waiting<O> {
    fn default() -> Self {
        Self { octets: Pieces::default(), marks: VecDeque::new(), segments: VecDeque::new() }
    }
}

impl<O: Clone> Queue<O> {
    /// An empty queue for at most `limit` octets. One stanza always fits into an empty queue.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { waiting: None, limit }
    }

    fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.waiting.iter().flat_map(|waiting| &waiting.marks)
    }

    /// Octets waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.octets.len())
    }

    /// Octets waiting, of stanzas that somebody sent.
    #[cfg(test)]
    pub(crate) fn accepted_len(&self) -> usize {
        self.marks().filter(|mark| !mark.ours).map(|mark| mark.len).sum()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// Stanzas waiting, those of our own making not counted.
    #[must_use]
    pub fn stanzas(&self) -> usize {
        self.marks().filter(|mark| !mark.ours).count()
    }

    /// Stanzas waiting, whoever made them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.marks.len())
    }

    /// Since when the oldest stanza waits.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.waiting.as_ref().and_then(|waiting| waiting.segments.front()).map(|segment| segment.since)
    }

    /// Append whole stanzas, all or none. `origin`: the stream that they came on, and the ticket of the first there.
    ///
    /// # Errors
    /// [`Full`] if there is no room.
    pub fn push(
        &mut self,
        octets: &[u8],
        marks: &[Mark],
        origin: Option<(O, Ticket)>,
        now: Instant,
    ) -> Result<(), Full> {
        if cfg!(any(test, debug_assertions)) {
            // Simulated histories are many, and run optimized.
            assert_eq!(octets.len(), marks.iter().map(|mark| mark.len).sum::<usize>());
        }
        if !self.is_empty() && self.len() + octets.len() > self.limit {
            return Err(Full);
        }
        let count = count(marks.len());
        if count > 0 {
            let waiting = self.waiting.get_or_insert_with(|| {
                // Of very many queues in which something waits most hold what came together.
                let (kept, segments) = (VecDeque::with_capacity(marks.len()), VecDeque::with_capacity(1));
                Box::new(Waiting { octets: Pieces::default(), marks: kept, segments })
            });
            waiting.octets.push(octets, marks.iter().map(|mark| mark.len));
            waiting.marks.extend(marks);
            waiting.segments.push_back(Segment { count, origin, since: now });
        }
        Ok(())
    }

    /// Take stanzas from the head: as many as fit into `most` octets and lie in one piece, and one at least.
    pub fn take(&mut self, most: usize) -> Option<Run<O>> {
        let waiting = self.waiting.as_mut()?;
        let most = most.min(waiting.octets.first_len());
        let mut len = waiting.marks.front()?.len;
        let mut count = 1;
        for mark in waiting.marks.iter().skip(1) {
            if len + mark.len > most {
                break;
            }
            len += mark.len;
            count += 1;
        }
        let octets = waiting.octets.take(len);
        if count == waiting.marks.len() {
            let Waiting { marks, segments, .. } = *self.waiting.take()?;
            return Some(Run { octets, marks, segments });
        }
        let marks: VecDeque<Mark> = waiting.marks.drain(..count).collect();
        let segments = split_segments(&mut waiting.segments, self::count(count));
        Some(Run { octets, marks, segments })
    }

    /// Put a run back at the head: it goes before whatever waits. The one taken last comes first.
    pub fn put_back(&mut self, run: Run<O>) {
        if run.is_empty() {
            return;
        }
        let waiting = self.waiting.get_or_insert_default();
        waiting.octets.put_back(run.octets);
        let (mut marks, mut segments) = (run.marks, run.segments);
        marks.append(&mut waiting.marks);
        segments.append(&mut waiting.segments);
        (waiting.marks, waiting.segments) = (marks, segments);
    }

    /// Take out what has waited for its full time, and say when the next of the others will have.
    pub fn expire(&mut self, hold: Hold, now: Instant) -> (Vec<Waited<O>>, Option<Instant>) {
        let mut expired = Vec::new();
        if self.due(hold).any(|due| due <= now) {
            let mut kept = Vec::new();
            for waited in self.drain() {
                let due = hold.of(waited.mark, waited.since) <= now;
                if due { expired.push(waited) } else { kept.push(waited) }
            }
            self.put_back(Run::of(kept));
        }
        (expired, self.due(hold).min())
    }

    fn due(&self, hold: Hold) -> impl Iterator<Item = Instant> {
        let segments = self.waiting.iter().flat_map(|waiting| &waiting.segments);
        let since = segments.flat_map(|segment| (0..segment.count).map(|_| segment.since));
        self.marks().zip(since).map(move |(mark, since)| hold.of(*mark, since))
    }

    /// Take out everything, stanza by stanza.
    pub fn drain(&mut self) -> Vec<Waited<O>> {
        let mut drained = Vec::new();
        while let Some(run) = self.take(usize::MAX) {
            drained.extend(run.stanzas());
        }
        drained
    }
}

impl<O: Clone> Run<O> {
    /// The run of these stanzas.
    #[must_use]
    pub fn of(stanzas: impl IntoIterator<Item = Waited<O>>) -> Self {
        let mut octets = BytesMut::new();
        let (mut marks, mut segments) = (VecDeque::new(), VecDeque::<Segment<O>>::new());
        for Waited { octets: stanza, mark, origin, since } in stanzas {
            octets.extend_from_slice(&stanza);
            marks.push_back(Mark { len: stanza.len(), ..mark });
            segments.push_back(Segment { count: 1, origin, since });
        }
        Self { octets: octets.freeze(), marks, segments }
    }

    /// Stanzas in it.
    #[must_use]
    pub fn len(&self) -> u32 {
        count(self.marks.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// How many stanzas the ledger counts in it.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.marks.iter().filter(|mark| !mark.ours).count()
    }

    /// Cut the first `count` stanzas off.
    ///
    /// There are more in it.
    #[must_use]
    pub fn split_to(&mut self, count: u32) -> Self {
        let marks: VecDeque<Mark> = self.marks.drain(..count as usize).collect();
        let octets = self.octets.split_to(marks.iter().map(|mark| mark.len).sum());
        Self { octets, marks, segments: split_segments(&mut self.segments, count) }
    }

    /// The stanzas of the run, one by one.
    pub fn stanzas(&self) -> impl Iterator<Item = Waited<O>> {
        let mut octets = self.octets.clone();
        let singles = self.segments.iter().flat_map(|segment| (0..segment.count).map(|at| segment.one(at)));
        self.marks.iter().zip(singles).map(move |(mark, segment)| Waited {
            octets: octets.split_to(mark.len),
            mark: *mark,
            origin: segment.origin,
            since: segment.since,
        })
    }

    /// The streams on which its stanzas came and that wait for an acknowledgement, with the ticket of the first of so many.
    pub fn origins(&self) -> impl Iterator<Item = (&O, Ticket, u32)> {
        self.segments.iter().filter_map(|segment| {
            let (origin, ticket) = segment.origin.as_ref()?;
            Some((origin, *ticket, segment.count))
        })
    }
}

/// Cut `count` stanzas off the head of `segments`.
fn split_segments<O: Clone>(segments: &mut VecDeque<Segment<O>>, mut count: u32) -> VecDeque<Segment<O>> {
    let mut first = VecDeque::new();
    while count > 0 {
        let Some(mut segment) = segments.pop_front() else { break };
        if segment.count > count {
            let cut = segment.split_to(count);
            segments.push_front(segment);
            segment = cut;
        }
        count -= segment.count;
        first.push_back(segment);
    }
    first
}

/// A number of stanzas: each takes some octets of a bounded buffer, so that it is far from the end of its type.
fn count(stanzas: usize) -> u32 {
    u32::try_from(stanzas).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Hold = Hold {
        iq: Duration::from_secs(20),
        groupchat: Duration::from_secs(120),
        other: Duration::from_secs(60),
    };

    fn mark(len: usize, iq: bool) -> Mark {
        Mark { wait: if iq { Wait::Iq } else { Wait::Other }, ..Mark::of(len) }
    }

    fn first() -> Option<(char, Ticket)> {
        Some(('s', Ticket { run: 7, at: 0 }))
    }

    #[test]
    fn stanzas_leave_whole_and_in_order() {
        let (mut queue, now) = (Queue::<()>::new(100), Instant::now());
        queue.push(b"aaabb", &[mark(3, false), mark(2, true)], None, now).unwrap();
        queue.push(b"cccc", &[mark(4, false)], None, now).unwrap();
        let run = queue.take(6).unwrap();
        assert_eq!((&run.octets[..], run.counted()), (&b"aaabb"[..], 2));
        assert_eq!(queue.take(1).unwrap().octets, b"cccc"[..], "one stanza at least");
        assert!(queue.take(1).is_none());
    }

    #[test]
    fn a_stanza_keeps_its_ticket_however_runs_are_cut() {
        let (mut queue, now) = (Queue::new(100), Instant::now());
        queue.push(b"abcd", &[mark(1, false); 4], first(), now).unwrap();
        queue.push(b"e", &[mark(1, false)], None, now).unwrap();
        let mut run = queue.take(3).unwrap();
        let rest = queue.take(9).unwrap();
        let a = run.split_to(1);
        let origins = |run: &Run<char>| run.origins().map(|(_, ticket, count)| (ticket.at, count)).collect();
        let seen: [Vec<(u32, u32)>; 3] = [origins(&a), origins(&run), origins(&rest)];
        assert_eq!(seen, [vec![(0, 1)], vec![(1, 2)], vec![(3, 1)]]);
        queue.put_back(rest);
        queue.put_back(run);
        let at: Vec<_> =
            queue.drain().iter().map(|waited| waited.origin.map(|(_, ticket)| ticket.at)).collect();
        assert_eq!(at, [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn what_is_put_back_goes_before_what_came_later() {
        let (mut queue, now) = (Queue::<()>::new(100), Instant::now());
        queue.push(b"abc", &[mark(1, false), mark(1, false), mark(1, true)], None, now).unwrap();
        let runs = [queue.take(1).unwrap(), queue.take(1).unwrap()];
        queue.push(b"d", &[mark(1, false)], None, now).unwrap();
        runs.into_iter().rev().for_each(|run| queue.put_back(run));
        let drained: Vec<_> = queue.drain().into_iter().map(|waited| waited.octets).collect();
        assert_eq!(drained, [&b"a"[..], b"b", b"c", b"d"]);
    }

    #[test]
    fn a_queue_is_bounded_but_one_stanza_always_fits() {
        let (mut queue, now) = (Queue::<()>::new(4), Instant::now());
        queue.push(b"123456", &[mark(6, false)], None, now).unwrap();
        assert_eq!(queue.push(b"1", &[mark(1, false)], None, now), Err(Full));
        assert_eq!((queue.len(), queue.stanzas()), (6, 1));
    }

    #[test]
    fn an_iq_is_held_for_a_shorter_time_and_overtakes_nothing() {
        let (mut queue, now) = (Queue::new(100), Instant::now());
        let room = Mark { wait: Wait::Groupchat, ..Mark::of(1) };
        queue.push(b"mimg", &[mark(1, false), mark(1, true), mark(1, false), room], first(), now).unwrap();
        assert_eq!(queue.expire(HOLD, now), (vec![], Some(now + HOLD.iq)));
        let (expired, next) = queue.expire(HOLD, now + HOLD.iq);
        assert_eq!((expired.len(), next), (1, Some(now + HOLD.other)));
        let waited = expired[0].clone();
        assert_eq!((&waited.octets[..], waited.origin.unwrap().1.at), (&b"i"[..], 1));
        assert_eq!(queue.stanzas(), 3);
        let (expired, next) = queue.expire(HOLD, now + HOLD.other);
        let at: Vec<u32> = expired.iter().map(|waited| waited.origin.unwrap().1.at).collect();
        assert_eq!((at, next), (vec![0, 2], Some(now + HOLD.groupchat)));
    }
}
