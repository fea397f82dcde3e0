//! `fedmux demo`: the newcomer's first command.
mod floor;
mod histogram;
mod pace;
mod path;
mod rng;
