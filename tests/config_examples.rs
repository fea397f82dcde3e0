//! The example configurations parse, the reference shows the defaults that the code has, and a key that isn't known is
//! refused wherever it stands.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, like the tests themselves")]
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use fedmux::config;
use fedmux::proto::budget::Rates;
use fedmux::proto::limits::Limits;
use fedmux::relay::settings::Settings;

/// Keys of the reference whose commented value is an example: left out, they are off or have no value.
const EXAMPLES: [&str; 13] = [
    "include",
    "mux_key_file",
    "quic = ",
    "direct_tls",
    "starttls",
    "s2s",
    "dns = ",
    "dns_clients",
    "listen",
    "socket",
    "servers",
    "sources",
    "trust = \"b.pem\"",
];

/// What the Debian package installs: whoever installs it names the hosts.
const UNFINISHED: &str = "debian/fedmux.toml";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

/// All TOML files below `config/`, but for the one that lacks a host.
fn examples() -> Vec<PathBuf> {
    let mut folders = vec![root()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            match path.extension() {
                None if path.is_dir() => folders.push(path),
                Some(extension) if extension == "toml" && !path.ends_with(UNFINISHED) => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

fn reference() -> String {
    fs::read_to_string(root().join("fedmux.toml")).unwrap()
}

/// The commented keys of the reference: line number from 0, and the line without its mark.
fn commented(text: &str) -> Vec<(usize, String)> {
    let keys = text.lines().enumerate().filter(|(_, line)| line.starts_with('#') && !line.starts_with("##"));
    keys.map(|(number, line)| (number, line[1..].to_owned())).collect()
}

/// The reference with one line replaced.
fn with_line(text: &str, number: usize, line: &str) -> String {
    let lines = text.lines().enumerate().map(|(n, old)| if n == number { line } else { old });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_example_parses() {
    let examples = examples();
    assert!(
        examples.len() >= 5,
        "config/ should hold the reference, that of the service and one for each page: {examples:?}"
    );
    for path in examples {
        config::load(&path).unwrap_or_else(|errors| panic!("{} must parse:\n{errors}", path.display()));
    }
}

#[test]
fn an_unknown_key_in_any_table_of_any_example_is_refused_with_its_line() {
    for path in examples() {
        let text = fs::read_to_string(&path).unwrap();
        let headers = text.lines().enumerate().filter(|(_, line)| line.starts_with('['));
        // Behind each header, and on the first line, which is the top of the file.
        for number in std::iter::once(0).chain(headers.map(|(number, _)| number + 1)) {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.insert(number, "zzz_unheard_of = 1");
            let errors = config::parse(&path, &lines.join("\n")).expect_err("an unknown key");
            let found: Vec<_> = errors.iter().map(|error| (error.line(), error.file())).collect();
            assert_eq!(found, [(Some(number + 1), path.as_path())], "{errors}");
            let error = errors.to_string();
            assert!(error.contains("zzz_unheard_of is not a known key"), "{error}");
        }
    }
}

#[test]
fn each_key_of_the_reference_can_be_uncommented_and_shows_the_default() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("hosts.d")).unwrap();
    let path = folder.path().join("fedmux.toml");
    // Keys that only make sense beside another one.
    let beside = |key: &str, text: String| match key.split(' ').next() {
        Some("sources") => text.replace("#local_auth = \"dialback\"", "local_auth = \"trusted\""),
        Some("dns") => text.replace("#s2s", "s2s"),
        Some("dns_clients") => text.replace("#s2s", "s2s").replace("#dns =", "dns ="),
        _ => text,
    };
    let text = reference();
    let defaults = format!("{:?}", config::parse(&path, &text).unwrap());
    let keys = commented(&text);
    assert!(keys.len() > 40, "the reference shows {} commented keys only", keys.len());
    for (number, line) in keys {
        let uncommented = beside(&line, with_line(&text, number, &line));
        let settings = config::parse(&path, &uncommented)
            .unwrap_or_else(|errors| panic!("config/fedmux.toml:{}: {line}\n{errors}", number + 1));
        if !EXAMPLES.iter().any(|example| line.starts_with(example)) {
            assert_eq!(
                format!("{settings:?}"),
                defaults,
                "config/fedmux.toml:{}: `{line}` is not the default of the code",
                number + 1
            );
        }
    }
}

#[test]
fn the_configuration_of_the_debian_package_lacks_a_host_and_nothing_else() {
    let path = root().join(UNFINISHED);
    let text = fs::read_to_string(&path).unwrap();
    let errors = config::parse(&path, &text).expect_err("nobody is served");
    let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(said.len() == 1 && said[0].starts_with("host is missing: "), "{said:?}");
    assert_listens(&config::parse(&path, &uncommented(&text)).unwrap());
}

/// All keys uncommented.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with('#') => key,
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_socket_unit_listens_where_its_configuration_does() {
    assert_listens(&config::load(&root().join("systemd/fedmux.toml")).unwrap());
}

/// The socket unit has each listener of the configuration: `ListenStream=` is TCP, `ListenDatagram=` UDP.
fn assert_listens(settings: &Settings) {
    let unit = fs::read_to_string(root().join("systemd/fedmux.socket")).unwrap();
    let listens = |directive: &str| {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(directive)?.strip_prefix('='));
        let mut addresses: Vec<SocketAddr> = lines.map(|address| address.parse().unwrap()).collect();
        addresses.sort();
        addresses
    };
    let mut tcp = [
        &settings.remote_starttls[..],
        &settings.remote_direct_tls,
        &settings.local_s2s,
        &settings.local_components,
        &settings.local_dns.listen,
        &settings.admin_listen,
    ]
    .concat();
    let mut udp = [&settings.remote_quic[..], &settings.local_dns.listen].concat();
    tcp.sort();
    udp.sort();
    assert!(!tcp.is_empty() && !udp.is_empty());
    assert_eq!((listens("ListenStream"), listens("ListenDatagram")), (tcp, udp));
}

/// The names of the fields of [`Limits`], from its Debug form: `Limits { stanza_bytes: 524288, ... }`; and the keys of the rates.
fn limits() -> Vec<String> {
    let rates = format!("rates: {:?}, ", Rates::default());
    let debug = format!("{:?}", Limits::default());
    assert!(debug.contains(&rates));
    let debug = debug.replace(&rates, "");
    let fields = debug.trim_start_matches("Limits { ").trim_end_matches(" }").split(", ");
    let fields = fields.map(|field| field.split(':').next().unwrap());
    fields.chain(Rates::KEYS).map(str::to_owned).collect()
}

#[test]
fn every_limit_can_be_configured() {
    for name in limits() {
        let text = reference().replace("\n[limits]\n", &format!("\n[limits]\n{name} = []\n"));
        let error = config::parse(Path::new("f.toml"), &text).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("limits.{name} is an array")),
            "limits.{name} is in the code and not in [limits]: a bound that can't be raised stops somebody one day\n{error}"
        );
    }
}

#[test]
fn every_limit_stands_in_the_reference() {
    let text = reference();
    let documented = text.split("[limits]").nth(1).expect("the reference has a [limits] table");
    for name in limits() {
        assert!(
            documented.lines().any(|line| line.starts_with(&format!("#{name} = "))),
            "limits.{name} is missing in config/fedmux.toml: a bound that nobody can find is a bound that nobody can \
             raise; add it with its default and what it bounds"
        );
    }
}
