//! Whose line is whose: each line of the log about a session says which session it is, and with whom.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use fedmux::relay::settings::Transport;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::certificates::Authority;
use crate::support::provider::{Plan, Provider};
use crate::support::running::Running;
use crate::support::server::{Host, Server};

/// A relay for a.test that is a process of its own, with b.test and c.test as peers, reached in two ways.
struct Scene {
    relay: Running,
    /// Lines so far.
    log: Vec<String>,
    server: Server,
    peers: Vec<(Provider, Host)>,
    /// Where the relay reaches them.
    at: [SocketAddr; 2],
    _folder: TempDir,
    _authority: Authority,
}

impl Scene {
    async fn set(arguments: &[&str]) -> Self {
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("certs")).unwrap();
        authority.certify(&["a.test"]).write_into(&folder.path().join("certs"), "a");
        let peer = async |name: &str| {
            let mut provider = Plan::new(&authority, &[name]).await.start().await;
            let host = provider.host(name);
            (provider, host)
        };
        let peers = vec![peer("b.test").await, peer("c.test").await];
        let at = [peers[0].0.quic, peers[1].0.at(Transport::DirectTls)];
        let server = Server::start(&["a.test"]).await;
        let configuration = format!(
            "[identity]\ncertificates = \"certs\"\ntrust = \"{}\"\n[local]\ns2s = \"127.0.0.1:0\"\n[[host]]\ndomain = \"a.test\"\n\
             deliver = \"{}\"\nlocal_auth = \"trusted\"\ntrusted_loopback = true\n[[peer]]\ndomain = \"b.test\"\n\
             address = \"{}\"\n[[peer]]\ndomain = \"c.test\"\ntransport = \"direct-tls\"\naddress = \"{}\"\n",
            authority.file().display(),
            server.address,
            at[0],
            at[1]
        );
        std::fs::write(folder.path().join("f.toml"), configuration).unwrap();
        let relay = Running::start_with(folder.path(), arguments);
        Self { relay, log: Vec::new(), server, peers, at, _folder: folder, _authority: authority }
    }

    /// Lines up to the one that holds `text`.
    fn read_to(&mut self, text: &str) -> String {
        loop {
            let line = self.relay.text_line().unwrap_or_else(|| panic!("no {text:?} in {:#?}", self.log));
            self.log.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// A stanza to each peer, the end of both peers, and the whole log once the relay has ended.
    async fn run(&mut self, s2s: SocketAddr) {
        let mut host = self.server.host("a.test", s2s);
        for (_, theirs) in &mut self.peers {
            host.send(&theirs.name.clone(), "1").await;
            theirs.receive().await;
        }
        for (provider, _) in std::mem::take(&mut self.peers) {
            provider.stop().await;
            self.read_to("session down");
        }
        self.relay.signal("TERM");
        while let Some(line) = self.relay.text_line() {
            self.log.push(line);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_of_two_sessions_at_once_says_which_one_it_is() {
    let mut scene = Scene::set(&["--log-format", "json", "--log-level", "debug"]).await;
    let started: Value = serde_json::from_str(&scene.read_to("relay started")).unwrap();
    let s2s = started["s2s"].as_str().unwrap().trim_matches(['[', ']']).parse().unwrap();
    scene.run(s2s).await;
    let mut sessions: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for line in &scene.log {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line.get("session").is_none(), "said by the span, once: {line}");
        if let Some(session) = line["span"]["session"].as_u64() {
            assert_eq!(line["span"]["name"], "session");
            sessions.entry(session).or_default().push(line);
        }
    }
    assert_eq!(sessions.len(), 2, "{sessions:#?}");
    for ((name, other), (at, transport)) in [("b.test", "c.test"), ("c.test", "b.test")]
        .into_iter()
        .zip(scene.at.into_iter().zip(["quic", "direct-tls"]))
    {
        let lines = sessions.values().find(|lines| lines[0]["span"]["peer"] == at.to_string());
        let lines = lines.unwrap_or_else(|| panic!("{at} in {sessions:#?}"));
        for line in lines {
            let span = &line["span"];
            assert_eq!(
                (&span["transport"], &span["role"]),
                (&transport.into(), &"initiating".into()),
                "{line}"
            );
            assert!(!line.to_string().contains(other), "{line}");
        }
        // From its beginning to its end, and its lanes between them; once the peer is proven, its name is there.
        let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
        for message in ["stream established", "session up", "session down"] {
            assert!(messages.contains(&message), "{message} in {messages:?}");
        }
        let up = messages.iter().position(|message| *message == "session up").unwrap();
        assert!(lines[up..].iter().all(|line| line["span"]["domain"] == name), "{lines:#?}");
    }
    // What concerns our own server belongs to none.
    let local = scene.log.iter().filter(|line| line.contains("stream established")).count();
    assert!(local > 2, "{:#?}", scene.log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_text_says_the_same_whatever_the_level() {
    let mut scene = Scene::set(&["--log-format", "text", "--log-level", "info"]).await;
    let started = scene.read_to("relay started");
    let s2s = started.split("s2s=[").nth(1).unwrap().split(']').next().unwrap().parse().unwrap();
    scene.run(s2s).await;
    let at = scene.at[0];
    for message in ["session up", "session down"] {
        let line = scene.log.iter().find(|line| line.contains(message) && line.contains(&at.to_string()));
        let line = line.unwrap_or_else(|| panic!("{message} in {:#?}", scene.log));
        let (before, rest) = line.split_once("session{session=").unwrap();
        let (session, rest) = rest.split_once(' ').unwrap();
        assert!(before.contains(" INFO ") && session.parse::<u64>().is_ok(), "{line}");
        let said = format!("peer={at} transport=quic role=initiating domain=b.test}}: {message} ");
        assert!(rest.starts_with(&said), "{line}\n{said}");
    }
}
