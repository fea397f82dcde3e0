//! The theoretical floor: which share of stanzas must be late on a lossy path however well streams are separated,
//! because a packet of their own domain pair was lost. A pure model, simple enough to be doubted line by line.
//!
//! - Each stanza rides in a packet of its own, and each packet is lost independently with the same probability.
//! - A packet that arrives is acknowledged at once, and acknowledgements are never lost.
//! - A lost packet is found by QUIC's rules (RFC 9002 section 6): a packet sent `PACKET_THRESHOLD` later was
//!   acknowledged, or any later one was and 9/8 of the round trip have passed since it was sent; failing both, a probe
//!   is due one round trip and the longest acknowledgement delay after sending.
//! - What was lost is sent again at that moment, in a packet that may be lost like any other.
//! - Within a pair stanzas are delivered in order: one waits for the earlier ones of its own pair, and for no other.
//! - Congestion control never holds anything back, and relays take no time.
//!
//! Each simplification makes a real relay look worse than the model, never better: apart from the luck of a single run,
//! the floor can only be approached from above. A stanza is late if it takes more than [`LATE_FACTOR`] times as long as it does without losses.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::pace::Departure;
use super::rng::Rng;

/// Later than the loss-free delay times this is late.
pub const LATE_FACTOR: f64 = 1.5;
/// RFC 9002 section 6.1.1: kPacketThreshold.
const PACKET_THRESHOLD: usize = 3;
/// RFC 9000 section 18.2: the default of max_ack_delay, and RFC 9002's kGranularity.
const PROBE_ALLOWANCE: Duration = Duration::from_millis(26);
/// Runs that are averaged, so that the figure doesn't hang on one seed's luck.
const RUNS: u32 = 20;

/// The share (0 to 1) of these departures that must be late. They are those of one direction of a session.
#[must_use]
pub fn late_share(departures: &[Departure], loss: f64, round_trip: Duration, seed: u64) -> f64 {
    if departures.is_empty() || loss <= 0.0 {
        return 0.0;
    }
    let late: usize = (0..RUNS)
        .map(|run| {
            let mut model = Model::new(departures, loss, round_trip, seed.wrapping_add(u64::from(run)));
            model.run();
            model.late()
        })
        .sum();
    late as f64 / (f64::from(RUNS) * departures.len() as f64)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The stanza with this index leaves for the first time.
    Departs(usize),
    /// The acknowledgement of this packet is back.
    Acknowledged(usize),
    /// This packet counts as lost now, unless that was found out before.
    Overdue(usize),
}

/// One direction of a session, in virtual time.
struct Model<'a> {
    departures: &'a [Departure],
    loss: f64,
    round_trip: Duration,
    rng: Rng,
    events: BinaryHeap<Reverse<(Duration, Event)>>,
    /// For each packet, the stanza in it.
    packets: Vec<usize>,
    /// Packets that were lost and not yet found to be, with the time of sending.
    missing: BTreeMap<usize, Duration>,
    largest_acknowledged: usize,
    /// For each stanza, when the first packet with it arrived.
    arrivals: Vec<Option<Duration>>,
}

impl<'a> Model<'a> {
    fn new(departures: &'a [Departure], loss: f64, round_trip: Duration, seed: u64) -> Self {
        let events =
            departures.iter().enumerate().map(|(index, d)| Reverse((d.at, Event::Departs(index)))).collect();
        Self {
            departures,
            loss,
            round_trip,
            rng: Rng::new(seed),
            events,
            packets: Vec::new(),
            missing: BTreeMap::new(),
            largest_acknowledged: 0,
            arrivals: vec![None; departures.len()],
        }
    }

    fn run(&mut self) {
        while let Some(Reverse((now, event))) = self.events.pop() {
            match event {
                Event::Departs(stanza) => self.send(stanza, now),
                Event::Acknowledged(packet) => self.acknowledge(packet, now),
                Event::Overdue(packet) => self.send_again(packet, now),
            }
        }
    }

    fn send(&mut self, stanza: usize, now: Duration) {
        let packet = self.packets.len();
        self.packets.push(stanza);
        if self.rng.chance(self.loss) {
            self.missing.insert(packet, now);
            self.schedule(now + self.round_trip + PROBE_ALLOWANCE, Event::Overdue(packet));
        } else {
            self.arrivals[stanza] = Some(now + self.round_trip / 2);
            self.schedule(now + self.round_trip, Event::Acknowledged(packet));
        }
    }

    fn acknowledge(&mut self, packet: usize, now: Duration) {
        self.largest_acknowledged = self.largest_acknowledged.max(packet);
        let earlier: Vec<_> = self.missing.range(..packet).map(|(packet, sent)| (*packet, *sent)).collect();
        for (missing, sent) in earlier {
            let patience_ends = sent + self.round_trip * 9 / 8;
            if missing + PACKET_THRESHOLD <= self.largest_acknowledged || patience_ends <= now {
                self.send_again(missing, now);
            } else {
                self.schedule(patience_ends, Event::Overdue(missing));
            }
        }
    }

    fn send_again(&mut self, packet: usize, now: Duration) {
        if self.missing.remove(&packet).is_some() {
            self.send(self.packets[packet], now);
        }
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.events.push(Reverse((at, event)));
    }

    /// How many stanzas are delivered late, each in the order of its pair.
    fn late(&self) -> usize {
        let bound = (self.round_trip / 2).mul_f64(LATE_FACTOR);
        let mut delivered: BTreeMap<usize, Duration> = BTreeMap::new();
        let mut late = 0;
        for (departure, arrival) in self.departures.iter().zip(&self.arrivals) {
            let before = delivered.entry(departure.flow).or_default();
            *before = (*before).max(arrival.unwrap_or_default());
            late += usize::from(before.saturating_sub(departure.at) > bound);
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::pace::steady;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    fn floor(loss: f64) -> f64 {
        late_share(&steady(20, 200, 10.0, 1), loss, ROUND_TRIP, 1)
    }

    #[test]
    fn without_loss_nothing_has_to_be_late() {
        assert_eq!(floor(0.0), 0.0);
        assert_eq!(late_share(&[], 0.5, ROUND_TRIP, 1), 0.0);
    }

    #[test]
    fn the_floor_grows_with_the_loss_and_is_at_least_the_loss_itself() {
        let (one, two, four) = (floor(0.01), floor(0.02), floor(0.04));
        assert!(one > 0.01 && two > 0.02 && four > 0.04, "{one} {two} {four}");
        assert!(
            (1.8..2.2).contains(&(two / one)) && (1.8..2.2).contains(&(four / two)),
            "{one} {two} {four}"
        );
    }

    #[test]
    fn a_lone_stanza_is_late_exactly_as_often_as_its_packet_is_lost() {
        // A stanza each second: nothing waits behind another, and only the probe finds a loss.
        let share = late_share(&steady(1, 2_000, 1.0, 1), 0.05, ROUND_TRIP, 1);
        assert!((share - 0.05).abs() < 0.003, "{share}");
    }

    #[test]
    fn a_loss_stalls_its_own_pair_and_no_other() {
        let apart = steady(20, 200, 10.0, 1);
        let together: Vec<_> = apart.iter().map(|d| Departure { flow: 0, ..*d }).collect();
        let (apart, together) =
            (late_share(&apart, 0.01, ROUND_TRIP, 1), late_share(&together, 0.01, ROUND_TRIP, 1));
        // A loss is found after a round trip and three more packets (15 ms), and repaired half a round trip later: what
        // leaves in the first 90 ms of these 165 comes later than 75 ms. On a shared stream those are 18 stanzas. Of the
        // same pair it is the next one, if it leaves so soon: of two moments in adjoining intervals of 100 ms,
        // 0.9 * 0.9 / 2 are that close.
        let (shared, own) = (1.0 - 0.99_f64.powi(1 + 18), 0.01 * (1.0 + 0.9 * 0.9 / 2.0));
        assert!((together / shared - 1.0).abs() < 0.1, "{together} instead of {shared}");
        assert!((apart / own - 1.0).abs() < 0.1, "{apart} instead of {own}");
    }

    #[test]
    fn a_loss_among_many_packets_is_found_by_the_packet_threshold() {
        let flows = steady(1, 1_000, 1_000.0, 1);
        let mut model = Model::new(&flows, 0.01, ROUND_TRIP, 3);
        model.run();
        let slowest = flows
            .iter()
            .zip(&model.arrivals)
            .filter_map(|(departure, arrival)| arrival.map(|arrival| arrival - departure.at))
            .filter(|delay| *delay > ROUND_TRIP / 2)
            .min()
            .unwrap();
        // One and a half round trips and about three milliseconds: the three packets behind it.
        assert!(slowest > Duration::from_millis(151) && slowest < Duration::from_millis(155), "{slowest:?}");
    }
}
