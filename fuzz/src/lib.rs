//! The targets, built once for all fuzzers: what they play and what must hold stands in `tests/fuzzing/targets`, where
//! `cargo test` plays it too.

#[path = "../../tests/fuzzing/targets/mod.rs"]
mod targets;

/// Play `input` for the target of this name.
///
/// # Panics
/// If something doesn't hold that must, or there is no such target.
pub fn play(name: &str, input: &[u8]) {
    let (_, play) = targets::TARGETS.into_iter().find(|(target, _)| *target == name).expect("a target");
    play(input);
}
