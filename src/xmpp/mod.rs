//! Floor 0: words. What XMPP's texts are made of, without any behaviour over time.

pub mod condition;
pub mod content;
pub mod delay;
pub mod domain;
pub mod element;
pub mod escape;
pub mod framer;
pub mod header;
pub mod namespace;
pub mod route;
pub mod stanza;
