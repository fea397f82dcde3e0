//! The key under all secrets that we make ourselves: each use takes a subkey of its own from it (HKDF, RFC 5869).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::private_file::{Access, open_to_others};

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
        if let Some(mode) =
            open_to_others(&file, path, Access::Any).map_err(|error| unreadable(path, error))?
        {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// RFC 5869 appendix A.1, its first 32 octets.
    #[test]
    fn derivation_is_hkdf_sha256() {
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let expected = [
            0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f, 0x64, 0xd0, 0x36, 0x2f, 0x2a,
            0x2d, 0x2d, 0x0a, 0x90, 0xcf, 0x1a, 0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56, 0xec, 0xc4, 0xc5, 0xbf,
        ];
        assert_eq!(hkdf_sha256(&salt, &[0x0b; 22], &info), expected);
    }

    #[test]
    fn a_key_is_made_once_private_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mux.key");
        let made = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        let found = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(made.derive("dialback"), found.derive("dialback"));
        assert_ne!(made.derive("dialback"), made.derive("mux"));
        assert_ne!(made.derive("dialback"), MasterKey::random().unwrap().derive("dialback"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn two_who_start_at_once_agree_on_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mux.key");
        let start = std::sync::Barrier::new(8);
        let keys: Vec<_> = std::thread::scope(|scope| {
            let run = || {
                start.wait();
                MasterKey::load_or_create(&path).unwrap().derive("x")
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_key_that_others_may_read_or_of_another_size_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mux.key");
        MasterKey::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let told = MasterKey::load_or_create(&path).unwrap_err().to_string();
            assert!(told.contains(&format!("mode {mode:04o}")) && told.contains("remove it"), "{told}");
        }
        for octets in [&[][..], &[7; 31], &[7; 33]] {
            fs::remove_file(&path).unwrap();
            write_private(&path, octets).unwrap();
            assert!(matches!(MasterKey::load_or_create(&path), Err(MasterKeyError::WrongSize { .. })));
        }
        let nowhere = folder.path().join("none/mux.key");
        assert!(matches!(MasterKey::load_or_create(&nowhere), Err(MasterKeyError::Unwritable { .. })));
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", MasterKey([7; KEY_BYTES])), "MasterKey(..)");
    }
}
