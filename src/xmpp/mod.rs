//! Floor 0: words. What XMPP's texts are made of, without any behaviour over time.

pub mod domain;
pub mod namespace;
