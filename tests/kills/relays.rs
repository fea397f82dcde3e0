//! Two `fedmux run` as processes.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub(crate) const OURS: &str = "a.test";
pub(crate) const THEIRS: [&str; 2] = ["b.test", "rooms.b.test"];

/// Ports that were free a moment ago; they stay the same over restarts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    quic: [u16; 2],
    pub(crate) a_s2s: u16,
    b_s2s: u16,
    /// Where the relay of the sender delivers, and that of the receiver.
    pub(crate) sender: u16,
    pub(crate) receiver: u16,
}

impl Ports {
    pub(crate) fn free() -> Self {
        let udp = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (quic, tcp) = ([udp(), udp()], [tcp(), tcp(), tcp(), tcp()]);
        let [a_s2s, b_s2s, sender, receiver] =
            tcp.each_ref().map(|socket| socket.local_addr().unwrap().port());
        let quic = quic.each_ref().map(|socket| socket.local_addr().unwrap().port());
        Self { quic, a_s2s, b_s2s, sender, receiver }
    }
}

pub(crate) struct Relays {
    folder: TempDir,
    ports: Ports,
    running: [Child; 2],
}

impl Relays {
    pub(crate) fn start(ports: Ports) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for domains in [&[OURS][..], &THEIRS] {
            let made = Command::new(env!("CARGO_BIN_EXE_fedmux"))
                .args(["certs", "dev", "--out", "certs"])
                .args(domains)
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(made.status.success(), "{made:?}");
        }
        let theirs = format!("{THEIRS:?}");
        let ours = format!("[{OURS:?}]");
        let sides = [
            ("a", OURS, &ours, &theirs, ports.a_s2s, ports.sender, ports.quic[0], ports.quic[1]),
            ("b", THEIRS[0], &theirs, &ours, ports.b_s2s, ports.receiver, ports.quic[1], ports.quic[0]),
        ];
        for (name, certificate, hosts, peers, s2s, deliver, quic, peer) in sides {
            let text = format!(
                "[identity]\ncertificates = \"certs/live/{certificate}\"\ntrust = \"certs/ca.pem\"\n\
                 [remote]\nquic = \"127.0.0.1:{quic}\"\n[local]\ns2s = \"127.0.0.1:{s2s}\"\n\
                 [limits]\npath_idle = \"3s\"\nconnect = \"1s\"\nretry_min = \"50ms\"\nretry_max = \"500ms\"\n\
                 ack_hold = \"5m\"\nunacked_max = 1000\n\
                 [[host]]\ndomains = {hosts}\ndeliver = \"127.0.0.1:{deliver}\"\nlocal_auth = \"trusted\"\n\
                 trusted_loopback = true\n[[peer]]\ndomains = {peers}\naddress = \"127.0.0.1:{peer}\"\n"
            );
            std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
        }
        let running = ["a", "b"].map(|name| run(folder.path(), name));
        let relays = Self { folder, ports, running };
        relays.listens(0);
        relays.listens(1);
        relays
    }

    /// Kill one of them as nothing else does: it can't say a word.
    pub(crate) fn kill(&mut self, which: usize) {
        self.running[which].kill().unwrap();
        self.running[which].wait().unwrap();
    }

    pub(crate) fn restart(&mut self, which: usize) {
        self.running[which] = run(self.folder.path(), ["a", "b"][which]);
        self.listens(which);
    }

    /// What both said last, and where they stand.
    pub(crate) fn logs(&self) -> String {
        let last = |name: &str| {
            let log = std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap();
            let lines: Vec<_> = log.lines().rev().take(30).collect();
            format!("--- {name}\n{}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        last("a") + &last("b")
    }

    fn listens(&self, which: usize) {
        let port = [self.ports.a_s2s, self.ports.b_s2s][which];
        for _ in 0..3_000 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("relay {which} doesn't listen");
    }
}

impl Drop for Relays {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _gone = (child.kill(), child.wait());
        }
    }
}

fn run(folder: &Path, name: &str) -> Child {
    let log =
        std::fs::File::options().create(true).append(true).open(folder.join(format!("{name}.log"))).unwrap();
    Command::new(env!("CARGO_BIN_EXE_fedmux"))
        .args(["run", "--config", &format!("{name}.toml")])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
