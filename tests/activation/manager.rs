//! A service manager in small: it holds sockets, and starts a relay that finds them at descriptors 3 and up
//! (sd_listen_fds(3)) and tells it how it is (sd_notify(3)).

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixDatagram};

use crate::support::certificates::Authority;
use crate::support::{PATIENCE, soon};

/// What is handed over, with its name.
pub(crate) type Handed = (&'static str, OwnedFd);

/// The secret of the component.
pub(crate) const SECRET: &str = "opensesame";

/// One socket for each listener, all on loopback.
pub(crate) struct Sockets {
    pub(crate) quic: UdpSocket,
    pub(crate) direct_tls: TcpListener,
    pub(crate) starttls: TcpListener,
    pub(crate) s2s: TcpListener,
    pub(crate) components: TcpListener,
    pub(crate) dns_udp: UdpSocket,
    pub(crate) dns_tcp: TcpListener,
    pub(crate) admin: TcpListener,
}

pub(crate) fn tcp() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

pub(crate) fn at(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().unwrap()
}

impl Sockets {
    fn bind() -> Self {
        let dns_tcp = tcp();
        let dns_udp = UdpSocket::bind(at(&dns_tcp)).unwrap();
        let quic = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (direct_tls, starttls, s2s, components, admin) = (tcp(), tcp(), tcp(), tcp(), tcp());
        Self { quic, direct_tls, starttls, s2s, components, dns_udp, dns_tcp, admin }
    }

    /// All of them, in no order that means anything.
    pub(crate) fn all(&self) -> Vec<Handed> {
        let tcp = [
            ("admin.socket", &self.admin),
            ("s2s.socket", &self.s2s),
            ("starttls.socket", &self.starttls),
            ("components.socket", &self.components),
            ("dns.socket", &self.dns_tcp),
            ("direct-tls.socket", &self.direct_tls),
        ];
        let udp = [("dns.socket", &self.dns_udp), ("quic.socket", &self.quic)];
        let udp = udp.into_iter().map(|(name, socket)| (name, OwnedFd::from(socket.try_clone().unwrap())));
        tcp.into_iter()
            .map(|(name, socket)| (name, OwnedFd::from(socket.try_clone().unwrap())))
            .chain(udp)
            .collect()
    }
}

/// The service manager, and a configuration that names its sockets.
pub(crate) struct Manager {
    pub(crate) sockets: Sockets,
    pub(crate) authority: Authority,
    notified: UnixDatagram,
    folder: TempDir,
}

/// A relay that was started. It is killed when this is dropped.
pub(crate) struct Process(Child);

impl Manager {
    /// Nothing is started yet.
    pub(crate) fn new() -> Self {
        let (sockets, authority) = (Sockets::bind(), Authority::new());
        let folder = tempfile::tempdir().unwrap();
        let notified = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        fs::create_dir(folder.path().join("certs")).unwrap();
        authority.certify(&["a.test", "irc.a.test"]).write_into(&folder.path().join("certs"), "hosts");
        fs::write(folder.path().join("irc.secret"), SECRET).unwrap();
        let manager = Self { sockets, authority, notified, folder };
        manager.configure(at(&manager.sockets.s2s));
        manager
    }

    /// Write the configuration; its `[local] s2s` is there.
    pub(crate) fn configure(&self, s2s: SocketAddr) {
        let Sockets { quic, direct_tls, starttls, components, dns_tcp, admin, .. } = &self.sockets;
        let text = format!(
            "[identity]\ncertificates = \"certs\"\nmux_key_file = \"mux.key\"\ntrust = \"{}\"\n\
             [remote]\nquic = \"{}\"\ndirect_tls = \"{}\"\nstarttls = \"{}\"\n\
             [local]\ns2s = \"{s2s}\"\ncomponents = \"{}\"\ndns = \"{}\"\n\
             [admin]\nlisten = \"{}\"\n\
             [dns]\nservers = \"127.0.0.1:9\"\n\
             [limits]\ndrain = \"{}s\"\n\
             [[host]]\ndomain = \"a.test\"\ndeliver = \"127.0.0.1:9\"\nlocal_auth = \"trusted\"\ntrusted_loopback = true\n\
             [[component]]\ndomain = \"irc.a.test\"\nsecret_file = \"irc.secret\"\n",
            self.authority.file().display(),
            quic.local_addr().unwrap(),
            at(direct_tls),
            at(starttls),
            at(components),
            at(dns_tcp),
            at(admin),
            PATIENCE.as_secs(),
        );
        fs::write(self.configuration(), text).unwrap();
    }

    /// The host's server is there.
    pub(crate) fn deliver_to(&self, server: SocketAddr) {
        let text = fs::read_to_string(self.configuration()).unwrap();
        let told = text.replace("deliver = \"127.0.0.1:9\"", &format!("deliver = \"{server}\""));
        fs::write(self.configuration(), told).unwrap();
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.folder.path().join("fedmux.toml")
    }

    /// Start a relay with every socket. Returns when it says that it takes stanzas.
    pub(crate) async fn start(&self) -> Process {
        let process = self.start_with(self.sockets.all());
        self.told("READY=1").await;
        process
    }

    /// Start a relay with these sockets, for better or worse.
    pub(crate) fn start_with(&self, handed: Vec<Handed>) -> Process {
        // The number of a process is known to itself alone before it runs.
        self.spawn("LISTEN_PID=$$ exec \"$0\" \"$@\"", handed)
    }

    /// `script` begins the relay, `"$0" "$@"`.
    pub(crate) fn spawn(&self, script: &str, handed: Vec<Handed>) -> Process {
        let (names, sockets): (Vec<_>, Vec<_>) = handed.into_iter().unzip();
        let count = sockets.len();
        let mappings = (3..).zip(sockets).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", script, env!("CARGO_BIN_EXE_fedmux"), "run", "--config"])
            .arg(self.configuration())
            .env("LISTEN_FDS", count.to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("NOTIFY_SOCKET", self.folder.path().join("notify"))
            .env_remove("FEDMUX_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .fd_mappings(mappings.collect())
            .unwrap();
        Process(command.spawn().unwrap())
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("relay.log")
    }

    /// What all relays so far have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap()
    }

    /// Whether no relay has told anything that wasn't asked for.
    pub(crate) fn told_nothing(&self) -> bool {
        self.notified.try_recv(&mut [0; 1]).is_err()
    }

    /// The next thing that the relay tells, which must say so.
    pub(crate) async fn told(&self, expected: &str) -> String {
        let mut text = [0; 4096];
        let received = soon(expected, self.notified.recv(&mut text)).await.unwrap();
        let text = String::from_utf8(text[..received].to_vec()).unwrap();
        assert!(text.lines().any(|line| line == expected), "{text:?} instead of {expected}\n{}", self.log());
        text
    }
}

impl Process {
    pub(crate) fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status().unwrap();
        assert!(sent.success(), "no process {id}");
    }

    /// `kill -9`. Returns when it is gone.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// How it ended.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let end = async {
            loop {
                match self.0.try_wait().unwrap() {
                    Some(status) => return status,
                    None => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        };
        soon("the relay to end", end).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// What is answered to a request for `path`.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    soon(path, ask(stream, path)).await
}

/// The same on a connection that there is.
pub(crate) async fn ask(mut stream: TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
