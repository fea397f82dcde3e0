//! Whether others than its owner may read or change a file that holds a secret.
//!
//! A credential of a service manager (systemd's LoadCredential=) is private whatever its mode says: where the manager lets the
//! service read it by an access control list, the mode shows the list's mask in the place of the group's permissions, 0440.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Where the service manager puts the credentials of this process.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// What others than the owner may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Read the file.
    Read,
    /// Anything.
    Any,
}

/// The permission bits of `file`, which was opened as `path`, if others have `access` to it.
pub(super) fn open_to_others(file: &File, path: &Path, access: Access) -> io::Result<Option<u32>> {
    let credentials = std::env::var_os(CREDENTIALS).map(PathBuf::from);
    open_beside(file, path, access, credentials.as_deref())
}

#[cfg(unix)]
fn open_beside(
    file: &File,
    path: &Path,
    access: Access,
    credentials: Option<&Path>,
) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt as _;
    if credentials.is_some_and(|folder| folder.is_absolute() && path.starts_with(folder)) {
        return Ok(None);
    }
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    let bits = match access {
        Access::Read => 0o044,
        Access::Any => 0o077,
    };
    Ok((mode & bits != 0).then_some(mode))
}

/// Elsewhere than on Unix permissions are not told by mode bits.
#[cfg(not(unix))]
fn open_beside(_: &File, _: &Path, _: Access, _: Option<&Path>) -> io::Result<Option<u32>> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_credential_is_private_whatever_its_mode_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mux.key");
        let file = File::create(&path).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o440)).unwrap();
        let open = |access, credentials| open_beside(&file, &path, access, credentials).unwrap();
        assert_eq!(open(Access::Read, None), Some(0o440));
        assert_eq!(open(Access::Any, None), Some(0o440));
        assert_eq!(open(Access::Any, Some(folder.path())), None);
        for elsewhere in ["", "/run/credentials/other.service"] {
            assert_eq!(open(Access::Any, Some(Path::new(elsewhere))), Some(0o440), "{elsewhere:?}");
        }
    }

    #[test]
    fn writing_is_an_access_of_its_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_permissions(fs::Permissions::from_mode(0o620)).unwrap();
        let open = |access| open_beside(file.as_file(), file.path(), access, None).unwrap();
        assert_eq!((open(Access::Read), open(Access::Any)), (None, Some(0o620)));
    }
}
