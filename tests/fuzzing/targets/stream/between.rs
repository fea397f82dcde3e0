//! Both ends wired to each other, and somebody in between who changes, repeats, swallows and puts in what they say.
//!
//! Nobody can do that to a peer behind TLS: what is changed stands for what a peer says wrongly, at every point at which
//! there is something to be said. Left alone, the two come to the end that they must come to.

use fedmux::proto::stream::initiating::{Bidi, Pipelining};
use fedmux::proto::stream::receiving::DialbackOffer;
use fedmux::reason::Reason;

use super::initiator::Initiator;
use super::line::Line;
use super::receiver::Receiver;
use super::vocabulary::ELEMENTS;
use super::{DOMAINS, End, Happening};
use crate::targets::choices::Choices;

/// How often the two take turns.
const TURNS_MAX: usize = 64;
/// Octets that are changed at once: what was put in is not put in again and again.
const CHUNK_MAX: usize = 16_384;

pub(super) fn play(choices: &mut Choices<'_>) {
    let (mut initiator, mut receiver) = (Initiator::new(choices), Receiver::new(choices));
    let (mut there, mut back) = (Line::of(&initiator), Line::of(&receiver));
    there.said = initiator.opening();
    let expected = expected(&initiator, &receiver);
    let mut between = Between::default();
    for _ in 0..TURNS_MAX {
        let said = between.pass(std::mem::take(&mut there.said), choices);
        back.hear(&mut receiver, &said);
        while let Some((route, valid)) = receiver.question() {
            let outcome = if valid { Ok(()) } else { Err(Reason::DialbackInvalid) };
            back.happen(&mut receiver, &Happening::Verified(route, outcome));
        }
        if let Some(h) = receiver.resumption() {
            back.happen(&mut receiver, &Happening::Resumption(h));
        }
        let said = between.pass(std::mem::take(&mut back.said), choices);
        there.hear(&mut initiator, &said);
        if there.said.is_empty() {
            break;
        }
    }
    if !between.changed {
        let established = (initiator.is_established(), receiver.is_established());
        assert_eq!(established, (expected, expected));
        assert_eq!(
            (initiator.is_over(), receiver.is_over()),
            (!expected, !expected),
            "nobody waits for ever"
        );
        assert!(!expected || !initiator.waits(), "nobody waits for an answer about stream management");
    }
}

/// Whether the two agree if they are left alone.
fn expected(initiator: &Initiator, receiver: &Receiver) -> bool {
    let Ok(offers) = receiver.consent.offers else { return false };
    let wants = &initiator.wants;
    if wants.pipelining == Pipelining::AtOnce {
        // It knows what is offered from an earlier stream, or it would not ask for it unasked.
        let bidi = wants.bidi == Bidi::Never || offers.bidi;
        return offers.external && bidi && (!wants.mux || offers.mux);
    }
    if offers.external {
        return true;
    }
    let asks = DOMAINS.iter().position(|known| *known == "a.test").expect("it is known");
    let believes =
        matches!(receiver.consent.dialback[asks], Ok(DialbackOffer::Verify | DialbackOffer::Believe));
    wants.dialback.is_some() && offers.dialback && believes
}

/// Whoever stands between.
#[derive(Default)]
struct Between {
    changed: bool,
    /// Everything that was said so far.
    heard: Vec<Vec<u8>>,
}

impl Between {
    fn pass(&mut self, said: String, choices: &mut Choices<'_>) -> Vec<u8> {
        let mut octets = said.into_bytes();
        self.heard.push(octets.clone());
        let what = choices.below(16);
        match what {
            1 => octets.clear(),
            2 => octets.truncate(usize::from(choices.byte())),
            3 => drop(octets.drain(..octets.len().min(choices.byte().into()))),
            4 => {
                let at = usize::from(u16::from_be_bytes(choices.array())) % octets.len().max(1);
                let change = choices.byte();
                if let Some(octet) = octets.get_mut(at) {
                    *octet ^= change;
                }
            }
            5 => octets.extend_from_within(..),
            6 => octets.extend_from_slice(&choices.of(&self.heard)),
            7 => octets = choices.of(&self.heard),
            8 => octets.extend_from_slice(choices.of(&ELEMENTS).to_xml().as_bytes()),
            9 => {
                let mut before = choices.of(&ELEMENTS).to_xml().into_bytes();
                before.append(&mut octets);
                octets = before;
            }
            10 => octets = choices.of(&ELEMENTS).to_xml().into_bytes(),
            11 => octets.extend_from_slice(choices.chunk()),
            12 => {
                let from = choices.of(&DOMAINS);
                let to = choices.of(&DOMAINS);
                octets = String::from_utf8_lossy(&octets).replace(from, to).into_bytes();
            }
            _ => {}
        }
        self.changed |= (1..=12).contains(&what);
        octets.truncate(CHUNK_MAX);
        octets
    }
}
