//! Floor 3: the shell. Tasks, listeners, the connector and the local side run the machines.

pub mod settings;
