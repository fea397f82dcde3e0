//! Two relays as processes, with the sending server before the first and the counting one behind the second.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

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
}

/// How long they may take to listen.
const START_POLLS: u32 = 2_000;
const POLL: Duration = Duration::from_millis(10);

impl Relays {
    /// Start two of `binary`; the second delivers to `sink`.
    pub(crate) async fn start(binary: &Path, pairs: usize, sink: SocketAddr) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let names = ['a', 'b'].map(|side| (0..hosts(pairs)).map(|at| host(side, at)).collect::<Vec<_>>());
        for names in &names {
            let made = Command::new(binary)
                .args(["certs", "dev", "--out", "certs"])
                .args(names)
                .current_dir(folder.path())
                .output()
                .await?;
            if !made.status.success() {
                return Err(format!("no certificates: {}", String::from_utf8_lossy(&made.stderr)).into());
            }
        }
        // Free a moment ago.
        let udp = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
        let tcp = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let quic = [udp[0].local_addr()?, udp[1].local_addr()?];
        let local = [tcp[0].local_addr()?, tcp[1].local_addr()?];
        drop((udp, tcp));
        let mut running = Vec::new();
        for which in 0..2 {
            let text = configuration(which, &names, quic, local, sink)?;
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
        let relays = Self { _folder: folder, running, entrances: local };
        for address in local {
            relays.listens(address).await?;
        }
        Ok(relays)
    }

    pub(crate) fn ids(&self) -> Result<[u32; 2], Failed> {
        let [a, b] = &self.running;
        let id = |child: &Child| child.id().ok_or("a relay has ended");
        Ok([id(a)?, id(b)?])
    }

    async fn listens(&self, address: SocketAddr) -> Result<(), Failed> {
        for _ in 0..START_POLLS {
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        Err(format!("no relay listens at {address}").into())
    }
}

fn configuration(
    which: usize,
    names: &[Vec<String>; 2],
    quic: [SocketAddr; 2],
    local: [SocketAddr; 2],
    sink: SocketAddr,
) -> Result<String, Failed> {
    let (ours, theirs) = (&names[which], &names[1 - which]);
    let mut text = String::new();
    writeln!(text, "[identity]\ncertificates = \"certs/live/{}\"\ntrust = \"certs/ca.pem\"", ours[0])?;
    writeln!(text, "[remote]\nquic = \"{}\"\n[local]\ns2s = \"{}\"", quic[which], local[which])?;
    writeln!(text, "[limits]\nlanes = 200000")?;
    writeln!(text, "[[host]]\ndomains = {ours:?}\ndeliver = \"{sink}\"\nlocal_auth = \"trusted\"")?;
    writeln!(
        text,
        "trusted_loopback = true\n[[peer]]\ndomains = {theirs:?}\naddress = \"{}\"",
        quic[1 - which]
    )?;
    Ok(text)
}
