//! fedmux: a server-to-server federation relay for XMPP.

pub mod admin;
pub mod cli;
pub mod config;
pub mod demo;
pub mod identity;
pub mod metrics;
pub mod proto;
pub mod reason;
pub mod relay;
pub mod transport;
pub mod xmpp;
