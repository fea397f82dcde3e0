//! The configuration: any text is read or refused, every mistake names its file, line and key on one line, and what was
//! accepted is the same however it is written down, and starts ([`start`]).
//!
//! A line `#--- included` parts the main file from one that stands in `hosts.d/` beside it.

mod start;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use fedmux::config::{self, ConfigErrors};
use fedmux::relay::settings::Settings;

const PARTED: &str = "\n#--- included\n";

/// Where the files are; nothing else is in there.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("fedmux-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("hosts.d")).expect("a temporary folder can be made");
    folder
});

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (main, included) = match text.split_once(PARTED) {
        Some((main, included)) => (main, Some(included)),
        None => (text, None),
    };
    if looks_elsewhere(main) {
        return;
    }
    let folder = match included {
        Some(text) => {
            std::fs::write(FOLDER.join("hosts.d/customer.toml"), text).expect("a file can be written");
            FOLDER.as_path()
        }
        None => Path::new("/nonexistent"),
    };
    let path = folder.join("fedmux.toml");
    let read = config::parse(&path, main);
    match &read {
        Ok(settings) => {
            hold(settings);
            start::starts(settings);
        }
        Err(errors) => hold_errors(errors, &path, &[main, included.unwrap_or_default()]),
    }
    moved(main, &path, &read);
    written_again(main, &path, &read);
}

/// Whether it includes what stands elsewhere on this machine.
fn looks_elsewhere(text: &str) -> bool {
    let Ok(table) = toml::from_str::<toml::Table>(text) else { return false };
    let outside = |path: &str| path.starts_with('/') || path.contains("..");
    match table.get("include") {
        Some(toml::Value::String(path)) => outside(path),
        Some(toml::Value::Array(paths)) => paths.iter().filter_map(toml::Value::as_str).any(outside),
        _ => false,
    }
}

fn hold(settings: &Settings) {
    assert!(!(settings.hosts.is_empty() && settings.components.is_empty()), "it would serve nobody");
    assert!(settings.is_reached() || !settings.peers.is_empty(), "nobody could be reached");
    let local = settings.local_s2s.iter().chain(&settings.local_components).chain(&settings.local_dns.listen);
    for address in local {
        let outside = match address.ip().to_canonical() {
            std::net::IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_private() || v4.is_link_local()),
            std::net::IpAddr::V6(v6) => {
                !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local())
            }
        };
        assert!(!outside, "{address} faces our own servers, and everybody can reach it");
    }
    let mut ours: Vec<_> = settings.hosts.iter().flat_map(|host| &host.domains).collect();
    ours.extend(settings.components.iter().map(|component| &component.domain));
    let count = ours.len();
    ours.sort();
    ours.dedup();
    assert_eq!(ours.len(), count, "a domain is served twice");
    assert!(settings.hosts.iter().all(|host| !host.domains.is_empty() && !host.deliver.is_empty()));
    assert!(settings.limits.pair_queue_bytes >= settings.limits.stanza_bytes);
}

fn hold_errors(errors: &ConfigErrors, main: &Path, texts: &[&str]) {
    assert!(errors.iter().next().is_some(), "refused without a reason");
    for error in errors.iter() {
        let shown = error.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?} is more than a line");
        assert!(!error.key().is_empty() && shown.starts_with(error.key()), "{shown}");
        let text = if error.file() == main { texts[0] } else { texts[1] };
        let place = match error.line() {
            Some(line) => {
                // The end of a text that breaks off is behind its last line.
                assert!((1..=text.matches('\n').count() + 1).contains(&line), "{shown}");
                format!(": {}:{line}: ", error.file().display())
            }
            None => format!(": {}: ", error.file().display()),
        };
        assert!(shown.contains(&place), "{shown}");
    }
}

/// Behind two more lines it is the same, two lines further down.
fn moved(text: &str, path: &Path, read: &Result<Settings, ConfigErrors>) {
    if text.starts_with('\u{FEFF}') {
        return;
    }
    let moved = config::parse(path, &format!("# two lines\n\n{text}"));
    match (read, moved) {
        (Ok(settings), Ok(moved)) => assert_eq!(format!("{settings:?}"), format!("{moved:?}")),
        (Err(errors), Err(moved)) => {
            let main = |error: &config::ConfigError| error.file() == path;
            let places = |errors: &ConfigErrors, by| {
                let place = |error: &config::ConfigError| {
                    let by = if main(error) { by } else { 0 };
                    (error.key().to_owned(), error.line().map(|line| line + by))
                };
                errors.iter().map(place).collect::<Vec<_>>()
            };
            assert_eq!(places(errors, 2), places(&moved, 0));
        }
        (read, moved) => panic!("{read:?}\nbut two lines further down\n{moved:?}"),
    }
}

/// The tables in another order and their values in another spelling say the same.
fn written_again(text: &str, path: &Path, read: &Result<Settings, ConfigErrors>) {
    let Ok(table) = toml::from_str::<toml::Table>(text) else { return };
    let Ok(again) = toml::to_string(&table) else { return };
    match (read, config::parse(path, &again)) {
        (Ok(settings), Ok(same)) => assert_eq!(format!("{settings:?}"), format!("{same:?}"), "{again}"),
        (Err(errors), Err(same)) => {
            let keys = |errors: &ConfigErrors| {
                let mut keys: Vec<_> = errors.iter().map(|error| error.key().to_owned()).collect();
                keys.sort();
                keys
            };
            assert_eq!(keys(errors), keys(&same), "{again}");
        }
        (read, same) => panic!("{read:?}\nbut written as\n{again}\n{same:?}"),
    }
}
