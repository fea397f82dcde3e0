//! `fedmux check` against a real DNS server, real listeners and a real relay: what it says of records and of who answers.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Output};

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::RecordType;
use serde_json::Value;
use tempfile::TempDir;

use crate::dns_server::{Misbehaviour, TestServer, Zone};
use crate::support::certificates::Authority;
use crate::support::provider::Plan;

/// A configuration for a.test with a server that listens, and listeners whose ports are held.
struct Scene {
    folder: TempDir,
    quic: UdpSocket,
    starttls: TcpListener,
    server: TcpListener,
}

/// What the command said.
struct Said {
    code: Option<i32>,
    json: Value,
    text: String,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = fedmux(&folder, &["certs", "dev", "--out", "certs", "a.test"]);
        assert!(made.status.success(), "{made:?}");
        let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
        Self { folder, quic: UdpSocket::bind("127.0.0.1:0").unwrap(), starttls: tcp(), server: tcp() }
    }

    fn quic_port(&self) -> u16 {
        self.quic.local_addr().unwrap().port()
    }

    fn starttls_port(&self) -> u16 {
        self.starttls.local_addr().unwrap().port()
    }

    /// Write the configuration, with further lines.
    fn configure(&self, dns: SocketAddr, more: &str) {
        let [quic, starttls] = [self.quic.local_addr(), self.starttls.local_addr()].map(Result::unwrap);
        let server = self.server.local_addr().unwrap();
        let text = format!(
            "[identity]\ncertificates = \"certs\"\ntrust = \"certs/ca.pem\"\n[remote]\nquic = \"{quic}\"\n\
             starttls = \"{starttls}\"\n[local]\ns2s = \"127.0.0.1:0\"\n[dns]\nservers = \"{dns}\"\nallow_private = true\n\
             [limits]\nlook_up = \"1s\"\n[[host]]\ndomain = \"a.test\"\ndeliver = \"{server}\"\n{more}"
        );
        std::fs::write(self.folder.path().join("f.toml"), text).unwrap();
    }

    /// Check it twice, for people and for machines.
    async fn check(&self, more: &[&str]) -> Said {
        let arguments = [&["check", "--config", "f.toml"], more].concat();
        let text = self.run(&arguments).await;
        let json = self.run(&[&arguments[..], &["--json"]].concat()).await;
        assert_eq!(text.status.code(), json.status.code());
        assert!(text.stderr.is_empty() && json.stderr.is_empty(), "{text:?}");
        let parsed = serde_json::from_slice(&json.stdout).unwrap();
        Said { code: text.status.code(), json: parsed, text: String::from_utf8(text.stdout).unwrap() }
    }

    /// Run the command, while this thread answers for DNS and the relay.
    async fn run(&self, arguments: &[&str]) -> Output {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let folder = self.folder.path().to_owned();
        let run = move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_fedmux"));
            command.args(arguments).current_dir(folder).env_remove("FEDMUX_LOG").output().unwrap()
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    /// Check with these records in DNS.
    async fn with_records(&self, records: &[&str]) -> Said {
        let dns = Zone::new(records).serve().await;
        self.configure(dns.address, "");
        self.check(&[]).await
    }
}

fn fedmux(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fedmux"));
    command.args(arguments).current_dir(folder.path()).output().unwrap()
}

impl Said {
    /// The findings of this severity, without the notes on ports that this test holds: `subject: text`.
    fn findings(&self, severity: &str) -> Vec<String> {
        let all = self.json["findings"].as_array().unwrap().iter();
        let of =
            all.filter(|it| it["severity"] == severity && !it["text"].as_str().unwrap().contains("in use"));
        of.map(|it| format!("{}: {}", it["subject"].as_str().unwrap(), it["text"].as_str().unwrap()))
            .collect()
    }

    /// Where the records of this name lead.
    fn leads(&self, name: &str) -> Vec<&str> {
        let rows = self.json["records"].as_array().unwrap().iter().filter(|row| row["name"] == name);
        rows.map(|row| row["leads"].as_str().unwrap()).collect()
    }

    /// The lines to paste, as they stand in the text.
    fn zone_lines(&self) -> Vec<&str> {
        self.text.lines().filter(|line| line.contains(" IN ")).collect()
    }
}

#[tokio::test]
async fn records_that_lead_to_the_listeners_are_right() {
    let scene = Scene::new();
    let quic = format!("_xmpp-server._quic.a.test SRV 0 5 {} relay.a.test", scene.quic_port());
    let starttls = format!("_xmpp-server._tcp.a.test SRV 0 5 {} relay.a.test", scene.starttls_port());
    let said = scene.with_records(&[&quic, &starttls, "relay.a.test A 127.0.0.1"]).await;
    assert_eq!((said.code, said.findings("warning").len()), (Some(0), 0), "{}", said.text);
    assert_eq!(said.leads("_xmpp-server._quic.a.test"), ["here"]);
    assert!(said.text.contains("\n  a.test: quic leads here, starttls leads here\n"), "{}", said.text);
    assert!(said.text.contains("(tcp): answers\n") && said.zone_lines().is_empty(), "{}", said.text);
    assert!(said.text.ends_with("\nNothing would fail.\n"), "{}", said.text);
    let published = said.json["publish"].as_array().unwrap();
    assert!(published.len() == 3 && published.iter().all(|row| row["published"] == true), "{published:?}");
}

#[tokio::test]
async fn missing_records_are_spelled_out_and_right_once_they_are_pasted() {
    let scene = Scene::new();
    let said = scene.with_records(&[]).await;
    assert_eq!(said.code, Some(0), "peers may know the relay by [[peer]]: {}", said.text);
    let warnings = said.findings("warning");
    assert!(warnings.len() == 1 && warnings[0].starts_with("a.test: no record leads to it"), "{warnings:?}");
    let (quic, starttls) = (scene.quic_port(), scene.starttls_port());
    assert_eq!(
        said.zone_lines(),
        [
            format!("_xmpp-server._quic.a.test. 3600 IN SRV 0 5 {quic} fedmux.a.test."),
            format!("_xmppq-server._udp.a.test. 3600 IN SRV 0 5 {quic} fedmux.a.test."),
            format!("_xmpp-server._tcp.a.test. 3600 IN SRV 10 5 {starttls} fedmux.a.test."),
            "fedmux.a.test. 3600 IN A 127.0.0.1".to_owned(),
        ]
    );
    let pasted: Vec<String> = said
        .zone_lines()
        .iter()
        .map(|line| line.replace(". 3600 IN ", " ").trim_end_matches('.').to_owned())
        .collect();
    let pasted: Vec<&str> = pasted.iter().map(String::as_str).collect();
    let said = scene.with_records(&pasted).await;
    assert!(said.text.ends_with("\nNothing would fail.\n"), "{}", said.text);
    assert_eq!(said.zone_lines(), [""; 0]);
}

#[tokio::test]
async fn a_host_that_its_records_lead_nowhere_would_fail() {
    let scene = Scene::new();
    let unheard = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let wrong = format!("_xmpp-server._quic.a.test SRV 0 5 {unheard} relay.a.test");
    let records = [
        wrong.as_str(),
        "relay.a.test A 127.0.0.1",
        "_xmpp-server._tcp.a.test SRV 0 5 5269 gone.a.test",
        "_xmppq-server._udp.a.test SRV 0 0 0 .",
    ];
    let said = scene.with_records(&records).await;
    assert_eq!(said.code, Some(1), "{}", said.text);
    let errors = said.findings("error");
    assert_eq!(
        errors,
        [
            format!(
                "_xmpp-server._quic.a.test: leads to 127.0.0.1:{unheard} (relay.a.test), which is this machine, but \
                 remote.quic doesn't listen there"
            ),
            "_xmppq-server._udp.a.test: has the target \".\": peers are told that there is nothing, but remote.quic listens"
                .to_owned(),
            "_xmpp-server._tcp.a.test: leads to gone.a.test, which has no address".to_owned(),
        ]
    );
    // The name of this machine is known by the wrong record.
    let right = format!("_xmpp-server._quic.a.test. 3600 IN SRV 0 5 {} relay.a.test.", scene.quic_port());
    assert!(said.zone_lines().contains(&right.as_str()), "{}", said.text);
    // Beside a right one they fail nothing.
    let right = format!("_xmpp-server._quic.a.test SRV 0 5 {} relay.a.test", scene.quic_port());
    let said = scene.with_records(&[&records[..], &[&right]].concat()).await;
    assert_eq!((said.code, said.findings("warning").len()), (Some(0), 3), "{}", said.text);
}

#[tokio::test]
async fn what_cannot_be_judged_from_here_fails_nothing() {
    let scene = Scene::new();
    let forwarded = format!("_xmpp-server._quic.a.test SRV 0 5 {} edge.a.test", scene.quic_port());
    let elsewhere = "_xmpp-server._tcp.a.test SRV 0 5 1 edge.a.test";
    let zone = Zone::new(&[&forwarded, elsewhere, "edge.a.test A 192.0.2.7"]);
    let broken = Misbehaviour::Code(ResponseCode::ServFail);
    let dns = zone.misbehave("_xmppq-server._udp.a.test", RecordType::SRV, broken).serve().await;
    scene.configure(dns.address, "");
    let said = scene.check(&[]).await;
    assert_eq!((said.code, said.findings("error").len()), (Some(0), 0), "{}", said.text);
    let of = |name| said.leads(name);
    assert_eq!(
        [of("_xmpp-server._quic.a.test"), of("_xmppq-server._udp.a.test"), of("_xmpp-server._tcp.a.test")],
        [["forwarded"], ["unknown"], ["elsewhere"]]
    );
    let notes = said.findings("note").join("\n");
    assert!(notes.contains("(edge.a.test), which is no address of this machine"), "{notes}");
    let warnings = said.findings("warning").join("\n");
    assert!(warnings.contains("could not be looked up (dns-failed)"), "{warnings}");
}

#[tokio::test]
async fn whoever_does_not_answer_is_named() {
    let scene = Scene::new();
    let authority = Authority::new();
    let peer = Plan::new(&authority, &["b.test"]).await.bind().start().await;
    let dns = Zone::new(&[]).serve().await;
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tcp_closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answering = peer.quic;
    let peers = format!(
        "[[peer]]\ndomain = \"b.test\"\naddress = \"{answering}\"\n[[peer]]\ndomain = \"c.test\"\naddress = \"{closed}\"\n\
         [[peer]]\ndomain = \"d.test\"\naddress = \"{tcp_closed}\"\ntransport = \"starttls\"\n"
    );
    scene.configure(dns.address, &peers);
    let said = scene.check(&[]).await;
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert!(said.text.contains(&format!("peer.address {answering} (udp): answers\n")), "{}", said.text);
    let warnings = said.findings("warning").join("\n");
    assert!(
        warnings.contains(&format!(
            "peer.address {closed}: the peer doesn't answer by QUIC (connection-refused)"
        )) && warnings
            .contains(&format!("peer.address {tcp_closed}: the peer can't be reached (connection-refused)")),
        "{warnings}"
    );
    // Nothing is delivered to a host whose servers are all away; of two one is enough.
    let down = format!("{peers}[[host]]\ndomain = \"rooms.a.test\"\ndeliver = [\"{tcp_closed}\"]\n");
    scene.configure(dns.address, &down);
    let said = scene.check(&[]).await;
    let subject = format!("host.deliver {tcp_closed}: the server can't be reached (connection-refused)");
    assert_eq!(said.code, Some(1));
    assert!(said.findings("error").contains(&subject), "{}", said.text);
    let server = scene.server.local_addr().unwrap();
    scene.configure(dns.address, &down.replace("deliver = [", &format!("deliver = [\"{server}\", ")));
    let said = scene.check(&[]).await;
    assert!(said.findings("warning").contains(&subject), "{}", said.text);
}

#[tokio::test]
async fn offline_nobody_is_asked() {
    let scene = Scene::new();
    let dns: TestServer = Zone::new(&[]).serve().await;
    scene.configure(dns.address, "");
    scene.server.set_nonblocking(true).unwrap();
    let said = scene.check(&["--offline"]).await;
    assert_eq!((said.code, &said.json["offline"]), (Some(0), &Value::Bool(true)), "{}", said.text);
    assert!(dns.asked().is_empty() && scene.server.accept().is_err());
    assert!(said.zone_lines().len() == 4 && said.text.contains("nobody was asked\n"), "{}", said.text);
    scene.check(&[]).await;
    assert!(
        dns.asked().contains(&"SRV _xmpp-server._quic.a.test.".to_owned()) && scene.server.accept().is_ok()
    );
}
