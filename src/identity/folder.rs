//! The files of a certificates folder.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::problem::{Problem, ProblemKind};

/// How deep below the folder files are looked for: `live/DOMAIN/` of certbot.
const DEPTH_MAX: usize = 2;

/// Extensions of what may be PEM. Everything else in the folder is somebody's notes.
const EXTENSIONS: [&str; 4] = ["pem", "crt", "cer", "key"];

/// All files that may be PEM, in the order of their names; a folder below that can't be read becomes a problem.
pub(super) fn pem_files(folder: &Path, problems: &mut Vec<Problem>) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let folders = list(folder, &mut files)?;
    descend(folders, 1, &mut files, problems);
    files.sort();
    Ok(files)
}

fn descend(folders: Vec<PathBuf>, depth: usize, files: &mut Vec<PathBuf>, problems: &mut Vec<Problem>) {
    for folder in folders {
        match list(&folder, files) {
            Ok(deeper) if depth < DEPTH_MAX => descend(deeper, depth + 1, files, problems),
            Ok(_) => {}
            Err(error) => {
                problems.push(Problem { file: folder, kind: ProblemKind::Unreadable(error.to_string()) });
            }
        }
    }
}

/// Add the PEM files of `folder` to `files`, and return the folders to look into next.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        // certbot's files are symbolic links, so these questions follow them.
        if path.is_dir() {
            folders.push(path);
        } else if path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
        {
            files.push(path);
        }
    }
    // Beside certbot's `live` stand `archive`, `csr`, `keys` and others: old certificates and keys.
    if let Some(live) = folders.iter().position(|path| path.ends_with("live")) {
        folders = vec![folders.swap_remove(live)];
    }
    Ok(folders)
}

/// What shows that a folder has changed: its files with their lengths and times. A file that can't be looked at has none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FolderState(Vec<(PathBuf, Option<(u64, SystemTime)>)>);

impl FolderState {
    /// As it is now. Nothing is read but the folders.
    ///
    /// # Errors
    /// What the system says if `folder` itself can't be read.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let files = pem_files(folder, &mut Vec::new())?;
        let look = |file: PathBuf| {
            let seen = fs::metadata(&file).and_then(|data| Ok((data.len(), data.modified()?))).ok();
            (file, seen)
        };
        Ok(Self(files.into_iter().map(look).collect()))
    }
}

/// Read a file of at most `bytes_max` octets.
pub(super) fn read_bounded(file: &Path, bytes_max: u64) -> Result<Vec<u8>, ProblemKind> {
    let mut text = Vec::new();
    File::open(file)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut text))
        .map_err(|error| ProblemKind::Unreadable(error.to_string()))?;
    if text.len() as u64 > bytes_max {
        return Err(ProblemKind::TooLarge);
    }
    Ok(text)
}

/// Whether every user of this machine may read the file.
#[cfg(unix)]
pub(super) fn is_world_readable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

/// Elsewhere than on Unix permissions are not told by mode bits.
#[cfg(not(unix))]
pub(super) fn is_world_readable(_: &Path) -> bool {
    false
}
