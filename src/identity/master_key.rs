//! The key under all secrets that we make ourselves: each use takes a subkey of its own from it (HKDF, RFC 5869).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Octets of a master key, and of each key derived from it.
pub const KEY_BYTES: usize = 32;

/// Sets these keys apart from what anybody else may derive from the same octets.
const EXTRACT_SALT: &[u8] = b"fedmux master key";

/// A master key. It can't be printed.
#[derive(Clone)]
pub struct MasterKey([u8; KEY_BYTES]);

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file can't be read.
    #[error("{}: can't be read: {error}; check [identity] mux_key_file and who owns it", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file isn't there and can't be made.
    #[error("{}: can't be made: {error}; make its folder, writable by the relay, or name another in [identity] mux_key_file", file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Others than its owner can read it.
    #[error("{}: can be read by others (mode {mode:04o}); its secrets may be known: remove it and start again, or chmod 600 if you know better", file.display())]
    NotPrivate {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It isn't 32 octets.
    #[error("{}: is not a key of {KEY_BYTES} octets; remove it, and a new one is made", file.display())]
    WrongSize {
        /// The file.
        file: PathBuf,
    },
    /// The system gives no random octets.
    #[error("the system gives no random octets")]
    NoRandom,
}

impl MasterKey {
    /// A key for this process alone.
    ///
    /// # Errors
    /// [`MasterKeyError::NoRandom`] if the system gives no random octets.
    pub fn random() -> Result<Self, MasterKeyError> {
        let mut key = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut key).map_err(|_| MasterKeyError::NoRandom)?;
        Ok(Self(key))
    }

    /// The key in `path`. If there is no such file, it is made, with mode 0600.
    ///
    /// # Errors
    /// [`MasterKeyError`] if it can't be read or made, if others may read it, or if it is no key.
    pub fn load_or_create(path: &Path) -> Result<Self, MasterKeyError> {
        match File::open(path) {
            Ok(file) => Self::read(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::random()?;
                match key.write(path, &draft_beside(path)?) {
                    Ok(()) => Ok(key),
                    // Another process was faster: its key is the one that stays.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        let file = File::open(path).map_err(|error| unreadable(path, error))?;
                        Self::read(file, path)
                    }
                    Err(error) => Err(MasterKeyError::Unwritable { file: path.to_owned(), error }),
                }
            }
            Err(error) => Err(unreadable(path, error)),
        }
    }

    fn read(file: File, path: &Path) -> Result<Self, MasterKeyError> {
        if let Some(mode) = mode_for_others(&file).map_err(|error| unreadable(path, error))? {
            return Err(MasterKeyError::NotPrivate { file: path.to_owned(), mode });
        }
        let mut octets = Vec::with_capacity(KEY_BYTES + 1);
        file.take(KEY_BYTES as u64 + 1).read_to_end(&mut octets).map_err(|error| unreadable(path, error))?;
        let key = octets.try_into().map_err(|_| MasterKeyError::WrongSize { file: path.to_owned() })?;
        Ok(Self(key))
    }

    /// Written beside its place and linked into it: nobody ever sees half a key, and an existing one stays.
    fn write(&self, path: &Path, draft: &Path) -> io::Result<()> {
        let written = write_private(draft, &self.0).and_then(|()| fs::hard_link(draft, path));
        let removed = fs::remove_file(draft);
        written.and(removed)
    }

    /// A key for one use, named by `label`. Different labels give keys that say nothing about each other.
    #[must_use]
    pub fn derive(&self, label: &str) -> [u8; KEY_BYTES] {
        hkdf_sha256(EXTRACT_SALT, &self.0, label.as_bytes())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// A name that nobody else uses, not even one left behind by a crash.
fn draft_beside(path: &Path) -> Result<PathBuf, MasterKeyError> {
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| MasterKeyError::NoRandom)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.new", u64::from_be_bytes(random)));
    Ok(path.with_file_name(name))
}

/// HKDF-SHA256 (RFC 5869 section 2) for a key of one hash length: the first block of the expansion is all of it.
fn hkdf_sha256(salt: &[u8], secret: &[u8], info: &[u8]) -> [u8; KEY_BYTES] {
    let extracted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), secret);
    let mut block = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, extracted.as_ref()));
    block.update(info);
    block.update(&[1]);
    let mut key = [0; KEY_BYTES];
    key.copy_from_slice(block.sign().as_ref());
    key
}

fn unreadable(path: &Path, error: io::Error) -> MasterKeyError {
    MasterKeyError::Unreadable { file: path.to_owned(), error }
}

/// Make `path` with mode 0600 and write `octets` to it. Fails if it exists.
pub(super) fn write_private(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(octets)?;
    file.sync_all()
}

/// The permission bits, if others than the owner have any.
#[cfg(unix)]
fn mode_for_others(file: &File) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

#[cfg(not(unix))]
fn mode_for_others(_: &File) -> io::Result<Option<u32>> {
    Ok(None)
}
