//! How commands ask a running relay: by its admin socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;

use super::ConfigArgument;
use super::failure::Failure;
use crate::admin::socket::{Answer, Question};
use crate::config;

/// Where a relay's socket is, if nothing says otherwise: where its unit puts it.
const DEFAULT_SOCKET: &str = "/run/fedmux/admin.sock";
/// How long an answer may take: longer than the relay takes for any.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which relay is asked.
#[derive(Debug, Args)]
pub(super) struct Asking {
    #[command(flatten)]
    config: ConfigArgument,

    /// The relay's admin socket; left out, the configuration's [admin] socket, or else /run/fedmux/admin.sock.
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
}

impl Asking {
    /// The answer to `question`.
    pub(super) fn ask<T: DeserializeOwned>(&self, question: &Question) -> Result<T, Failure> {
        let path = self.path()?;
        let at = path.display();
        let answer = exchange(&path, question).map_err(|error| {
            let advice = match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "ask as the relay's user, or as a member of the group of this file"
                }
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                    "no relay runs with this socket; start it, or name another with --socket FILE"
                }
                _ => "the relay didn't answer; see its log",
            };
            Failure::failed(error, &at, advice)
        })?;
        let strange = |error| {
            Failure::failed(
                error,
                &at,
                "the answer makes no sense; are the relay and this command of one version?",
            )
        };
        match serde_json::from_slice(&answer).map_err(strange)? {
            Answer::Answer(answer) => Ok(answer),
            Answer::Error(error) => Err(Failure::failed_as(error)),
        }
    }

    /// The relay may well run with another configuration than the one that stands there now, which may be wrong.
    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(path) = &self.socket {
            return Ok(path.clone());
        }
        let default = Path::new(DEFAULT_SOCKET);
        match config::load(&self.config.config) {
            Ok(settings) => settings.admin_socket.or_else(|| default.exists().then(|| default.to_owned())).ok_or_else(|| {
                let advice = "add it there, like socket = \"/run/fedmux/admin.sock\", or name one with --socket FILE";
                Failure::usage("[admin] socket is not set", self.config.config.display(), advice)
            }),
            Err(_) if default.exists() => Ok(default.to_owned()),
            Err(errors) => Err(errors.into()),
        }
    }
}

fn exchange(path: &Path, question: &Question) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
