//! Reads one TOML table key by key and remembers which keys were asked for: what was not asked for is unknown.
//!
//! Walking the spanned tables by hand, rather than deserialising, is what lets every error name its line, and lets one
//! start report all errors. A method that meets a wrong value records the error and answers `None`; nothing built from
//! it is ever used, because a configuration with any error is refused as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Errors, Place};
use super::suggest::closest;
use super::unavailable;

/// The text of one file, and where its lines are.
pub(super) struct Source {
    /// How many files were read before this one.
    pub(super) order: usize,
    /// The file, as it was named.
    pub(super) path: Arc<Path>,
    /// Its text.
    pub(super) text: String,
}

impl Source {
    /// The line on which the byte at `offset` stands.
    fn place(&self, offset: usize) -> Place {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        Place { order: self.order, line, file: Arc::clone(&self.path) }
    }

    /// The file as a whole.
    pub(super) fn whole(&self) -> Place {
        Place { order: self.order, line: 0, file: Arc::clone(&self.path) }
    }

    /// `path`, if relative, is relative to the folder of this file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.path.parent().map_or_else(|| PathBuf::from(path), |folder| folder.join(path))
    }

    /// The tables of this file; a syntax error is recorded.
    pub(super) fn parse(&self, errors: &Errors) -> Option<Spanned<DeTable<'_>>> {
        match DeTable::parse(&self.text) {
            Ok(table) => Some(table),
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                let line =
                    self.text.get(..offset).unwrap_or_default().lines().next_back().unwrap_or_default();
                errors.add(
                    &self.place(offset),
                    "the text",
                    format!("is not TOML ({})", error.message().replace('\n', "; ")),
                    match line.split_once('=') {
                        Some((key, _)) => format!("correct the value of {}", key.trim().escape_debug()),
                        None => "correct the line".to_owned(),
                    },
                );
                None
            }
        }
    }
}

/// One table of a file.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    pub(super) errors: &'a Errors,
    /// Where the table begins.
    pub(super) place: Place,
    /// The table's name as it stands in errors, empty for the top of the file.
    name: String,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// The top of a file.
    pub(super) fn top(source: &'a Source, table: &'a DeTable<'a>, errors: &'a Errors) -> Self {
        Self { source, errors, place: source.whole(), name: String::new(), table, known: Vec::new() }
    }

    /// The name of one of the table's keys as it stands in errors.
    pub(super) fn name_of(&self, key: &str) -> String {
        let key = key.escape_debug();
        if self.name.is_empty() { key.to_string() } else { format!("{}.{key}", self.name) }
    }

    /// Where `key` stands, or else the table.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let at = self.table.get_key_value(key).map(|(at, _)| self.source.place(at.span().start));
        at.unwrap_or_else(|| self.place.clone())
    }

    /// What stands at `key`, which is hereby known; `None` if nothing does.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.known.push(key);
        let (at, value) = self.table.get_key_value(key)?;
        Some(Entry {
            source: self.source,
            errors: self.errors,
            place: self.source.place(at.span().start),
            name: self.name_of(key),
            value: value.get_ref(),
        })
    }

    /// What stands at `key`; its absence is an error that shows `example`.
    pub(super) fn require(&mut self, key: &'static str, example: &str) -> Option<Entry<'a>> {
        let entry = self.take(key);
        if entry.is_none() {
            self.errors.add(&self.place, self.name_of(key), "is missing", format!("add {key} = {example}"));
        }
        entry
    }

    /// The table `[key]`.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Reader<'a>> {
        let entry = self.take(key)?;
        match entry.value {
            DeValue::Table(table) => Some(entry.reader(table)),
            _ => entry.refuse_type(&format!("write it as a table, [{key}]")),
        }
    }

    /// The tables `[[key]]`, none if there are none.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Reader<'a>> {
        let Some(entry) = self.take(key) else { return Vec::new() };
        let advice = format!("write each as a table of its own, [[{key}]]");
        let DeValue::Array(items) = entry.value else {
            entry.refuse_type::<()>(&advice);
            return Vec::new();
        };
        let mut readers = Vec::with_capacity(items.len());
        for item in items.iter() {
            let entry =
                Entry { place: self.source.place(item.span().start), value: item.get_ref(), ..entry.clone() };
            match item.get_ref() {
                DeValue::Table(table) => readers.push(entry.reader(table)),
                _ => drop(entry.refuse_type::<()>(&advice)),
            }
        }
        readers
    }

    /// Report each key that nobody asked for.
    pub(super) fn finish(self) {
        for (at, _) in self.table.iter() {
            let key: &str = at.get_ref();
            if self.known.contains(&key) {
                continue;
            }
            let (name, place) = (self.name_of(key), self.source.place(at.span().start));
            if let Some(instead) = unavailable::advice(&name) {
                self.errors.add(&place, name, "is not available in this version", instead);
                continue;
            }
            let advice = match closest(key, &self.known) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("remove it; known here: {}", self.known.join(", ")),
            };
            self.errors.add(&place, name, "is not a known key", advice);
        }
    }
}

/// What stands at a key.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    pub(super) source: &'a Source,
    pub(super) errors: &'a Errors,
    /// The line of the key, or of the item if it is one of a list.
    pub(super) place: Place,
    /// The key with its table.
    pub(super) name: String,
    value: &'a DeValue<'a>,
}

impl<'a> Entry<'a> {
    /// Record that the value won't do. Answers `None`, whatever was wanted.
    pub(super) fn refuse<T>(&self, problem: impl Into<String>, advice: impl Into<String>) -> Option<T> {
        self.errors.add(&self.place, self.name.clone(), problem, advice);
        None
    }

    fn refuse_type<T>(&self, advice: &str) -> Option<T> {
        let article = if matches!(self.value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
        self.refuse(format!("is {article} {}", self.value.type_str()), advice)
    }

    fn reader(&self, table: &'a DeTable<'a>) -> Reader<'a> {
        Reader {
            source: self.source,
            errors: self.errors,
            place: self.place.clone(),
            name: self.name.clone(),
            table,
            known: Vec::new(),
        }
    }

    /// A string; `expected` tells what it should say.
    pub(super) fn string(&self, expected: &str) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.refuse_type(&format!("write {expected}")),
        }
    }

    /// A string, if it is one: for values that may also be something else.
    pub(super) fn as_string(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let expected = format!("{:?}", names).trim_matches(['[', ']']).replace(", ", " or ");
        let text = self.string(&expected)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        self.refuse(format!("is {text:?}"), format!("write {expected}"))
    }

    /// `[]`
    pub(super) fn is_empty_list(&self) -> bool {
        self.value.as_array().is_some_and(|items| items.is_empty())
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.refuse_type("write true or false, without quotes"),
        }
    }

    /// A whole number that isn't negative; `expected` tells what it should be.
    pub(super) fn integer(&self, expected: &str) -> Option<u64> {
        let DeValue::Integer(number) = self.value else {
            return self.refuse_type(&format!("write {expected}"));
        };
        match u64::from_str_radix(number.as_str().trim_start_matches('+'), number.radix()) {
            Ok(value) => Some(value),
            // The TOML library lets what isn't a digit through.
            Err(_) => {
                let shown = number.to_string();
                self.refuse(format!("is {}", shown.escape_debug()), format!("write {expected}"))
            }
        }
    }

    /// One string or a list of strings, each with its own line.
    pub(super) fn strings(&self, expected: &str) -> Vec<Entry<'a>> {
        let DeValue::Array(items) = self.value else {
            return self
                .string(&format!("{expected}, or a list of such"))
                .map(|_| self.clone())
                .into_iter()
                .collect();
        };
        if items.is_empty() {
            self.refuse::<()>("is an empty list", format!("write {expected}, or leave it out"));
        }
        let mut entries = Vec::with_capacity(items.len());
        for item in items.iter() {
            let entry =
                Entry { place: self.source.place(item.span().start), value: item.get_ref(), ..self.clone() };
            if entry.string(&format!("a list of strings, each {expected}")).is_some() {
                entries.push(entry);
            }
        }
        entries
    }
}
