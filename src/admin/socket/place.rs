//! The file of the admin socket: made with the mode that it is to have, put in the place of one that nobody serves any more, and
//! taken away at the end.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Its owner and its group may ask.
const MODE: u32 = 0o660;

/// Why there is no admin socket.
#[derive(Debug, thiserror::Error)]
#[error("admin.socket: {}: {problem}", path.display())]
pub struct PlaceError {
    path: PathBuf,
    problem: String,
}

impl PlaceError {
    /// The same without the path.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

/// A socket on which nobody is served yet. Its file goes with it.
#[derive(Debug)]
pub struct Place {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, so that another relay's is left alone.
    file: (u64, u64),
}

impl Place {
    /// Listen at `path`. Needs a runtime.
    ///
    /// A file is only replaced if it is a socket on which nobody listens: what a relay that was killed has left. The new one takes its
    /// place in one step, and has its mode before anybody can reach it.
    ///
    /// # Errors
    /// [`PlaceError`] if the path is taken or the folder can't be written to.
    pub fn take(path: &Path) -> Result<Self, PlaceError> {
        let failed = |problem: String| PlaceError { path: path.to_owned(), problem };
        if is_served(path).map_err(failed)? {
            return Err(failed(
                "another relay answers there; stop it, or give each its own socket".to_owned(),
            ));
        }
        let before = before(path);
        let made = make(&before).and_then(|listener| {
            fs::rename(&before, path)?;
            let file = identity(path)?;
            listener.set_nonblocking(true)?;
            Ok(Self { listener: UnixListener::from_std(listener)?, path: path.to_owned(), file })
        });
        made.map_err(|error| {
            let _gone = fs::remove_file(&before);
            failed(not_made(&error))
        })
    }

    /// Whether somebody listens at `path` already; if nobody does it could be taken. What is there stays as it is: a socket is made beside
    /// it, and taken away.
    ///
    /// # Errors
    /// As [`Place::take`], but for a relay that answers there.
    pub fn probe(path: &Path) -> Result<bool, PlaceError> {
        let failed = |problem: String| PlaceError { path: path.to_owned(), problem };
        if is_served(path).map_err(failed)? {
            return Ok(true);
        }
        let before = before(path);
        let made = make(&before);
        let _gone = fs::remove_file(&before);
        made.map_err(|error| failed(not_made(&error)))?;
        Ok(false)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Place {
    /// Take the file away, if it is still ours: nobody finds us any more.
    pub fn leave(&self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The name that it has until it takes its place.
fn before(path: &Path) -> PathBuf {
    let mut before = path.as_os_str().to_owned();
    before.push(format!(".{}", std::process::id()));
    PathBuf::from(before)
}

fn not_made(error: &io::Error) -> String {
    format!("can't be made ({error}); its folder must be there, and writable for the relay")
}

/// A listening socket that only we can reach until it has its mode.
fn make(path: &Path) -> io::Result<StdListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    Ok(listener)
}

/// Whether somebody listens at `path`.
///
/// # Errors
/// If what is there is no socket of ours to replace.
fn is_served(path: &Path) -> Result<bool, String> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("can't be looked at ({error})")),
        Ok(there) => there,
    };
    if !there.file_type().is_socket() {
        return Err("is there already and is no socket; remove it, or name another path".to_owned());
    }
    match StdStream::connect(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(false),
        // It may be served, and its queue be full; or be somebody else's.
        Err(error) => Err(format!("is a socket that can't be asked whether it is in use ({error})")),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}
