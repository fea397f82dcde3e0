//! RFC 2782: the order of records that have weights. Its randomness is a seed that is passed in.

use super::Candidate;

/// A small generator: load is to be spread, and nothing is to be hidden.
#[derive(Debug)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `last`, both included.
    pub(super) fn up_to(&mut self, last: u64) -> u64 {
        // SplitMix64; the remainder's bias is far below what weights can say.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % (last.saturating_add(1))
    }
}

/// Put candidates in the order in which they are tried: by rank, then by transport, then drawn by weight.
///
/// XEP-0368 mixes the records of `_xmpps-server` and `_xmpp-server` as if they were one set, and leaves it to us to
/// prefer a transport. So priorities are compared across all names, and within a priority the transport decides before
/// the weight does: an operator who offers QUIC and TCP with one priority gets QUIC.
pub(super) fn order(mut candidates: Vec<Candidate>, draw: &mut Draw) -> Vec<Candidate> {
    // Those without weight come first, as the draw below asks for; the sort is stable.
    candidates.sort_by_key(|candidate| (candidate.rank, candidate.transport, candidate.weight != 0));
    let mut ordered = Vec::with_capacity(candidates.len());
    while let Some(first) = candidates.first() {
        let group = (first.rank, first.transport);
        let end = candidates.partition_point(|candidate| (candidate.rank, candidate.transport) <= group);
        let mut equals: Vec<Candidate> = candidates.drain(..end).collect();
        while !equals.is_empty() {
            let chosen = choose(&equals, draw);
            ordered.push(equals.remove(chosen));
        }
    }
    ordered
}

/// One round of the draw: the first whose running sum of weights reaches the number drawn.
fn choose(equals: &[Candidate], draw: &mut Draw) -> usize {
    let sum: u64 = equals.iter().map(|candidate| u64::from(candidate.weight)).sum();
    let drawn = draw.up_to(sum);
    let mut running = 0;
    equals
        .iter()
        .position(|candidate| {
            running += u64::from(candidate.weight);
            running >= drawn
        })
        .unwrap_or(0)
}
