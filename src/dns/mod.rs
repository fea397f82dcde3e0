//! Floor 2: DNS. How peers are found ([`finder`]), what their domains are asked over HTTPS besides ([`host_meta`]), and the small
//! responder by which our own servers find the relay ([`responder`]).
//!
//! What is concluded stands apart from the asking: [`trail`] says what an answer is worth, [`relay_names`] what a question
//! of our own servers is answered with. Where the answers lead is decided in [`crate::proto::discovery`]; here they are
//! only asked for, within a bound, and with nothing taken for an answer that isn't one.

pub mod finder;
pub mod host_meta;
mod question;
pub mod relay_names;
pub mod responder;
pub mod trail;
mod upstream;

#[cfg(test)]
#[allow(dead_code, reason = "the tests of a whole relay use the rest")]
mod test_server;

pub use finder::{Finder, FinderSettings, Records};
pub use host_meta::{HostMetaSource, Outcome, Page, Reply, Web};
pub use responder::{Responder, ResponderSettings, Sockets};
pub use upstream::DnsError;
