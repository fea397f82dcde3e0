//! Two relays as processes, with the sending server before the first and the counting one behind the second.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fedmux::demo::path::Path as Between;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::Failed;
use crate::message::{host, hosts};

/// Them, until this is dropped.
pub(crate) struct Relays {
    _folder: TempDir,
    running: [Child; 2],
    /// Where each takes the streams of its server.
    pub(crate) entrances: [SocketAddr; 2],
    /// What joins them, where it isn't loopback alone.
    pub(crate) path: Option<Between>,
}

/// How two relays are joined: as it is by default, on loopback, with a stream for each pair.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    /// Of a path between them; `None`: there is none.
    pub(crate) round_trip: Option<Duration>,
    /// What decides which datagrams that path loses.
    pub(crate) seed: u64,
    /// One QUIC stream for all pairs.
    pub(crate) one_stream: bool,
}

/// The domains behind each.
pub(crate) fn names(pairs: usize) -> [Vec<String>; 2] {
    ['a', 'b'].map(|side| (0..hosts(pairs)).map(|at| host(side, at)).collect())
}

/// Make a certificate for the domains of each side, and their authority: `certs` in this folder.
pub(crate) async fn certificates(
    binary: &Path,
    names: &[Vec<String>; 2],
    folder: &Path,
) -> Result<(), Failed> {
    // It is run in another folder than where its path was given.
    let binary = std::fs::canonicalize(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
    for names in names {
        let made = Command::new(&binary)
            .args(["certs", "dev", "--out", "certs"])
            .args(names)
            .current_dir(folder)
            .output()
            .await?;
        if !made.status.success() {
            return Err(format!("no certificates: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
    }
    Ok(())
}

/// Two addresses for TCP and two for UDP that were free a moment ago.
pub(crate) fn free() -> Result<[[SocketAddr; 2]; 2], Failed> {
    let tcp = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let udp = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    Ok([[tcp[0].local_addr()?, tcp[1].local_addr()?], [udp[0].local_addr()?, udp[1].local_addr()?]])
}

/// Lanes that a peer may have, by default.
const LANES: usize = 10_000;
/// Directions of pairs that a relay remembers, by default.
const PAIRS: usize = 200_000;
/// How long they may take to listen.
const START_POLLS: u32 = 2_000;
const POLL: Duration = Duration::from_millis(10);

impl Relays {
    /// Start two of `binary`; the second delivers to `sink`.
    pub(crate) async fn start(
        binary: &Path,
        pairs: usize,
        sink: SocketAddr,
        link: Link,
    ) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let names = names(pairs);
        certificates(binary, &names, folder.path()).await?;
        let [local, quic] = free()?;
        let path = link.round_trip.map(|both| Between::open(quic[1], both / 2, link.seed)).transpose()?;
        // A peer is who comes from its configured address: for the second that is the far end of the path.
        let peers = match &path {
            Some(path) => [path.address(), path.far_address()],
            None => [quic[1], quic[0]],
        };
        let plan = Plan { names, quic, local, peers, sink, one_stream: link.one_stream };
        let mut running = Vec::new();
        for which in 0..2 {
            let text = plan.configuration(which)?;
            let file = folder.path().join(format!("{which}.toml"));
            std::fs::write(&file, text)?;
            let log = std::fs::File::create(folder.path().join(format!("{which}.log")))?;
            running.push(
                Command::new(binary)
                    .arg("run")
                    .arg("--config")
                    .arg(file)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(log)
                    .kill_on_drop(true)
                    .spawn()?,
            );
        }
        let running = running.try_into().map_err(|_| "two relays")?;
        let relays = Self { path, ..Self::these(folder, running, local) };
        for address in local {
            listens(address).await?;
        }
        Ok(relays)
    }

    /// Two that were started.
    pub(crate) fn these(folder: TempDir, running: [Child; 2], entrances: [SocketAddr; 2]) -> Self {
        Self { _folder: folder, running, entrances, path: None }
    }

    pub(crate) fn ids(&self) -> Result<[u32; 2], Failed> {
        let [a, b] = &self.running;
        let id = |child: &Child| child.id().ok_or("a relay has ended");
        Ok([id(a)?, id(b)?])
    }
}

/// Wait until somebody takes connections there.
pub(crate) async fn listens(address: SocketAddr) -> Result<(), Failed> {
    for _ in 0..START_POLLS {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(format!("nobody listens at {address}").into())
}

/// Who is where.
struct Plan {
    names: [Vec<String>; 2],
    quic: [SocketAddr; 2],
    local: [SocketAddr; 2],
    /// Where each finds the other.
    peers: [SocketAddr; 2],
    sink: SocketAddr,
    one_stream: bool,
}

impl Plan {
    fn configuration(&self, which: usize) -> Result<String, Failed> {
        let Self { names, quic, local, peers, sink, one_stream } = self;
        let (ours, theirs) = (&names[which], &names[1 - which]);
        let mut text = String::new();
        writeln!(text, "[identity]\ncertificates = \"certs/live/{}\"\ntrust = \"certs/ca.pem\"", ours[0])?;
        writeln!(text, "[remote]\nquic = \"{}\"\n[local]\ns2s = \"{}\"", quic[which], local[which])?;
        // As many as there are by default, unless more are needed: room for each costs either end time when a session comes up.
        let pairs = names[0].len() * names[1].len();
        writeln!(text, "[limits]\nlanes = {}", (2 * pairs).max(LANES))?;
        // One peer begins them all, and may take no more than it leaves.
        writeln!(text, "pairs = {}", (4 * pairs).max(PAIRS))?;
        writeln!(text, "[[host]]\ndomains = {ours:?}\ndeliver = \"{sink}\"\nlocal_auth = \"trusted\"")?;
        writeln!(text, "trusted_loopback = true")?;
        writeln!(text, "[[peer]]\ndomains = {theirs:?}\naddress = \"{}\"", peers[which])?;
        if *one_stream {
            writeln!(text, "placement = \"one-stream\"")?;
        }
        Ok(text)
    }
}
