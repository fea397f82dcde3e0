//! `[policy]`: which remote domains we exchange stanzas with.

use super::reader::{Entry, Reader};
use super::values::pattern;
use crate::relay::settings::{Policy, RemoteDialback};
use crate::xmpp::domain::DomainPattern;

/// Read the table; what is left out keeps its default.
pub(super) fn read(mut reader: Reader<'_>) -> Policy {
    let default = Policy::default();
    let allow = reader.take("allow").map_or(default.allow, |entry| patterns(&entry));
    let deny = reader.take("deny").map_or(default.deny, |entry| patterns(&entry));
    let words = [("never", RemoteDialback::Never), ("tls", RemoteDialback::Tls)];
    let dialback = reader.take("dialback").and_then(|entry| entry.choice(&words)).unwrap_or_default();
    reader.finish();
    Policy { allow, deny, dialback }
}

/// A list that may be empty: `deny = []` says something, and so does `allow = []`.
fn patterns(entry: &Entry<'_>) -> Vec<DomainPattern> {
    if entry.is_empty_list() {
        return Vec::new();
    }
    entry.strings("a domain, like \"*.b.example\"").iter().filter_map(pattern).collect()
}
