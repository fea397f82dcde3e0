//! `include = "hosts.d/*.toml"`: files of hosts and peers, one for each customer.
//!
//! The pattern's last part may hold `*` and `?`; files come in the order of their names, and those whose name begins
//! with a dot are left alone, as a shell would do. A folder without matches is fine, a missing folder is a mistake.

use std::path::{Path, PathBuf};

use super::error::shown;
use super::reader::Entry;

/// The files that `entry` names, in order.
pub(super) fn files(entry: &Entry<'_>) -> Vec<PathBuf> {
    let expected = "files, like \"hosts.d/*.toml\"";
    let mut all = Vec::new();
    for entry in entry.strings(expected) {
        let Some(text) = entry.string(expected) else { continue };
        match matching(&entry.source.resolve(text)) {
            Ok(files) => all.extend(files),
            Err((path, problem)) => {
                entry.refuse::<()>(
                    format!("= {text:?} can't be read ({}: {problem})", shown(&path)),
                    format!("create it, or write {expected}; * and ? stand in the last part only"),
                );
            }
        }
    }
    all
}

fn matching(pattern: &Path) -> Result<Vec<PathBuf>, (PathBuf, String)> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = pattern.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !name.contains(['*', '?']) {
        return match pattern.is_file() {
            true => Ok(vec![pattern.to_owned()]),
            false => Err((pattern.to_owned(), "no such file".to_owned())),
        };
    }
    let failed = |error: std::io::Error| (folder.to_owned(), error.to_string());
    let mut files = Vec::new();
    for item in std::fs::read_dir(folder).map_err(failed)? {
        let path = item.map_err(failed)?.path();
        let found = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !found.starts_with('.') && fits(name.as_bytes(), found.as_bytes()) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether `name` fits `pattern`. A star that fails is retried from the next octet, so the time is bounded by the product.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars_and_question_marks_fit_as_in_a_shell() {
        for (pattern, name) in
            [("*.toml", "a.toml"), ("*", "x"), ("a*b*c", "a1b2bc"), ("a?.toml", "a1.toml"), ("**", "")]
        {
            assert!(fits(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.toml", "a.toml~"), ("a?", "a"), ("a*b", "ac"), ("", "a"), ("a*bc", "abcb")]
        {
            assert!(!fits(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }
}
