//! fedmux stands in front of ordinary XMPP servers and carries their federation: it proves every domain of its peer's
//! certificate at once (SASL EXTERNAL and XEP-0451), and gives each domain pair a QUIC stream of its own inside one
//! session (XEP-0467), so that no pair waits for another.
//!
//! # A bird's-eye view
//!
//! ```text
//!  our servers          local side            remote side               peers
//!  Prosody --s2s--> lane --+               +--> lane (QUIC stream) --\
//!                          |-> outlet of --|                          > one session
//!  Prosody --s2s--> lane --+   its route   +--> lane (QUIC stream) --/
//!                                          +--> lane (TLS over TCP)       a session of one stream
//! ```
//!
//! A component (XEP-0114) is a lane of the local side too, one for whatever is from it and for it.
//!
//! A stanza is read by the task of the stream on which it came ([`relay`], `lane.rs`), framed and checked in one pass
//! ([`xmpp::framer`]), held against what that stream's other end has proven ([`proto::admission`], the one function
//! that decides who speaks for whom), and put into the queue of its route, one direction of a domain pair. Whichever
//! lane the route is placed on takes it from there. [`proto::router`] places a route once, when its first stanza comes;
//! an established lane never asks it again.
//!
//! From when it passed the checks until its next hop has acknowledged it, its sender was handed an error, or it was
//! discarded and counted, a stanza is in our custody: in its queue, or with the lane that has sent it. What we acknowledge
//! to its sender follows from that ([`proto::stream_management`]).
//!
//! # The floors
//!
//! A floor imports only lower ones; `tests/tidy.rs` holds them to it.
//!
//! | floor | what | where |
//! | --- | --- | --- |
//! | 4 face | commands, configuration, admin endpoints, the demo | [`cli`], [`config`], [`admin`], [`demo`] |
//! | 3 shell | tasks, listeners, the connector, the local side | [`relay`] |
//! | 2 adapters | QUIC, TLS over TCP; certificates and whom we believe; DNS; HTTPS; metrics. Never each other | [`transport`], [`identity`], [`dns`], [`https`], [`metrics`] |
//! | 1 machines | one XML stream, one session, all domain pairs; one protocol feature a file | [`proto`] |
//! | 0 words | domains, elements, framing, stanzas, conditions, and why things fail | [`xmpp`], [`reason`] |
//!
//! The machines take an event and the time, and return what is to be done. They know no socket, no clock and no
//! randomness, so that a history can be replayed; the shell is a thin layer of tasks that runs them.
//!
//! # Where a rule is
//!
//! | rule | file |
//! | --- | --- |
//! | RFC 6120 section 3.2, RFC 2782, XEP-0368: finding a peer | [`proto::discovery`] |
//! | RFC 6120 section 4: streams, initiating and receiving | [`proto::stream`] |
//! | RFC 6120 section 5: STARTTLS | [`proto::starttls`] |
//! | RFC 6120 section 6, XEP-0178: SASL EXTERNAL | [`proto::sasl_external`] |
//! | RFC 6120 section 8.3: stanza errors | [`proto::bounce`], [`xmpp::condition`] |
//! | RFC 6120 section 11: XML that is not spoken | [`xmpp::framer`] |
//! | RFC 6120 section 13.7, RFC 9525: names in certificates | [`identity::names`], [`identity::verifier`] |
//! | RFC 6415, XEP-0156, XEP-0487: host-meta | [`proto::discovery::host_meta`], [`proto::discovery::standing`], [`dns::host_meta`] |
//! | RFC 7469: pinned keys | [`proto::discovery::pins`], [`identity::verifier`] |
//! | RFC 8305: racing addresses | [`proto::race`] |
//! | XEP-0114: external components | [`proto::component`]; their namespace: [`xmpp::content`] |
//! | XEP-0198: stream management | [`proto::stream_management`]; custody: `relay/inbound.rs`, `relay/broken.rs` |
//! | XEP-0203: delayed delivery | [`xmpp::delay`] |
//! | XEP-0220, XEP-0185, XEP-0344: dialback | [`proto::dialback`], [`proto::session`] for remote domains |
//! | XEP-0288: bidirectional streams | [`proto::bidi`] |
//! | XEP-0305: pipelining | [`proto::stream::initiating`] |
//! | XEP-0368: Direct TLS | [`transport::tls`], [`identity::config`] |
//! | XEP-0451: stanza multiplexing | [`proto::mux`], [`proto::session`] |
//! | XEP-0467: XMPP over QUIC | [`transport::quic`], [`proto::session`] |
//!
//! # What must be absent
//!
//! - TLS resumption, tickets and early data, at either end: a resumed session skips the verifier.
//! - Clear text with a peer behind a STARTTLS that failed, or that was not offered.
//! - A second place that decides whether a domain may be spoken for.
//! - A path from one remote session to another; from a remote session to a host of ours that it claims to be.
//! - A queue, count, size or wait without a bound in [`proto::limits`].
//! - A task whose end nobody sees; a stanza that is dropped and not counted.
//! - `unsafe`, and a panic on anything that a peer can send.

pub mod admin;
pub mod cli;
pub mod config;
pub mod demo;
pub mod dns;
pub mod https;
pub mod identity;
pub mod metrics;
pub mod proto;
pub mod reason;
pub mod relay;
pub mod transport;
pub mod xmpp;
