//! Floor 3: the shell. Tasks, listeners, the connector and the local side run the machines.
//!
//! - [`settings`]: what a relay is told; [`start`]: how it starts, and drains; [`reload`]: how it goes by other settings
//! - `live.rs`: what follows from the settings, and what a reload replaces
//! - `hub.rs`: what the tasks share; `tasks.rs`: every end is observed
//! - `connector.rs`, `session.rs`: connections with peers; `local/`: streams with our own servers
//! - `lane.rs`: one XML stream as a task; `place.rs`: what differs by where it stands; `carry.rs`: its data path;
//!   `mailbox.rs`: what it is to send; `outlet.rs`: what waits for it; `sending.rs`: what it has sent

mod carry;
mod connector;
mod guard;
mod hub;
mod io;
mod lane;
mod live;
mod local;
mod mailbox;
mod outlet;
mod place;
mod proofs;
mod random;
pub mod reload;
mod sending;
mod session;
pub mod settings;
mod shared;
pub mod start;
mod tasks;

pub use reload::{ReloadError, ReloadReport};
pub use start::{DrainReport, Listeners, Relay, RelayFailure, StartError};
