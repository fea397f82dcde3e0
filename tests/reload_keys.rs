//! What a reload does with each key: the reference says of every table what counts at once and what needs a restart, and a running
//! relay that reads another value does and says just that.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

use std::fs;
use std::path::{Path, PathBuf};

use fedmux::config;
use fedmux::relay::reload::Changes;
use fedmux::relay::settings::Settings;

/// Values of which one is another than a key has, and good.
const VALUES: [&str; 40] = [
    "true",
    "false",
    "\"other\"",
    "\"other.example\"",
    "[\"other.example\"]",
    "[\"other.example\", \"b.example\"]",
    "\"quic\"",
    "\"direct-tls\"",
    "\"starttls\"",
    "\"dialback\"",
    "\"trusted\"",
    "\"tls\"",
    "\"bbr\"",
    "\"bounce\"",
    "\"prefer\"",
    "\"all\"",
    "\"one-stream\"",
    "\"127.0.0.1:7777\"",
    "\"[::1]:7777\"",
    "[\"10.0.0.6/32\"]",
    "[\"127.0.0.1:7777\"]",
    "1",
    "2",
    "9",
    "50",
    "500",
    "5_000",
    "10_001",
    "20_000",
    "70_000",
    "200_000",
    "600_000",
    "2_000_000",
    "\"11ms\"",
    "\"1500ms\"",
    "\"3500ms\"",
    "\"11s\"",
    "\"31s\"",
    "\"61s\"",
    "\"2h\"",
];

/// A key of the reference: where it stands, its table, and itself.
#[derive(Debug)]
struct Key {
    line: usize,
    table: String,
    name: String,
}

/// What the reference says of a table.
#[derive(Debug)]
struct Told {
    at_once: bool,
    /// Keys of which it says the contrary.
    but_for: Vec<String>,
}

fn reference() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/fedmux.toml")).unwrap()
}

/// Every key, and what is said of its table.
fn keys(text: &str) -> Vec<(Key, Told)> {
    let (mut keys, mut told, mut table) = (Vec::new(), None, String::new());
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if let Some(said) = line.strip_prefix("## SIGHUP: ") {
            // It may take several lines, up to the table.
            let rest = lines[number + 1..].iter().take_while(|line| line.starts_with("##"));
            let said = rest.fold(said.to_owned(), |said, line| said + line.trim_start_matches('#'));
            let at_once = said.starts_with("at once.");
            assert!(at_once || said.starts_with("needs a restart"), "line {}: {said}", number + 1);
            let but_for = said.split("but for: ").nth(1).and_then(|rest| rest.split('.').next());
            let but_for = but_for.unwrap_or_default().split(',').map(|key| key.trim().to_owned()).collect();
            told = Some((at_once, but_for));
        } else if line.starts_with('[') {
            table = (*line).to_owned();
            assert!(told.is_some(), "line {}: {table} doesn't say what SIGHUP does with it", number + 1);
        } else if let (false, Some((name, _))) = (line.starts_with("##"), line.split_once(" = ")) {
            let Some((at_once, but_for)) = told.clone() else { continue };
            let name = name.trim_start_matches('#').to_owned();
            keys.push((Key { line: number, table: table.clone(), name }, Told { at_once, but_for }));
        } else if line.is_empty() {
            told = None;
        }
    }
    keys
}

/// The reference with a key of another value, beside what it needs.
fn changed(text: &str, path: &Path, key: &Key, before: &Settings) -> Settings {
    let lines: Vec<&str> = text.lines().collect();
    // A string, a list, a number, a word.
    let kind = |value: &str| match value.chars().next() {
        Some(first) if first.is_ascii_alphanumeric() => first.is_ascii_digit().to_string(),
        first => first.map(String::from).unwrap_or_default(),
    };
    let (_, now) = lines[key.line].split_once(" = ").unwrap();
    for value in VALUES.into_iter().filter(|value| kind(value) == kind(now)) {
        let mut lines = lines.clone();
        let line = format!("{} = {value}", key.name);
        lines[key.line] = &line;
        if key.name == "local_auth" {
            // They go with one of the two ways only.
            lines.retain(|line| !line.starts_with("sources = "));
        }
        let settings = config::parse(path, &lines.join("\n"));
        if let Ok(settings) = settings.as_ref()
            && format!("{settings:?}") != format!("{before:?}")
        {
            return settings.clone();
        }
    }
    panic!("no value for {key:?}");
}

/// The reference with every key on which another depends, and its settings.
fn base() -> (tempfile::TempDir, PathBuf, String, Settings) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fedmux.toml");
    let text = reference()
        .replace("#local_auth = \"dialback\"", "local_auth = \"trusted\"")
        .replace("#sources = ", "sources = ")
        .replace("#s2s = ", "s2s = ")
        .replace("#dns = ", "dns = ")
        .replace("#starttls = ", "starttls = ");
    let settings = config::parse(&path, &text).unwrap_or_else(|errors| panic!("{errors}"));
    (folder, path, text, settings)
}

#[test]
fn each_key_does_at_sighup_what_the_reference_says() {
    let (_folder, path, text, before) = base();
    let keys = keys(&text);
    assert!(keys.len() > 120, "{} keys", keys.len());
    for (key, told) in &keys {
        let after = changed(&text, &path, key, &before);
        let changes = Changes::between(&before, &after);
        let at_once = told.at_once != told.but_for.contains(&key.name);
        let named = format!("{} {}", key.table, key.name);
        if at_once {
            assert!(!changes.at_once.is_empty() && changes.needs_restart.is_empty(), "{named}: {changes:?}");
            continue;
        }
        // A component is named as a whole.
        let named = if key.table == "[[component]]" { key.table.clone() } else { named };
        assert_eq!((changes.at_once.len(), &changes.needs_restart[..]), (0, &[&*named][..]), "{key:?}");
    }
    let exceptions = keys.iter().filter(|(key, told)| told.but_for.contains(&key.name)).count();
    assert_eq!(exceptions, 16, "a key that is named as an exception doesn't exist");
}

#[test]
fn what_has_not_changed_is_not_named() {
    let (_folder, _, _, before) = base();
    assert_eq!(Changes::between(&before, &before), Changes::default());
}

#[test]
fn a_peer_is_named_by_what_has_changed() {
    let (_folder, path, text, before) = base();
    let changes = |from: &str, to: &str| {
        assert!(text.contains(from));
        let after = config::parse(&path, &text.replace(from, to)).unwrap_or_else(|errors| panic!("{errors}"));
        Changes::between(&before, &after).at_once
    };
    assert_eq!(
        changes("address = \"192.0.2.1:5269\"", "address = \"192.0.2.2:5269\""),
        ["peer b.example and others: address changed, from 192.0.2.1:5269 by quic to 192.0.2.2:5269 by quic"]
    );
    let second = "[[peer]]\ndomain = \"c.example\"\naddress = \"192.0.2.3:5269\"\n\n[policy]\n";
    assert_eq!(changes("[policy]\n", second), ["peer c.example added: 192.0.2.3:5269 by quic"]);
    assert_eq!(
        changes("[\"b.example\", \"*.b.example\"]", "[\"d.example\"]"),
        ["peer d.example added: 192.0.2.1:5269 by quic", "peer b.example and others taken away"]
    );
    assert_eq!(
        changes("[\"b.example\", \"*.b.example\"]", "[\"*.b.example\"]"),
        ["peer *.b.example: domains changed"]
    );
}
