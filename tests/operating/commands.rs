//! `fedmux status`, `fedmux log` and `fedmux explain`, as they are typed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::time::Instant;

use tempfile::TempDir;

use crate::support::running::{Running, fedmux};
use crate::support::server::Server;
use crate::support::{PATIENCE, nobody};

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).unwrap()
}

/// A relay that runs with an admin socket.
struct Relay {
    folder: TempDir,
    running: Running,
    /// Where servers reach it.
    s2s: SocketAddr,
}

impl Relay {
    fn start() -> Self {
        Self::start_with("")
    }

    /// The same with further lines, the first of them of its host.
    fn start_with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = fedmux(folder.path(), &["certs", "dev", "--out", "certs", "a.test"]);
        assert!(made.status.success(), "{made:?}");
        let configuration = "[identity]\ncertificates = \"certs\"\ntrust = \"certs/ca.pem\"\n[remote]\nquic = \"127.0.0.1:0\"\n\
                             [local]\ns2s = \"127.0.0.1:0\"\n[admin]\nsocket = \"admin.sock\"\n\
                             [[host]]\ndomain = \"a.test\"\ndeliver = \"127.0.0.2:5269\"\n";
        std::fs::write(folder.path().join("f.toml"), configuration.to_owned() + more).unwrap();
        let mut running = Running::start(folder.path());
        let started = running.waits_for("relay started");
        let s2s = started["s2s"].as_str().unwrap().trim_matches(['[', ']']).parse().unwrap();
        running.waits_for("admin socket");
        Self { folder, running, s2s }
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        fedmux(self.folder.path(), &[arguments, &["--config", "f.toml"]].concat())
    }
}

#[test]
fn status_is_shown_as_text_and_as_json() {
    let relay = Relay::start();
    let shown = relay.ask(&["status"]);
    assert_eq!((shown.status.code(), text(&shown.stderr)), (Some(0), ""));
    let shown = text(&shown.stdout);
    assert!(shown.starts_with("fedmux 0.") && shown.contains("\nSessions (0)\n"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let json = relay.ask(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["hosts"], &json["saved"]["connections"]), (&1.into(), &0.into()), "{json:#}");
}

#[test]
fn the_log_says_more_when_it_is_told_to_while_the_relay_runs() {
    let mut relay = Relay::start();
    let now = relay.ask(&["log"]);
    assert_eq!(text(&now.stdout), "fedmux=info,warn\n");
    let changed = relay.ask(&["log", "debug"]);
    assert_eq!((changed.status.code(), text(&changed.stdout)), (Some(0), "fedmux=debug,warn\n"));
    assert_eq!(relay.running.waits_for("how much is logged was changed")["level"], "debug");
    let refused = relay.ask(&["log", "fedmux=loud"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("is no log level"), "{}", text(&refused.stderr));
    assert_eq!(text(&relay.ask(&["log"]).stdout), "fedmux=debug,warn\n", "it stays as it was");
}

#[test]
fn a_relay_that_was_killed_leaves_a_socket_that_the_next_one_replaces_and_takes_away() {
    let mut relay = Relay::start();
    let socket = relay.folder.path().join("admin.sock");
    let second = fedmux(relay.folder.path(), &["run", "--config", "f.toml"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another relay answers there"), "{}", text(&second.stderr));
    relay.running.process.kill().unwrap();
    relay.running.process.wait().unwrap();
    assert!(socket.exists());
    let unanswered = relay.ask(&["status"]);
    assert_eq!(unanswered.status.code(), Some(1));
    assert!(text(&unanswered.stderr).contains("no relay runs with this socket"), "{unanswered:?}");
    relay.running = Running::start(relay.folder.path());
    relay.running.waits_for("admin socket");
    assert_eq!(relay.ask(&["status"]).status.code(), Some(0));
    relay.running.signal("TERM");
    relay.running.waits_for("stopped: ");
    assert_eq!(relay.running.process.wait().unwrap().code(), Some(0));
    assert!(!socket.exists(), "its file goes with it");
}

#[test]
fn without_a_socket_the_command_says_what_to_do() {
    let relay = Relay::start();
    let path = relay.folder.path().join("f.toml");
    let without = std::fs::read_to_string(&path).unwrap().replace("socket = \"admin.sock\"\n", "");
    std::fs::write(relay.folder.path().join("g.toml"), without).unwrap();
    if Path::new("/run/fedmux/admin.sock").exists() {
        return;
    }
    let said = fedmux(relay.folder.path(), &["status", "--config", "g.toml"]);
    assert_eq!(said.status.code(), Some(2));
    assert!(
        text(&said.stderr).starts_with("fedmux: [admin] socket is not set: g.toml: add it there"),
        "{said:?}"
    );
    let named = fedmux(relay.folder.path(), &["status", "--config", "g.toml", "--socket", "admin.sock"]);
    assert_eq!(named.status.code(), Some(0), "{named:?}");
}

#[test]
fn a_configuration_with_a_mistake_is_not_taken_and_the_status_says_so() {
    let mut relay = Relay::start();
    let path = relay.folder.path().join("f.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{good}colour = 1\n")).unwrap();
    relay.running.signal("HUP");
    relay.running.waits_for("not reloaded");
    let shown = fedmux(relay.folder.path(), &["status", "--socket", "admin.sock"]);
    assert!(text(&shown.stdout).contains("\n  reload   not reloaded at "), "{shown:?}");
    std::fs::write(&path, good.replace("\"a.test\"\n", "\"a.test\"\nannounce = true\n")).unwrap();
    relay.running.signal("HUP");
    relay.running.waits_for("reloaded");
    let shown = fedmux(relay.folder.path(), &["status", "--socket", "admin.sock"]);
    assert!(text(&shown.stdout).contains(": host a.test: announce changed\n"), "{}", text(&shown.stdout));
}

#[tokio::test]
async fn explain_names_the_fact_that_failed_as_it_is_typed() {
    let (_kept, closed) = nobody();
    let relay = Relay::start_with(&format!(
        "local_auth = \"trusted\"\ntrusted_loopback = true\n[[peer]]\ndomain = \"b.test\"\naddress = \"{closed}\"\n\
         transport = \"starttls\"\n"
    ));
    let mut server = Server::start(&["a.test"]).await;
    server.host("a.test", relay.s2s).send("b.test", "1").await;
    let begun = Instant::now();
    let json = loop {
        let asked = relay.ask(&["explain", "b.test", "--json"]);
        assert_eq!((asked.status.code(), text(&asked.stderr)), (Some(0), ""));
        let json: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
        if !json["failed"].is_null() {
            break json;
        }
        assert!(begun.elapsed() < PATIENCE, "{json:#}");
    };
    assert_eq!(
        (&json["domain"], &json["failed"]["reason"]),
        (&"b.test".into(), &"connection-refused".into())
    );
    let shown = relay.ask(&["explain", "b.test", "--from", "a.test"]);
    assert_eq!((shown.status.code(), text(&shown.stderr)), (Some(0), ""));
    let shown = text(&shown.stdout);
    let failed = shown.find("\nFailed: connection-refused: ").expect(shown);
    assert!(shown[failed..].contains(&closed.to_string()), "{shown}");
    assert!(
        shown[failed..].contains("\nTo do:  check the address and that the other end is running\n"),
        "{shown}"
    );
    let unknown = relay.ask(&["explain", "c.test"]);
    assert!(text(&unknown.stdout).contains("Nothing was tried towards it"), "{unknown:?}");
    let usage = relay.ask(&["explain", "not a domain"]);
    assert_eq!((usage.status.code(), text(&usage.stderr).lines().count()), (Some(2), 1), "{usage:?}");
}
