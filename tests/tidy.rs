//! The rules of the house as tests, each with its reason in the failure message.
//!
//! They read the source as text: what the compiler and clippy can say is left to them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 500;

/// The floor of each module at the top of the crate. `lib.rs` and `main.rs` hold no code of their own.
const FLOORS: &[(&str, u8)] = &[
    ("xmpp", 0),
    ("reason", 0),
    ("proto", 1),
    ("transport", 2),
    ("identity", 2),
    ("dns", 2),
    ("https", 2),
    ("metrics", 2),
    ("relay", 3),
    ("admin", 4),
    ("cli", 4),
    ("config", 4),
    ("demo", 4),
];

/// Who may import a neighbour on its own floor: the words know each other, and the commands use the rest of the face.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("xmpp", "reason"),
    ("reason", "xmpp"),
    ("cli", "admin"),
    ("cli", "config"),
    ("cli", "demo"),
    ("demo", "admin"),
    ("demo", "config"),
];

/// What the machines must not know.
const IMPURE: &[&str] = &[
    "tokio::",
    "quinn::",
    "rustls::",
    "std::net",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "Instant::now",
    "SystemTime::now",
    "SystemRandom",
    "rand::",
    "getrandom",
];

struct Source {
    /// Relative to the root of the crate.
    path: String,
    text: String,
}

impl Source {
    /// Each line with its number, from 1, and without its comment.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        self.text.lines().enumerate().map(|(number, line)| (number + 1, without_comment(line)))
    }

    /// The same, up to the module of tests at the end of the file.
    fn shipped(&self) -> impl Iterator<Item = (usize, String)> {
        let is_test = self.path.contains("tests");
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{'));
        let end = if is_test { 0 } else { tests.unwrap_or(lines.len()) };
        self.code().take(end)
    }

    /// The modules that lead to this file, from the top of the crate: `["cli", "check"]` for `src/cli/check/mod.rs`.
    fn modules(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/').filter(|name| *name != "mod").collect()
    }

    /// The modules at the top of the crate that this file names, with the line.
    fn imports(&self) -> Vec<(usize, String)> {
        let code: Vec<(usize, String)> = self.code().collect();
        let mut found = Vec::new();
        for (index, (number, line)) in code.iter().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                // A group may go on over the following lines.
                let rest: String = std::iter::once(&line[at + "crate::".len()..])
                    .chain(code[index + 1..].iter().map(|(_, line)| line.as_str()))
                    .take(40)
                    .collect();
                found.extend(top_names(&rest).into_iter().map(|name| (*number, name)));
            }
            found.extend(self.climbs(line).into_iter().map(|name| (*number, name)));
        }
        found
    }

    /// Names behind chains of `super::` that are long enough to reach the top of the crate.
    fn climbs(&self, line: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut rest = line;
        while let Some(at) = rest.find("super::") {
            rest = &rest[at..];
            let mut supers = 0;
            while let Some(behind) = rest.strip_prefix("super::") {
                supers += 1;
                rest = behind;
            }
            let name = identifier(rest);
            if supers >= self.modules().len() && floor(&name).is_some() {
                names.push(name);
            }
        }
        names
    }
}

/// The identifiers that stand directly behind `crate::`, one or a group.
fn top_names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else { return vec![identifier(rest)] };
    let mut names = Vec::new();
    let mut depth = 1;
    let mut item = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (c == ',' && depth == 1) {
            names.push(identifier(item.trim()));
            item.clear();
        } else {
            item.push(c);
        }
        if depth == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The line up to `//`, unless that stands inside a string.
fn without_comment(line: &str) -> String {
    let bytes = line.as_bytes();
    let mut in_string = false;
    for (index, byte) in bytes.iter().enumerate() {
        let escaped = index > 0 && bytes[index - 1] == b'\\';
        let is_char = index > 0 && bytes[index - 1] == b'\'' && bytes.get(index + 1) == Some(&b'\'');
        match byte {
            b'"' if !escaped && !is_char => in_string = !in_string,
            b'/' if !in_string && bytes.get(index + 1) == Some(&b'/') => return line[..index].to_owned(),
            _ => {}
        }
    }
    line.to_owned()
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// All Rust files below these folders of the crate; a folder that isn't there has none.
fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<PathBuf> =
        folders.iter().map(|folder| root.join(folder)).filter(|p| p.exists()).collect();
    let mut sources = Vec::new();
    while let Some(folder) = waiting.pop() {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                waiting.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn everything() -> Vec<Source> {
    sources(&["src", "tests", "benches", "fuzz"])
}

/// Fail with all violations and the reason of the rule.
fn hold(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}\n\n{}\n", violations.join("\n"));
}

#[test]
fn a_floor_imports_only_lower_floors() {
    let mut violations = Vec::new();
    for source in sources(&["src"]) {
        let module = source.modules()[0].to_owned();
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some(own) = floor(&module) else {
            violations.push(format!(
                "{}: module {module} has no floor; add it to FLOORS in tests/tidy.rs",
                source.path
            ));
            continue;
        };
        for (line, import) in source.imports() {
            let is_neighbour = NEIGHBOURS.contains(&(module.as_str(), import.as_str()));
            let allowed = import == module || is_neighbour || floor(&import).is_none_or(|other| other < own);
            if !allowed {
                violations.push(format!("{}:{line}: {module} (floor {own}) imports {import}", source.path));
            }
        }
    }
    hold(
        "A floor imports only lower floors, and adapters never each other: words, machines, adapters, shell, face.\n\
         So the machines can be tested without a network, and an adapter be replaced without the others. Move the type\n\
         that both need to a lower floor, or let the floor above connect the two.",
        &violations,
    );
}

#[test]
fn the_machines_know_no_socket_no_clock_and_no_randomness() {
    let mut violations = Vec::new();
    for source in sources(&["src/proto", "src/xmpp"]) {
        for (number, line) in source.shipped() {
            // An address is a value; a socket is not.
            let line = line.replace("std::net::IpAddr", "").replace("std::net::SocketAddr", "");
            let group = line.contains("std::{")
                && ["net", "fs", "env", "thread", "process"].iter().any(|m| line.contains(m));
            let found =
                IMPURE.iter().find(|word| line.contains(**word)).copied().or(group.then_some("std::{"));
            violations.extend(found.map(|word| format!("{}:{number}: {word}", source.path)));
        }
    }
    hold(
        "Floors 0 and 1 know no socket, file, clock or randomness: time and random octets are passed in, so that a test\n\
         drives two machines in virtual time and one seed replays a failure.",
        &violations,
    );
}

#[test]
fn files_are_short() {
    let long = everything().into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines", source.path))
    });
    hold(
        &format!(
            "A file has at most {FILE_LINES_MAX} lines: a longer one holds more than one idea. Split it by idea, not by size."
        ),
        &long.collect::<Vec<_>>(),
    );
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file isn't found.
    let words =
        [["TO", "DO"], ["FIX", "ME"], ["to", "do!"], ["unimplem", "ented!"]].map(|parts| parts.concat());
    let mut violations = Vec::new();
    for source in everything() {
        for (number, line) in source.text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                violations.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    hold(
        "Nothing is left for later in the code: do it, or say in the documentation of the item what it doesn't do.",
        &violations,
    );
}

#[test]
fn every_exception_from_a_lint_has_a_reason() {
    let mut violations = Vec::new();
    for source in everything().iter().filter(|source| source.path != "tests/tidy.rs") {
        for opening in ["[allow(", "[expect("] {
            for (at, _) in source.text.match_indices(opening) {
                let attribute = source.text[at..].split(")]").next().unwrap_or_default();
                if !attribute.contains("reason") {
                    let line = 1 + source.text[..at].matches('\n').count();
                    violations.push(format!(
                        "{}:{line}: {}",
                        source.path,
                        attribute.lines().next().unwrap_or_default()
                    ));
                }
            }
        }
    }
    hold(
        "An exception from a lint says why, with reason = \"...\": the next reader can't ask, and would copy it.",
        &violations,
    );
}

#[test]
fn the_archived_pem_reader_stays_in_one_file() {
    let users: Vec<_> =
        sources(&["src"]).into_iter().filter(|s| s.text.contains("rustls_pemfile")).map(|s| s.path).collect();
    let violations = if users.len() > 1 { users } else { Vec::new() };
    hold(
        "rustls-pemfile is archived (RUSTSEC-2025-0134): one file uses it, so that it can be replaced in one place.",
        &violations,
    );
}

#[test]
fn every_file_says_what_it_is() {
    // The name of tests.rs says it all.
    let says = |source: &Source| source.text.starts_with("//!") || source.path.ends_with("/tests.rs");
    let silent = sources(&["src"]).into_iter().filter(|source| !says(source));
    hold(
        "Every file begins with //!: what it is, and the XEP or RFC section that it implements, if it does.",
        &silent.map(|source| source.path).collect::<Vec<_>>(),
    );
}

/// The rules above are only as good as their reading of the source.
mod reading {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn names(path: &str, text: &str) -> Vec<String> {
        source(path, text).imports().into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn imports_are_found_however_they_are_written() {
        assert_eq!(names("src/dns/mod.rs", "use crate::relay::settings::Settings;"), ["relay"]);
        assert_eq!(
            names("src/dns/mod.rs", "use crate::{\n    proto::{a, b},\n    relay,\n};"),
            ["proto", "relay"]
        );
        assert_eq!(names("src/dns/mod.rs", "fn f() -> crate::cli::X { crate::demo::y() }"), ["cli", "demo"]);
        assert_eq!(names("src/dns/query.rs", "use super::super::identity::x;"), ["identity"]);
        assert_eq!(names("src/dns/mod.rs", "pub(crate) use super::identity::x;"), ["identity"]);
    }

    #[test]
    fn what_is_no_import_is_not_found() {
        assert!(names("src/dns/mod.rs", "// crate::relay decides").is_empty());
        assert!(
            names("src/dns/a/b.rs", "use super::super::identity;").is_empty(),
            "dns::identity, a neighbour inside"
        );
        assert!(names("src/dns/mod.rs", "use super::*;").is_empty());
    }

    #[test]
    fn comments_end_the_code_and_strings_do_not() {
        assert_eq!(without_comment("let a = \"http://x\"; // Instant::now"), "let a = \"http://x\"; ");
        assert_eq!(without_comment("let a = '\"'; // x"), "let a = '\"'; ");
    }

    #[test]
    fn tests_at_the_end_of_a_file_are_not_shipped() {
        let text = "#[cfg(test)]\nmod tests;\nfn a() {}\n#[cfg(test)]\nmod more_tests {\nInstant::now }";
        assert_eq!(source("src/proto/a.rs", text).shipped().count(), 3);
        assert_eq!(source("src/proto/a/tests.rs", "Instant::now").shipped().count(), 0);
    }
}
