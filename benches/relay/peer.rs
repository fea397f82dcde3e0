//! Another pair of proxies between the same source and sink, started by commands of whoever measures them.

use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::Failed;
use crate::relays::{Relays, certificates, free, listens, names};

/// How to start it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Peer {
    /// Measure another pair of proxies beside: the command of the one that
    /// delivers to the sink.
    ///
    /// Both commands are run by `sh`, each in a folder of its own, and become the
    /// proxy: a script ends with `exec PROXY`. What stands for something else:
    ///
    ///   {out}     where the outgoing proxy takes the source's streams (TCP)
    ///   {in}      where the incoming one listens (TCP); it is waited for
    ///   {in-udp}  the same for UDP; nobody waits for it
    ///   {sink}    where the incoming one delivers
    ///   {certs}   ca.pem; live/a0.test/fullchain.pem and privkey.pem, for all
    ///             domains of the source; the same in live/b0.test for the sink
    ///
    /// The domains are a0.test, a1.test ... and b0.test, b1.test ..., and each
    /// speaks to each: 20 pairs are of 5 and 5. Where the outgoing proxy finds
    /// the incoming one by SRV records, /etc/resolv.conf has to name a server
    /// that answers with the port on which yours listens.
    ///
    ///   cargo bench --bench relay -- saturated \
    ///     --peer-in 'exec other-proxy -l {in} -t {sink} -c {certs}/live/b0.test' \
    ///     --peer-out 'exec other-proxy -l {out} -t {in} -c {certs}/live/a0.test'
    #[arg(long, value_name = "CMD", requires = "peer_out", verbatim_doc_comment)]
    peer_in: Option<String>,
    /// The command of the one that takes the streams of the source; see --peer-in.
    #[arg(long, value_name = "CMD", requires = "peer_in")]
    peer_out: Option<String>,
}

impl Peer {
    /// Start both, if there are commands; the incoming one first.
    pub(crate) async fn start(
        &self,
        binary: &Path,
        pairs: usize,
        sink: std::net::SocketAddr,
    ) -> Result<Option<Relays>, Failed> {
        let (Some(incoming), Some(outgoing)) = (&self.peer_in, &self.peer_out) else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        certificates(binary, &names(pairs), folder.path()).await?;
        let [entrances, [udp, _]] = free()?;
        let fill = |command: &str| {
            command
                .replace("{out}", &entrances[0].to_string())
                .replace("{in}", &entrances[1].to_string())
                .replace("{in-udp}", &udp.to_string())
                .replace("{sink}", &sink.to_string())
                .replace("{certs}", &folder.path().join("certs").to_string_lossy())
        };
        let receiving = spawn(&fill(incoming), &folder.path().join("in"))?;
        if incoming.contains("{in}") {
            listens(entrances[1]).await?;
        }
        let sending = spawn(&fill(outgoing), &folder.path().join("out"))?;
        listens(entrances[0]).await?;
        Ok(Some(Relays::these(folder, [sending, receiving], entrances)))
    }
}

/// What it says is for whoever wrote the command, and goes to standard error.
fn spawn(command: &str, folder: &Path) -> Result<Child, Failed> {
    std::fs::create_dir(folder)?;
    let started = Command::new("sh")
        .args(["-c", command])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    Ok(started)
}
