//! Floor 1: the machines. They know no socket, no clock and no randomness.

pub mod limits;
pub mod proof;
