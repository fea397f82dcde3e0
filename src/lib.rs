//! fedmux: a server-to-server federation relay for XMPP.

pub mod demo;
pub mod identity;
pub mod proto;
pub mod reason;
pub mod relay;
pub mod xmpp;
