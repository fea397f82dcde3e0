//! `fedmux demo` as a newcomer runs it: two whole relays, real sockets, and what it says about them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn command(folder: &tempfile::TempDir, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fedmux"));
    command.arg("demo").args(arguments.split_whitespace()).env("TMPDIR", folder.path()).stdin(Stdio::null());
    command
}

/// Run the demo; it must succeed, and leave nothing behind.
fn demo(arguments: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let output = command(&folder, arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(!told.contains("panicked"), "{told}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "certificates are left in TMPDIR");
    output
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_pair_has_its_stream_on_one_connection_and_nothing_goes_wrong() {
    let output = demo("--hosts 3 --stanzas 100 --json");
    let found = json(&output);
    let whole = |field: &str| found[field].as_u64().unwrap();
    assert_eq!((whole("hosts"), whole("pairs"), whole("connections"), whole("quic_streams")), (3, 9, 1, 9));
    assert_eq!((whole("stanzas_sent"), whole("stanzas_delivered")), (1_800, 1_800));
    assert_eq!((whole("lost"), whole("duplicated"), whole("reordered")), (0, 0, 0));
    assert!(found["p50_ms"].as_f64().unwrap() > 0.0 && found["seconds"].as_f64().unwrap() > 0.0, "{found}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn hosts_with_certificates_of_their_own_end_up_on_one_connection() {
    let found = json(&demo("--certificates per-host --hosts 4 --stanzas 50 --json"));
    let whole = |field: &str| found[field].as_u64().unwrap();
    assert_eq!((whole("pairs"), whole("connections"), whole("stanzas_delivered")), (16, 1, 1_600));
    assert_eq!((whole("lost"), whole("duplicated"), whole("reordered")), (0, 0, 0));
    assert_eq!(whole("proofs"), 6, "one for each further host, not for each pair");
}

#[test]
fn on_a_lossy_path_a_stream_for_each_pair_makes_fewer_stanzas_late() {
    let found = json(&demo("--hosts 4 --stanzas 100 --loss 2 --rtt 100 --json"));
    let side = |name: &str, field: &str| found[name][field].as_f64().unwrap();
    assert_eq!((side("one_stream", "quic_streams"), side("stream_per_pair", "quic_streams")), (1.0, 16.0));
    for name in ["one_stream", "stream_per_pair"] {
        assert_eq!((side(name, "connections"), side(name, "wrong")), (1.0, 0.0), "{found}");
        assert!(side(name, "datagrams_lost") > 0.0 && side(name, "loss_free_ms") >= 50.0, "{found}");
        assert!((2.0..8.0).contains(&side(name, "floor_percent")), "{found}");
    }
    // The real figures are 8 to 15 times apart; a busy machine makes stanzas of both kinds late.
    assert!(side("one_stream", "late_percent") > 3.0 * side("stream_per_pair", "late_percent"), "{found}");
}

#[test]
fn the_table_is_alone_on_stdout_and_fits_eighty_columns() {
    let output = demo("--hosts 2 --stanzas 10");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("domain pairs"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80 && !line.contains('\u{1b}')), "{table}");
}

#[test]
fn a_demo_that_is_kept_shows_its_metrics_until_it_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(&folder, "--hosts 2 --stanzas 5 --json --keep")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("metrics of relay A"))).unwrap();
    let address = line.split("http://").nth(1).unwrap().strip_suffix("/metrics").unwrap();
    let mut page = TcpStream::connect(address).unwrap();
    write!(page, "GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    page.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("\nfedmux_sessions{direction=\"outbound\",transport=\"quic\"} 1\n")
            && text.contains("\nfedmux_lanes 4\n"),
        "{text}"
    );
    // The shell's own: not every machine has procps.
    let told =
        Command::new("sh").args(["-c", "kill -TERM \"$0\"", &child.id().to_string()]).status().unwrap();
    assert!(told.success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(json(&output)["pairs"], 4);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "certificates are left in TMPDIR");
}

#[test]
fn figures_that_make_no_sense_are_bad_usage() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in ["--hosts 101", "--stanzas 0", "--loss 11", "--loss nan", "--rtt 0", "--rtt 501"] {
        let output = command(&folder, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.starts_with("fedmux: ") && told.lines().count() == 1, "{told}");
    }
}
