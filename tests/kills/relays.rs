//! Two `fedmux run` as processes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::process::Held;
use crate::support::scrape::Scrape;

pub(crate) const OURS: &str = "a.test";
pub(crate) const THEIRS: [&str; 2] = ["b.test", "rooms.b.test"];

/// Where the two relays are and where their servers are; all stay the same over restarts.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where each relay is for the other, and listens.
    pub(crate) quic: [SocketAddr; 2],
    /// Where the server of each relay connects to it.
    pub(crate) s2s: [SocketAddr; 2],
    pub(crate) admin: [SocketAddr; 2],
    /// Where each relay delivers.
    pub(crate) servers: [SocketAddr; 2],
    /// Where the first finds the second, and the second the first.
    pub(crate) peers: [String; 2],
    /// What stands before `fedmux`, if anything does.
    pub(crate) within: [Vec<String>; 2],
    /// More lines of `[identity]`, and of `[limits]`.
    pub(crate) identity: &'static str,
    pub(crate) limits: &'static str,
}

impl Plan {
    /// They find each other where they are.
    pub(crate) fn new(limits: &'static str) -> Self {
        let ip = own_address();
        let udp = || UdpSocket::bind((ip, 0)).unwrap();
        let tcp = || TcpListener::bind((ip, 0)).unwrap();
        let (quic, tcp) = ([udp(), udp()], [tcp(), tcp(), tcp(), tcp(), tcp(), tcp()]);
        let quic = quic.each_ref().map(|socket| socket.local_addr().unwrap());
        let [a, b, c, d, e, f] = tcp.each_ref().map(|socket| socket.local_addr().unwrap());
        Self {
            quic,
            s2s: [a, b],
            admin: [c, d],
            servers: [e, f],
            peers: [quic[1].to_string(), quic[0].to_string()],
            within: Default::default(),
            identity: "",
            limits,
        }
    }

    /// The configuration of one of them.
    fn configuration(&self, which: usize) -> String {
        let [ours, theirs] = [format!("[{OURS:?}]"), format!("{THEIRS:?}")];
        let (certificate, hosts, domains) =
            if which == 0 { (OURS, ours, theirs) } else { (THEIRS[0], theirs, ours) };
        let Self { quic, s2s, admin, servers, peers, limits, .. } = self;
        let identity = self.identity.replace("KEY", &format!("{}.key", NAMES[which]));
        let trusted = match servers[which].ip() {
            ip if ip.is_loopback() => "trusted_loopback = true".to_owned(),
            ip => format!("sources = [\"{ip}\"]"),
        };
        format!(
            "[identity]\ncertificates = \"certs/live/{certificate}\"\ntrust = \"certs/ca.pem\"\n{identity}\n\
             [remote]\nquic = \"{}\"\n[local]\ns2s = \"{}\"\n[admin]\nlisten = \"{}\"\n\
             [limits]\nconnect = \"1s\"\nretry_min = \"50ms\"\nretry_max = \"500ms\"\n{limits}\n\
             [[host]]\ndomains = {hosts}\ndeliver = \"{}\"\nlocal_auth = \"trusted\"\n{trusted}\n\
             [[peer]]\ndomains = {domains}\naddress = \"{}\"\n",
            quic[which], s2s[which], admin[which], servers[which], peers[which]
        )
    }
}

pub(crate) struct Relays {
    folder: TempDir,
    plan: Plan,
    running: [Child; 2],
}

impl Relays {
    pub(crate) fn start(plan: &Plan) -> Self {
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
        for (which, name) in NAMES.iter().enumerate() {
            let file = folder.path().join(format!("{name}.toml"));
            std::fs::write(file, plan.configuration(which)).unwrap();
        }
        let running = [0, 1].map(|which| run(folder.path(), plan, which));
        let relays = Self { folder, plan: plan.clone(), running };
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
        self.running[which] = run(self.folder.path(), &self.plan, which);
        self.listens(which);
    }

    /// The metrics of both.
    pub(crate) async fn scrape(&self) -> [Scrape; 2] {
        let [a, b] = self.plan.admin;
        [Scrape::of(a).await, Scrape::of(b).await]
    }

    /// A metric of both together.
    pub(crate) async fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.scrape().await.iter().map(|scrape| scrape.sum(name, labels)).sum()
    }

    /// What both hold of the machine.
    pub(crate) fn hold(&self) -> [Held; 2] {
        self.running.each_ref().map(|process| Held::by(process.id()))
    }

    /// What both said last, and where they stand.
    pub(crate) fn logs(&self) -> String {
        let last = |name: &str| {
            let log = std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap();
            // Of these there are many, and they say little.
            let tell =
                |line: &&str| !line.contains("stanzas could not go on") && !line.contains("peer not reached");
            let lines: Vec<_> = log.lines().filter(tell).rev().take(30).collect();
            format!("--- {name}\n{}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        NAMES.map(last).concat()
    }

    fn listens(&self, which: usize) {
        // The last to listen.
        let admin = self.plan.admin[which];
        for _ in 0..3_000 {
            if TcpStream::connect(admin).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("relay {which} doesn't listen");
    }
}

/// An address for one test alone: whoever goes away lets go of its port, and another test that was given that would be sent what is
/// meant for this one. Where the system has but one address on loopback, that one.
fn own_address() -> Ipv4Addr {
    static TESTS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, high | 1, low, TESTS.fetch_add(1, Ordering::Relaxed).max(1));
    if UdpSocket::bind((own, 0)).is_ok() { own } else { Ipv4Addr::LOCALHOST }
}

const NAMES: [&str; 2] = ["a", "b"];

impl Drop for Relays {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.logs());
        }
        for child in &mut self.running {
            let _gone = (child.kill(), child.wait());
        }
    }
}

fn run(folder: &Path, plan: &Plan, which: usize) -> Child {
    let name = NAMES[which];
    let log =
        std::fs::File::options().create(true).append(true).open(folder.join(format!("{name}.log"))).unwrap();
    let mut words = plan.within[which].iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_fedmux")]);
    Command::new(words.next().unwrap())
        .args(words)
        .args(["run", "--config", &format!("{name}.toml")])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
