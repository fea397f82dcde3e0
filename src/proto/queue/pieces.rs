//! The octets of a queue, in pieces of whole stanzas: what is appended is copied once, and what is taken isn't copied again,
//! however much waits behind it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Octets that a piece grows to; a larger stanza is a piece of its own.
const PIECE_BYTES: usize = 16 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Before those of `last`.
    full: VecDeque<Bytes>,
    last: BytesMut,
    len: usize,
}

impl Pieces {
    /// Octets in all pieces.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Octets of the first piece.
    pub(super) fn first_len(&self) -> usize {
        self.full.front().map_or(self.last.len(), Bytes::len)
    }

    /// Append stanzas of these lengths.
    pub(super) fn push(&mut self, mut octets: &[u8], lens: impl Iterator<Item = usize>) {
        self.len += octets.len();
        let mut fitting = 0;
        for len in lens {
            if self.last.len() + fitting + len > PIECE_BYTES && self.last.len() + fitting > 0 {
                self.extend(&octets[..fitting]);
                octets = &octets[fitting..];
                fitting = 0;
                self.full.push_back(self.last.split().freeze());
                // It leaves with what was in it.
                self.last = BytesMut::new();
            }
            fitting += len;
        }
        self.extend(octets);
    }

    fn extend(&mut self, octets: &[u8]) {
        self.last.extend_from_slice(octets);
    }

    /// Take so many octets from the first piece.
    pub(super) fn take(&mut self, len: usize) -> Bytes {
        self.len -= len;
        match self.full.front_mut() {
            Some(first) if first.len() > len => first.split_to(len),
            Some(_) => self.full.pop_front().unwrap_or_default(),
            None if self.last.len() > len => self.last.split_to(len).freeze(),
            // A queue that is idle costs next to nothing.
            None => std::mem::take(&mut self.last).freeze(),
        }
    }

    /// Put a piece before all others.
    pub(super) fn put_back(&mut self, octets: Bytes) {
        self.len += octets.len();
        if !octets.is_empty() {
            self.full.push_front(octets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_lie_whole_in_pieces_and_come_out_as_they_went_in() {
        let lens = [1, 5_000, 11_383, 1, 40_000, 16_384, 2, 3];
        let all: Vec<u8> = (b'a'..).zip(lens).flat_map(|(letter, len)| vec![letter; len]).collect();
        let mut pieces = Pieces::default();
        let (first, rest) = all.split_at(1 + 5_000);
        pieces.push(first, lens[..2].iter().copied());
        pieces.push(rest, lens[2..].iter().copied());
        assert_eq!(pieces.len(), all.len());
        let (mut taken, mut sizes) = (Vec::new(), Vec::new());
        while pieces.len() > 0 {
            sizes.push(pieces.first_len());
            taken.extend_from_slice(&pieces.take(pieces.first_len()));
        }
        assert_eq!(sizes, [16_384, 1, 40_000, 16_384, 5]);
        assert!(taken == all);
    }

    #[test]
    fn what_is_put_back_comes_first_and_the_rest_of_a_piece_stays() {
        let mut pieces = Pieces::default();
        pieces.push(b"abcd", [1, 1, 1, 1].into_iter());
        let [a, b] = [pieces.take(1), pieces.take(1)];
        pieces.put_back(b);
        pieces.put_back(a);
        pieces.push(b"e", std::iter::once(1));
        assert_eq!((pieces.len(), pieces.first_len()), (5, 1));
        let taken: Vec<Bytes> = [1, 1, 3].into_iter().map(|len| pieces.take(len)).collect();
        assert_eq!(taken, [&b"a"[..], b"b", b"cde"]);
    }
}
