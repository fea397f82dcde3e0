//! The fuzz targets of `fuzz/` without a fuzzer: every input that was kept, and such inputs with a few things changed.
//!
//! A failure says which input it was; `fuzz/README.md` says how to play one alone, and how to look for more.
//! `PROPTEST_CASES` says how many changed inputs each target plays.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod targets;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use targets::{Play, TARGETS};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The inputs kept for a target, each with its file. None where the sources were packaged: `fuzz/` isn't part of that.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    if !fuzz().exists() {
        return Vec::new();
    }
    let files = fs::read_dir(fuzz().join("corpus").join(target)).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

fn play(name: &str) -> Play {
    TARGETS.iter().find(|(target, _)| *target == name).unwrap().1
}

#[test]
fn every_input_that_was_kept_holds() {
    let mut failed = Vec::new();
    for (target, play) in TARGETS {
        for (file, input) in corpus(target) {
            if catch_unwind(|| play(&input)).is_err() {
                failed.push(file);
            }
        }
    }
    assert!(failed.is_empty(), "what they failed for stands above: {failed:#?}");
}

#[test]
fn every_target_has_its_inputs_and_its_fuzzer() {
    if !fuzz().exists() {
        return;
    }
    let names = |folder: &str| {
        let files = fs::read_dir(fuzz().join(folder)).unwrap();
        let names = files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let targets = TARGETS.map(|(target, _)| target);
    assert_eq!(
        (names("corpus"), names("fuzz_targets")),
        (targets.map(str::to_owned).into(), targets.map(str::to_owned).into())
    );
    for target in targets {
        assert!(corpus(target).len() >= 8, "{target} would begin with nothing");
    }
}

/// A change to an input.
#[derive(Debug, Clone)]
enum Change {
    /// One octet is another.
    Set(Index, u8),
    /// So many octets are taken out.
    Remove(Index, usize),
    /// These are put in.
    Insert(Index, Vec<u8>),
    /// The end of another input stands behind the beginning of this one.
    Splice(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, octet)| Change::Set(at, octet)),
        1 => (index(), 1..16_usize).prop_map(|(at, len)| Change::Remove(at, len)),
        1 => (index(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, octets)| Change::Insert(at, octets)),
        1 => (index(), index()).prop_map(|(at, other)| Change::Splice(at, other)),
    ]
}

fn apply(input: &mut Vec<u8>, change: &Change, all: &[(PathBuf, Vec<u8>)]) {
    let place = |at: &Index, input: &[u8]| at.index(input.len() + 1);
    match change {
        Change::Set(at, octet) => {
            let at = place(at, input);
            match input.get_mut(at) {
                Some(old) => *old = *octet,
                None => input.push(*octet),
            }
        }
        Change::Remove(at, len) => {
            let at = place(at, input);
            input.drain(at..input.len().min(at + len));
        }
        Change::Insert(at, octets) => {
            let at = place(at, input);
            input.splice(at..at, octets.iter().copied());
        }
        Change::Splice(at, other) => {
            let other = &other.get(all).1;
            input.truncate(place(at, input));
            input.extend_from_slice(&other[place(at, other)..]);
        }
    }
}

/// An input is cheap: more of them than proptest makes unasked.
fn config() -> Config {
    let config = Config::default();
    Config { cases: config.cases.max(1000), ..config }
}

fn plays_changed_inputs(target: &str) {
    let (all, play) = (corpus(target), play(target));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..config() });
    let changed = (any::<Index>(), prop::collection::vec(change(), 0..6)).prop_map(|(first, changes)| {
        let mut input = if all.is_empty() { Vec::new() } else { first.get(&all).1.clone() };
        for change in changes {
            if !all.is_empty() {
                apply(&mut input, &change, &all);
            }
        }
        input
    });
    let outcome = runner.run(&changed, |input| {
        play(&input);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{target}: {error}");
    }
}

macro_rules! plays_changed_inputs {
    ($($target:ident)*) => {
        mod changed_inputs_hold {
            $(#[test]
            fn $target() {
                super::plays_changed_inputs(stringify!($target));
            })*

            #[test]
            fn of_every_target() {
                let played = [$(stringify!($target)),*];
                assert_eq!(super::TARGETS.map(|(target, _)| target), played);
            }
        }
    };
}

plays_changed_inputs!(config dns domain element framer header host_meta secret stream);
