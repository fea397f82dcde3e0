//! Master keys that rotate: `[identity] mux_key_file` may name a folder. Its newest key makes new secrets, all of them
//! are taken, so that a secret made just before a rotation is still good after it.
//!
//! A rotation is a new file in the folder, and a reload (SIGHUP); then the old one may go. A relay that runs still takes what
//! it made with the old one for as long as that is good, whatever is reloaded meanwhile; one that was restarted has no
//! open request for it anyway.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::master_key::{MasterKey, MasterKeyError};

/// Name of the first key in a folder that is empty.
const FIRST_KEY: &str = "1.key";
/// Keys that are read from a folder.
pub const KEYS_MAX: usize = 16;

/// Master keys, the newest first; never empty.
#[derive(Debug, Clone)]
pub struct KeyRing(Vec<MasterKey>);

impl KeyRing {
    /// One key for this process alone.
    ///
    /// # Errors
    /// [`MasterKeyError::NoRandom`] if the system gives no random octets.
    pub fn random() -> Result<Self, MasterKeyError> {
        Ok(Self(vec![MasterKey::random()?]))
    }

    /// The key in the file `path`, or all `*.key` files of the folder `path`, newest first by modification time. A file
    /// that isn't there is made, and so is the first key of an empty folder.
    ///
    /// # Errors
    /// [`MasterKeyError`] if one of them can't be read or made, if others may read it, or if it is no key.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        if !path.is_dir() {
            return Ok(Self(vec![MasterKey::load_or_create(path)?]));
        }
        let mut files = key_files(path)?;
        if files.is_empty() {
            return Ok(Self(vec![MasterKey::load_or_create(&path.join(FIRST_KEY))?]));
        }
        files.sort_by(|a, b| b.cmp(a));
        files.truncate(KEYS_MAX);
        files.iter().map(|(_, file)| MasterKey::load_or_create(file)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the folder `path` holds no key yet, so that [`KeyRing::load`] would make its first.
    #[must_use]
    pub fn would_be_made_in(path: &Path) -> bool {
        path.is_dir() && key_files(path).is_ok_and(|files| files.is_empty())
    }

    /// The key for one use of each master key, the newest first; see [`MasterKey::derive`].
    pub fn derive<'a>(
        &'a self,
        label: &'a str,
    ) -> impl Iterator<Item = [u8; super::master_key::KEY_BYTES]> + 'a {
        self.0.iter().map(move |key| key.derive(label))
    }
}

fn key_files(folder: &Path) -> Result<Vec<(SystemTime, PathBuf)>, MasterKeyError> {
    let unreadable = |error| MasterKeyError::Unreadable { file: folder.to_owned(), error };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "key") {
            let modified =
                fs::metadata(&path).and_then(|metadata| metadata.modified()).map_err(unreadable)?;
            files.push((modified, path));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn derived(ring: &KeyRing) -> Vec<[u8; 32]> {
        ring.derive("test").collect()
    }

    #[test]
    fn an_empty_folder_gets_its_first_key_and_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = derived(&KeyRing::load(folder.path()).unwrap());
        assert_eq!(first.len(), 1);
        assert_eq!(derived(&KeyRing::load(folder.path()).unwrap()), first);
    }

    #[test]
    fn a_new_file_is_a_rotation_with_overlap() {
        let folder = tempfile::tempdir().unwrap();
        let old = derived(&KeyRing::load(folder.path()).unwrap());
        let newer = folder.path().join("2.key");
        let new = MasterKey::load_or_create(&newer).unwrap().derive("test");
        let file = fs::File::options().write(true).open(&newer).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(10)).unwrap();
        assert_eq!(derived(&KeyRing::load(folder.path()).unwrap()), [new, old[0]]);
    }

    #[test]
    fn a_file_is_a_ring_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mux.key");
        let ring = derived(&KeyRing::load(&file).unwrap());
        assert_eq!(ring, [MasterKey::load_or_create(&file).unwrap().derive("test")]);
    }
}
