//! `[identity]`: what we prove ourselves with, and whom we believe.

use super::reader::{Entry, Reader};
use crate::relay::settings::{Identity, Trust};

/// Read the table.
pub(super) fn read(mut reader: Reader<'_>) -> Option<Identity> {
    let certificates = reader
        .require("certificates", "\"certs\", the folder of the certificates and their keys")
        .and_then(|entry| path(&entry, "a folder, like \"certs\""));
    let trust = match reader.take("trust") {
        Some(entry) => trust(&entry),
        None => Some(Trust::System),
    };
    let mux_key_file = reader.take("mux_key_file").and_then(|entry| path(&entry, "a file, like \"mux.key\""));
    reader.finish();
    Some(Identity { certificates: certificates?, trust: trust?, mux_key_file })
}

fn trust(entry: &Entry<'_>) -> Option<Trust> {
    let expected = "\"system\", or a PEM file of CA certificates";
    match entry.string(expected)? {
        "system" => Some(Trust::System),
        _ => path(entry, expected).map(Trust::File),
    }
}

/// A path; if relative, to the folder of the configuration file.
pub(super) fn path(entry: &Entry<'_>, expected: &str) -> Option<std::path::PathBuf> {
    match entry.string(expected)? {
        "" => entry.refuse("is empty", format!("write {expected}")),
        text => Some(entry.source.resolve(text)),
    }
}
