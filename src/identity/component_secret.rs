//! The secret of a component (XEP-0114), which the operator gives to both ends: the first line of a file.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::private_file::{Access, open_to_others};
use crate::proto::component::Secret;

/// Longest line that is read, in octets.
const LINE_BYTES_MAX: u64 = 4096;

/// A secret that was read.
#[derive(Debug)]
pub struct Loaded {
    /// The secret.
    pub secret: Secret,
    /// The permission bits of its file, if others than the owner may read it.
    pub readable_by_others: Option<u32>,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum ComponentSecretError {
    /// The file can't be read.
    #[error("{}: can't be read: {error}; check secret_file of its [[component]], and who owns it", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Its first line is empty.
    #[error("{}: holds no secret in its first line; write the one that the component has", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// Its first line is too long to be one.
    #[error("{}: its first line is longer than {LINE_BYTES_MAX} octets; name a file with the secret alone", file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
    },
}

/// The secret in the file at `path`: its first line, without white space around it.
///
/// # Errors
/// [`ComponentSecretError`] if it can't be read, or holds none.
pub fn load(path: &Path) -> Result<Loaded, ComponentSecretError> {
    let unreadable = |error| ComponentSecretError::Unreadable { file: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    let readable_by_others = open_to_others(&file, path, Access::Read).map_err(unreadable)?;
    let mut line = String::new();
    BufReader::new(file.take(LINE_BYTES_MAX + 1)).read_line(&mut line).map_err(unreadable)?;
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(ComponentSecretError::TooLong { file: path.to_owned() });
    }
    let secret = Secret::new(line.trim()).ok_or(ComponentSecretError::Empty { file: path.to_owned() })?;
    Ok(Loaded { secret, readable_by_others })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(content: &[u8], mode: u32) -> Result<Loaded, ComponentSecretError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("irc.secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        load(&path)
    }

    #[test]
    fn the_secret_is_the_first_line_without_white_space_around_it() {
        for content in ["s3cret", "s3cret\n", " s3cret \r\nfor the gateway\n"] {
            let loaded = read(content.as_bytes(), 0o600).unwrap();
            assert_eq!(loaded.secret, Secret::new("s3cret").unwrap());
            assert_eq!(loaded.readable_by_others, None);
        }
    }

    #[test]
    fn a_file_without_a_secret_is_refused_by_name() {
        for content in ["", "\n", "  \ns3cret\n"] {
            let error = read(content.as_bytes(), 0o600).unwrap_err();
            assert!(matches!(error, ComponentSecretError::Empty { .. }), "{error}");
            assert!(error.to_string().contains("irc.secret"), "{error}");
        }
        assert!(matches!(read(&[b'x'; 5000], 0o600), Err(ComponentSecretError::TooLong { .. })));
        assert!(matches!(read(b"\xff\xfe\n", 0o600), Err(ComponentSecretError::Unreadable { .. })));
        assert!(matches!(load(Path::new("/nowhere/x")), Err(ComponentSecretError::Unreadable { .. })));
    }

    #[test]
    fn it_is_told_that_others_may_read_it() {
        assert_eq!(read(b"s", 0o640).unwrap().readable_by_others, Some(0o640));
        assert_eq!(read(b"s", 0o604).unwrap().readable_by_others, Some(0o604));
        assert_eq!(read(b"s", 0o400).unwrap().readable_by_others, None);
    }
}
