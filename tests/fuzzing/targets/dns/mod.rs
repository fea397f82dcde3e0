//! DNS, which is said by strangers: answers of any octets or of any records, from the first question to what is dialled; and
//! questions of any octets to the responder. The first octet chooses.
//!
//! - [`answers`]: the look-ups of a finder, without its sockets
//! - [`judgement`]: what must hold of what was found
//! - [`questions`]: the responder, without its sockets

mod answers;
pub(super) mod judgement;
mod questions;

use super::choices::Choices;

pub(super) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    match choices.below(4) {
        0 => answers::of_octets(&mut choices),
        1 => answers::of_records(&mut choices),
        2 => questions::of_octets(choices.rest()),
        _ => questions::of_choices(&mut choices),
    }
}
