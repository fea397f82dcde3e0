//! Floor 3: the shell. Tasks, listeners, the connector and the local side run the machines.
//!
//! - [`settings`]: what a relay is told; [`start`]: how it starts; `drain.rs`: how it stops; [`reload`]: how it goes by other settings, `changes.rs`: which of
//!   them count at once; `renewal.rs`: how it takes renewed certificates, `readings.rs`: how both went last
//! - [`status`]: what it is doing, for whoever operates it
//! - [`explain`]: why a domain is reached or isn't, from what `attempts.rs` remembers
//! - [`listeners`]: its sockets, bound or [`inherited`] from a service manager
//! - `budgets.rs`: what lanes share of the rates, and wait for
//! - `live.rs`: what follows from the settings, and what a reload replaces; `peering.rs`: which `[[peer]]` stays the same
//! - `hub.rs`: what the tasks share; `bounces.rs`: what cannot go on; `tasks.rs`: every end is observed; `essential.rs`: whose end is the relay's; `gauges.rs`: metrics that follow from their tables
//! - `finder.rs`: where peers are, `reach.rs`: which of their addresses is dialled when
//! - `door.rs`: who of the peers is let in; `acquaintances.rs`: where those are that the operator knows
//! - `connector.rs`: connections with peers: `over_quic.rs`, `over_tls.rs`, `starttls.rs` make them; `session/` runs one
//!   of many `streams.rs`, `single.rs` one of one stream, whose `halves.rs` are TLS's; `local/`: streams with our own servers
//! - `dialback.rs`: the question of dialback; `frames.rs`: short exchanges
//! - `lane.rs`: one XML stream as a task; `place.rs`: what differs by where it stands; `carry.rs`: its data path;
//!   `mailbox.rs`: what it is to send; `outlet.rs`: what waits for it, `outlets.rs`: all of those, `depth.rs`: how much that is;
//!   `sending.rs`: what it has sent
//! - `session/openings.rs`: how many lanes of a session are opened at once; `row.rs`: in which order they write where it is
//!   full; `turns.rs`: in which order what they wrote leaves
//! - Custody: `inbound.rs`: what came on a stream and how much is handled; `acknowledging.rs`: when that is said and asked;
//!   `broken.rs`, `held.rs`: streams that may be resumed; `unacknowledged.rs`: what becomes of the rest

mod acknowledging;
mod acquaintances;
mod attempts;
mod bounces;
mod broken;
mod budgets;
mod carry;
mod changes;
mod clock;
mod connector;
mod credit;
mod depth;
mod dialback;
mod door;
mod drain;
mod essential;
pub mod explain;
mod finder;
mod frames;
mod gauges;
mod guard;
mod halves;
mod handshakes;
mod held;
mod host_meta;
mod hub;
mod inbound;
pub mod inherited;
pub(crate) mod io;
mod lane;
pub mod listeners;
mod live;
mod local;
mod mailbox;
mod outlet;
mod outlets;
mod over_quic;
mod over_tls;
mod peering;
mod place;
mod proofs;
mod random;
mod reach;
mod read_buffer;
mod readings;
pub mod reload;
mod renewal;
mod row;
mod sending;
mod session;
pub mod settings;
mod shared;
#[cfg(test)]
mod simulation;
mod single;
pub mod start;
mod starttls;
pub mod status;
mod streams;
mod tasks;
mod turns;
mod unacknowledged;

pub use drain::DrainReport;
pub use inherited::Inherited;
pub use listeners::Listeners;
pub use reload::{ReloadError, ReloadReport};
pub use start::{Relay, RelayFailure, StartError};
