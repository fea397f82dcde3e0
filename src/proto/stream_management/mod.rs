//! Stream management (XEP-0198): stanzas are acknowledged, and a stream that broke is resumed.
//!
//! QUIC and TCP acknowledge octets that arrived; this acknowledges stanzas that were *handled*. A stanza counts as handled
//! here when its next hop has acknowledged it in turn, when the error that answers it was, when it was discarded and
//! counted, or when `limits.ack_hold` or `limits.unacked_max` end the wait ([`receipts`]); so what our own server hears
//! from us is what the far end heard from its server, and one slow tenant never blocks a stream that others share.
//!
//! - [`element`]: the elements on the wire
//! - [`sent`]: what was sent and isn't acknowledged; [`receipts`]: what came and how much of it is handled
//! - [`resumption`]: streams that broke and may be resumed
//!
//! # Profile
//!
//! - `<enable/>` goes out at once after authentication, by the initiating entity: nothing that is sent before it is covered
//!   by anybody. Where it can be, it is pipelined (XEP-0305), and stanzas follow it in the same flight.
//! - One `<enable/>` serves both directions of a bidirectional stream (XEP-0288), each with a counter of its own. A receiving
//!   entity that may send waits for it, for `limits.enable_wait` at most.
//! - `<r/>` is answered at once with `h` as it stands; `h` never goes back. When it advances, `<a/>` also goes unasked, and
//!   always before `</stream:stream>`. After that, stanzas that still arrive are not handled, because the other end can't
//!   learn that they were: it sends them again.
//! - An `h` for more than was sent, or less than before, ends the stream (section 4, `handled-count-too-high`).
//! - Only the initiating entity resumes (section 5), after a fresh authentication of the same pair. `<resume/>` tells what
//!   of the other direction is handled; of what came and isn't yet, the duplicates that follow are passed over by their
//!   number. Nothing is pipelined behind it.
//! - An id is 128 random bits. One that is unknown, expired, of another pair, or of a stream that the other end had not
//!   opened, is answered alike: `item-not-found`.

pub mod element;
pub mod receipts;
pub mod resumption;
pub mod sent;
