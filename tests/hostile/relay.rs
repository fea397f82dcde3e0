//! `fedmux run` as a process: what it says in its metrics and its log, and what it holds of the machine.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::certificates::{Authority, Certificate};
use crate::support::process::Held;
use crate::support::scrape::Scrape;
use crate::support::soon;

/// A running relay.
pub(crate) struct Relay {
    process: Child,
    folder: TempDir,
    /// Where peers reach it, by QUIC and by TLS over TCP.
    pub(crate) quic: SocketAddr,
    pub(crate) direct_tls: SocketAddr,
    /// Where its server reaches it.
    pub(crate) s2s: SocketAddr,
    admin: SocketAddr,
}

impl Relay {
    /// A relay that shows `certificate`; `limits` and `tables` end its configuration.
    pub(crate) async fn start(
        authority: &Authority,
        certificate: &Certificate,
        limits: &str,
        tables: &str,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // All are held until all are chosen, or one could be chosen twice.
        let held_udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let held_tcp = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let quic = held_udp.local_addr().unwrap();
        let [direct_tls, s2s, admin] = held_tcp.each_ref().map(|socket| socket.local_addr().unwrap());
        drop((held_udp, held_tcp));
        std::fs::create_dir(folder.path().join("certs")).unwrap();
        certificate.write_into(&folder.path().join("certs"), "hosts");
        let trust = authority.file();
        let text = format!(
            "[identity]\ncertificates = \"certs\"\ntrust = {trust:?}\n\
             [remote]\nquic = \"{quic}\"\ndirect_tls = \"{direct_tls}\"\n\
             [local]\ns2s = \"{s2s}\"\n[admin]\nlisten = \"{admin}\"\n[limits]\n{limits}\n{tables}"
        );
        std::fs::write(folder.path().join("relay.toml"), text).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_fedmux"))
            .args(["run", "--config", "relay.toml", "--log-level", "info"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut relay = Self { process, folder, quic, direct_tls, s2s, admin };
        soon("the relay to listen", async {
            while TcpStream::connect(relay.admin).await.is_err() {
                if let Some(status) = relay.process.try_wait().unwrap() {
                    panic!("the relay ended before it listened: {status}");
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
        relay
    }

    /// Change the text of its configuration, and let it read that.
    pub(crate) fn reload(&self, from: &str, to: &str) {
        let file = self.folder.path().join("relay.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from:?} in {text}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }

    /// Its metrics as they are scraped.
    pub(crate) async fn scrape(&self) -> Scrape {
        Scrape::of(self.admin).await
    }

    /// How many lines of its log hold all of this.
    pub(crate) fn logged(&self, words: &[&str]) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// What it holds.
    pub(crate) fn holds(&self) -> Held {
        Held::by(self.process.id())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the relay's last words\n{}", self.last_words());
        }
        let _gone = (self.process.kill(), self.process.wait());
    }
}
