//! Floor 1: the machines. They know no socket, no clock and no randomness.
//!
//! - [`stream`]: one XML stream, [`session`]: one authenticated peer on one connection, [`router`]: all domain pairs.
//! - A protocol feature each: [`features`], [`sasl_external`], [`starttls`], [`mux`], [`bidi`], [`dialback`],
//!   [`component`].
//! - What they decide by: [`admission`] (who may speak for whom), [`proof`], [`hosts`], [`policy`], [`limits`], [`addresses`] (how much one
//!   address may take), [`budget`] (how much may come in a time), [`telling`] (how often it is said).
//! - How a peer is found and reached: [`discovery`], [`race`].
//! - How stanzas are acknowledged, and streams resumed: [`stream_management`].
//! - What stanzas wait in, and how they come back: [`queue`], [`bounce`].

pub mod addresses;
pub mod admission;
pub mod bidi;
pub mod bounce;
pub mod budget;
pub mod component;
pub mod dialback;
pub mod discovery;
pub mod features;
pub mod hosts;
pub mod limits;
pub mod mux;
pub mod policy;
pub mod proof;
pub mod queue;
pub mod race;
pub mod router;
pub mod sasl_external;
pub mod session;
pub mod starttls;
pub mod stream;
pub mod stream_management;
pub mod telling;
