//! `tests/fuzzing/targets` says what is played.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fedmux_fuzz::play("host_meta", input));
