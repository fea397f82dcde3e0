//! The command as people and scripts meet it: exit codes, one line for each error, and what goes to stdout.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, like the tests themselves"
)]

#[path = "support/running.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod running;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use running::{Running, fedmux};
use tempfile::TempDir;

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// A folder with a configuration for a.test on free ports, and a certificate for it.
fn provider() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = fedmux(folder.path(), &["certs", "dev", "--out", "certs", "a.test"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let text = "[identity]\ncertificates = \"certs\"\ntrust = \"certs/ca.pem\"\n[remote]\nquic = \"127.0.0.1:0\"\n\
                [local]\ns2s = \"127.0.0.1:0\"\n[[host]]\ndomain = \"a.test\"\ndeliver = \"127.0.0.2:5269\"\n";
    std::fs::write(folder.path().join("f.toml"), text).unwrap();
    folder
}

#[test]
fn development_certificates_pass_the_check() {
    let folder = provider();
    let checked = fedmux(folder.path(), &["check", "--config", "f.toml", "--offline"]);
    assert_eq!(checked.status.code(), Some(0), "{}{}", stdout(&checked), stderr(&checked));
    assert!(stdout(&checked).ends_with("\nNothing would fail.\n"), "{}", stdout(&checked));
    assert_eq!(stderr(&checked), "");
}

#[test]
fn development_certificates_are_never_overwritten() {
    let folder = provider();
    let again = fedmux(folder.path(), &["certs", "dev", "--out", "certs", "a.test"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).starts_with("fedmux: certs/live/a.test: ") && stderr(&again).lines().count() == 1);
}

#[test]
fn a_check_that_finds_a_failure_exits_with_1() {
    let folder = provider();
    std::fs::remove_dir_all(folder.path().join("certs/live")).unwrap();
    let checked = fedmux(folder.path(), &["check", "--config", "f.toml", "--offline", "--json"]);
    assert_eq!(checked.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_str(stdout(&checked)).unwrap();
    assert_eq!(report["ok"], false);
    let errors: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["severity"] == "error")
        .collect();
    assert_eq!((errors.len(), &errors[0]["subject"]), (1, &serde_json::json!("a.test")), "{report:#}");
}

#[test]
fn a_check_says_how_each_host_is_proven() {
    let folder = provider();
    let made = fedmux(folder.path(), &["certs", "dev", "--out", "certs", "b.test"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let path = folder.path().join("f.toml");
    let hosts = "domains = [\"a.test\", \"b.test\", \"x.y.test\"]";
    let text = std::fs::read_to_string(&path).unwrap().replace("domain = \"a.test\"", hosts);
    std::fs::write(&path, text).unwrap();
    let json = fedmux(folder.path(), &["check", "--config", "f.toml", "--offline", "--json"]);
    let report: serde_json::Value = serde_json::from_str(stdout(&json)).unwrap();
    let column = |name: &str| {
        let rows = report["hosts"].as_array().unwrap().iter();
        rows.map(|row| row[name].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(column("domain"), ["a.test", "b.test", "x.y.test"]);
    assert_eq!(column("proven_by"), ["certificate", "mux-secret", "nothing"], "{report:#}");
    let table = fedmux(folder.path(), &["check", "--config", "f.toml", "--offline"]);
    assert_eq!(table.status.code(), Some(1), "a host that nobody can prove would fail");
    let text = stdout(&table);
    for expected in [
        "\n  HOST      CERTIFICATE  PROVEN BY    COVERED BY\n",
        "  b.test    2            mux secret   its own name\n",
        "  x.y.test  none         nothing      nothing\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn a_wrong_configuration_exits_with_2_and_a_line_for_each_mistake() {
    let folder = provider();
    let path = folder.path().join("f.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}colour = 1\n[limits]\nlanes = 0\n")).unwrap();
    for command in ["run", "check"] {
        let output = fedmux(folder.path(), &[command, "--config", "f.toml"]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let lines: Vec<_> = stderr(&output).lines().collect();
        assert!(lines[0].starts_with("fedmux: host.colour is not a known key: f.toml:11: "), "{lines:?}");
        assert!(lines[1].starts_with("fedmux: limits.lanes is 0: f.toml:13: "), "{lines:?}");
        assert_eq!((lines.len(), stdout(&output)), (2, ""));
    }
}

#[test]
fn bad_usage_exits_with_2_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["fly"][..],
        &["run", "--fast"],
        &["demo", "--hosts", "0"],
        &["certs", "dev", "a.test"],
        &["run", "--log-level", "a=b"],
        &[],
    ] {
        let output = fedmux(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).starts_with("fedmux: "), "{arguments:?}: {}", stderr(&output));
        assert_eq!((stderr(&output).lines().count(), stdout(&output)), (1, ""), "{arguments:?}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (&["--help"][..], "Usage: fedmux"),
        (&["run", "-h"], "Usage: fedmux run"),
        (&["--version"], "fedmux "),
    ] {
        let output = fedmux(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(stdout(&output).contains(expected) && stderr(&output).is_empty(), "{arguments:?}");
    }
}

/// bash itself, with what the command prints for it, completes a line whose last word is begun.
#[test]
fn bash_completes_commands_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let script = fedmux(folder.path(), &["completions", "bash"]);
    assert!(script.status.success(), "{}", stderr(&script));
    std::fs::write(folder.path().join("script"), &script.stdout).unwrap();
    for (words, expected) in [
        ("fedmux expl", "explain"),
        ("fedmux certs d", "dev"),
        ("fedmux run --conf", "--config"),
        ("fedmux completions pow", "powershell"),
    ] {
        let last = words.rsplit(' ').next().unwrap();
        let line = format!(
            "set -u; source ./script; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=(); \
             _fedmux fedmux {last} x; echo \"${{COMPREPLY[*]}}\""
        );
        let output = Command::new("bash").args(["-c", &line]).current_dir(folder.path()).output().unwrap();
        assert_eq!(stdout(&output), format!("{expected}\n"), "{words}: {}", stderr(&output));
    }
}

#[test]
fn every_command_of_the_help_has_its_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let written = fedmux(folder.path(), &["man", "--out", "new/man"]);
    assert!(written.status.success(), "{}", stderr(&written));
    let help = fedmux(folder.path(), &["--help"]);
    let commands = stdout(&help).split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let named = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let mut pages = 0;
    for command in named.filter(|name| !name.is_empty() && *name != "help") {
        let page =
            std::fs::read_to_string(folder.path().join(format!("new/man/fedmux-{command}.1"))).unwrap();
        assert!(page.contains(&format!("\nfedmux\\-{command} \\- ")), "{page}");
        assert!(stdout(&written).contains(&format!("wrote new/man/fedmux-{command}.1\n")));
        pages += 1;
    }
    assert!(pages >= 9, "{pages} commands in {}", stdout(&help));
    let main = fedmux(folder.path(), &["man"]);
    assert_eq!(main.stdout, std::fs::read(folder.path().join("new/man/fedmux.1")).unwrap());
    let refused = fedmux(folder.path(), &["man", "--out", "new/man/fedmux.1"]);
    assert_eq!(
        (refused.status.code(), stderr(&refused).lines().count()),
        (Some(1), 1),
        "{}",
        stderr(&refused)
    );
}

/// Run the provider of `folder`, with an admin listener.
fn run(folder: &Path) -> Running {
    let path = folder.join("f.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}[admin]\nlisten = \"127.0.0.1:0\"\n")).unwrap();
    Running::start(folder)
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_relay_runs_until_it_is_told_to_stop() {
    let folder = provider();
    let mut relay = run(folder.path());
    let address = relay.waits_for("admin listener")["address"].as_str().unwrap().parse().unwrap();
    assert!(get(address, "/live").starts_with("HTTP/1.1 200 "));
    assert!(get(address, "/ready").starts_with("HTTP/1.1 200 "));
    let metrics = get(address, "/metrics");
    assert!(metrics.contains("\n# TYPE fedmux_") && !metrics.contains("a.test"), "{metrics}");
    relay.signal("TERM");
    relay.waits_for("stopped: ");
    assert_eq!(relay.process.wait().unwrap().code(), Some(0));
}

#[test]
fn sighup_takes_up_what_can_change_and_leaves_the_rest() {
    let folder = provider();
    let mut relay = run(folder.path());
    let address = relay.waits_for("admin listener")["address"].as_str().unwrap().parse().unwrap();
    let path = folder.path().join("f.toml");
    let text = std::fs::read_to_string(&path).unwrap();

    std::fs::write(&path, format!("{text}\n[[host]]\ndomain = \"b.test\"\ndeliver = \"127.0.0.3:5269\"\n"))
        .unwrap();
    relay.signal("HUP");
    assert_eq!(relay.waits_for("reload: ")["message"], "reload: host b.test added");
    assert_eq!(relay.waits_for("reloaded")["changes"], 1);
    let metrics = get(address, "/metrics");
    assert!(metrics.contains("\nfedmux_hosts 2\n"), "{metrics}");
    assert!(metrics.contains("\nfedmux_reloads_total{result=\"done\"} 1\n"), "{metrics}");

    std::fs::write(&path, format!("{text}colour = 1\n")).unwrap();
    relay.signal("HUP");
    let told = relay.waits_for("reload: ");
    assert!(
        told["message"].as_str().unwrap().starts_with("reload: admin.colour is not a known key: f.toml:"),
        "{told}"
    );
    relay.waits_for("not reloaded: the relay goes on with the configuration that it had");
    let metrics = get(address, "/metrics");
    assert!(metrics.contains("\nfedmux_hosts 2\n"), "{metrics}");
    assert!(metrics.contains("\nfedmux_reloads_total{result=\"refused\"} 1\n"), "{metrics}");

    std::fs::write(&path, format!("{text}[limits]\nlanes = 500\n")).unwrap();
    relay.signal("HUP");
    assert_eq!(relay.waits_for("reload: ")["message"], "reload: host b.test taken away");
    assert_eq!(
        relay.waits_for("reload: ")["message"],
        "reload: [limits] lanes has changed and needs a restart"
    );
    relay.signal("TERM");
    relay.waits_for("stopped: ");
    assert_eq!(relay.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let folder = provider();
    let path = folder.path().join("f.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let starttls = "[remote]\nstarttls = \"127.0.0.1:0\"\n";
    std::fs::write(&path, text.replace("[remote]\n", starttls)).unwrap();
    let mut relay = run(folder.path());
    let started = relay.waits_for("relay started");
    let address = relay.waits_for("admin listener")["address"].as_str().unwrap().parse().unwrap();
    let starttls: SocketAddr =
        started["starttls"].as_str().unwrap().trim_matches(['[', ']']).parse().unwrap();
    // Whoever reads the log goes away: from now on writing a line of it fails.
    relay.stops_reading();
    for _ in 0..3 {
        // What isn't XMPP is refused, and that is logged.
        let mut stream = TcpStream::connect(starttls).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let _answered_or_reset = stream.read_to_end(&mut Vec::new());
    }
    let metrics = get(address, "/metrics");
    assert!(metrics.contains("reason=\"bad-format\",side=\"remote\"} 3\n"), "{metrics}");
    assert!(metrics.contains("\nfedmux_tasks_failed_total 0\n"), "{metrics}");
    relay.signal("TERM");
    assert_eq!(relay.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_port_that_is_taken_fails_with_1_and_one_line() {
    let folder = provider();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let path = folder.path().join("f.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let address = taken.local_addr().unwrap();
    std::fs::write(&path, format!("{text}[admin]\nlisten = \"{address}\"\n")).unwrap();
    let output = fedmux(folder.path(), &["run", "--config", "f.toml"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains(&address.to_string()) && stderr(&output).lines().count() == 1,
        "{}",
        stderr(&output)
    );
}
