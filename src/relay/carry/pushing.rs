//! The way of stanzas into the queue of their route, which may have no room for them for a while.

use std::sync::Arc;
use std::time::Duration;

use super::Carry;
use super::way::{Last, Way};
use crate::proto::admission::Side;
use crate::proto::queue::Mark;
use crate::reason::Reason;
use crate::relay::clock;
use crate::relay::hub::Hub;
use crate::relay::inbound::Origin;
use crate::relay::outlet::{LITTLE_BYTES, Outlet, Pushed};
use crate::relay::outlets::Begins;
use crate::xmpp::stanza::StanzaKind;

/// How long a stream isn't read after stanzas of it found no room, within the rate of what may come back too: whoever floods
/// a full queue is answered, but doesn't set the pace.
const BOUNCE_PAUSE: Duration = Duration::from_millis(50);

/// Stanzas that were read and counted, and wait for room in a queue. Their lane may end meanwhile, and whatever waits there with it.
struct Waiting<'a> {
    hub: Arc<Hub>,
    side: Side,
    outlet: Arc<Outlet>,
    run: &'a [u8],
    marks: &'a [Mark],
    /// That of the first of them.
    origin: Origin,
}

impl<'a> Waiting<'a> {
    /// The first `count` of them have found room.
    fn passed(&mut self, count: usize) {
        let len = octets(&self.marks[..count]);
        (self.run, self.marks) = (&self.run[len..], &self.marks[count..]);
        let passed = u32::try_from(count).unwrap_or(u32::MAX);
        self.origin = self.origin.take().map(|(inbound, ticket)| (inbound, ticket.plus(passed)));
    }

    /// None of them waits any more: somebody else deals with what is left.
    fn end(&mut self) -> (&'a [u8], &'a [Mark]) {
        (std::mem::take(&mut self.run), std::mem::take(&mut self.marks))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let (Some((inbound, ticket)), false) = (&self.origin, self.marks.is_empty()) else { return };
        // They are as good as unread: the sender has them still, and sends them again or answers for them.
        if inbound.forget_from(*ticket) {
            return;
        }
        // But if it was told that they are handled, because that took so long or with the last word on the stream, we answer.
        accept(&self.hub, self.side, &self.outlet, self.marks);
        let (run, marks) = (self.run, self.marks);
        // For what was answered for there is room.
        let (route, begins) = (&self.outlet.route, Begins::Ours);
        let _room = self.hub.bounce_run(route, run, marks, &self.origin, Reason::QueueFull, begins);
    }
}

impl Carry {
    /// Whether the outlet has taken everything.
    pub(super) fn push_at_once(&self, run: &[u8], marks: &[Mark], origin: &Origin) -> bool {
        let Some(Last { way: Way { outlet, .. }, .. }) = &self.last else { return true };
        let pushed = outlet.push(run, marks, origin.clone(), clock::now());
        if !matches!(pushed, Pushed::Taken | Pushed::Wanted) {
            return false;
        }
        accept(&self.hub, self.scope.side, outlet, marks);
        if pushed == Pushed::Wanted {
            self.hub.want(&outlet.route);
        }
        true
    }

    /// Let stanzas wait for room. Nothing is lost if this is dropped before it resolves.
    pub(super) async fn push(&mut self, run: &[u8], marks: &[Mark], origin: Origin) -> Result<(), Reason> {
        let Some(Last { way, .. }) = &self.last else { return Ok(()) };
        let (hub, outlet) = (Arc::clone(&self.hub), Arc::clone(&way.outlet));
        let mut waiting = Waiting { hub, side: self.scope.side, outlet, run, marks, origin };
        // The first attempt is with everything, and if there is no room for that, with a little of it.
        let mut piece = marks.len();
        while !waiting.marks.is_empty() {
            let outlet = Arc::clone(&waiting.outlet);
            let room = outlet.room();
            tokio::pin!(room);
            // From here on no shrinking is missed, whatever happens between the push and the wait.
            room.as_mut().enable();
            let (run, marks) = (waiting.run, &waiting.marks[..piece]);
            match outlet.push(&run[..octets(marks)], marks, waiting.origin.clone(), clock::now()) {
                pushed @ (Pushed::Taken | Pushed::Wanted) => {
                    accept(&self.hub, self.scope.side, &outlet, marks);
                    if pushed == Pushed::Wanted {
                        self.hub.want(&outlet.route);
                    }
                    waiting.passed(piece);
                    piece = waiting.marks.len();
                }
                Pushed::Retired => {
                    self.known = None;
                    match self.hub.begin(&outlet.route, self.begins()) {
                        Ok(fresh) => {
                            waiting.outlet = Arc::clone(&fresh);
                            self.replace_last(fresh);
                        }
                        Err(reason) => return self.give_up(waiting, reason),
                    }
                }
                Pushed::Full(_) if piece > a_little(marks) => piece = a_little(marks),
                Pushed::Full(since) => {
                    let until = since + self.hub.limits.read_pause;
                    if tokio::time::timeout_at(until.into(), room).await.is_err() {
                        self.hub.metrics.limit_hit("pair_queue_bytes");
                        self.give_up(waiting, Reason::QueueFull)?;
                        tokio::time::sleep(BOUNCE_PAUSE).await;
                        return Ok(());
                    }
                    piece = waiting.marks.len();
                }
            }
        }
        Ok(())
    }

    /// Answer what has waited in vain.
    fn give_up(&self, mut waiting: Waiting<'_>, reason: Reason) -> Result<(), Reason> {
        let (run, marks) = waiting.end();
        accept(&self.hub, self.scope.side, &waiting.outlet, marks);
        self.answer(&waiting.outlet.route, run, marks, &waiting.origin, reason)
    }
}

/// Stanzas are in our custody. Until then, whatever is read and waits for room is as good as unread.
fn accept(hub: &Hub, side: Side, outlet: &Outlet, marks: &[Mark]) {
    let (mut octets, mut counts) = (0, [0_u64; 3]);
    for mark in marks {
        octets += mark.len;
        counts[mark.kind as usize] += 1;
    }
    let counters = hub.metrics.data.side(side);
    for kind in [StanzaKind::Message, StanzaKind::Presence, StanzaKind::Iq] {
        if let count @ 1.. = counts[kind as usize] {
            counters.accepted(kind).inc_by(count);
        }
    }
    counters.bytes.inc_by(octets as u64);
    outlet.accepted(marks.len(), octets);
}

fn octets(marks: &[Mark]) -> usize {
    marks.iter().map(|mark| mark.len).sum()
}

/// How many stanzas from the first make a little, which a queue may have room for when it has none for all.
fn a_little(marks: &[Mark]) -> usize {
    let mut left = LITTLE_BYTES;
    let fitting = marks.iter().take_while(|mark| {
        let fits = mark.len <= left;
        left = left.saturating_sub(mark.len);
        fits
    });
    fitting.count().max(1)
}
