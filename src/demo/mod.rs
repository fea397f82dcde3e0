//! `fedmux demo`: the newcomer's first command.
mod endpoint;
mod floor;
mod flow;
mod histogram;
mod ledger;
mod load;
mod message;
mod pace;
mod path;
mod progress;
mod rng;
