//! `[policy]`: which remote domains our hosts exchange stanzas with; and the same keys in `[[host]]` and `[[component]]`,
//! which narrow it.

use super::reader::{Entry, Reader};
use super::values::pattern;
use crate::proto::policy::{DomainPolicy, Lists};
use crate::relay::settings::{Policy, RemoteDialback, Uncertain};
use crate::xmpp::domain::DomainPattern;

/// Read the table; what is left out keeps its default.
pub(super) fn read(mut reader: Reader<'_>) -> Policy {
    let domains = read_domains(&mut reader);
    let words = [("never", RemoteDialback::Never), ("tls", RemoteDialback::Tls)];
    let dialback = reader.take("dialback").and_then(|entry| entry.choice(&words)).unwrap_or_default();
    let words = [("resend", Uncertain::Resend), ("bounce", Uncertain::Bounce)];
    let uncertain = reader.take("uncertain").and_then(|entry| entry.choice(&words)).unwrap_or_default();
    reader.finish();
    Policy { domains, dialback, uncertain }
}

/// The keys that every table with a policy has.
pub(super) fn read_domains(reader: &mut Reader<'_>) -> DomainPolicy {
    let policy = DomainPolicy {
        both: read_lists(reader, ["allow", "deny"]),
        inbound: read_lists(reader, ["allow_in", "deny_in"]),
        outbound: read_lists(reader, ["allow_out", "deny_out"]),
    };
    // Where nothing is allowed at all, nothing is allowed in vain.
    let all = &policy.both.allow;
    for (key, lists) in [("allow_in", &policy.inbound), ("allow_out", &policy.outbound)] {
        let beside =
            |rule: &&DomainPattern| !all.is_empty() && !all.iter().any(|allowed| allowed.overlaps(rule));
        for rule in lists.allow.iter().filter(beside) {
            let problem = format!("has \"{rule}\", which allow leaves out: it has no effect");
            let advice = "add it to allow, or remove it: every list can only narrow";
            reader.errors.add(&reader.place_of(key), reader.name_of(key), problem, advice);
        }
    }
    policy
}

fn read_lists(reader: &mut Reader<'_>, [allow, deny]: [&'static str; 2]) -> Lists {
    let default = Lists::default();
    Lists {
        allow: reader.take(allow).map_or(default.allow, |entry| patterns(&entry)),
        deny: reader.take(deny).map_or(default.deny, |entry| patterns(&entry)),
    }
}

/// A list that may be empty: `deny = []` says something, and so does `allow = []`.
fn patterns(entry: &Entry<'_>) -> Vec<DomainPattern> {
    if entry.is_empty_list() {
        return Vec::new();
    }
    entry.strings("a domain, like \"*.b.example\"").iter().filter_map(pattern).collect()
}
